"""Straight segments ``(n, 2, 2)``: join them into lines, measure how far points are from them."""

from collections import defaultdict

import numpy as np

Array = np.ndarray


def chains(segments: Array) -> list[Array]:
    """Join segments that share an end into polylines, broken only where three or more meet.

    Parameters
    ----------
    segments : ndarray (n, 2, 2)
        From point to point, in any order.

    Returns
    -------
    list of ndarray (m, 2)

    Examples
    --------
    >>> chains([[[1, 0], [2, 0]], [[1, 0], [0, 0]]])[0].tolist()
    [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
    """
    ends = np.asarray(segments, dtype=float).reshape(-1, 2)
    span = np.ptp(ends, axis=0).max() if len(ends) else 0.0
    _, ids = np.unique(np.round(ends / (span or 1.0), 10), axis=0, return_inverse=True)
    pairs = ids.reshape(-1, 2).tolist()
    point = dict(zip(ids.ravel().tolist(), ends, strict=True))
    at: dict[int, list[int]] = defaultdict(list)
    for segment, pair in enumerate(pairs):
        for end in pair:
            at[end].append(segment)
    used: set[int] = set()
    starts = sorted(at, key=lambda end: (len(at[end]) == 2, end))  # closed loops come last
    paths = [_walk(end, segment, at, pairs, used) for end in starts for segment in at[end]]
    return [np.array([point[end] for end in path]) for path in paths if path]


def _walk(
    start: int, segment: int, at: dict[int, list[int]], pairs: list[list[int]], used: set[int]
) -> list[int]:
    """The ends passed from ``start`` along unused segments, up to a junction or the end."""
    path = [start] if segment not in used else []
    while segment not in used:
        used.add(segment)
        here = sum(pairs[segment]) - path[-1]
        path.append(here)
        if len(at[here]) == 2:
            segment = next((s for s in at[here] if s not in used), segment)
    return path


def distance(points: Array, segments: Array) -> Array:
    """Distance from each point to the nearest of some segments.

    Parameters
    ----------
    points : ndarray (B, 2)
    segments : ndarray (n, 2, 2)
        Such as ``p.pieces(layer, unit)`` or a decision's ``boundary``; at least one.

    Returns
    -------
    ndarray (B,)

    Raises
    ------
    ValueError
        If there is no segment.

    Notes
    -----
    Used for the checks in *The partition, layer after layer* and *The decision boundary is the last
    spline*.

    Examples
    --------
    >>> distance(np.array([[0.0, 1.0], [3.0, 0.0]]), np.array([[[-1.0, 0.0], [1.0, 0.0]]]))
    array([1., 2.])
    """
    if len(segments) == 0:
        raise ValueError("there are no segments to measure a distance to; give at least one.")
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    offset = points[:, None] - start
    length = (along**2).sum(axis=1)
    t = (offset * along).sum(axis=2) / np.where(length > 0, length, 1)
    foot = np.clip(t, 0, 1)[:, :, None] * along
    return np.linalg.norm(offset - foot, axis=2).min(axis=1)
