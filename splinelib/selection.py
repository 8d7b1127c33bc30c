"""A layer that lets some channels through: the stream behind it stays whole for all others."""

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn


class ChannelSelection(nn.Module):
    """Take some channels of its input, in a given order.

    Parameters
    ----------
    index : Tensor (k,) of whole numbers, or sequence of int
        The channels that are taken, from 0. They are a buffer: saved with the network, moved with
        it, and no weight.

    Raises
    ------
    ValueError
        No channel at all, a negative number, or something other than a row of whole numbers.

    Notes
    -----
    Maps ``(B, C, ...)`` to ``(B, k, ...)``. A residual stream is read by several branches, each of
    which may do without other channels; so the stream stays whole, and each branch selects what it
    reads. The public code of network slimming (Liu et al. 2017) does so by a vector of ones and
    zeros, ``channel_selection``, which is brought to the CPU and searched in every forward pass;
    here the numbers themselves are kept, and nothing waits for the CPU. Taught in *A tour of
    pruning methods*.

    Examples
    --------
    >>> select = ChannelSelection([0, 2])
    >>> select(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 3.]])
    """

    index: Tensor

    def __init__(self, index: Tensor | Sequence[int]) -> None:
        super().__init__()
        index = torch.as_tensor(index)
        whole = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
        if not whole or index.ndim != 1 or not len(index) or index.min() < 0:
            raise ValueError(
                f"index is {index.tolist()}; give the numbers, from 0, of at least one channel: "
                "[0, 2]."
            )
        self.register_buffer("index", index.detach().to(torch.int64, copy=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, ...)`` to ``(B, k, ...)``."""
        return _taken(x, self.index)

    def extra_repr(self) -> str:
        """Tell how many channels it takes."""
        return f"{len(self.index)} channels"


@fx.wrap  # one step for torch.fx, which cannot follow the branch
def _taken(x: Tensor, index: Tensor) -> Tensor:
    """Some channels of x, laid in memory as x is: index_select alone loses channels_last."""
    if x.ndim == 4 and x.stride(1) == 1:
        return x.movedim(1, -1).index_select(-1, index).movedim(-1, 1)
    return x.index_select(1, index)
