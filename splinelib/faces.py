"""From chords to cells: the last step of cutting a mesh."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from splinelib.chords import Chords, Meetings, ranges
from splinelib.mesh import Mesh, tangled
from splinelib.outline import Outline, Points

Array = np.ndarray


class Segments(NamedTuple):
    """The pieces of chords between meetings.

    They run from *node* to node: the places of the outline come first, R of them, then the points
    where chords meet.
    """

    chord: Array  # (S,)
    tail: Array  # (S,)
    head: Array  # (S,)
    unit: Array  # (S,)


def segments_of(outline: Outline, chords: Chords, meetings: Meetings) -> Segments:
    """Cut the chords where they meet."""
    count = np.bincount(meetings.chord, minlength=len(chords.p))
    chord, rank = ranges(count + 1)
    node = np.append(outline.start[-1] + meetings.point, -1)
    ahead = (np.cumsum(count) - count)[chord] + rank
    tail = np.where(rank == 0, chords.p[chord], node[ahead - 1])
    head = np.where(rank == count[chord], chords.q[chord], node[ahead])
    return Segments(chord, tail, head, chords.unit[chord])


def only_relevant(
    segments: Segments, chords: Chords, vertex: Array, weights: csr_array, relevant: Callable
) -> Segments:
    """Leave out the pieces of lines that do not matter, and name the first switch that does."""
    which, rank = ranges(np.diff(chords.start)[segments.chord])
    unit = chords.units[chords.start[segments.chord[which]] + rank]
    ends = vertex[segments.tail[which]], vertex[segments.head[which]]
    matters = relevant(weights, *ends, unit)
    which, first = np.unique(which[matters], return_index=True)
    return Segments(*(part[which] for part in segments[:3]), unit[matters][first])


def assemble(
    mesh: Mesh, points: Points, outline: Outline, chords: Chords, segments: Segments,
    vertex: Array, layer: int,
) -> Mesh:  # fmt: skip
    """The finer mesh: the cells that were not cut, then the pieces of the others.

    ``vertex`` holds the number of the vertex at each node.
    """
    places, drawn = outline.start[-1], len(segments.chord)
    origin, cell, cycles, start = _trace(outline, chords, segments, layer)
    used = np.zeros(len(vertex), dtype=bool)
    used[segments.tail] = used[segments.head] = True
    inner = np.count_nonzero(used[places:])
    euler = len(outline.cells) + drawn - inner  # V - E + F = 1 in every cell
    if len(start) - 1 != euler or len(cycles) != len(origin):
        raise tangled(layer)
    # every point on an edge makes one edge more
    old, rank = ranges(1 + points.count)
    node = np.append(mesh.num_vertices + np.arange(len(points.t)), -1)
    ahead = points.first[old] + rank
    tail = np.where(rank == 0, mesh.edges[old, 0], node[ahead - 1])
    head = np.where(rank == points.count[old], mesh.edges[old, 1], node[ahead])
    made = len(old) + np.arange(drawn)
    edge = np.concatenate([outline.edge, made, made])  # of each half-edge

    whole = np.ones(mesh.num_cells, dtype=bool)
    whole[outline.cells] = False
    kept = whole[mesh.slot_cell]
    loop_edge = mesh.loop_edge[kept]
    sizes = np.append(np.diff(mesh.cell_start)[whole], np.diff(start))
    parent = outline.cells[cell[cycles[start[:-1]]]]
    ends = np.stack([vertex[segments.tail], vertex[segments.head]], axis=1)
    return Mesh(
        num_vertices=mesh.num_vertices + len(points.t) + len(vertex) - places,
        edges=np.concatenate([np.stack([tail, head], axis=1), ends]),
        edge_layer=np.append(mesh.edge_layer[old], np.full(drawn, layer)),
        edge_unit=np.append(mesh.edge_unit[old], segments.unit),
        loop_vertex=np.append(mesh.loop_vertex[kept], vertex[origin[cycles]]),
        loop_edge=np.append(loop_edge + points.first[loop_edge], edge[cycles]),
        cell_start=np.append(0, np.cumsum(sizes)),
        parent=np.append(np.flatnonzero(whole), parent),
    )


def _trace(
    outline: Outline, chords: Chords, segments: Segments, layer: int
) -> tuple[Array, Array, Array, Array]:
    """Walk around every new cell along half-edges.

    Half-edge r < R runs from place r of an outline to the next place; then all segments forward,
    then all backward.  Returns the node each starts from, the cut cell it is in, the half-edges
    cell after cell, and where each cell starts.
    """
    places, drawn = outline.start[-1], len(segments.chord)
    first, size = outline.start[:-1], np.diff(outline.start)
    of = np.repeat(np.arange(len(first)), size)
    following = np.arange(1, places + 1)
    following[outline.start[1:] - 1] = first
    p, q = chords.p[segments.chord], chords.q[segments.chord]
    origin = np.concatenate([np.arange(places), segments.tail, segments.head])
    target = np.concatenate([following, q, p])
    cell = np.concatenate([of, of[p], of[p]])
    # rays around a node follow each other as their targets do, from the outline's next edge on
    turn = target - np.where(origin < places, origin, first[cell])
    turn = np.where(turn < 0, turn + size[cell], turn)
    busy = np.zeros(origin.max() + 1, dtype=bool)  # nodes with more than one ray
    busy[origin[places:]] = True
    rays = np.flatnonzero(busy[origin])
    sorted_rays = csr_array((rays, (origin[rays], turn[rays])), shape=(len(busy), size.max() + 1))
    if len(sorted_rays.data) < len(rays):  # two rays from one node to one place
        raise tangled(layer)
    order, starts = sorted_rays.data, sorted_rays.indptr[:-1][busy]
    clockwise = np.arange(len(origin))  # the ray before each ray
    clockwise[order] = np.roll(order, 1)
    ends = sorted_rays.indptr[1:][busy] - 1
    clockwise[order[starts]] = order[ends]
    # at the end of a half-edge, take the ray clockwise of the way back
    forward = places + np.arange(drawn)
    backward = forward + drawn
    after = np.concatenate([clockwise[following], clockwise[backward], clockwise[forward]])
    # around a convex cell the targets run once around the outline, so one half-edge starts again
    return origin, cell, *_cycles(after, np.flatnonzero(target[after] < target))


def _cycles(after: Array, one: Array) -> tuple[Array, Array]:
    """The cycles of a permutation that go through given members, one each, and their starts."""
    size, steps = np.ones(len(one), dtype=np.int64), [(np.arange(len(one)), one)]
    cycle, at = steps[0]
    while len(at):
        at = after[at]
        going = at != one[cycle]
        cycle, at = cycle[going], at[going]
        size[cycle] += 1
        steps.append((cycle, at))
    start = np.append(0, np.cumsum(size))
    cycles = np.empty(start[-1], dtype=np.int64)
    for step, (cycle, at) in enumerate(steps):
        cycles[start[cycle] + step] = at
    return cycles, start
