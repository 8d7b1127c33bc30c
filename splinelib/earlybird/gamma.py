"""Masks as codes: the early birds of You et al. (2020), which compare hypothetical prunings."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from splinelib.earlybird.bits import pack
from splinelib.earlybird.snapshots import Codes
from splinelib.masks import select
from splinelib.ops import unwrapped


def mask_codes(net: nn.Module, fraction: float) -> Codes:
    """Read which channels global slimming would keep if it pruned the network now.

    Parameters
    ----------
    net : nn.Module
        A network with BatchNorm.
    fraction : float, in [0, 1]
        Share of all channels to remove: those whose BatchNorm scales ``|gamma|`` are the smallest
        of the whole network. A layer may lose all of them.

    Returns
    -------
    Codes
        One "input", one layer for each BatchNorm with a scale, one bit a channel: 1 is kept.

    Raises
    ------
    ValueError
        No BatchNorm with a scale, a fraction outside [0, 1], NaN.

    Notes
    -----
    The mask distance of You et al. (2020) is the share of channels that differ, so with all
    channels alike: ``weight="element"``. Its rule, ``MASK_DISTANCE``, asks that each of the last
    four epochs is near the current one. Their code accepts a distance equal to 0.1, ours does not;
    and of n channels it removes ``int(n fraction) + 1``, those up to that number in ascending
    order, one more than ours unless ours rounds up. It needs the fraction beforehand and can tell
    nothing of the partition; contrast :func:`splinelib.earlybird.codes`. Taught in
    *Drawing the ticket*.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU())
    >>> _ = net[1].weight.data.copy_(torch.tensor([0.1, -3.0, 0.2, 1.0]))
    >>> mask_codes(net, 0.5).bits[0].tolist()
    [[False, True, False, True]]
    >>> from functools import partial
    >>> from splinelib.earlybird import MASK_DISTANCE, EarlyBird
    >>> bird = EarlyBird(partial(mask_codes, fraction=0.5), rule=MASK_DISTANCE, weight="element")
    >>> [bird.update(net) for _ in range(5)]
    [False, False, False, False, True]
    """
    scales = {
        path: module.weight.detach().abs()
        for path, module in unwrapped(net).named_modules()
        if isinstance(module, _BatchNorm) and module.weight is not None
    }
    if not scales:
        raise ValueError("the network has no BatchNorm with a scale, so slimming has no mask.")
    keep = select(scales, fraction, scope="global", least=0)
    words = torch.cat([pack(kept[None]) for kept in keep.values()], dim=1)
    return Codes(tuple(keep), tuple(len(kept) for kept in keep.values()), words)
