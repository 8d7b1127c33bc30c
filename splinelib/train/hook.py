"""What a method may do to gradients and weights while a network is trained, step by step."""

from torch import nn


class StepHook:
    """A method that acts within training: subclass it and give it to ``train(..., hook=...)``.

    All calls do nothing here; a method overrides what it needs.

    Notes
    -----
    ``step`` counts all steps of the run from 0, those before ``first_epoch`` included. In several
    processes each calls the hook on the same weights and gradients, so a hook that draws numbers
    takes them from a generator of its own. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> class Freeze(StepHook):
    ...     def before_step(self, net, step):
    ...         net[0].weight.grad.zero_()
    """

    def __repr__(self) -> str:
        """What a checkpoint knows the hook by; a subclass adds its settings."""
        return type(self).__name__

    def begin(self, net: nn.Module, steps: int) -> None:
        """See the network before its first step, and how many steps the whole run will have.

        Called again, with the same network, when an interrupted run goes on.
        """

    def before_step(self, net: nn.Module, step: int) -> None:
        """Look at the gradients of a batch, or change them, before the optimizer uses them."""

    def after_step(self, net: nn.Module, step: int) -> None:
        """Look at the weights, or change them, after the optimizer has moved them."""

    def state_dict(self) -> dict:
        """What a checkpoint needs of the hook, as tensors, numbers and texts."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what ``state_dict`` returned."""
