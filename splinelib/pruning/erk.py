"""How many weights each layer of a sparse network gets: the Erdos-Renyi kernel rule."""

import math
from collections.abc import Mapping

import torch

from splinelib.pruning.family import check_ratio


def erk(shapes: Mapping[str, torch.Size], ratio: float) -> dict[str, int]:
    """Number of weights in use in each layer, by the Erdos-Renyi kernel rule.

    Parameters
    ----------
    shapes : mapping of str to torch.Size
        Shape of each weight, ``(out, in)`` or ``(out, in, h, w)``.
    ratio : float, in [0, 1)
        Share of all weights that is not in use.

    Returns
    -------
    dict of str to int
        At least 1 each; of N weights, ``floor(ratio N + 1/2)`` are left out.

    Raises
    ------
    ValueError
        A ratio outside [0, 1), or one that leaves some layer without a weight.

    Notes
    -----
    The density of a layer is ``eps (sum of its sizes) / (product of its sizes)``. While the largest
    one is above 1, its layers are whole and ``eps`` is found anew for the others. The counts are
    rounded by largest remainders.

    Examples
    --------
    >>> erk({"wide": torch.Size([100, 100]), "narrow": torch.Size([10, 100])}, 0.9)
    {'wide': 710, 'narrow': 390}
    """
    check_ratio(ratio)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    left = sum(sizes.values()) - math.floor(ratio * sum(sizes.values()) + 0.5)
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    share, open_ = {}, dict(raw)
    while open_:
        free = left - sum(sizes[name] for name in share)
        eps = free / sum(raw[name] * sizes[name] for name in open_)
        most = max(open_.values())
        if eps * most <= 1:
            break
        share |= {name: 1.0 for name, value in open_.items() if value == most}
        open_ = {name: value for name, value in open_.items() if value < most}
    share |= {name: eps * value for name, value in open_.items()}
    return _whole({name: share[name] * sizes[name] for name in sizes}, sizes, left)


def _whole(targets: dict[str, float], sizes: dict[str, int], total: int) -> dict[str, int]:
    """Round counts to whole numbers with a given sum, at least 1 and at most the size each."""
    counts = {name: min(sizes[name], max(1, int(target))) for name, target in targets.items()}
    while sum(counts.values()) != total:
        sign = 1 if sum(counts.values()) < total else -1
        may = [n for n in counts if 1 <= counts[n] + sign <= sizes[n]]
        if not may:
            raise ValueError(f"{total} weights in use are too few for {len(sizes)} layers.")
        counts[max(may, key=lambda n: sign * (targets[n] - counts[n]))] += sign
    return counts
