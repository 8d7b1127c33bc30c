"""One look for every picture of a partition: ``Axes`` in, ``Axes`` out.

Nothing here shows a figure, changes a network or draws a random number.  Two colours are reserved
in the whole book, ``BOUNDARY`` (thick, solid) and ``UNIT`` (dashed); cells are pastel, coloured by
their code alone; classes differ by marker as well as by colour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

from splinelib.boundary import Decision, decision
from splinelib.mesh import Mesh
from splinelib.partition import Partition

Array = np.ndarray

BOUNDARY = "#0B3FA8"  # the decision boundary and nothing else
UNIT = "#C2530A"  # the hyperplane of one highlighted unit and nothing else
EDGE_NEW, EDGE_OLD = "#20242C", "#A3A8B3"  # lines of the newest layer, lines of earlier ones
CLASSES = (
    "#E6A100", "#6A3D9A", "#0F7B7B", "#20242C", "#56B4E9",
    "#D98CB3", "#8A6D1D", "#B5BAC4", "#D9622B", "#3C6E2F",
)  # fmt: skip
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p")
STYLE = Path(__file__).with_name("splinelib.mplstyle")
HUES, LEVELS = 17, 3  # the pastel palette


def style() -> AbstractContextManager[None]:
    """Context in which new figures take the book's look.

    >>> with style():
    ...     fig, ax = plt.subplots()
    >>> plt.close(fig)
    """
    return plt.style.context(STYLE)


def use_style() -> None:
    """Give every later figure of this session the book's look: call it once, after the imports.

    >>> with plt.rc_context():  # only so that this example leaves no trace
    ...     use_style()
    """
    plt.style.use(STYLE)


# --- colours ---------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _palette() -> Array:
    """Pastel colours: even steps of hue, three clear steps of lightness.  (LEVELS, HUES, 3)"""
    light = np.array([0.965, 0.915, 0.86])[:, None] * np.ones(HUES)
    chroma = np.array([0.035, 0.065, 0.085])[:, None]
    angle = 2 * np.pi * np.arange(HUES) / HUES
    lab = np.stack([light, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1)
    # OKLab -> cone responses -> linear sRGB -> sRGB, with the constants of Ottosson (2020)
    to_cone = [[1, 1, 1], [0.39633778, -0.10556135, -0.08948418],
               [0.21580376, -0.06385417, -1.29148555]]  # fmt: skip
    to_linear = [[4.07674166, -1.26843800, -0.00419609], [-3.30771159, 2.60975740, -0.70341861],
                 [0.23096993, -0.34131940, 1.70761470]]  # fmt: skip
    linear = np.clip((lab @ to_cone) ** 3 @ to_linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def code_colors(codes: Array) -> Array:
    """Pastel colour of each code: a function of the code and of nothing else.

    Parameters
    ----------
    codes : array or Tensor (C, K) of int
        One row a cell, as ``Partition.codes`` gives them.

    Returns
    -------
    ndarray (C, 3)
        Red, green, blue in [0, 1].

    Raises
    ------
    ValueError
        If ``codes`` is not a table.

    Notes
    -----
    A cell keeps its colour for as long as its code stays, during training as after pruning.  Each
    unit turns the hue by a step h of 17 and the lightness by a step l of 3, where neither 2h nor 2l
    is a whole turn: two cells on either side of one unit's line differ in hue *and* in lightness,
    so colour vision is not needed to tell them apart.

    Examples
    --------
    >>> both = code_colors([[-1, 1, 1], [1, 1, 1]])
    >>> both.shape, bool(abs(both[0] - both[1]).max() > 0.02)
    ((2, 3), True)
    """
    codes = np.asarray(codes)
    if codes.ndim != 2:
        raise ValueError(f"codes must be (C, K), one row a cell; got shape {codes.shape}.")
    mixed = np.arange(1, codes.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    turns = np.array([2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15])[mixed % np.uint64(12)]
    steps = 1 + (mixed >> np.uint64(40)) % np.uint64(2)
    weights = np.stack([turns, steps], axis=1).astype(float)
    blocks = [codes[i : i + 65536] @ weights for i in range(0, len(codes), 65536)]
    hue, level = np.concatenate(blocks or [np.empty((0, 2))]).astype(np.int64).T
    return _palette()[level % LEVELS, hue % HUES]


def _faces(p: Partition, color: str | Array) -> Array:
    """One colour a cell.  (C, 3)"""
    if not isinstance(color, str):
        colors = np.asarray(color)
        if len(colors) != p.num_cells:
            raise ValueError(f"{len(colors)} colours for {p.num_cells} cells; give one a cell.")
        return colors
    if color == "code":
        return code_colors(p.codes())
    if color == "parent":
        return code_colors(p.after(max(p.num_layers - 1, 0)).codes())[p.mesh.parent]
    if color == "none":
        return np.ones((p.num_cells, 3))
    raise ValueError(
        f"color must be 'code', 'parent', 'value', 'class', 'none' or one colour a cell; "
        f"got {color!r}."
    )


# --- the plane -------------------------------------------------------------------------------


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


def _outlines(mesh: Mesh, vertices: Array) -> list[Array]:
    """The corners of each cell, in whatever dimension the vertices have.  [(n, D), ...]"""
    return np.split(vertices[mesh.loop_vertex], mesh.cell_start[1:-1])


def _whole(p: Partition) -> Partition:
    """The partition, if it is that of the whole network: f is not affine on coarser cells."""
    total = len(p._stages) - 1
    if p.num_layers < total:
        raise ValueError(
            f"f is affine on the cells of the whole partition only; got p.after({p.num_layers}) of "
            f"{total} layers. Give p itself."
        )
    return p


def _fill(ax: Axes, outlines: list[Array], colors: Array) -> None:
    ax.add_collection(
        PolyCollection(outlines, facecolors=colors, edgecolors="none", antialiaseds=False,
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
        _shade(_whole(whole), ax, output)
    elif isinstance(color, str) and color == "class":
        decided = decision(_whole(whole))
        pale = 0.7 + 0.3 * np.array([to_rgb(c) for c in CLASSES])
        outlines = _outlines(decided.mesh, decided.vertices)
        _fill(ax, outlines, pale[decided.classes % len(pale)])
    else:
        _fill(ax, _outlines(p.mesh, p.vertices), _faces(p, color))
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
    d = d if isinstance(d, Decision) else decision(_whole(d))
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


# --- space -----------------------------------------------------------------------------------


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
    f = _whole(p).outputs()[:, output]
    floor = float(f.min() - gap * (np.ptp(f) or 1.0))
    faces = _faces(p, color)
    _draw_floor(p, ax, floor, faces)
    graph = _outlines(p.mesh, np.column_stack([p.vertices, f]))
    ax.add_collection3d(Poly3DCollection(graph, facecolors=faces, edgecolors=EDGE_NEW,
                                         linewidths=0.45, zorder=3))  # fmt: skip
    tone = UNIT
    if isinstance(path, str):
        path, tone = decision(p).boundary, BOUNDARY
    if path is not None:
        _draw_path(p, ax, path, output, floor, tone)
    return _frame(p, ax, (floor, float(f.max())), view)


def _draw_floor(p: Partition, ax: Any, floor: float, faces: Array) -> None:
    """The partition, lying on the floor."""
    flat = np.column_stack([p.vertices, np.full(len(p.vertices), floor)])
    cells = _outlines(p.mesh, flat)
    ax.add_collection3d(Poly3DCollection(cells, facecolors=faces, edgecolors="none", zorder=0))
    old = (p.edge_layer > 0) & (p.edge_layer < p.num_layers)
    order = np.argsort(~old, kind="stable")  # the newest on top
    colors = np.where(old[order], EDGE_OLD, EDGE_NEW)
    lines = Line3DCollection(flat[p.edges[order]], colors=colors, linewidths=0.7, zorder=1)
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
