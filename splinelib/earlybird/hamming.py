"""Hamming distances between codes: of two moments of training, or of all pairs of them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from splinelib.earlybird.bits import popcount, unpack
from splinelib.earlybird.snapshots import Codes, check_alike, words_of

WEIGHTS = ("layer", "element")
BLOCK = 2**12  # bytes of each snapshot that are compared at a time: bounds the memory
ROWS = 64  # inputs whose bits are counted at a time, for the same reason


def distances(a: Codes, b: Codes) -> Tensor:
    """Share of entries on which two codes differ, layer by layer.

    Parameters
    ----------
    a, b : Codes
        Of one architecture, one probe set and one choice of entries.

    Returns
    -------
    Tensor (L,), float64, in [0, 1]
        On the device of the codes. With sampled ``features``, an unbiased estimate.

    Raises
    ------
    ValueError
        Codes that cannot be compared: other layers, widths, number of inputs, entries or device.

    Notes
    -----
    The spline distance of Sec. 3.3 of the paper, for each layer by itself. In the limit of many
    probes of a box it is the area on which a unit changed sides, averaged over the units. Taught
    in *The partition settles early*.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.earlybird import codes
    >>> x = torch.tensor([[-2.0], [-0.5], [0.5], [2.0]], dtype=torch.float64)
    >>> before = codes(nets.by_hand(([[1.0]], [0.0]), ([[1.0]], [0.0])), x)
    >>> after = codes(nets.by_hand(([[1.0]], [1.0]), ([[1.0]], [0.0])), x)
    >>> distances(before, after).tolist()  # of four inputs, the second one changed sides
    [0.25]
    """
    check_alike(a, b)
    blocks = zip(a.words.split(ROWS), b.words.split(ROWS), strict=True)
    ones = sum(popcount(p ^ q).sum(0) for p, q in blocks)
    layers = ones.split(list(map(words_of, a.sizes)))
    return torch.stack([layer.sum() for layer in layers]).double() / _entries(a)


def distance(a: Codes, b: Codes, weight: str = "layer") -> float:
    """Share of entries on which two codes differ, over the whole network.

    Parameters
    ----------
    a, b : Codes
        As for :func:`distances`.
    weight : "layer" or "element"
        Mean over the layers, all alike, as in the public code; or over all entries, where wide
        layers count more. The paper does not say which is meant.

    Returns
    -------
    float, in [0, 1]

    Raises
    ------
    ValueError
        As for :func:`distances`, or an unknown ``weight``.

    Notes
    -----
    Taught in *The partition settles early*.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.earlybird import codes
    >>> found = codes(nets.mlp([2, 8, 1]), torch.ones(3, 2, dtype=torch.float64))
    >>> distance(found, found)
    0.0
    """
    return float(mean(distances(a, b), a.widths, weight))


def matrix(history: Sequence[Codes], weight: str = "layer") -> Tensor:
    """Distances of all pairs of T codes.

    Parameters
    ----------
    history : sequence of Codes
        Of one network at T moments of training.
    weight : "layer" or "element"
        As for :func:`distance`.

    Returns
    -------
    Tensor (T, T), float64, in [0, 1]
        Symmetric, with a zero diagonal: a (pseudo)metric.

    Raises
    ------
    ValueError
        No codes, or codes that cannot be compared.

    Notes
    -----
    The matrices of Fig. 5, 13 and 15 of the paper, without the rescaling that its public code does
    to them (the sum over layers, from its least to its largest value). Taught in *Drawing the
    ticket*.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.earlybird import codes
    >>> x = torch.tensor([[-2.0], [-0.5], [0.5], [2.0]], dtype=torch.float64)
    >>> history = [codes(nets.by_hand(([[1]], [b]), ([[1]], [0])), x) for b in (0, 1, 3)]
    >>> matrix(history).tolist()
    [[0.0, 0.25, 0.5], [0.25, 0.0, 0.25], [0.5, 0.25, 0.0]]
    """
    of_layers = layer_matrices(history)
    return mean(of_layers, history[0].widths, weight)


def layer_matrices(history: Sequence[Codes]) -> Tensor:
    """Distances of all pairs of T codes, layer by layer.

    Parameters
    ----------
    history : sequence of Codes
        As for :func:`matrix`.

    Returns
    -------
    Tensor (L, T, T), float64, in [0, 1]

    Raises
    ------
    ValueError
        As for :func:`matrix`.

    Notes
    -----
    For bits p, q as numbers, ``|p - q| = p + q - 2 p q``: a product of matrices counts all pairs,
    exactly, since its sums are whole numbers below 2^24. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.earlybird import codes
    >>> found = codes(nets.mlp([2, 8, 8, 1]), torch.ones(3, 2, dtype=torch.float64))
    >>> layer_matrices([found, found]).shape
    torch.Size([2, 2, 2])
    """
    if not history:
        raise ValueError("the history is empty: give at least one snapshot of codes.")
    for other in history[1:]:
        check_alike(history[0], other)
    parts = zip(*(h.words.split(list(map(words_of, h.sizes)), dim=1) for h in history), strict=True)
    both = torch.stack([_common(torch.stack([w.flatten() for w in words])) for words in parts])
    ones = both.diagonal(dim1=1, dim2=2)
    differing = ones[:, :, None] + ones[:, None, :] - 2 * both
    return differing / _entries(history[0])[:, None, None]


def mean(values: Tensor, widths: Sequence[int], weight: str) -> Tensor:
    """Average values ``(L, ...)`` over layers of some widths: all alike, or by their entries."""
    check_weight(weight)
    if weight == "layer":
        return values.mean(0)
    shares = torch.tensor(widths, dtype=torch.float64, device=values.device)
    return torch.tensordot(shares, values, dims=1) / shares.sum()  # never above 1


def check_weight(weight: str) -> None:
    """Raise for an unknown way to average layers."""
    if weight not in WEIGHTS:
        raise ValueError(f"weight is {weight!r}, but must be 'layer' or 'element'.")


def _common(words: Tensor) -> Tensor:
    """How many bits are set in both of two rows, for all pairs.  (T, n) int64 -> float64 (T, T)."""
    every = torch.arange(256, dtype=torch.uint8, device=words.device)
    table = unpack(every[:, None], 8).float()  # the eight bits of every byte
    total = torch.zeros(len(words), len(words), dtype=torch.float64, device=words.device)
    with torch.autocast(words.device.type, enabled=False):  # half precision could not count
        for part in words.view(torch.uint8).split(BLOCK, dim=1):
            bits = F.embedding(part.int(), table).flatten(1)
            total += (bits @ bits.T).double()
    return total


def _entries(codes: Codes) -> Tensor:
    """Bits of each layer that count, ``(L,)`` float64: what fills up the bytes does not."""
    sizes = torch.tensor(codes.sizes, dtype=torch.float64, device=codes.device)
    return codes.count * sizes
