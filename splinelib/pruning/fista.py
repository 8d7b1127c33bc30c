"""FISTA: accelerated steps towards few soft masks above 0."""

from collections.abc import Mapping

import torch
from torch import Tensor


class FISTA:
    """Accelerated proximal steps for soft masks: gradient, shrinking, nothing below 0.

    ``m' = max(0, y - eta grad - eta lambda)``, with ``y = m + (a - 1) / a' (m - m_before)`` and
    ``a' = (1 + sqrt(1 + 4 a^2)) / 2``, a = 1 at first (Beck & Teboulle, 2009; the gradient is taken
    at m, as in GAL's code, where the theory has it at y). So the first step is a plain one and the
    second is the first with momentum; in GAL's code the first two are plain.

    Parameters
    ----------
    masks : mapping of str to Tensor
        Moved in place, by their ``grad``.
    sparsity : float
        Strength of the L1 penalty.

    Examples
    --------
    The minimum of ``(m - 1)^2 / 2 + 0.25 |m|`` is at 0.75:

    >>> masks = {"a": torch.zeros(1, requires_grad=True)}
    >>> fista = FISTA(masks, 0.25)
    >>> for _ in range(400):
    ...     masks["a"].grad = masks["a"].detach() - 1
    ...     fista.step(0.1)
    >>> round(masks["a"].item(), 2)
    0.75
    """

    def __init__(self, masks: Mapping[str, Tensor], sparsity: float) -> None:
        self.masks, self.sparsity, self.pace = masks, sparsity, 1.0
        self.before = {name: mask.detach().clone() for name, mask in masks.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move all masks that have a gradient; the step left the layers of the others out."""
        pace = (1 + (1 + 4 * self.pace**2) ** 0.5) / 2
        for name, mask in self.masks.items():
            if mask.grad is None:
                continue
            ahead = mask + (self.pace - 1) / pace * (mask - self.before[name])
            self.before[name].copy_(mask)
            mask.copy_((ahead - rate * (mask.grad + self.sparsity)).clamp_min(0))
        self.pace = pace

    def state_dict(self) -> dict:
        """The masks, those before, and the pace."""
        masks = {name: mask.detach() for name, mask in self.masks.items()}
        return {"masks": masks, "before": self.before, "pace": self.pace}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from there."""
        self.pace = state["pace"]
        for name, mask in self.masks.items():
            mask.copy_(state["masks"][name])
            self.before[name].copy_(state["before"][name])
