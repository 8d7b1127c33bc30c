"""Figures in the plane of a partition."""

from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from splinelib.boundary import Decision, decision
from splinelib.mesh import Mesh
from splinelib.partition import Partition
from splinelib.segments import chains
from splinelib.viz.look import BOUNDARY, CLASSES, EDGE_NEW, EDGE_OLD, MARKERS, UNIT, faces, style

Array = np.ndarray


def _axes(drawn: Partition | Decision, ax: Axes | None, ticks: bool = False) -> Axes:
    """Axes that show the whole box at one scale, with no decoration that says nothing."""
    if ax is None:
        with style():
            ax = plt.subplots(figsize=(4.6, 4.6))[1]
    (x0, y0), (x1, y1) = drawn.vertices.min(axis=0), drawn.vertices.max(axis=0)
    pad = 0.005 * max(x1 - x0, y1 - y0)
    ax.set(xlim=(x0 - pad, x1 + pad), ylim=(y0 - pad, y1 + pad), aspect="equal")
    ax.spines[:].set_visible(False)
    if ticks:
        ax.locator_params(nbins=5)
        ax.set(xlabel="$x_1$", ylabel="$x_2$")
    else:
        ax.set(xticks=[], yticks=[])
    return ax


def outlines(mesh: Mesh, vertices: Array) -> list[Array]:
    """The corners of each cell, in whatever dimension the vertices have.  [(n, D), ...]"""
    return np.split(vertices[mesh.loop_vertex], mesh.cell_start[1:-1])


def _fill(ax: Axes, polygons: list[Array], colors: Array) -> None:
    ax.add_collection(
        PolyCollection(polygons, facecolors=colors, edgecolors="none", antialiaseds=False,
                       rasterized=True, zorder=0),
        autolim=False,
    )  # fmt: skip


def _shade(p: Partition, ax: Axes, output: int) -> None:
    """Shade by f.  It is affine on every triangle of a cell, so the shading is exact."""
    mesh, f = p.mesh, p.outputs()[:, output]
    first = mesh.loop_vertex[mesh.cell_start[:-1]][mesh.slot_cell]
    fans = np.stack([first, mesh.loop_vertex, mesh.loop_vertex[mesh.next_slot]], axis=1)
    slot = np.arange(len(fans))
    fans = fans[(slot != mesh.cell_start[mesh.slot_cell]) & (mesh.next_slot > slot)]
    cmap = LinearSegmentedColormap.from_list("value", ["#E9B949", "#FFFFFF", "#A283C9"])
    top = np.abs(f).max() or 1.0
    ax.tripcolor(*p.vertices.T, f, triangles=fans, shading="gouraud", cmap=cmap, vmin=-top,
                 vmax=top, rasterized=True, zorder=0)  # fmt: skip


def plot_partition(
    p: Partition, ax: Axes | None = None, *, color: str | Array = "code", edges: bool = True,
    layer: int | None = None, output: int = 0, ticks: bool = False,
) -> Axes:  # fmt: skip
    """Draw a partition: its cells, and its edges with the newest layer's in dark.

    Parameters
    ----------
    p : Partition
    ax : Axes, optional
        Where to draw; by default a new figure in the book's style.
    color : str or array (C, 3)
        ``"code"``: by the cell's code.  ``"parent"``: by the code before the newest layer, so that
        the cells which that layer cut out of one share a colour.  ``"value"``: by f itself, amber
        where negative, white at zero, purple where positive.  ``"class"``: by the class decided.
        ``"none"``: white.  Or one colour a cell.
    edges : bool
    layer : int, optional
        Draw the partition after this many layers instead of all.  ``"value"`` and ``"class"``
        stay those of the whole network: only the edges follow.
    output : int
        Which output ``"value"`` shows.
    ticks : bool
        Show numbers along both axes.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If ``color`` is none of these, or ``"value"`` or ``"class"`` of a ``p.after(layer)``.

    Notes
    -----
    Paper, Fig. 1a; used from *The partition, layer after layer* on.

    Examples
    --------
    >>> from splinelib import nets, partition
    >>> p = partition.partition(nets.mlp([2, 4, 1]), box=((-2, -2), (2, 2)))
    >>> ax = plot_partition(p, ticks=True)
    >>> plt.close("all")
    """
    whole, p = p, p if layer is None else p.after(layer)
    ax = _axes(p, ax, ticks)
    if isinstance(color, str) and color == "value":
        _shade(whole, ax, output)
    elif isinstance(color, str) and color == "class":
        decided = decision(whole)
        pale = 0.7 + 0.3 * np.array([to_rgb(c) for c in CLASSES])
        polygons = outlines(decided.mesh, decided.vertices)
        _fill(ax, polygons, pale[decided.classes % len(pale)])
    else:
        _fill(ax, outlines(p.mesh, p.vertices), faces(p, color))
    return plot_edges(p, ax) if edges else ax


def plot_edges(
    p: Partition, ax: Axes | None = None, *, layers: Sequence[int] | None = None,
    newest: int | None = None, width: float | None = None,
) -> Axes:  # fmt: skip
    """Draw edges: those of the newest layer dark, earlier ones grey, the outline of the box.

    Parameters
    ----------
    p : Partition
    ax : Axes, optional
    layers : sequence of int, optional
        Only the edges that these layers drew (from 1; 0 is the outline).
    newest : int, optional
        The layer to draw dark; by default the last, 0 for none.
    width : float, optional
        In points; by default thinner the more edges there are.

    Returns
    -------
    Axes

    Notes
    -----
    Paper, Fig. 1a: "newly introduced boundaries are in dark and previously built ones are in grey".

    Examples
    --------
    >>> from splinelib import nets, partition
    >>> p = partition.partition(nets.mlp([2, 4, 4, 1]), box=((-2, -2), (2, 2)))
    >>> ax = plot_edges(p, layers=[0, 1], newest=1)
    >>> plt.close("all")
    """
    ax = _axes(p, ax) if ax is None else ax
    drawn = p.edge_layer
    shown = np.ones(len(drawn), bool) if layers is None else np.isin(drawn, list(layers))
    newest = p.num_layers if newest is None else newest
    if width is None:
        width = float(np.clip(18 / np.sqrt(max(shown.sum(), 1)), 0.12, 0.9))
    kinds = ((drawn > 0) & (drawn != newest), (drawn > 0) & (drawn == newest), drawn == 0)
    looks = ((EDGE_OLD, width), (EDGE_NEW, width), (EDGE_NEW, 0.9))
    for zorder, kind, (color, points) in zip((1, 1.1, 1.2), kinds, looks, strict=True):
        lines = LineCollection(
            p.vertices[p.edges[kind & shown]], colors=color, linewidths=points,
            capstyle="round", rasterized=True, zorder=zorder,
        )  # fmt: skip
        ax.add_collection(lines, autolim=False)
    return ax


def _line(ax: Axes, segments: Array, label: str | None, zorder: float, **look: Any) -> Axes:
    """Polylines over a white casing, so that they stand out against any cell."""
    lines, width = chains(segments), look["linewidth"]
    casing = LineCollection(
        lines, colors="white", linewidths=width + 1.8, capstyle="round", joinstyle="round",
        zorder=zorder - 0.1,
    )  # fmt: skip
    ax.add_collection(casing, autolim=False)
    for i, line in enumerate(lines):
        ax.plot(*line.T, label=None if i else label, zorder=zorder, scalex=False, scaley=False,
                **look)  # fmt: skip
    return ax


def plot_boundary(
    d: Decision | Partition, ax: Axes | None = None, *, width: float = 2.6,
    label: str | None = "decision boundary",
) -> Axes:  # fmt: skip
    """Draw the decision boundary: thick and solid, in the colour reserved for it.

    Parameters
    ----------
    d : Decision or Partition
        From a partition the decision is computed first.
    ax : Axes, optional
    width : float
        In points.
    label : str or None
        For ``ax.legend()``.

    Returns
    -------
    Axes

    Notes
    -----
    Paper, Fig. 1a (blue lines); taught in *The decision boundary is the last spline*.

    Examples
    --------
    >>> from splinelib import nets, partition
    >>> p = partition.partition(nets.mlp([2, 4, 1]), box=((-2, -2), (2, 2)))
    >>> ax = plot_boundary(p, plot_partition(p))
    >>> plt.close("all")
    """
    ax = _axes(d, ax) if ax is None else ax
    d = d if isinstance(d, Decision) else decision(d)
    return _line(ax, d.boundary, label, 4, color=BOUNDARY, linewidth=width)


def plot_pieces(
    p: Partition, layer: int, unit: int, ax: Axes | None = None, *, width: float = 2.2,
    label: str | None = None,
) -> Axes:  # fmt: skip
    """Draw the hyperplane of one unit: dashed, in the colour reserved for it.

    Parameters
    ----------
    p : Partition
    layer, unit : int
        Layers count from 1, units from 0, as in ``Partition.pieces``.
    ax : Axes, optional
    width : float
        In points.
    label : str or None
        For ``ax.legend()``.

    Returns
    -------
    Axes

    Notes
    -----
    Paper, Fig. 8 (the highlighted path); taught in *The partition, layer after layer*.

    Examples
    --------
    >>> from splinelib import nets, partition
    >>> p = partition.partition(nets.mlp([2, 4, 4, 1]), box=((-2, -2), (2, 2)))
    >>> ax = plot_pieces(p, 2, 0, plot_partition(p), label="unit 0 of layer 2")
    >>> plt.close("all")
    """
    ax = _axes(p, ax) if ax is None else ax
    dashes = {"linestyle": (0, (4.0, 1.6)), "dash_capstyle": "butt"}
    return _line(ax, p.pieces(layer, unit), label, 3, color=UNIT, linewidth=width, **dashes)


def plot_points(
    x: Array, y: Array | None = None, ax: Axes | None = None, *, size: float = 34,
    names: Sequence[str] | None = None, text: Sequence[str] | None = None,
) -> Axes:  # fmt: skip
    """Draw points, each class with its own marker and its own colour.

    Parameters
    ----------
    x : array or Tensor (B, 2)
        Coordinates in the plane, such as ``plane.marks``.
    y : array or Tensor (B,) of int, optional
        Classes; by default all zero.
    ax : Axes, optional
    size : float
        Area of a marker, in points squared.
    names : sequence of str, optional
        Name of each class for ``ax.legend()``, by default "class 0", "class 1", ...
    text : sequence of str, optional
        Words to write beside each point.

    Returns
    -------
    Axes

    Examples
    --------
    >>> ax = plot_points([[0.0, 0.0], [1.0, 1.0]], [0, 1], text=["here", "there"])
    >>> plt.close("all")
    """
    x = np.asarray(x, dtype=float)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x must be (B, 2), points of the plane; got shape {x.shape}.")
    y = np.zeros(len(x), int) if y is None else np.asarray(y).astype(int).reshape(-1)
    if len(y) != len(x):
        raise ValueError(f"{len(x)} points but {len(y)} classes; give one class a point.")
    if ax is None:
        with style():
            ax = plt.subplots(figsize=(4.6, 4.6), subplot_kw={"aspect": "equal"})[1]
    for c in np.unique(y):
        ax.scatter(*x[y == c].T, s=size, marker=MARKERS[c % len(MARKERS)], linewidths=0.8,
                   color=CLASSES[c % len(CLASSES)], edgecolors=EDGE_NEW, zorder=5,
                   label=f"class {c}" if names is None else names[c])  # fmt: skip
    casing = [effects.withStroke(linewidth=3, foreground="white")]
    for point, words in zip(x, text or (), strict=text is not None):
        ax.annotate(words, point, xytext=(6, 6), textcoords="offset points", zorder=6,
                    path_effects=casing)  # fmt: skip
    return ax


def plot_layers(
    p: Partition, axes: Sequence[Axes] | None = None, *, color: str = "code",
    boundary: bool = True, columns: int | None = None,
) -> Array:  # fmt: skip
    """One panel a layer, and one for the decision boundary: what each adds (Fig. 1a).

    Parameters
    ----------
    p : Partition
    axes : sequence of Axes, optional
        One a panel; by default a new figure.
    color : str
        As in ``plot_partition``.
    boundary : bool
        Add the panel with the decision boundary.
    columns : int, optional
        Panels in a row of a new figure; by default at most three, so that a phone can show them.

    Returns
    -------
    ndarray of Axes
        The panels, in order.

    Notes
    -----
    Paper, Fig. 1a; taught in *The partition, layer after layer*.

    Examples
    --------
    >>> from splinelib import nets, partition
    >>> p = partition.partition(nets.mlp([2, 4, 4, 1]), box=((-2, -2), (2, 2)))
    >>> [ax.get_title() for ax in plot_layers(p)]
    ['layer 1', 'layer 2', 'decision']
    >>> plt.close("all")
    """
    count = p.num_layers + bool(boundary)
    axes = _panels(count, columns) if axes is None else np.asarray(axes, dtype=object).ravel()
    if len(axes) < count:
        raise ValueError(f"{count} panels need {count} axes; got {len(axes)}.")
    for layer, ax in zip(range(1, p.num_layers + 1), axes, strict=False):
        plot_partition(p, ax, color=color, layer=layer).set_title(f"layer {layer}")
    if boundary:
        ax = plot_partition(p, axes[count - 1], color=color, edges=False)
        plot_boundary(p, plot_edges(p, ax, newest=0)).set_title("decision")
    return axes[:count]


def _panels(count: int, columns: int | None) -> Array:
    """Axes of a new figure for so many square panels, without the spare ones."""
    columns = columns or (2 if count in (2, 4) else min(count, 3))
    rows = -(-count // columns)
    size = (6.6, (6.6 / columns + 0.17) * rows) if columns > 1 else (4.6, 4.8 * rows)
    with style():
        axes = plt.subplots(rows, columns, squeeze=False, figsize=size)[1].ravel()
    for spare in axes[count:]:
        spare.remove()
    return axes[:count]
