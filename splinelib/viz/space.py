"""The graph of a network over its partition, in space."""

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


def plot_surface(
    p: Partition, ax: Any = None, *, output: int = 0, path: str | Array | None = "boundary",
    color: str | Array = "code", view: tuple[float, float] = (26, -62), gap: float = 0.45,
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
        Distance from the graph's lowest point to the floor, in heights of the graph.

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
    floor = float(f.min() - gap * (np.ptp(f) or 1.0))
    colors = faces(p, color)
    _draw_floor(p, ax, floor, colors)
    graph = outlines(p.mesh, np.column_stack([p.vertices, f]))
    ax.add_collection3d(Poly3DCollection(graph, facecolors=colors, edgecolors=EDGE_NEW,
                                         linewidths=0.45, zorder=3))  # fmt: skip
    tone = UNIT
    if isinstance(path, str):
        path, tone = decision(p).boundary, BOUNDARY
    if path is not None:
        _draw_path(p, ax, path, output, floor, tone)
    return _frame(p, ax, (floor, float(f.max())), view)


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
            ax.plot([x, x], [y, y], [floor, top], color=tone, linewidth=1.1, linestyle=":",
                    zorder=4)  # fmt: skip


def _turns(line: Array) -> Array:
    """Whether each point of a polyline is an end of it, or one where its direction changes."""
    step = np.diff(line, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    bend = np.linalg.norm(np.diff(step, axis=0), axis=1) > 1e-3
    return np.concatenate([[True], bend, [True]])


def _frame(p: Partition, ax: Any, z: tuple[float, float], view: tuple[float, float]) -> Any:
    """A box around everything, seen in parallel projection so that verticals are vertical."""
    (x0, y0), (x1, y1) = p.box
    ax.set(xlim=(x0, x1), ylim=(y0, y1), zlim=z)
    ax.set_box_aspect((x1 - x0, y1 - y0, 0.75 * max(x1 - x0, y1 - y0)), zoom=1.06)
    ax.set_proj_type("ortho")
    ax.view_init(*view)
    ax.set_axis_off()
    return ax
