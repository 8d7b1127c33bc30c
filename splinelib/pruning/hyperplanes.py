"""The hyperplane of each channel of a group, also where several layers write one channel."""

import torch
from torch import nn

from splinelib.redundancy import has_hyperplane
from splinelib.surgery.groups import Group
from splinelib.units import Rows, Units, norm_map, rows
from splinelib.units.weights import current


def hyperplanes(net: nn.Module, units: dict[str, Units], group: Group, bias: str) -> Rows:
    """Read the hyperplane of each channel of a group.

    Parameters
    ----------
    net : nn.Module
        The network.
    units : dict of str to Units
        What ``splinelib.units.units(net)`` gives.
    group : Group
        One of ``splinelib.surgery.groups(net, ...)``.
    bias : "folded", "beta" or "none"
        As in ``splinelib.units.rows``.

    Returns
    -------
    Rows
        ``W (n, d)`` and ``b (n,)``, float64, where d counts the inputs of all writers together. A
        row of zeros draws no hyperplane.

    Raises
    ------
    ValueError
        Weights that are NaN or infinite, with the name of the group.

    Notes
    -----
    One writer: the rows of that layer. A stream has several, and channel k of it is their sum, so
    its slope vector is made of row k of each, one after another. Removed from the whole stream, its
    offset is the sum of theirs. At a gate, the BatchNorm there decides where the channel is zero:
    with scale s and shift t, ``w = s (w_1, w_2, ...)`` and ``b = s (b_1 + b_2 + ...) + t``.
    A depthwise convolution writes the channels that it reads, so its part is the kernel alone. A
    gate whose writers are not known (of a network that was cut before) has the channels themselves
    for inputs, and no two of them share a direction.
    The paper does not say what a hyperplane of a stream is; this is our reading, and it takes the
    inputs of different writers for different ones.
    """
    parts = [_written(net, units[writer], group, bias) for writer in group.writers]
    if not parts:
        like = net.get_submodule(group.norms[0]).running_mean
        parts = [Rows(torch.eye(group.width).to(like).double(), torch.zeros_like(like).double())]
    W = torch.cat([part.W for part in parts], dim=1)
    b = torch.stack([part.b for part in parts]).sum(0)
    if group.gate and bias == "folded":
        scale, shift = norm_map(net.get_submodule(group.norms[0]))
        W, b = scale[:, None] * W, scale * b + shift
    elif group.gate and bias == "beta":
        beta = current(net.get_submodule(group.norms[0]), "bias")
        b = torch.zeros_like(b) if beta is None else beta.double()
    if not (W.isfinite().all() and b.isfinite().all()):
        raise ValueError(
            f"the weights of {group.name!r}, or the BatchNorm behind them, hold NaN or infinity; "
            "give every weight a number first."
        )
    return Rows(W, b)


def _written(net: nn.Module, at: Units, group: Group, bias: str) -> Rows:
    """The rows of one writer."""
    W, b = rows(net, at, bias)
    blocks = getattr(net.get_submodule(at.layer), "groups", 1)
    if blocks > 1 and len(group.writers) > 1:  # depthwise: a row is zero but for its own channel
        channel = torch.arange(len(W), device=W.device)
        W = W.unflatten(1, (blocks, -1))[channel, channel * blocks // len(W)]
    return Rows(W, b)


def drawing(here: Rows) -> tuple[torch.Tensor, Rows]:
    """Which channels draw a hyperplane ``(n,)``, and the rows of these alone."""
    drawn = has_hyperplane(here.W)
    return drawn, Rows(here.W[drawn], here.b[drawn])
