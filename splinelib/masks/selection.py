"""Which units or weights are kept: an exact number of the lowest scores goes."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

Scores = Tensor | ArrayLike | Mapping[str, Tensor | ArrayLike]
Kept = Tensor | dict[str, Tensor]


def select(scores: Scores, fraction: float, *, scope: str = "layer", least: int = 1) -> Kept:
    """Keep the best-scored units (or weights) and remove an exact number of the others.

    Parameters
    ----------
    scores : Tensor or array, or mapping of str to such
        One real score for each unit or weight, of any shape; the lowest go first, and of equal
        scores the one with the lower index (the earlier layer).
    fraction : float, in [0, 1]
        Of n entries, ``floor(fraction * n + 1/2)`` are removed.
    scope : "layer" or "global"
        Whether n counts the entries of each layer, or of all layers together.
    least : int
        Entries that stay in every layer: with scope "global", its best ones are passed over. To
        empty a layer, ask for it with ``least=0``.

    Returns
    -------
    Tensor or dict of str to Tensor
        As ``scores``, bool: True is kept.

    Raises
    ------
    ValueError
        A fraction outside [0, 1] or out of reach with ``least``, an unknown scope, scores
        that are NaN or complex.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> select(torch.tensor([0.3, 0.1, 0.2, 0.1]), 0.5)
    tensor([ True, False,  True, False])
    >>> select({"0": torch.tensor([1.0, 2.0]), "2": torch.tensor([3.0, 4.0])}, 0.5, scope="global")
    {'0': tensor([False,  True]), '2': tensor([False,  True])}
    """
    if scope not in ("layer", "global"):
        raise ValueError(f"scope is {scope!r}, but must be 'layer' or 'global'.")
    if not 0 <= fraction <= 1 or least < 0:
        raise ValueError(
            f"fraction={fraction}, least={least}: need 0 <= fraction <= 1, least >= 0."
        )
    if not isinstance(scores, Mapping):
        return select({"": scores}, fraction, least=least)[""]
    values = {layer: _numbers(layer, given) for layer, given in scores.items()}
    if scope == "global" and values:
        return _keep(values, fraction, least)
    return {layer: _keep({layer: v}, fraction, least)[layer] for layer, v in values.items()}


def _numbers(layer: str, scores: Tensor | ArrayLike) -> Tensor:
    """The scores of a layer as a tensor of numbers that can be sorted."""
    values = scores if isinstance(scores, Tensor) else torch.as_tensor(scores, device="cpu")
    if values.is_complex() or values.isnan().any():
        what = "complex numbers" if values.is_complex() else "NaN"
        raise ValueError(f"the scores of {layer!r} hold {what}; give every unit a real number.")
    return values.detach()


def _keep(scores: Mapping[str, Tensor], fraction: float, least: int) -> dict[str, Tensor]:
    """Remove the given fraction of all scores together, but leave ``least`` in each layer."""
    device = next(iter(scores.values())).device
    layers = [_ordered(values).to(device) for values in scores.values()]
    sizes = [len(values) for values in layers]
    free = [max(0, size - least) for size in sizes]
    remove = math.floor(fraction * sum(sizes) + 0.5)
    if remove > sum(free):
        raise ValueError(
            f"fraction={fraction} removes {remove} of {sum(sizes)}, but with least={least} only "
            f"{sum(free)} may go; to empty layers on purpose, say least=0."
        )
    together = torch.cat(layers)
    kept = (~_lowest(together, remove)).split(sizes)
    if any(int(part.count_nonzero()) < min(least, len(part)) for part in kept):
        may_go = torch.cat([_lowest(*each) for each in zip(layers, free, strict=True)])
        kept = (~_lowest(together, remove, may_go)).split(sizes)
    parts = zip(scores.items(), kept, strict=True)
    return {layer: part.reshape(v.shape).to(v.device) for (layer, v), part in parts}


def _ordered(values: Tensor) -> Tensor:
    """The same values ``(n,)`` in a type whose order NumPy and every device know."""
    coarse = values.dtype in (torch.bool, torch.float16, torch.bfloat16)
    return (values.float() if coarse else values).flatten()


def _lowest(values: Tensor, count: int, among: Tensor | None = None) -> Tensor:
    """Whether each value ``(n,)`` is one of the lowest (of some), those first among equals."""
    if not count:
        return torch.zeros_like(values, dtype=torch.bool)
    if among is not None:
        top = math.inf if values.is_floating_point() else torch.iinfo(values.dtype).max
        values = values.masked_fill(~among, top)
    last = _smallest(values, count)
    lowest, equal = values < last, values == last
    equal = (equal if among is None else equal & among).nonzero().flatten()
    lowest[equal[: count - int(lowest.count_nonzero())]] = True
    return lowest


def _smallest(values: Tensor, count: int) -> Tensor:
    """The largest of the ``count`` smallest values ``()``, by selection: nothing is sorted."""
    if values.device.type != "cpu":
        return values.topk(count, largest=False, sorted=False).values.max()
    numbers = values.numpy()  # several times as fast as torch there, but slow on equal numbers,
    least = numbers.min()  # such as the scores of all that is gone
    above = np.compress(numbers > least, numbers)
    place = count - (len(numbers) - len(above)) - 1
    last = least if place < 0 else np.partition(above, place)[place]
    return torch.tensor(last, device="cpu")
