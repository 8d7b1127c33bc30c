"""How many regions a masked layer can have: Theorem 1 as printed, and as corrected."""

from __future__ import annotations

from operator import mul

from numpy.typing import ArrayLike

from splinelib.arrangement.count import LIMIT, largest, regions
from splinelib.arrangement.integers import different, integer_rows, nested


def printed_bound(W: ArrayLike, b: ArrayLike, M: ArrayLike, *, limit: int = LIMIT) -> int:
    """The bound of the paper's Theorem 1, as printed: regions less one for each row of M of zeros.

    Parameters
    ----------
    W, b, limit
        The layer before masking, as for ``regions``.
    M : (n, d)
        Mask on W, 1 = kept (the paper's Q_W).

    Returns
    -------
    int
        It can be *less* than the number of regions after masking; see ``corrected_bound``.

    Raises
    ------
    ValueError
        As for ``regions``, or if M is not (n, d) with entries 0 and 1.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    Two units draw one line, and one of them goes.  There are 2 regions before and after:

    >>> printed_bound([[1, 0], [2, 0]], [0, 0], [[1, 1], [0, 0]])
    1
    """
    rows = integer_rows(W, b)
    mask = _mask(M, len(rows), len(rows[0]) - 1 if rows else 0)
    return regions(W, b, limit=limit) - sum(not any(row) for row in mask)


def corrected_bound(
    W: ArrayLike, b: ArrayLike, M: ArrayLike, m: ArrayLike | None = None, *, limit: int = LIMIT
) -> int:
    """The best bound that is proven here for the number of regions after masking.

    Parameters
    ----------
    W, b, limit
        The layer before masking, as for ``regions``.
    M, m : (n, d) and (n,)
        Masks on W and b, 1 = kept; without m all offsets are kept.

    Returns
    -------
    int
        With h different hyperplanes before and h' after masking: ``|Omega| - (h - h')`` if each one
        after was there before, as for a unit mask; and never more than r(h', d).

    Raises
    ------
    ValueError
        As for ``regions``, or if M is not (n, d) or m not (n,) with entries 0 and 1.

    Notes
    -----
    Proof.  r(h', d) bounds any h' hyperplanes.  If those after were all there before, take the
    h - h' that go away one at a time: each takes R(A^H) >= 1 regions along, by deletion and
    restriction.  A unit mask keeps a row and its offset or drops the row, so it is of this kind
    (with the row gone, the unit draws nothing, whether its offset is kept or not).

    In general position, any mask lowers the count by at least the number n - n' of rows of zeros of
    M: before it is r(n, d), after at most r(h', d) <= r(n', d), as only the other n' rows can draw,
    and r(n, d) - r(n', d) is the sum of r(j, d - 1) >= 1 over j from n' to n - 1.  This is the
    paper's Theorem 1, and implied by the bound here; without general position it can fail, for
    masked weights as well as for units that draw the same.
    Taught in *What a mask does to a partition*.

    Examples
    --------
    Two parallel lines, and a weight goes: 3 regions become 4.

    >>> corrected_bound([[1, 1], [1, 1]], [0, 1], [[1, 0], [1, 1]])
    4
    """
    rows = integer_rows(W, b)
    d = len(rows[0]) - 1 if rows else 0
    whole = [[1]] * len(rows) if m is None else _mask(m, len(rows), 1)
    masks = [[*row, *q] for row, q in zip(_mask(M, len(rows), d), whole, strict=True)]
    masked = [tuple(map(mul, row, mask)) for row, mask in zip(rows, masks, strict=True)]
    before, after = different(rows), different(masked)
    always = largest(len(after), d)
    if not set(after) <= set(before):
        return always
    return min(always, regions(W, b, limit=limit) - (len(before) - len(after)))


def printed_maximum(M: ArrayLike) -> int:
    """The maximum of the paper's Theorem 1 for unit masks, as printed: 2^(number of pruned units).

    Parameters
    ----------
    M : (n, d) or (n,)
        Mask on W, or one entry for each unit; 1 = kept.

    Returns
    -------
    int
        The exponent counts the wrong units, and even 2^(number of kept units) is reached only up to
        d of them; see ``corrected_maximum``.

    Raises
    ------
    ValueError
        If M has another shape, or entries other than 0 and 1.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> printed_maximum([1, 1, 1, 0])  # of 4 units, 3 are kept
    2
    """
    keep = _kept_units(M)
    return 2 ** (len(keep) - sum(keep))


def corrected_maximum(M: ArrayLike, d: int) -> int:
    """The largest number of regions after a unit mask, over all weights: r(n', d).

    Parameters
    ----------
    M : (n, d) or (n,)
        Mask on W, or one entry for each unit; 1 = kept.
    d : int
        Number of inputs.

    Returns
    -------
    int
        n' is the number of rows of M that are not all zero.  Weights in general position reach
        r(n', d).  A mask that also drops single weights makes at most r(n', d), perhaps less.

    Raises
    ------
    ValueError
        If M has another shape, or entries other than 0 and 1, or d is negative.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> corrected_maximum([1, 1, 1, 0], d=6), corrected_maximum([1, 1, 1, 0], d=2)
    (8, 7)
    """
    return largest(sum(_kept_units(M, d)), d)


def _kept_units(M: ArrayLike, d: int | None = None) -> list[bool]:
    """Which units a mask (n, d) or (n,) keeps, at least in part."""
    table = nested(M)
    first = table[0] if isinstance(table, list) and table else None
    width = (d or len(first)) if isinstance(first, list) else 1
    return [any(row) for row in _mask(table, len(table) if first is not None else 0, width)]


def _mask(M: ArrayLike, n: int, d: int) -> list[list[int]]:
    """A mask of shape (n, d), or (n,) for d = 1, as lists of 0 and 1."""
    table = nested(M)
    rows = [v if isinstance(v, list) else [v] for v in table] if isinstance(table, list) else []
    if not isinstance(table, list) or len(rows) != n or any(len(row) != d for row in rows):
        raise ValueError(
            f"a mask must have the shape of what it masks, here ({n}, {d}); got {len(rows)} rows "
            f"of length {' or '.join(map(str, sorted({len(row) for row in rows}))) or 0}."
        )
    if any(v not in (0, 1) for row in rows for v in row):
        raise ValueError("a mask holds 0 (pruned) and 1 (kept) only; this one holds other entries.")
    return [[int(v) for v in row] for row in rows]
