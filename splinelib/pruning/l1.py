"""Filters with small weights go (Li et al., 2017)."""

from collections.abc import Collection

from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.pruning.family import Scope, check_ratio, keep_best, need_writers, targets
from splinelib.surgery.groups import Group, Residual
from splinelib.units.weights import current


def l1(
    net: nn.Module,
    ratio: float,
    *,
    scope: Scope = "layerwise",
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
) -> Mask:
    """Remove the units whose weights have the smallest L1 norm.

    Parameters
    ----------
    net : nn.Module
        The trained network.
    ratio : float, in [0, 1)
        Share of the units that go.
    scope : "layerwise" or "global"
        Whether the ratio holds in each layer or for all together. Norms of layers whose units
        have unlike numbers of inputs do not compare, so the source ranks inside layers.
    residual : "inner", "select" or "joint"
        Which channels of a residual network may go, see ``splinelib.surgery.groups``; the norms of
        all layers that write a channel are added up.
    layers : collection of str, optional
        Names of the groups to prune; default: all.

    Returns
    -------
    Mask

    Raises
    ------
    ValueError
        A ratio outside [0, 1) or out of reach, an unknown scope or layer, nothing to remove.

    Notes
    -----
    Unit k scores ``sum_j |w_kj|`` over its own incoming weights; bias and BatchNorm do not count. A
    small filter is taken to make small feature maps, which is untrue behind a BatchNorm, and two
    units that are copies of each other both stay if they are large: set beside *Redundant units*.

    Li et al., *Pruning Filters for Efficient ConvNets* (ICLR 2017). They choose a ratio for each
    layer by its sensitivity and spare some layers; here one ratio holds, and ``layers`` spares.
    Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> import torch
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 2, 1])
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, -1.0], [0.0, 1.5]]))
    >>> l1(net, 0.5).entries["0.bias"].tolist()
    [True, False]
    """
    check_ratio(ratio, scope)
    found = targets(net, residual, layers)
    need_writers(found)
    scores = {name: _norms(net, group) for name, group in found.items()}
    return keep_best(net, found, scores, ratio, scope)


def _norms(net: nn.Module, group: Group) -> Tensor:
    """L1 norms ``(n,)`` of the channels of a group, over all layers that write them."""
    weights = (current(net.get_submodule(path), "weight") for path in group.writers)
    return sum(weight.double().abs().flatten(1).sum(1) for weight in weights)
