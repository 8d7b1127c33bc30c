"""The graph of a network over its partition, in space."""

from graphlib import TopologicalSorter
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

from splinelib.boundary import decision
from splinelib.partition import Partition
from splinelib.segments import chains
from splinelib.viz.look import BOUNDARY, EDGE_NEW, EDGE_OLD, UNIT, faces, style
from splinelib.viz.plane import outlines

Array = np.ndarray
HEIGHT = 0.5  # of the graph in its picture, in sides of the box


def plot_surface(
    p: Partition, ax: Any = None, *, output: int = 0, path: str | Array | None = "boundary",
    color: str | Array = "code", view: tuple[float, float] = (26, -62), gap: float = 0.1,
) -> Any:  # fmt: skip
    """Draw the graph of f, one flat facet a cell, above the partition on the floor.

    Parameters
    ----------
    p : Partition
        A few hundred cells at most: each facet is drawn.
    ax : Axes3D, optional
    output : int
        Which output is the height.
    path : "boundary", ndarray (n, 2, 2) or None
        Lines to highlight on the floor and on the graph: the decision boundary, or segments such
        as ``p.pieces(2, 0)``.  Dotted verticals join them at their ends and turning points.
    color : str or array (C, 3)
        ``"code"``, ``"parent"``, ``"none"`` or one colour a cell.
    view : (float, float)
        Elevation and azimuth of the eye, in degrees.
    gap : float
        Least distance between the graph and the floor as the eye sees them, in sides of the box:
        above zero the one hides no part of the other.

    Returns
    -------
    Axes3D

    Notes
    -----
    Paper, Fig. 8 ("a highlighted path linked via a dotted line") and Fig. 12 (App. L); taught in
    *The partition, layer after layer*.

    Examples
    --------
    >>> from splinelib import nets, partition
    >>> p = partition.partition(nets.mlp([2, 4, 1]), box=((-2, -2), (2, 2)))
    >>> ax = plot_surface(p)
    >>> plt.close("all")
    """
    if ax is None:
        with style():
            ax = plt.figure(figsize=(5.6, 4.9)).add_subplot(projection="3d")
    ax.computed_zorder = False
    f = p.outputs()[:, output]
    colors = faces(p, color)
    stretch = HEIGHT * max(np.subtract(*p.box[::-1])) / (np.ptp(f) or 1.0)
    floor = _floor(p, f, stretch, gap, view)
    _draw_floor(p, ax, floor, colors)
    _draw_graph(p, ax, f, colors, view)
    tone = UNIT
    if isinstance(path, str):
        path, tone = decision(p).boundary, BOUNDARY
    if path is not None:
        _draw_path(p, ax, path, output, floor, tone)
    return _frame(p, ax, (floor, float(f.max())), stretch, view)


def _to_eye(view: tuple[float, float]) -> Array:
    """The direction on the floor towards the eye.  (2,)"""
    return np.array([np.cos(np.radians(view[1])), np.sin(np.radians(view[1]))])


def _floor(p: Partition, f: Array, stretch: float, gap: float, view: tuple[float, float]) -> float:
    """Height of the floor, so low that the graph hides no part of it."""
    t = np.linspace(0, 1, 9)[:, None]  # along each edge
    start, end = p.edges.T
    points = p.vertices[start, None] + t * (p.vertices[end] - p.vertices[start])[:, None]
    f = f[start, None] + t[:, 0] * (f[end] - f[start])[:, None]
    away = -_to_eye(view)
    with np.errstate(divide="ignore"):  # sight along a side never leaves through it
        steps = (np.where(away > 0, *p.box[::-1]) - points) / np.where(away == 0, np.inf, away)
    steps = np.where(away == 0, np.inf, steps).min(axis=-1)  # on the floor, to its far rim
    need = (steps * np.tan(np.radians(view[0])) - stretch * (f - f.min())).max()
    return float(f.min() - (max(need, 0) + gap * max(np.subtract(*p.box[::-1]))) / stretch)


def _far_first(p: Partition, view: tuple[float, float]) -> list[int]:
    """The cells in an order in which none is hidden by an earlier one."""
    step = np.diff(p.vertices[p.edges], axis=1)[:, 0]
    nearer = np.column_stack([-step[:, 1], step[:, 0]]) @ _to_eye(view)  # > 0: the left cell is
    order: TopologicalSorter = TopologicalSorter(dict.fromkeys(range(p.num_cells), ()))
    clear = (p.edge_cells >= 0).all(axis=1) & (abs(nearer) > 1e-9 * np.ptp(p.vertices))
    for (left, right), near in zip(p.edge_cells[clear].tolist(), nearer[clear] > 0, strict=True):
        order.add(*((left, right) if near else (right, left)))
    return list(order.static_order())


def _draw_graph(p: Partition, ax: Any, f: Array, colors: Array, view: tuple[float, float]) -> None:
    """The facets, far ones first, each with its own outline."""
    facets = outlines(p.mesh, np.column_stack([p.vertices, f]))
    for place, cell in enumerate(_far_first(p, view)):
        facet = Poly3DCollection([facets[cell]], facecolors=colors[cell], edgecolors=EDGE_NEW,
                                 linewidths=0.6, joinstyle="round",
                                 zorder=3 + place / p.num_cells)  # fmt: skip
        ax.add_collection3d(facet)


def _draw_floor(p: Partition, ax: Any, floor: float, colors: Array) -> None:
    """The partition, lying on the floor."""
    flat = np.column_stack([p.vertices, np.full(len(p.vertices), floor)])
    cells = outlines(p.mesh, flat)
    ax.add_collection3d(Poly3DCollection(cells, facecolors=colors, edgecolors="none", zorder=0))
    old = (p.edge_layer > 0) & (p.edge_layer < p.num_layers)
    order = np.argsort(~old, kind="stable")  # the newest on top
    tones = np.where(old[order], EDGE_OLD, EDGE_NEW)
    lines = Line3DCollection(flat[p.edges[order]], colors=tones, linewidths=0.7, zorder=1)
    ax.add_collection3d(lines)


def _draw_path(p: Partition, ax: Any, path: Array, output: int, floor: float, tone: str) -> None:
    """The path on the floor and on the graph, dotted verticals from the one to the other."""
    A, b = (m[:, output] for m in p.affine_maps())
    for line in chains(path):
        cell = p.locate((line[1:] + line[:-1]) / 2)
        cell = np.append(cell, cell[-1])
        f = (A[cell] * line).sum(axis=1) + b[cell]
        ax.plot(*line.T, np.full(len(line), floor), color=tone, linewidth=2.2, zorder=2)
        ax.plot(*line.T, f, color=tone, linewidth=2.6, zorder=5)
        turns = _turns(line)
        for (x, y), top in zip(line[turns], f[turns], strict=True):
            for zorder, alpha in ((2.5, 1.0), (4.5, 0.4)):  # pale where the graph hides them
                ax.plot([x, x], [y, y], [floor, top], color=tone, linewidth=1.1, linestyle=":",
                        alpha=alpha, zorder=zorder)  # fmt: skip


def _turns(line: Array) -> Array:
    """Whether each point of a polyline is an end of it, or one where its direction changes."""
    step = np.diff(line, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    bend = np.linalg.norm(np.diff(step, axis=0), axis=1) > 1e-3
    return np.concatenate([[True], bend, [True]])


def _frame(
    p: Partition, ax: Any, z: tuple[float, float], stretch: float, view: tuple[float, float]
) -> Any:
    """A box around everything, seen in parallel projection so that verticals are vertical."""
    (x0, y0), (x1, y1) = p.box
    ax.set(xlim=(x0, x1), ylim=(y0, y1), zlim=z)
    ax.set_box_aspect((x1 - x0, y1 - y0, stretch * (z[1] - z[0])), zoom=1.06)
    ax.set_proj_type("ortho")
    ax.view_init(*view)
    ax.set_axis_off()
    return ax
