"""Which codes have a region: linear programs, in floating point."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.optimize import linprog

from splinelib.arrangement.integers import Row, different, integer_rows

Array = np.ndarray

TOLERANCE = 1e-9  # radius of the smallest region that counts; 1 is the farthest hyperplane


def codes(W: ArrayLike, b: ArrayLike, *, limit: int = 20_000) -> Array:
    """The code of every region, found by linear programs in floating point.

    Parameters
    ----------
    W, b : (n, d) and (n,)
        As for ``regions``.
    limit : int
        Raise if there are more regions than this.

    Returns
    -------
    ndarray (R, n), int8
        Rows in lexicographic order; +1 where unit k is active, -1 where it is not.  A row of zeros
        has the sign of its offset everywhere, and -1 if that is zero, too.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN or infinity; or more regions than ``limit``.

    Notes
    -----
    Hyperplanes are added one at a time.  Each region known so far has a point inside; on the other
    side of the new hyperplane, a linear program looks for a ball of radius t in it and makes t as
    large as it can be, up to 1.  A region counts if it holds a ball of radius ``TOLERANCE``, in
    units of the distance from the origin to the farthest hyperplane (of 1, if all meet there).
    Compare with ``regions``, which is exact.  Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> codes([[1.0], [1.0], [0.0]], [0.0, -1.0, 2.0]).tolist()
    [[-1, -1, 1], [1, -1, 1], [1, 1, 1]]
    """
    rows = integer_rows(W, b)
    planes = different(rows)
    normals, offsets = _normalized(planes)
    signs, points = np.zeros((1, 0), dtype=np.int8), np.zeros((1, normals.shape[1]))
    for k in range(1, len(planes) + 1):
        signs, points = _cut(signs, points, normals[:k], offsets[:k])
        if len(signs) > limit:
            raise ValueError(
                f"the first {k} of {len(planes)} hyperplanes make {len(signs):,} regions, more "
                f"than limit = {limit:,}. Count them with regions(W, b), or raise limit and wait."
            )
    table = np.array([_column(row, planes, signs) for row in rows], dtype=np.int8)
    table = table.reshape(len(rows), len(signs)).T
    return table[np.lexsort(table.T[::-1])] if rows else table


def _normalized(planes: list[Row]) -> tuple[Array, Array]:
    """Slopes (h, d) of length 1 and offsets (h,) of size at most 1."""
    top = [max(map(abs, row[:-1])) for row in planes]
    scaled = [[v / m for v in row] for row, m in zip(planes, top, strict=True)]
    table = np.array(scaled or [[0.0]], dtype=float)[: len(planes)]
    table /= np.linalg.norm(table[:, :-1], axis=1, keepdims=True)
    return table[:, :-1], table[:, -1] / (abs(table[:, -1]).max(initial=0.0) or 1.0)


def _cut(signs: Array, points: Array, normals: Array, offsets: Array) -> tuple[Array, Array]:
    """Cut regions (R, k) with points inside (R, d) by the last of k + 1 hyperplanes."""
    sides = np.tile(np.array([-1, 1], dtype=np.int8), len(signs))
    signs = np.column_stack([signs.repeat(2, axis=0), sides])
    points = points.repeat(2, axis=0)
    unknown = sides * (points @ normals[-1] + offsets[-1]) <= TOLERANCE
    points[unknown] = _centers(signs[unknown], normals, offsets)
    filled = (signs * (points @ normals.T + offsets)).min(axis=1) > TOLERANCE
    return signs[filled], points[filled]


def _centers(signs: Array, normals: Array, offsets: Array, block: int = 64) -> Array:
    """For each code of (U, k), the x (U, d) that maximizes t <= 1 with s_k z_k(x) >= t for all k.

    If the region of the code is empty, t < 0.  Many programs are solved as one, which is faster.
    """
    if len(signs) > block:
        parts = [signs[i : i + block] for i in range(0, len(signs), block)]
        return np.concatenate([_centers(part, normals, offsets) for part in parts])
    number, (k, d) = len(signs), normals.shape
    blocks = np.concatenate([-signs[:, :, None] * normals, np.ones((number, k, 1))], axis=2)
    places = (np.arange(number), np.arange(number + 1))
    result = linprog(
        np.tile([0.0] * d + [-1.0], number),
        A_ub=sparse.bsr_array((blocks, *places), shape=(number * k, number * (d + 1))).tocsc(),
        b_ub=(signs * offsets).ravel(),
        bounds=[*[(None, None)] * d, (None, 1.0)] * number,
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if not result.success:
        raise ArithmeticError(
            f"the linear programs for regions were not solved ({result.message})."
        )
    return result.x.reshape(number, d + 1)[:, :-1]


def _column(row: Row, planes: list[Row], signs: Array) -> Array:
    """The signs of one unit in all regions, given those of the different hyperplanes."""
    plane = different([row])
    if not plane:
        return np.full(len(signs), 1 if row[-1] > 0 else -1)
    same_side = next(v for v in row if v) > 0
    return signs[:, planes.index(plane[0])] * (1 if same_side else -1)
