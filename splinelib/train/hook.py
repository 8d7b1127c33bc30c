"""What a method may do to gradients and weights while a network is trained, step by step."""

from torch import nn


class StepHook:
    """A method that acts within training: subclass it and give it to ``train(..., hook=...)``.

    All calls do nothing here; a method overrides what it needs.

    Attributes
    ----------
    optimizer : str or None
        The one optimizer with which the method does what it says; ``train`` refuses others. None:
        any.

    Notes
    -----
    ``step`` counts all steps of the run from 0, those before ``first_epoch`` included. For each of
    them either ``before_step`` and ``after_step`` are called, or ``skipped_step``. All calls are
    made without recording gradients. In several processes each calls the hook on the same weights
    and gradients, so a hook that draws numbers takes them from a generator of its own. Taught in *A
    tour of pruning methods*.

    Examples
    --------
    >>> class Freeze(StepHook):
    ...     def before_step(self, net, step):
    ...         net[0].weight.grad.zero_()
    """

    optimizer: str | None = None

    def __repr__(self) -> str:
        """What a checkpoint knows the hook by; a subclass adds its settings."""
        return type(self).__name__

    def begin(self, net: nn.Module, steps: int) -> None:
        """See the network before its first step, and how many steps the whole run will have.

        Whatever an earlier run left in the hook is forgotten here. When an interrupted run goes on,
        this is called again, with the same network, and then ``load_state_dict``.
        """

    def before_step(self, net: nn.Module, step: int) -> None:
        """Look at the gradients of a batch, or change them, before the optimizer uses them."""

    def after_step(self, net: nn.Module, step: int) -> None:
        """Look at the weights, or change them, after the optimizer has moved them."""

    def skipped_step(self, net: nn.Module, step: int) -> None:
        """Called instead of the two others if fp16 gradients overflowed: no weight moves."""

    def after_epoch(self, net: nn.Module, epoch: int) -> None:
        """Look at the weights, or change them, when ``epoch`` epochs are done, counted from 1.

        The network is in evaluation mode. It was tested before, and the checkpoint is written
        after. It may be called again for an epoch whose end was not yet saved.
        """

    def state_dict(self) -> dict:
        """What a checkpoint needs of the hook, as tensors, numbers and texts."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what ``state_dict`` returned, with tensors on the device of the network."""
