"""Where lines meet the outlines of cells: the first step of cutting a mesh (see ``cutting``)."""

from typing import NamedTuple

import numpy as np

from splinelib.mesh import Mesh

Array = np.ndarray
BLOCK = 2**17  # numbers in one block of a large table: small enough for the cache


class Signs(NamedTuple):
    """Three-valued signs of K switches at the vertices, packed into words ``(V, ceil(K / 64))``."""

    positive: Array
    negative: Array

    def at(self, vertex: Array, switch: Array) -> Array:
        """+1, 0 or -1 for each vertex and switch."""
        word, bit = switch // 64, (switch % 64).astype(np.uint64)
        up, down = ((flags[vertex, word] >> bit) & np.uint64(1) for flags in self)
        return up.astype(np.int64) - down.astype(np.int64)


class Points(NamedTuple):
    """Points in the open interior of edges, ``(1 - t) tail + t head``, sorted along each edge."""

    edge: Array  # (P,)
    t: Array  # (P,)
    count: Array  # (E,) number of points on each edge
    first: Array  # (E,) index of the first of them


class Crossings(NamedTuple):
    """Which switch changes sign along which edge, and at which of its points."""

    edge: Array  # (X,)
    switch: Array  # (X,)
    point: Array  # (X,)


class Ends(NamedTuple):
    """Where the zero line of a switch meets the outline of a cell that it cuts."""

    slot: Array  # (N,) slot of the outline
    rank: Array  # (N,) 0: at the slot's vertex; r: at the r-th point of its edge from there
    switch: Array  # (N,)


class Outline(NamedTuple):
    """The outlines of all cells that are cut, with the new points on them, one after another.

    A *place* is a position on such an outline: an old vertex or a new point.
    """

    cells: Array  # (n,) the cells that are cut
    start: Array  # (n + 1,) first place of each
    vertex: Array  # (R,) vertex at each place, in the finer mesh
    edge: Array  # (R,) edge from each place to the next, in the finer mesh
    base: Array  # (H,) place of each slot
    tail: Array  # (R,) each place is (1 - t) tail + t head, of old vertices
    head: Array  # (R,)
    t: Array  # (R,)

    def values(self, values: Array, place: Array, switch: Array) -> Array:
        """The value of a switch at a place."""
        t = self.t[place]
        return (1 - t) * values[self.tail[place], switch] + t * values[self.head[place], switch]


def signs(values: Array, zero: Array) -> Signs:
    """Signs of values (V, K); those within ``zero`` (K,) of zero have none."""
    rows, columns = values.shape
    words, step = -(-columns // 64), max(1, BLOCK // columns)
    packed = np.empty((2, rows, words), dtype=np.uint64)
    flags = np.zeros((step, 64 * words), dtype=bool)
    for start in range(0, rows, step):
        block = values[start : start + step]
        part = flags[: len(block)]
        for side, (compare, limit) in enumerate(((np.greater, zero), (np.less, -zero))):
            compare(block, limit, out=part[:, :columns])
            bits = np.packbits(part.ravel(), bitorder="little").view(np.uint64)
            packed[side, start : start + step] = bits.reshape(len(block), words)
    return Signs(*packed)


def _set_bits(words: Array) -> tuple[Array, Array]:
    """Rows and columns of the set bits, sorted by row."""
    row, word = np.nonzero(words)  # few words have bits, few of their bytes, few of those bits
    byte_of, byte = np.nonzero(words[row, word].view(np.uint8).reshape(-1, 8))
    packed = words[row, word].view(np.uint8).reshape(-1, 8)[byte_of, byte]
    which, bit = np.nonzero(np.unpackbits(packed[:, None], axis=1, bitorder="little"))
    word, byte = word[byte_of[which]], byte[which]
    return row[byte_of[which]], 64 * word + 8 * byte + bit


def edge_points(mesh: Mesh, values: Array, zero: Array, sign: Signs) -> tuple[Points, Crossings]:
    """All points at which a switch changes sign along an edge."""
    found, step = [], max(1, BLOCK // sign.positive.shape[1])
    for start in range(0, len(mesh.edges), step):
        tail, head = mesh.edges[start : start + step].T
        rises, falls = (a[tail] & b[head] for a, b in (sign[::-1], sign))
        edge, switch = _set_bits(rises | falls)
        found.append((edge + start, switch))
    edge, switch = (np.concatenate(part) for part in zip(*found, strict=True))
    tail, head = mesh.edges[edge].T
    at_tail, at_head = values[tail, switch], values[head, switch]
    rise = np.abs(at_head - at_tail)
    t = np.abs(at_tail) / rise
    order = order_within(edge, t)
    edge, switch, t, rise = edge[order], switch[order], t[order], rise[order]
    # two crossings are one point if either line passes the other's within its zero
    near = zero[switch] / rise
    new = np.diff(t, prepend=-1.0) > np.maximum(near, np.roll(near, 1))
    new |= np.diff(edge, prepend=-1) > 0
    count = np.bincount(edge[new], minlength=len(mesh.edges))
    points = Points(edge[new], t[new], count, np.cumsum(count) - count)
    return points, Crossings(edge, switch, np.cumsum(new) - 1)


def order_within(group: Array, t: Array) -> Array:
    """The order that sorts by t inside each group; the groups are sorted already."""
    same = group[1:] == group[:-1]
    several = np.zeros(len(group), dtype=bool)  # most groups have one member: leave them
    several[1:] |= same
    several[:-1] |= same
    some = np.flatnonzero(several)
    order = np.arange(len(group))
    order[some] = some[np.lexsort((t[some], group[some]))]
    return order


def chord_ends(mesh: Mesh, sign: Signs, points: Points, crossings: Crossings, width: int) -> Ends:
    """Both ends of every chord, in order of (cell, switch)."""
    edge, switch, point = crossings
    rank = point - points.first[edge]
    forward, backward = mesh.edge_slots[edge].T
    sides = ((forward, rank + 1), (backward, points.count[edge] - rank))
    found = [Ends(slot[slot >= 0], r[slot >= 0], switch[slot >= 0]) for slot, r in sides]
    found.append(_ends_at_vertices(mesh, sign, width))
    ends = Ends(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    order = np.argsort(mesh.slot_cell[ends.slot] * width + ends.switch)
    return Ends(*(part[order] for part in ends))


def _ends_at_vertices(mesh: Mesh, sign: Signs, width: int) -> Ends:
    """Chord ends at vertices that lie on the line of a switch."""
    zero = ~(sign.positive | sign.negative)
    zero[:, -1] &= np.uint64(2**64 - 1) >> np.uint64(-width % 64)  # bits beyond the last switch
    slot = np.flatnonzero(zero.any(axis=1)[mesh.loop_vertex])
    if not len(slot):
        return Ends(slot, slot, slot)
    # only switches that have both signs in the cell cut it
    vertex, starts, cell = mesh.loop_vertex, mesh.cell_start[:-1], mesh.slot_cell[slot]
    split = np.bitwise_or.reduceat(sign.positive[vertex], starts)[cell]
    split &= np.bitwise_or.reduceat(sign.negative[vertex], starts)[cell]
    row, switch = _set_bits(zero[vertex[slot]] & split)
    slot = slot[row]
    previous = np.empty_like(mesh.next_slot)
    previous[mesh.next_slot] = np.arange(len(previous))
    # of several vertices in a row on one line, the first stands for all
    before = sign.at(vertex[previous[slot]], switch)
    slot, switch, before = (a[before != 0] for a in (slot, switch, before))
    after = mesh.next_slot[slot]
    while (on := sign.at(vertex[after], switch) == 0).any():
        after[on] = mesh.next_slot[after[on]]
    through = before * sign.at(vertex[after], switch) < 0
    return Ends(slot[through], np.zeros(int(through.sum()), dtype=np.int64), switch[through])


def refine(mesh: Mesh, points: Points, cells: Array) -> Outline:
    """The outlines of the cells that are cut, with the new points on them."""
    is_cut = np.zeros(mesh.num_cells, dtype=bool)
    is_cut[cells] = True
    slots = np.flatnonzero(is_cut[mesh.slot_cell])
    size = 1 + points.count[mesh.loop_edge[slots]]
    base = np.full(len(mesh.loop_edge), -1)
    base[slots] = np.cumsum(size) - size
    start = np.append(base[mesh.cell_start[cells]], size.sum())

    slot = np.repeat(slots, size)
    rank = np.arange(len(slot)) - base[slot]
    edge, ahead = mesh.loop_edge[slot], mesh.forward[slot]
    count, first = points.count[edge], points.first[edge]
    piece = edge + first + np.where(ahead, rank, count - rank)  # each point adds one edge
    new = np.flatnonzero(rank)
    point = first[new] + np.where(ahead[new], rank[new] - 1, count[new] - rank[new])
    vertex, t = mesh.loop_vertex[slot], np.zeros(len(slot))
    tail, head = vertex.copy(), vertex.copy()
    vertex[new], t[new] = mesh.num_vertices + point, points.t[point]
    tail[new], head[new] = mesh.edges[points.edge[point]].T
    return Outline(cells, start, vertex, piece, base, tail, head, t)
