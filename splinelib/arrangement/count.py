"""Counting the regions of an arrangement exactly, in any dimension."""

import math
from collections import defaultdict
from typing import Any

from splinelib.arrangement.modular import certainly_general, certainly_whole
from splinelib.arrangement.rows import Row, different, divided, integer_rows, restriction

LIMIT = 1_000_000  # regions: a count that may have to go through more is refused


def largest(n: int, d: int) -> int:
    """The largest number of regions that n hyperplanes make in R^d, ``sum_{i <= d} C(n, i)``.

    It is written r(n, d) and reached exactly in general position (*Counting regions*).

    Examples
    --------
    >>> largest(4, 2), largest(3, 7)
    (11, 8)
    """
    if n < 0 or d < 0:
        raise ValueError(f"r(n, d) needs n >= 0 and d >= 0; got n = {n} and d = {d}.")
    return sum(math.comb(n, i) for i in range(min(n, d) + 1))


def hyperplanes(W: Any, b: Any) -> int:
    """Number of different hyperplanes that a layer draws; arguments as for `regions`.

    Examples
    --------
    >>> hyperplanes([[1, 2], [-2, -4], [1, 2], [0, 0]], [3, -6, 4, 5])  # rows 1 and 2 are one line
    2
    """
    return len(different(integer_rows(W, b)))


def regions(W: Any, b: Any, *, limit: int = LIMIT) -> int:
    """Number of regions of a layer, ``|Omega|``, exactly.

    Parameters
    ----------
    W, b : (n, d) and (n,)
        Slopes and offsets: arrays, tensors on any device, or lists of ints, floats or Fractions.
    limit : int
        Without a closed form, refuse n hyperplanes of R^d if r(n, d) is more than this; a million
        takes up to half a minute.

    Returns
    -------
    int
        1 for a layer that draws nothing.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN or infinity; or a count that is refused, with the numbers.

    Notes
    -----
    Deletion and restriction: one hyperplane more adds as many regions as the others draw on it.
    Independent slopes (2^n regions), general position (r(n, d)), products and central arrangements
    are recognized first.  Chapter *Counting regions*.

    Examples
    --------
    >>> regions([[1, 0], [0, 1], [1, 1]], [0, 0, 0]), regions([[1, 0], [0, 1], [1, 1]], [0, 0, 1])
    (6, 7)
    """
    return _count(different(integer_rows(W, b)), limit)


def in_general_position(W: Any, b: Any, *, limit: int = LIMIT) -> bool:
    """Whether the n rows draw n different hyperplanes in general position; exactly.

    That is: any ``i <= d`` of them meet in a flat of dimension ``d - i``, and no ``d + 1`` of them
    have a common point.  False if a row draws nothing or two rows draw the same.  Arguments and
    errors as for `regions`.

    Examples
    --------
    >>> in_general_position([[1, 0], [0, 1], [1, 1]], [0, 0, 1])
    True
    """
    rows = integer_rows(W, b)
    drawn = different(rows)
    if len(drawn) < len(rows):
        return False
    if len(rows) == 0 or certainly_general(drawn):
        return True
    parts, d = _parts(drawn), len(drawn[0]) - 1
    rank = sum(len(part[0]) - 1 for part in parts)
    if len(rows) <= d or rank < d or len(parts) > 1:  # beyond d, general ones form no product
        return rank == len(rows)
    _afford(drawn, limit)
    return _apart(parts[0])


def _count(rows: list[Row], limit: int) -> int:
    """Regions of different hyperplanes."""
    n, d = len(rows), len(rows[0]) - 1 if rows else 0
    if d <= 1:
        return n + 1
    if d > 2 and certainly_general(rows):
        return largest(n, d)
    if largest(n, d) > limit and certainly_whole(rows):
        _afford(rows, limit)
    parts = _parts(rows) if d > 2 else [rows]
    if len(parts) > 1 or len(parts[0][0]) - 1 < d:
        return math.prod(_count(part, limit) for part in parts)
    part = parts[0]
    if d > 2 and not any(row[-1] for row in part):
        return 2 * _count(_slice(part), limit)
    _afford(part, limit)
    return 1 + sum(_count(restriction(part[:k], h), limit) for k, h in enumerate(part))


def _slice(rows: list[Row]) -> list[Row]:
    """A central arrangement, cut by a translate of its first hyperplane.

    Each region of a central arrangement lies on one side of a hyperplane H of it, and ``x -> -x``
    swaps the sides.  On one side, regions are cones: each meets a translate of H once.
    """
    j = next(j for j, v in enumerate(rows[0]) if v)  # `_parts` made H the set y_j = 0
    return different([(*row[:j], *row[j + 1 : -1], row[j]) for row in rows[1:]])


def _parts(rows: list[Row]) -> list[list[Row]]:
    """The arrangement as a product of smaller ones: its regions are the products of theirs.

    Column operations change the coordinates of R^d, affinely, until rank(W) of the hyperplanes are
    ``y_j = 0``.  Coordinates that no hyperplane needs are left out; the others belong together if a
    hyperplane needs both.
    """
    *free, offset = map(list, zip(*rows, strict=True))
    axes: list[list[int]] = []
    for k in range(len(rows)):
        pivot = next((c for c in free if c[k]), None)
        if pivot is not None:
            free = [_cleared(c, pivot, k) for c in free if c is not pivot]
            axes = [*(_cleared(c, pivot, k) for c in axes), pivot]
            offset = _cleared(offset, pivot, k)
    group = list(range(len(axes)))
    needs = [[j for j, c in enumerate(axes) if c[k]] for k in range(len(rows))]
    for need in needs:
        joined = {group[j] for j in need}
        group = [min(joined) if g in joined else g for g in group]
    parts: dict[int, list[Row]] = defaultdict(list)
    for k, need in enumerate(needs):
        own = [c[k] for j, c in enumerate(axes) if group[j] == group[need[0]]]
        parts[group[need[0]]].append((*own, offset[k]))
    return [different(part) for part in parts.values()]


def _cleared(column: list[int], pivot: list[int], k: int) -> list[int]:
    """A column times a nonzero number, plus a multiple of the pivot, so that entry k is 0."""
    if not column[k]:
        return column
    return list(divided(c * pivot[k] - p * column[k] for c, p in zip(column, pivot, strict=True)))


def _afford(rows: list[Row], limit: int) -> None:
    """Raise if deletion and restriction could go through more than ``limit`` regions."""
    n, d = len(rows), len(rows[0]) - 1
    bound = largest(n, d)
    if bound > limit:
        number = f"{bound:,}" if bound < 10**15 else f"10^{int(math.log10(bound))}"
        raise ValueError(
            f"no closed form was found for these {n} hyperplanes of R^{d}, and a count may go "
            f"through {number} regions, more than limit = {limit:,}. Take fewer hyperplanes or a "
            "slice of lower dimension, or raise limit and wait. (Random real numbers are in "
            "general position with probability 1: `largest(n, d)`.)"
        )


def _apart(rows: list[Row]) -> bool:
    """General position: on each flat, the others stay different and none goes missing."""
    if not rows or len(rows[0]) <= 2:
        return True
    return all(
        len(on_h := restriction(rows[:k], h)) == k and _apart(on_h) for k, h in enumerate(rows)
    )
