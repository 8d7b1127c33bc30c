"""Cut every cell of a planar mesh along the zero lines of functions that are affine in each cell.

This is the geometric half of the exact partition: ``grow`` asks a network for the values of its
switches at the vertices, and ``cut`` draws their zero lines.  All cells are cut at once with
arrays.  In each convex cell, a switch that changes sign draws one *chord* between two places on
the cell's outline, and everything that follows is a matter of order, not of angles:

* two chords meet inside the cell if and only if their ends interleave on the outline;
* around any point of the cell, rays follow each other as their targets do on the outline.

So rounding can move a vertex by an ulp, but it cannot tangle the mesh.  Signs have three values:
a vertex within rounding distance of a line lies *on* it, and lines that meet in one point (zero
biases, copies of a unit) meet in one vertex.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from splinelib.chords import chords_of, meetings_of, new_vertices
from splinelib.faces import assemble, only_relevant, segments_of
from splinelib.mesh import Mesh, require
from splinelib.outline import chord_ends, edge_points, refine, signs

Array = np.ndarray
CELL_BYTES = 1000  # what a cell takes at the peak, from runs with a million of them


def cut(
    mesh: Mesh,
    values: Array,
    zero: Array,
    layer: int,
    memory: float = np.inf,
    relevant: Callable | None = None,
) -> tuple[Mesh, csr_array]:
    """Cut a mesh along the zero lines of K functions that are affine on each of its cells.

    Parameters
    ----------
    mesh : Mesh
        Convex cells.
    values : ndarray (V, K)
        The functions at the vertices.
    zero : ndarray (K,)
        Up to which magnitude a value counts as zero.
    layer : int
        What to write into ``edge_layer`` of the new edges; ``edge_unit`` is the column k.
    memory : float
        Bytes that may be used.
    relevant : callable, optional
        ``relevant(weights, tail, head, switch) -> bool (n,)`` says which segments to draw of lines
        that matter only in parts (max-pooling).  By default all.

    Returns
    -------
    mesh : Mesh
        The finer mesh.
    weights : csr_array (new, V)
        Each new vertex as a combination of old ones; it holds for every function that is affine on
        the old cells, the coordinates included.

    Raises
    ------
    ArithmeticError
        If rounding leaves no consistent mesh.
    """
    width, sign = values.shape[1], signs(values, zero)
    points, crossings = edge_points(mesh, values, zero, sign)
    least = mesh.num_cells + len(crossings.edge)
    require(CELL_BYTES * least, memory, f"{least:,} cells or more")
    ends = chord_ends(mesh, sign, points, crossings, width)
    if not len(ends.slot):
        same = replace(mesh, parent=np.arange(mesh.num_cells))
        return same, csr_array((0, mesh.num_vertices))
    outline = refine(mesh, points, np.unique(mesh.slot_cell[ends.slot]))
    chords = chords_of(mesh, outline, ends, width, layer)
    meetings = meetings_of(outline, chords, values, zero, memory)
    weights = new_vertices(mesh, points, outline, chords, meetings)
    segments = segments_of(outline, chords, meetings)
    made = mesh.num_vertices + np.arange(weights.shape[0])
    vertex = np.append(outline.vertex, made[len(points.t) :])
    if relevant is not None:
        segments = only_relevant(segments, chords, vertex, weights, relevant)
    fine = assemble(mesh, points, outline, chords, segments, vertex, layer)
    on_edges = len(points.t) < len(crossings.edge) or (ends.rank == 0).any()
    return replace(fine, joined=bool(mesh.joined or meetings.joined or on_edges)), weights
