"""A planar mesh of convex cells, as a handful of arrays.

Vertices are numbered in the order in which they were made, so that a finer mesh keeps the numbers
of the coarser one.  Points and lines on the border of two cells exist once and are shared.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices, edges and cells of a subdivided polygon.

    The outline of a cell is a run of *slots*: slot h stands for vertex ``loop_vertex[h]`` and for
    the edge ``loop_edge[h]`` from there to the next vertex, counter-clockwise.

    Attributes
    ----------
    num_vertices : int
    edges : ndarray (E, 2)
        The two end vertices of each edge.
    edge_layer, edge_unit : ndarray (E,)
        Which nonlinearity layer (from 1; 0 is the outline of the whole) and which unit drew it.
    loop_vertex, loop_edge : ndarray (H,)
        The outlines of all cells, one after another.
    cell_start : ndarray (C + 1,)
        First slot of each cell, and H.
    parent : ndarray (C,)
        The cell of the next coarser mesh that each cell is a part of.
    joined : bool
        Whether lines that pass each other within rounding were joined in some vertex.
    """

    num_vertices: int
    edges: Array
    edge_layer: Array
    edge_unit: Array
    loop_vertex: Array
    loop_edge: Array
    cell_start: Array
    parent: Array
    joined: bool = False

    @property
    def num_cells(self) -> int:
        """Number C of cells."""
        return len(self.cell_start) - 1

    @cached_property
    def slot_cell(self) -> Array:
        """The cell that each slot belongs to.  (H,)"""
        return np.repeat(np.arange(self.num_cells), np.diff(self.cell_start))

    @cached_property
    def next_slot(self) -> Array:
        """The next slot of the same outline.  (H,)"""
        following = np.arange(1, len(self.loop_vertex) + 1)
        following[self.cell_start[1:] - 1] = self.cell_start[:-1]
        return following

    @cached_property
    def forward(self) -> Array:
        """Whether a slot runs along its edge in the edge's own direction.  (H,)"""
        return self.edges[self.loop_edge, 0] == self.loop_vertex

    @cached_property
    def edge_slots(self) -> Array:
        """The slots that run along each edge forward and backward; -1 outside.  (E, 2)"""
        slots = np.full((len(self.edges), 2), -1)
        slots[self.loop_edge, np.where(self.forward, 0, 1)] = np.arange(len(self.loop_edge))
        return slots

    @cached_property
    def edge_cells(self) -> Array:
        """The cells to the left and to the right of each edge; -1 outside.  (E, 2)"""
        return np.where(self.edge_slots >= 0, self.slot_cell[self.edge_slots], -1)


def rectangle() -> Mesh:
    """One cell with four corners, counter-clockwise from the lower left."""
    corner = np.arange(4)
    return Mesh(
        num_vertices=4,
        edges=np.stack([corner, np.roll(corner, -1)], axis=1),
        edge_layer=np.zeros(4, dtype=np.int64),
        edge_unit=np.full(4, -1),
        loop_vertex=corner,
        loop_edge=corner,
        cell_start=np.array([0, 4]),
        parent=np.zeros(1, dtype=np.int64),
    )


def straighten(mesh: Mesh, old: int) -> tuple[Mesh, Array]:
    """Remove new vertices at which no line ends.

    Of the vertices from number ``old`` on, these are the ones with no edge and the ones in the
    middle of a line.  Returns the mesh and the old numbers ``(kept,)`` of the vertices it keeps.
    """
    degree = np.bincount(mesh.edges.ravel(), minlength=mesh.num_vertices)
    keep = degree > 2
    keep[:old] = True
    number = np.cumsum(keep) - 1
    slots = keep[mesh.loop_vertex]
    pieces = [np.flatnonzero(~keep[mesh.edges[:, side]]) for side in (0, 1)]
    joint = np.concatenate([mesh.edges[piece, side] for side, piece in enumerate(pieces)])
    incidence = coo_array(
        (np.ones(len(joint)), (np.concatenate(pieces), joint)),
        shape=(len(mesh.edges), mesh.num_vertices),
    ).tocsr()
    _, line = connected_components(incidence @ incidence.T, directed=False)
    starts = np.concatenate([[0], np.cumsum(slots)])[mesh.cell_start]
    loop_vertex, loop_edge = number[mesh.loop_vertex[slots]], line[mesh.loop_edge[slots]]
    edges = np.zeros((line.max() + 1, 2), dtype=np.int64)
    following = np.arange(1, len(loop_vertex) + 1)
    following[starts[1:] - 1] = starts[:-1]
    edges[loop_edge] = np.stack([loop_vertex, loop_vertex[following]], axis=1)
    _, sample = np.unique(line, return_index=True)
    thin = Mesh(
        int(keep.sum()), edges, mesh.edge_layer[sample], mesh.edge_unit[sample],
        loop_vertex, loop_edge, starts, mesh.parent, mesh.joined,
    )  # fmt: skip
    return thin, np.flatnonzero(keep)


def require(needed: float, memory: float, what: str) -> None:
    """Raise MemoryError, before anything is allocated, if more is needed than may be used."""
    if not needed <= memory:
        raise MemoryError(
            f"{what} need {needed / 1e9:.2f} GB and {max(memory, 0) / 1e9:.2f} GB may be used; "
            "choose a smaller box or a smaller network, or give more with memory=."
        )


def tangled(layer: int) -> ArithmeticError:
    """The error to raise where rounding leaves no consistent mesh."""
    return ArithmeticError(
        f"lines of layer {layer} come too close to each other to be told apart in float64; choose "
        "another box around the place, or scale the weights."
    )
