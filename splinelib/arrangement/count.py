"""Counting the regions of an arrangement exactly, in any dimension."""

from __future__ import annotations

import math
from collections import defaultdict

from numpy.typing import ArrayLike

from splinelib.arrangement.integers import Row, different, divided, integer_rows, restriction
from splinelib.arrangement.modular import certainly_general, certainly_whole

LIMIT = 10_000_000  # steps: a count that may take more is refused


def largest(n: int, d: int) -> int:
    """The largest number of regions that n hyperplanes make in R^d, ``sum_{i <= d} C(n, i)``.

    Parameters
    ----------
    n, d : int
        Numbers of hyperplanes and of dimensions, 0 or more.

    Returns
    -------
    int
        Written r(n, d) in the book.

    Raises
    ------
    ValueError
        If n or d is negative.

    Notes
    -----
    Reached exactly in general position.  Taught in *Counting regions*.

    Examples
    --------
    >>> largest(4, 2), largest(3, 7)
    (11, 8)
    """
    if n < 0 or d < 0:
        raise ValueError(f"r(n, d) needs n >= 0 and d >= 0; got n = {n} and d = {d}.")
    return sum(math.comb(n, i) for i in range(min(n, d) + 1))


def hyperplanes(W: ArrayLike, b: ArrayLike) -> int:
    """Number of different hyperplanes that a layer draws.

    Parameters
    ----------
    W, b : (n, d) and (n,)
        As for ``regions``.

    Returns
    -------
    int
        Rows of zeros draw none; equal hyperplanes count once.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN or infinity.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> hyperplanes([[1, 2], [-2, -4], [1, 2], [0, 0]], [3, -6, 4, 5])  # rows 1 and 2 are one line
    2
    """
    return len(different(integer_rows(W, b)))


def regions(W: ArrayLike, b: ArrayLike, *, limit: int = LIMIT) -> int:
    """Number of regions of a layer, ``|Omega|``, exactly.

    Parameters
    ----------
    W, b : (n, d) and (n,)
        Slopes and offsets: arrays, tensors on any device, or lists of ints, floats or Fractions.
    limit : int
        Without a closed form, refuse n hyperplanes of R^d if a count may take more steps than this,
        ``(d - 1) r(n, d)``.  A step takes one or two microseconds.

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
    are recognized first.  Taught in *Counting regions*.

    Examples
    --------
    >>> regions([[1, 0], [0, 1], [1, 1]], [0, 0, 0]), regions([[1, 0], [0, 1], [1, 1]], [0, 0, 1])
    (6, 7)
    """
    return _count(different(integer_rows(W, b)), limit)


def in_general_position(W: ArrayLike, b: ArrayLike, *, limit: int = LIMIT) -> bool:
    """Whether the n rows draw n different hyperplanes in general position; exactly.

    Parameters
    ----------
    W, b, limit
        As for ``regions``.

    Returns
    -------
    bool
        True if any ``i <= d`` of the hyperplanes meet in a flat of dimension ``d - i``, and no
        ``d + 1`` of them have a common point.  False also if a row draws nothing or two rows draw
        the same.

    Raises
    ------
    ValueError
        As for ``regions``.

    Notes
    -----
    Taught in *Counting regions*.

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
    if _steps(n, d) > limit and certainly_whole(rows):
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
    """Raise if deletion and restriction could take more than ``limit`` steps."""
    n, d = len(rows), len(rows[0]) - 1
    steps = _steps(n, d)
    if steps > limit:
        number = f"{steps:,}" if steps < 10**15 else f"10^{int(math.log10(steps))}"
        raise ValueError(
            f"no closed form was found for these {n} hyperplanes of R^{d}, and a count may take "
            f"{number} steps, more than limit = {limit:,}. Take fewer hyperplanes or a slice of "
            "lower dimension, or raise limit and wait. Random real numbers are in general position "
            "with probability 1, with largest(n, d) regions."
        )


def _steps(n: int, d: int) -> int:
    """Most steps that deletion and restriction take: some d - 1 for each region."""
    return max(d - 1, 0) * largest(n, d)


def _apart(rows: list[Row]) -> bool:
    """General position: on each flat, the others stay different and none goes missing."""
    if not rows or len(rows[0]) <= 2:
        return True
    return all(
        len(on_h := restriction(rows[:k], h)) == k and _apart(on_h) for k, h in enumerate(rows)
    )
