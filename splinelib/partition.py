"""The exact partition that a network draws on a plane of its input space.

A network is affine on each cell of the partition drawn by the layers before, so the next layer's
lines are straight there: the paper's recursion (Sec. 3.1, "Going to multilayer").  A new vertex
lies between old ones, and so do its features; no cell needs a matrix of its own, and a convolution
costs no more than a forward pass at the vertices.  ``grow`` runs that recursion, ``cutting`` draws
the lines; this module is what you ask for a partition, and what you ask a partition.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import nn

from splinelib.affine import map_of
from splinelib.grow import blocks, free_memory, grow, states_at
from splinelib.mesh import Mesh, tangled
from splinelib.plane import Plane
from splinelib.stages import Stage, frozen, read

Array = np.ndarray
Box = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Partition:
    """A piece of a plane, cut into the cells on which a network is affine.

    Made by ``partition``.  All arrays are NumPy's, coordinates in float64.

    Attributes
    ----------
    net : nn.Module
        A float64 copy of the network, as it was when the partition was drawn.
    plane : Plane
        Where the coordinates live in the input space.
    box : ((xmin, ymin), (xmax, ymax))
    vertices : ndarray (V, 2)
    layers : tuple of Mesh
        The mesh after each nonlinearity layer, ``layers[0]`` the box itself.  A finer mesh keeps
        the vertex numbers of a coarser one.
    stages : tuple of Stage
        The network as it was read.
    zeros : tuple of Tensor
        For each nonlinearity layer, up to which magnitude a unit's value counted as zero.
    """

    net: nn.Module
    plane: Plane
    box: Box
    vertices: Array
    layers: tuple[Mesh, ...]
    stages: tuple[Stage, ...]
    zeros: tuple[torch.Tensor, ...]

    def __repr__(self) -> str:
        cells, layers = self.num_cells, self.num_layers
        plural = ["" if number == 1 else "s" for number in (cells, layers)]
        return f"Partition({cells:,} cell{plural[0]}, {layers} layer{plural[1]})"

    @property
    def mesh(self) -> Mesh:
        """The finest mesh."""
        return self.layers[-1]

    @property
    def num_layers(self) -> int:
        """Nonlinearity layers that have drawn lines."""
        return len(self.layers) - 1

    @property
    def num_cells(self) -> int:
        """Number C of cells."""
        return self.mesh.num_cells

    @property
    def edges(self) -> Array:
        """End vertices of each edge.  (E, 2)"""
        return self.mesh.edges

    @property
    def edge_layer(self) -> Array:
        """The layer that drew each edge, from 1; 0 for the outline of the box.  (E,)"""
        return self.mesh.edge_layer

    @property
    def edge_unit(self) -> Array:
        """The unit of that layer that drew it, from 0 (the first, if several coincide).  (E,)"""
        return self.mesh.edge_unit

    @property
    def edge_cells(self) -> Array:
        """The cells to the left and right of each edge, -1 outside the box.  (E, 2)"""
        return self.mesh.edge_cells

    @cached_property
    def _corners(self) -> Array:
        """Vertices of all cells, one cell after another.  (H, 2)"""
        return self.vertices[self.mesh.loop_vertex]

    def polygons(self) -> list[Array]:
        """The corners ``(n, 2)`` of each cell, counter-clockwise."""
        return np.split(self._corners, self.mesh.cell_start[1:-1])

    @cached_property
    def centers(self) -> Array:
        """The mean of each cell's corners, a point inside it.  (C, 2)"""
        sums = np.add.reduceat(self._corners, self.mesh.cell_start[:-1])
        return sums / np.diff(self.mesh.cell_start)[:, None]

    @cached_property
    def areas(self) -> Array:
        """Area of each cell, in units of the plane's coordinates.  (C,)"""
        here = self._corners - self.centers[self.mesh.slot_cell]
        there = here[self.mesh.next_slot]
        twice = here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]
        return np.add.reduceat(twice, self.mesh.cell_start[:-1]) / 2

    def after(self, layer: int) -> "Partition":
        """The partition drawn by the first layers alone, 0 for the bare box."""
        if not 0 <= layer <= self.num_layers:
            raise ValueError(f"layer must be 0 to {self.num_layers}; got {layer}.")
        layers = self.layers[: layer + 1]
        return replace(self, layers=layers, vertices=self.vertices[: layers[-1].num_vertices])

    def codes(self, layer: int | None = None) -> Array:
        """Code of each cell, for all layers so far or for one of them.

        Returns
        -------
        ndarray (C, K), int8
            +1 where the unit is active in the cell and -1 where it is not (or is zero throughout);
            for a max-pooling window, the index of the entry that wins.
        """
        if layer is not None and not 1 <= layer <= self.num_layers:
            raise ValueError(f"layer must be 1 to {self.num_layers}; got {layer}.")
        columns, cell = [], np.arange(self.num_cells)
        for number in range(self.num_layers, 0, -1):
            if layer in (None, number):
                # asked where the layer has just drawn: no cell of its mesh is thinner than its zero
                columns.append(self._codes_at(self.after(number).centers, number)[cell])
            cell = self.layers[number].parent[cell]
        return np.concatenate(columns[::-1], axis=1) if columns else np.empty((1, 0), np.int8)

    def _codes_at(self, points: Array, layer: int) -> Array:
        """Codes of one layer at points.  (B, 2) -> (B, K)"""
        stage, zero = self.stages[layer - 1], self.zeros[layer - 1] / 64
        states = states_at(self.stages[:layer], self.plane, points)
        return torch.cat([stage.codes(state[-1], zero) for state in states]).cpu().numpy()

    def affine_maps(self) -> tuple[Array, Array]:
        """The map ``f = A u + b`` of each cell, u being coordinates in the plane.

        Returns
        -------
        A : ndarray (C, outputs, 2)
        b : ndarray (C, outputs)
        """
        self.require_all_layers()
        directions = torch.cat([self.plane.basis, self.plane.origin[None]])
        parts = [
            map_of(self.stages, self.plane.embed(self.centers[block]), directions)
            for block in blocks(self.stages, self.num_cells)
        ]
        A, b = (torch.cat(p).cpu().numpy() for p in zip(*parts, strict=True))
        return A[:, :, :2], b + A[:, :, 2]

    def outputs(self) -> Array:
        """The network's output at the vertices.  (V, outputs)"""
        self.require_all_layers()
        parts = [states[-1] for states in states_at(self.stages, self.plane, self.vertices)]
        return torch.cat(parts).cpu().numpy()

    def require_all_layers(self) -> None:
        """Raise unless the network is affine on each cell: all its layers must have drawn."""
        if self.num_layers < len(self.stages) - 1:
            raise ValueError(
                f"only {self.num_layers} of {len(self.stages) - 1} layers have drawn this "
                "partition, and the network is not affine on its cells; use the full partition, "
                "or one of the network cut off after that layer."
            )

    def locate(self, points: Array) -> Array:
        """The cell that each point ``(B, 2)`` is in, -1 outside the box; on a border, either."""
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or np.isnan(points).any():
            raise ValueError(f"points must be (B, 2) numbers, no NaN; got shape {points.shape}.")
        low, high = np.array(self.box)
        found = np.full(len(points), -1)
        inside = np.flatnonzero(((points >= low) & (points <= high)).all(axis=1))
        layers = range(1, self.num_layers + 1) if len(inside) else ()
        columns = [self._codes_at(points[inside], layer) for layer in layers]
        codes = np.concatenate(columns, axis=1) if columns else np.empty((len(inside), 0), np.int8)
        for n, code in zip(inside, codes, strict=True):
            cell = self._cell_of_code.get(code.tobytes())
            found[n] = self._deepest(points[n]) if cell is None else cell  # None: on a border
        return found

    @cached_property
    def _cell_of_code(self) -> dict[bytes, int]:
        return {code.tobytes(): cell for cell, code in enumerate(self.codes())}

    def _deepest(self, point: Array) -> int:
        """The cell in which a point lies deepest."""
        here = self._corners - point
        there = here[self.mesh.next_slot]
        along = there - here
        depth = here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]
        depth /= np.hypot(*along.T) + np.finfo(float).tiny
        return int(np.minimum.reduceat(depth, self.mesh.cell_start[:-1]).argmax())

    def pieces(self, layer: int, unit: int) -> Array:
        """The hyperplane of one unit as it appears in the plane: where its code changes.

        Returns
        -------
        ndarray (n, 2, 2)
            Segments, from point to point.  A unit of the first layer draws one straight line; in
            later layers it bends where it meets the lines of earlier ones.
        """
        if not 1 <= layer <= self.num_layers:
            raise ValueError(f"layer must be 1 to {self.num_layers}; got {layer}.")
        codes = self.codes(layer)
        if not 0 <= unit < codes.shape[1]:
            raise ValueError(f"layer {layer} has units 0 to {codes.shape[1] - 1}; got {unit}.")
        left, right = self.edge_cells.T
        border = (left >= 0) & (right >= 0) & (codes[left, unit] != codes[right, unit])
        return self.vertices[self.edges[border]]


def partition(
    net: nn.Module, box: Box | None = None, plane: Plane | None = None, memory: float | None = None
) -> Partition:
    """Draw the exact partition of a box by a network.

    Parameters
    ----------
    net : nn.Module
        A piecewise affine network (operations: see ``splinelib.ops``), in eval mode.
    box : ((xmin, ymin), (xmax, ymax)), optional
        In coordinates of the plane.  By default the box around the points of ``Plane.through``.
    plane : Plane, optional
        Where to look in the input space.  By default R^2, for networks with two inputs.
    memory : float, optional
        Bytes that may be used.  By default nine tenths of what is free.

    Returns
    -------
    Partition

    Raises
    ------
    ValueError
        If the network is not piecewise affine, or the box or plane does not fit it.
    MemoryError
        If the partition needs more memory than is given.
    ArithmeticError
        If lines come so close to each other that float64 cannot tell how they lie.

    Notes
    -----
    Paper, Eq. 3 and Sec. 3.1; taught in *The partition, layer after layer*.  The geometry is
    computed in float64.  Values that are smaller than 2^-44 of the terms they are summed from
    count as zero: lines that are closer than that are one line.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    ...     _ = net[0].bias.copy_(torch.tensor([0.0, 0.0, -0.5]))
    >>> p = partition(net, box=((-1, -1), (1, 1)))
    >>> p
    Partition(7 cells, 1 layer)
    >>> round(float(p.areas.sum()), 9)
    4.0
    """
    plane = Plane(torch.zeros(2), torch.eye(2), (2,)) if plane is None else plane
    box = _checked(plane.box() if box is None else box)
    net = frozen(net)
    plane = plane.to(next((w.device for w in net.parameters()), torch.device("cpu")))
    stages = tuple(read(net, plane.shape))
    (x0, y0), (x1, y1) = box
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    memory = free_memory() if memory is None else memory
    vertices, layers, zeros = grow(stages, plane.embed(corners).flatten(1), corners, memory)
    drawn = Partition(net, plane, box, vertices, layers, stages, zeros)
    if drawn.mesh.joined:
        _check_codes(drawn)
    return drawn


def _check_codes(drawn: Partition) -> None:
    """Raise unless the pieces of every cell have different codes.

    Where lines were joined in one point, a cell may be left that is smaller than what they were
    moved by, and an input in its middle is in another region.
    """
    for number in range(1, drawn.num_layers + 1):
        parent = drawn.layers[number].parent[:, None]
        rows = np.concatenate([parent, drawn.after(number).codes(number)], axis=1)
        if len(np.unique(rows, axis=0)) < len(rows):
            raise tangled(number)


def _checked(box: Box) -> Box:
    """The box as floats, if it is one."""
    try:
        (x0, y0), (x1, y1) = ((float(v) for v in corner) for corner in box)
        right = np.isfinite([x0, y0, x1, y1]).all() and x0 < x1 and y0 < y1
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            "box must be ((xmin, ymin), (xmax, ymax)) with finite xmin < xmax and ymin < ymax; "
            f"got {box}."
        )
    return (x0, y0), (x1, y1)
