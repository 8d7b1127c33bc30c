"""Straight lines through cells, and where they meet: the second step of cutting a mesh."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from splinelib.mesh import Mesh, require, tangled
from splinelib.outline import Ends, Outline, Points, order_within

Array = np.ndarray
PAIR_BYTES = 200  # what two lines that may cross take at the peak


class Chords(NamedTuple):
    """Straight lines through cut cells, from place p to place q > p, in order of (p, q)."""

    p: Array  # (n,)
    q: Array  # (n,)
    unit: Array  # (n,) the first of the switches that vanish there
    start: Array  # (n + 1,) where the switches of each chord start in ``units``
    units: Array


class Meetings(NamedTuple):
    """The points where chords meet inside a cell, in order along each chord."""

    chord: Array  # (M,) a point that m chords share stands m times
    point: Array  # (M,) number of the point
    host: Array  # (I,) one chord through each point
    t: Array  # (I,) and the point's position (1 - t) p + t q on it
    joined: bool  # whether more than two chords meet in some point


def chords_of(mesh: Mesh, outline: Outline, ends: Ends, width: int, layer: int) -> Chords:
    """Join the two ends of each chord; lines that coincide become one chord."""
    line = mesh.slot_cell[ends.slot] * width + ends.switch
    paired = len(line) % 2 == 0 and (line[::2] == line[1::2]).all()
    if not paired or (line[1:-1:2] == line[2::2]).any():
        raise tangled(layer)
    place = (outline.base[ends.slot] + ends.rank).reshape(-1, 2)
    p, q = place.min(axis=1), place.max(axis=1)
    key = p * (outline.start[-1] + 1) + q
    order = np.argsort(key, kind="stable")
    p, q, units = p[order], q[order], ends.switch[::2][order]
    start = np.flatnonzero(np.diff(key[order], prepend=-1))
    return Chords(p[start], q[start], units[start], np.append(start, len(units)), units)


def meetings_of(
    outline: Outline, chords: Chords, values: Array, zero: Array, memory: float
) -> Meetings:
    """Where chords meet inside their cell."""
    i, j = _interleaved(chords, memory)
    p, q, unit = chords.p, chords.q, chords.unit
    i_at = [np.abs(outline.values(values, end[i], unit[j])) for end in (p, q)]
    j_at = [np.abs(outline.values(values, end[j], unit[i])) for end in (p, q)]
    rise = np.append(i_at[0] + i_at[1], j_at[0] + j_at[1])
    t = np.append(i_at[0], j_at[0]) / rise
    near = zero[unit[np.append(j, i)]] / rise
    chord, pair = np.append(i, j), np.tile(np.arange(len(i)), 2)
    order = np.argsort(chord, kind="stable")
    order = order[order_within(chord[order], t[order])]
    chord, pair, near = chord[order], pair[order], near[order]
    close = np.diff(t[order]) <= np.maximum(near[1:], near[:-1])
    close &= np.diff(chord) == 0
    meets = _merge(i, j, chord, pair, close)
    point = meets[pair]
    keep = np.append(True, (np.diff(chord) != 0) | (np.diff(point) != 0))[: len(chord)]
    _, sample = np.unique(meets, return_index=True)
    return Meetings(chord[keep], point[keep], i[sample], t[sample], len(sample) < len(i))


def _interleaved(chords: Chords, memory: float) -> tuple[Array, Array]:
    """All pairs i < j of chords that meet: their ends interleave, p_i < p_j < q_i < q_j."""
    p, q = chords.p, chords.q
    # chords are sorted by p: those that start strictly between the ends of chord i are a range
    low, high = np.searchsorted(p, p, side="right"), np.searchsorted(p, q)
    count = int((high - low).sum())
    require(PAIR_BYTES * count, memory, f"{count:,} pairs of lines that may cross")
    i, rank = ranges(high - low)
    j = low[i] + rank
    inside = q[j] > q[i]
    return i[inside], j[inside]


def _merge(i: Array, j: Array, chord: Array, pair: Array, close: Array) -> Array:
    """The number of the point in which chords i and j meet, for each pair (i, j) of chords.

    ``chord`` and ``pair`` list the meetings along each chord, and ``close`` (one shorter) says
    which of them seem to be the same point as the next one.  What is one point must stay one:
    all chords through a point meet there, each with each, and nothing lies between a point and
    itself.  So points are joined until both hold.
    """
    count, size = len(i), int(chord.max(initial=0)) + 1
    key, meets = i * size + j, np.arange(len(i))  # key is sorted
    one, other = pair[:-1][close], pair[1:][close]
    joined = 0
    while len(one) > joined:
        joined = len(one)
        graph = csr_array((np.ones(joined), (one, other)), shape=(count, count))
        meets = connected_components(graph, directed=False)[1]
        several = np.flatnonzero(np.bincount(meets)[meets] > 1)
        through = np.stack([np.tile(meets[several], 2), np.append(i[several], j[several])])
        point, a, b = _each_with_each(*np.unique(through, axis=1))
        third = np.minimum(np.searchsorted(key, a * size + b), count - 1)
        missed = (key[third] == a * size + b) & (meets[third] != point)
        member = np.zeros(meets.max() + 1, dtype=np.int64)
        member[meets[several]] = several
        between = _between(chord, meets[pair])
        one = np.concatenate([one, member[point[missed]], pair[:-1][between]])
        other = np.concatenate([other, third[missed], pair[1:][between]])
    return meets


def _between(chord: Array, point: Array) -> Array:
    """Neighbours on a chord that are different points but lie between a point and itself."""
    spot = chord * (int(point.max(initial=0)) + 1) + point
    _, first, which = np.unique(spot, return_index=True, return_inverse=True)
    last = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(last, which, np.arange(len(spot)))
    cover = np.zeros(len(spot) + 1, dtype=np.int64)
    np.add.at(cover, first, 1)
    np.add.at(cover, last, -1)
    return (np.cumsum(cover)[: len(spot) - 1] > 0) & (point[1:] != point[:-1])


def _each_with_each(group: Array, member: Array) -> tuple[Array, Array, Array]:
    """Every two members a < b of the same group; sorted by (group, member)."""
    _, size = np.unique(group, return_counts=True)
    left = np.repeat(np.cumsum(size), size) - np.arange(len(group)) - 1  # members that follow
    first, rank = ranges(left)
    return group[first], member[first], member[first + 1 + rank]


def ranges(counts: Array) -> tuple[Array, Array]:
    """``counts[n]`` times each n, and 0, 1, ... inside each of these runs."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]


def new_vertices(
    mesh: Mesh, points: Points, outline: Outline, chords: Chords, meetings: Meetings
) -> csr_array:
    """Every new vertex as a combination of old ones: the points on edges, then the meetings."""
    t, ends = meetings.t, (chords.p[meetings.host], chords.q[meetings.host])
    on_edge = np.stack([1 - points.t, points.t], axis=1)
    inside = [
        share * part
        for end, share in zip(ends, (1 - t, t), strict=True)
        for part in (1 - outline.t[end], outline.t[end])
    ]
    data = np.append(on_edge, np.stack(inside, axis=1))
    corners = [side[end] for end in ends for side in (outline.tail, outline.head)]
    indices = np.append(mesh.edges[points.edge], np.stack(corners, axis=1))
    count = len(points.t)
    start = np.append(2 * np.arange(count), 2 * count + 4 * np.arange(len(t) + 1))
    return csr_array((data, indices, start), shape=(count + len(t), mesh.num_vertices))
