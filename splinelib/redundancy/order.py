"""In which order units can go: one unit of the closest pair at a time."""

from __future__ import annotations

import math
import operator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from splinelib.redundancy.pairs import numbers

STRETCH = 1024  # sorted pairs looked at in one go


class Removals(NamedTuple):
    """The order in which the units of a layer go, all but the last.

    ``order (n-1,)`` int64 holds the units, ``values (n-1,)`` float64 the distance of the closest
    pair at that moment, which never falls, and ``partners (n-1,)`` int64 its other member, which
    stays (and may go later).
    """

    order: Tensor
    values: Tensor
    partners: Tensor


def greedy(N: ArrayLike | Tensor) -> Removals:
    """Remove one unit of the closest pair, again and again, until one unit is left.

    Of the pair, the unit whose second neighbour is nearer goes, that is the one with the smaller
    distance to a third; if these are equal, the one with the higher index.  Of several closest
    pairs the first is taken, ``(k, k')`` with ``k < k'`` in the order of reading.

    Parameters
    ----------
    N : Tensor or array (n, n)
        Distances between units, n >= 2, symmetric to the last bit, such as ``pair_matrix`` gives.
        The diagonal is not used.

    Returns
    -------
    Removals
        ``order``, ``values`` and ``partners``, on the device of N.

    Raises
    ------
    ValueError
        If N is not square and symmetric, has less than two rows, or holds NaN.

    Notes
    -----
    All pairs are sorted once; the next closest pair is the next one in this list of which both
    members are left.  O(n^2 log n) for any N, on the CPU, wherever N is.

    Paper, Proposition 2 ("removing sequentially one of the two units"), which leaves open which
    one; taught in *Redundant units*.

    Examples
    --------
    Points on a line at 0, 1, 3 and 7:

    >>> x = torch.tensor([0.0, 1.0, 3.0, 7.0])
    >>> removals = greedy((x[:, None] - x).abs())
    >>> removals.order.tolist(), removals.values.tolist(), removals.partners.tolist()
    ([1, 2, 3], [1.0, 3.0, 7.0], [0, 0, 0])

    Units that draw nothing are left out first; their numbers in the layer come back by ``drawn``:

    >>> from splinelib.redundancy import has_hyperplane, pair_matrix
    >>> W, b = torch.tensor([[0.0], [1.0], [2.0], [0.0], [1.0]]), torch.zeros(5)
    >>> drawn = has_hyperplane(W)
    >>> removals = greedy(pair_matrix(W[drawn], b[drawn]))
    >>> drawn.nonzero()[removals.order, 0].tolist()
    [2, 4]
    """
    distances = _distances(N)
    table = distances.cpu().numpy()
    first, second = (index.astype(np.int32) for index in np.triu_indices(len(table), 1))
    ranks = np.argsort(table[first, second], kind="stable")
    first, second = first[ranks], second[ranks]
    left, start, steps = np.ones(len(table), dtype=bool), 0, []
    while len(steps) < len(table) - 1:
        both = left[first[start : start + STRETCH]] & left[second[start : start + STRETCH]]
        if not both.any():
            start += STRETCH
            continue
        start += int(both.argmax())
        low, high = int(first[start]), int(second[start])
        left[[low, high]] = False
        others = [np.where(left, table[k], np.inf).min() for k in (low, high)]
        gone, stays = (low, high) if others[0] < others[1] else (high, low)
        left[stays] = True
        steps.append((gone, table[low, high].item(), stays))
    order, values, partners = (np.array(column) for column in zip(*steps, strict=True))
    return Removals(*(torch.from_numpy(a).to(distances.device) for a in (order, values, partners)))


def keep(removals: Removals, number: int) -> Tensor:
    """Which units are left after the first removals.

    Parameters
    ----------
    removals : Removals
        What ``greedy`` returns for n units.
    number : int
        How many of them are carried out, 0 to n - 1.

    Returns
    -------
    Tensor (n,), bool
        True where the unit stays.

    Raises
    ------
    ValueError
        If the number is not between 0 and n - 1.

    Notes
    -----
    Taught in *Redundant units*.

    Examples
    --------
    >>> x = torch.tensor([0.0, 1.0, 3.0, 7.0])
    >>> keep(greedy((x[:, None] - x).abs()), 2).tolist()
    [True, False, False, True]
    """
    number, most = operator.index(number), len(removals.order)
    if not 0 <= number <= most:
        raise ValueError(
            f"{number} removals of {most + 1} units are asked for; give 0 to {most}, as one unit "
            "has no partner left. To empty a layer, see splinelib.masks."
        )
    left = torch.ones(most + 1, dtype=torch.bool, device=removals.order.device)
    left[removals.order[:number]] = False
    return left


def one_shot(N: ArrayLike | Tensor) -> Tensor:
    """Score of each unit as it stands: its distance to the nearest other unit.

    Parameters
    ----------
    N : Tensor or array (n, n)
        As for ``greedy``.

    Returns
    -------
    Tensor (n,), float64, on the device of N

    Raises
    ------
    ValueError
        As for ``greedy``.

    Notes
    -----
    Shown for contrast: both members of a pair get the same low score, so removing the lowest scores
    loses the plane that they share.  ``greedy`` keeps one of them.  Taught in *Redundant units*.

    Examples
    --------
    >>> x = torch.tensor([0.0, 1.0, 3.0, 7.0])
    >>> one_shot((x[:, None] - x).abs()).tolist()
    [1.0, 1.0, 2.0, 4.0]
    """
    return _distances(N).clone().fill_diagonal_(math.inf).min(1).values


def _distances(N: ArrayLike | Tensor) -> Tensor:
    """N (n, n) in float64, checked."""
    N = numbers(N, "N").double()
    if N.ndim != 2 or len(N) != N.shape[1] or len(N) < 2:
        raise ValueError(
            f"N must be (n, n) with n >= 2, one row and column a unit; got {tuple(N.shape)}."
        )
    if N.isnan().any():
        raise ValueError("N holds NaN; remove the units behind it first.")
    if not torch.equal(N, N.T):
        raise ValueError(
            f"N is not symmetric (it differs from its transpose by up to {(N - N.T).abs().max()}); "
            "give (N + N.T) / 2."
        )
    return N
