"""Network slimming: channels with small BatchNorm scales go (Liu et al., 2017)."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.pruning.family import Scope, check_ratio, keep_best, targets
from splinelib.surgery.groups import Group, Residual
from splinelib.units.weights import current


def slimming(
    net: nn.Module,
    ratio: float,
    *,
    scope: Scope = "global",
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
) -> Mask:
    """Remove the channels whose BatchNorm scales ``|gamma|`` are the smallest.

    Parameters
    ----------
    net : nn.Module
        The network, trained with the penalty ``s sum |gamma|``: ``train.Recipe(slimming=s)``.
    ratio : float, in [0, 1)
        Share of the channels that go.
    scope : "global" or "layerwise"
        Whether the ratio holds for all layers together, as in the source, or in each.
    residual : "inner", "select" or "joint"
        Which channels of a residual network may go, see ``splinelib.surgery.groups``. "select" is
        what the public code does; with "joint" a channel's score is the mean over its BatchNorms.
    layers : collection of str, optional
        Names of the groups to prune; default: all.

    Returns
    -------
    Mask

    Raises
    ------
    ValueError
        Layers without a BatchNorm that has a scale, which are named; a ratio outside [0, 1) or out
        of reach, an unknown scope or layer, nothing to remove.

    Notes
    -----
    Channel k scores ``|gamma_k|``. The penalty pushes the scales of channels that do little towards
    0; without it a scale says little, because the layer behind can undo any of them.

    Liu et al., *Learning Efficient Convolutional Networks through Network Slimming* (ICCV 2017);
    Eric-mingjie/network-slimming, with s = 1e-4 for VGG and 1e-5 for ResNets. That code removes
    ``int(p n) + 1`` of n channels and those tied with the last of them, here ``floor(p n + 1/2)``
    go; it may empty a layer, here each keeps one channel. It zeroes the shift with the scale and
    finetunes all weights that are left, as here. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))
    >>> _ = net[1].weight.data.copy_(torch.tensor([0.1, -3.0, 1.0]))
    >>> slimming(net, 0.3).entries["1.weight"].tolist()
    [False, True, True]
    """
    check_ratio(ratio, scope)
    found = targets(net, residual, layers)
    return keep_best(net, found, slimming_scores(net, found), ratio, scope)


def slimming_scores(net: nn.Module, found: Mapping[str, Group]) -> dict[str, Tensor]:
    """Mean ``|gamma|`` of each channel, ``(n,)`` a group; an error that names groups without."""
    scales = {
        name: [current(net.get_submodule(path), "weight") for path in group.norms]
        for name, group in found.items()
    }
    bare = [name for name, parts in scales.items() if not parts or any(p is None for p in parts)]
    if bare:
        raise ValueError(
            "slimming goes by the scales of BatchNorm, but none with a scale stands behind "
            f"{', '.join(map(repr, bare))}: leave them out by layers=[...], or put one there."
        )
    return {name: torch.stack(parts).double().abs().mean(0) for name, parts in scales.items()}
