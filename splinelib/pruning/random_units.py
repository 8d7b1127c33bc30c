"""The control: units at random."""

from collections.abc import Collection

import torch
from torch import nn

from splinelib.masks import Mask
from splinelib.pruning.family import Scope, check_ratio, keep_best, targets
from splinelib.surgery.groups import Residual


def random_units(
    net: nn.Module,
    ratio: float,
    *,
    scope: Scope = "global",
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
    generator: torch.Generator | None = None,
) -> Mask:
    """Remove units at random.

    Parameters
    ----------
    net : nn.Module
        The network; its weights do not matter.
    ratio : float, in [0, 1)
        Share of the units that go.
    scope : "global" or "layerwise"
        Whether the ratio holds for all layers together or in each.
    residual : "inner", "select" or "joint"
        Which channels of a residual network may go, see ``splinelib.surgery.groups``.
    layers : collection of str, optional
        Names of the groups to prune; default: all.
    generator : torch.Generator, optional
        Source of the numbers; default: a fresh one with seed 0.

    Returns
    -------
    Mask
        Exactly ``floor(ratio n + 1/2)`` of n units are removed, never the last of a layer.

    Raises
    ------
    ValueError
        A ratio outside [0, 1) or out of reach, an unknown scope or layer, nothing to remove.

    Notes
    -----
    Each unit draws a number in [0, 1), and the lowest go. What a method has to beat: a criterion
    that is no better than this one has found nothing. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> random_units(nets.mlp([2, 4, 4, 1]), 0.5).counts()["0.bias"]
    (2, 4)
    """
    check_ratio(ratio, scope)
    found = targets(net, residual, layers)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    scores = {
        name: torch.rand(group.width, generator=generator, device=generator.device)
        for name, group in found.items()
    }
    return keep_best(net, found, scores, ratio, scope)
