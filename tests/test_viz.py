"""Pictures say what is so: colours follow codes, lines follow layers, heights follow f."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.tri import Triangulation
from torch import nn

from splinelib import nets, viz
from splinelib.boundary import decision
from splinelib.partition import Partition, partition
from splinelib.segments import chains
from splinelib.viz import look, plane, space

BOX = ((-2, -1), (2, 2))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return nets.mlp([2, 6, 5, 1], generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def p(net: nn.Module) -> Partition:
    return partition(net, box=BOX)


def lightness(colors: np.ndarray) -> np.ndarray:
    """CIE L*, 0 to 100."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


def cells(ax) -> PolyCollection:
    return next(c for c in ax.collections if isinstance(c, PolyCollection))


# --- style and colours ---


def test_style_gives_the_look_and_takes_it_back():
    with plt.rc_context({"figure.dpi": 50}):
        with viz.style():
            assert plt.rcParams["figure.dpi"] == 144
            assert to_hex(plt.rcParams["figure.facecolor"]) == "#ffffff"
        assert plt.rcParams["figure.dpi"] == 50
        viz.use_style()
        assert plt.rcParams["font.sans-serif"] == ["DejaVu Sans"]


def test_the_look_needs_no_use_style(p):
    assert viz.plot_partition(p).figure.dpi == 144


@given(st.integers(1, 300), st.data())
def test_crossing_one_line_changes_lightness_and_hue(width, data):
    """In grey, too, neighbours differ: so they do for every kind of colour vision."""
    code = np.array(data.draw(st.lists(st.sampled_from([-1, 1]), min_size=width, max_size=width)))
    flipped = np.tile(code, (width, 1)) * (1 - 2 * np.eye(width, dtype=int))
    here, there = viz.code_colors(code[None]), viz.code_colors(flipped)
    assert (abs(lightness(here) - lightness(there)) > 3).all()
    assert (abs(here - there).max(axis=1) > 0.02).all()


def test_colors_depend_on_nothing_but_the_code():
    codes = np.random.default_rng(0).choice([-1, 1], size=(70_000, 9)).astype(np.int8)
    colors = viz.code_colors(codes)
    order = np.arange(len(codes))[::-7]
    assert (viz.code_colors(codes[order]) == colors[order]).all()
    assert (viz.code_colors(torch.from_numpy(codes)) == colors).all()
    assert len(np.unique(colors, axis=0)) == look.HUES * look.LEVELS


def test_colors_are_pastel_and_apart_from_the_reserved_ones():
    palette = look._palette().reshape(-1, 3)
    assert palette.min() > 0.5
    assert palette.max() <= 1
    lines = np.array([to_rgb(c) for c in (viz.BOUNDARY, viz.UNIT, viz.EDGE_NEW)])
    assert lightness(palette).min() - lightness(lines).max() > 25


def test_codes_must_be_a_table():
    with pytest.raises(ValueError, match=r"one row a cell; got shape \(3,\)"):
        viz.code_colors([1, -1, 1])


def test_codes_without_units_or_cells():
    assert viz.code_colors(np.empty((1, 0), np.int8)).shape == (1, 3)
    assert viz.code_colors(np.empty((0, 4), np.int8)).shape == (0, 3)


def test_classes_differ_in_marker_color_and_lightness():
    assert len(set(viz.MARKERS)) == len(set(viz.CLASSES)) == 10
    first, second = lightness(np.array([to_rgb(c) for c in viz.CLASSES[:2]]))
    assert abs(first - second) > 30


# --- the plane ---

CALLS = {
    "partition": lambda p, ax: viz.plot_partition(p, ax),
    "parent": lambda p, ax: viz.plot_partition(p, ax, color="parent"),
    "value": lambda p, ax: viz.plot_partition(p, ax, color="value", ticks=True),
    "class": lambda p, ax: viz.plot_partition(p, ax, color="class", edges=False),
    "edges": lambda p, ax: viz.plot_edges(p, ax),
    "boundary": lambda p, ax: viz.plot_boundary(p, ax),
    "pieces": lambda p, ax: viz.plot_pieces(p, 2, 1, ax, label="unit 1"),
    "points": lambda p, ax: viz.plot_points([[0.0, 0.0], [1.0, 1.0]], [0, 1], ax),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("given_ax", [True, False])
def test_axes_in_axes_out_and_nothing_else_changes(p, net, name, given_ax):
    before = [w.clone() for w in net.parameters()], torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    rc = dict(plt.rcParams)
    ax = plt.subplots()[1] if given_ax else None
    drawn = CALLS[name](p, ax)
    assert ax is None or drawn is ax
    drawn.figure.canvas.draw()
    assert dict(plt.rcParams) == rc
    assert all(torch.equal(a, b) for a, b in zip(before[0], net.parameters(), strict=True))
    assert torch.equal(before[1], torch.get_rng_state())
    assert (before[2] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_cells_have_the_colors_of_their_codes(p):
    ax = viz.plot_partition(p)
    assert len(cells(ax).get_paths()) == p.num_cells
    assert np.allclose(cells(ax).get_facecolor()[:, :3], viz.code_colors(p.codes()))
    drawn = [path.vertices[:-1] for path in cells(ax).get_paths()]
    assert all(np.allclose(a, b) for a, b in zip(drawn, p.polygons(), strict=True))


def test_a_layer_draws_the_partition_after_it(p):
    assert len(cells(viz.plot_partition(p, layer=1)).get_paths()) == p.after(1).num_cells
    assert len(cells(viz.plot_partition(p, layer=0)).get_paths()) == 1


def test_children_of_one_cell_share_the_color_of_their_parent(p):
    colors = cells(viz.plot_partition(p, color="parent")).get_facecolor()[:, :3]
    parent = p.after(1)
    assert np.allclose(colors, viz.code_colors(parent.codes())[parent.locate(p.centers)])


def test_own_colors_and_unknown_ones(p):
    own = np.linspace(0, 1, 3 * p.num_cells).reshape(-1, 3)
    assert np.allclose(cells(viz.plot_partition(p, color=own)).get_facecolor()[:, :3], own)
    with pytest.raises(ValueError, match=f"2 colours for {p.num_cells} cells"):
        viz.plot_partition(p, color=own[:2])
    with pytest.raises(ValueError, match="got 'codes'"):
        viz.plot_partition(p, color="codes")


def test_shading_is_f_on_triangles_that_fill_the_box(p, net, monkeypatch):
    caught = {}
    ax = plt.subplots()[1]
    monkeypatch.setattr(ax, "tripcolor", lambda *a, **k: caught.update(args=a, **k))
    viz.plot_partition(p, ax, color="value")
    x, y, f = caught["args"]
    corners = np.stack([x, y], axis=1)[caught["triangles"]]
    (a, b), (c, d) = np.moveaxis(corners[:, 1:] - corners[:, :1], 0, -1)
    assert (abs(a * d - b * c) / 2).sum() == pytest.approx(12, abs=1e-9)
    assert Triangulation(x, y, caught["triangles"]).triangles.shape == caught["triangles"].shape
    with torch.no_grad():
        inside = net(torch.from_numpy(corners.mean(axis=1)))[:, 0].numpy()
    assert np.allclose(f[caught["triangles"]].mean(axis=1), inside, atol=1e-10)
    assert caught["vmin"] == -caught["vmax"]


def test_what_needs_f_needs_the_whole_partition(p):
    """On the cells of fewer layers f is not affine, so nothing there would be exact."""
    draws = (
        viz.plot_boundary,
        viz.plot_surface,
        lambda q: viz.plot_partition(q, color="value"),
        lambda q: viz.plot_partition(q, color="class"),
    )
    for draw in draws:
        with pytest.raises(ValueError, match="only 1 of 2 layers have drawn"):
            draw(p.after(1))
    ax = viz.plot_partition(p, color="class", layer=1)
    assert len(cells(ax).get_paths()) == decision(p).mesh.num_cells
    assert sum(len(c.get_segments()) for c in ax.collections[1:]) == len(p.after(1).edges)


def test_classes_are_filled_on_both_sides_of_the_boundary(p):
    d = decision(p)
    assert set(d.classes) == {0, 1}
    colors = cells(viz.plot_partition(p, color="class")).get_facecolor()[:, :3]
    assert len(colors) == d.mesh.num_cells
    assert len(np.unique(colors[d.classes == 0], axis=0)) == 1
    assert abs(colors[d.classes == 0][0] - colors[d.classes == 1][0]).max() > 0.1


@pytest.mark.parametrize(("layers", "newest"), [(None, None), ([1], None), (None, 1), (None, 0)])
def test_newest_edges_are_dark_and_older_ones_grey(p, layers, newest):
    ax = viz.plot_edges(p, layers=layers, newest=newest)
    old, new, outline = (c for c in ax.collections if isinstance(c, LineCollection))
    last = 2 if newest is None else newest
    keep = np.isin(p.edge_layer, [0, 1, 2] if layers is None else layers)
    counts = [
        (keep & (p.edge_layer > 0) & (p.edge_layer != last)).sum(),
        (keep & (p.edge_layer > 0) & (p.edge_layer == last)).sum(),
        (keep & (p.edge_layer == 0)).sum(),
    ]
    assert [len(c.get_segments()) for c in (old, new, outline)] == counts
    assert to_hex(old.get_color()[0]).upper() == viz.EDGE_OLD
    assert to_hex(new.get_color()[0]).upper() == viz.EDGE_NEW


def test_boundary_and_unit_look_different_without_colour(p):
    ax = viz.plot_pieces(p, 2, 1, viz.plot_boundary(p), label="unit 1")
    looks = {line.get_color(): line for line in ax.lines}
    assert set(looks) == {viz.BOUNDARY, viz.UNIT}
    assert looks[viz.BOUNDARY].get_linestyle() == "-"
    assert looks[viz.UNIT].get_linestyle() == "--"
    assert looks[viz.BOUNDARY].get_linewidth() > looks[viz.UNIT].get_linewidth()
    assert [t.get_text() for t in ax.legend().get_texts()] == ["decision boundary", "unit 1"]


def test_a_decision_is_drawn_as_its_partition(p):
    lines = [[a.get_xydata() for a in viz.plot_boundary(d).lines] for d in (p, decision(p))]
    assert all((a == b).all() for a, b in zip(*lines, strict=True))
    assert all(abs(p.net(torch.from_numpy(a))).max() < 1e-9 for a in lines[0])


def test_many_logits_have_a_boundary():
    many = partition(nets.mlp([2, 5, 4]), box=BOX)
    assert viz.plot_boundary(many, viz.plot_partition(many, color="class")).lines


def test_lines_do_not_move_the_box(p):
    ax = viz.plot_partition(p)
    limits = ax.get_xlim(), ax.get_ylim()
    viz.plot_pieces(p, 1, 0, viz.plot_boundary(p, ax))
    assert limits == (ax.get_xlim(), ax.get_ylim())
    assert ax.get_aspect() == 1


def test_a_network_that_draws_nothing():
    dead = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for weight, value in zip(dead.parameters(), (0.0, -1.0, 1.0, 1.0), strict=True):
            weight.fill_(value)
    p = partition(dead, box=BOX)
    for color in ("code", "parent", "value", "class", "none"):
        ax = viz.plot_pieces(p, 1, 0, viz.plot_boundary(p, viz.plot_partition(p, color=color)))
        assert not ax.lines
    viz.plot_surface(p).figure.canvas.draw()


# --- polylines ---


@given(st.integers(2, 12), st.randoms(use_true_random=False))
def test_a_shuffled_polyline_is_put_together_again(n, random):
    points = np.array([[i, random.uniform(-1, 1)] for i in range(n)])
    pieces = [list(pair) for pair in zip(points[:-1], points[1:], strict=True)]
    for piece in pieces:
        random.shuffle(piece)
    random.shuffle(pieces)
    (line,) = chains(pieces)
    assert np.allclose(line if line[0, 0] == 0 else line[::-1], points)


def test_loops_junctions_and_nothing():
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    (loop,) = chains(np.stack([corners[:-1], corners[1:]], axis=1))
    assert len(loop) == 5
    assert (loop[0] == loop[-1]).all()
    star = [[[0, 0], [np.cos(a), np.sin(a)]] for a in (0, 2, 4)]
    assert len(chains(star)) == 3
    assert chains([]) == chains(np.empty((0, 2, 2))) == []


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 4), max_size=25, unique=True))
def test_no_piece_is_lost_or_drawn_twice(quads):
    pieces = [(q[:2], q[2:]) for q in quads if q[:2] != q[2:]]
    drawn = [
        tuple(sorted(map(tuple, pair)))
        for line in chains(pieces)
        for pair in zip(line[:-1].tolist(), line[1:].tolist(), strict=True)
    ]
    assert sorted(drawn) == sorted(tuple(sorted(piece)) for piece in pieces)


# --- points ---


def test_each_class_has_its_marker_and_its_name():
    ax = viz.plot_points(torch.rand(6, 2), torch.arange(6) % 3, names=["a", "b", "c"])
    assert [t.get_text() for t in ax.legend().get_texts()] == ["a", "b", "c"]
    shapes = {c.get_paths()[0].vertices.tobytes() for c in ax.collections}
    assert len(shapes) == len({to_hex(c.get_facecolor()[0]) for c in ax.collections}) == 3


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (np.ones((3, 4)), None, r"must be \(B, 2\), points of the plane; got shape \(3, 4\)"),
        (np.ones((3, 2)), [0, 1], "3 points but 2 classes"),
    ],
)
def test_points_that_are_none(x, y, match):
    with pytest.raises(ValueError, match=match):
        viz.plot_points(x, y)


def test_words_stand_beside_points():
    ax = viz.plot_points([[0, 0], [1, 1]], text=["here", "there"])
    assert [t.get_text() for t in ax.texts] == ["here", "there"]


# --- panels and space ---


@pytest.mark.parametrize("boundary", [True, False])
def test_one_panel_a_layer(p, boundary):
    axes = viz.plot_layers(p, boundary=boundary)
    titles = ["layer 1", "layer 2"] + ["decision"] * boundary
    assert [ax.get_title() for ax in axes] == titles
    assert len(axes[0].figure.axes) == len(titles)
    assert [len(cells(ax).get_paths()) for ax in axes[:2]] == [p.after(1).num_cells, p.num_cells]


def test_panels_in_given_axes(p):
    row = plt.subplots(1, 3)[1]
    assert list(viz.plot_layers(p, row)) == list(row)
    with pytest.raises(ValueError, match="3 panels need 3 axes; got 2"):
        viz.plot_layers(p, row[:2])


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("columns", [None, 1, 4])
def test_no_spare_panels(count, columns):
    axes = plane._panels(count, columns)
    assert len(axes) == len(axes[0].figure.axes) == count


def test_heights_are_those_of_f(p, net, monkeypatch):
    caught, real = [], space.Poly3DCollection
    monkeypatch.setattr(space, "Poly3DCollection", lambda v, **k: caught.append(v) or real(v, **k))
    viz.plot_surface(p).figure.canvas.draw()
    assert len(caught[0]) == len(caught[1:]) == p.num_cells
    flat, floor = np.concatenate(p.polygons()), np.concatenate(caught[0])
    facets = [facet for (facet,) in caught[1:]]
    order = space._far_first(p, (26, -62))
    graph = np.concatenate([facets[order.index(cell)] for cell in range(p.num_cells)])
    assert (floor[:, :2] == flat).all()
    assert (graph[:, :2] == flat).all()
    with torch.no_grad():
        f = net(torch.from_numpy(flat))[:, 0].numpy()
    assert np.allclose(graph[:, 2], f, atol=1e-10)
    assert floor[:, 2].max() < f.min()


@pytest.mark.parametrize("view", [(26, -62), (40, 20), (15, 90), (30, 180), (5, -135)])
def test_no_facet_hides_a_later_one(p, view):
    """Walk from random points towards the eye: each cell that is entered comes later."""
    order = space._far_first(p, view)
    assert sorted(order) == list(range(p.num_cells))
    place = np.argsort(order)
    start = np.random.default_rng(0).uniform(*p.box, size=(200, 2))
    walk = start[:, None] + np.linspace(0, 4, 400)[:, None] * space._to_eye(view)
    cell = p.locate(walk.reshape(-1, 2)).reshape(200, 400)
    inside = (cell[:, 1:] >= 0) & (cell[:, :-1] >= 0)
    assert (np.diff(place[cell], axis=1)[inside] >= 0).all()


@pytest.mark.parametrize("view", [(26, -62), (40, 20), (15, 90), (30, 180), (5, -135)])
def test_the_graph_hides_no_part_of_the_floor(p, net, view):
    ax = viz.plot_surface(p, view=view, gap=0.01, path=None)
    floor = ax.get_zlim()[0]
    points = np.random.default_rng(0).uniform(*p.box, size=(1000, 2))
    with torch.no_grad():
        f = net(torch.from_numpy(points))[:, 0].numpy()
    stretch = space.HEIGHT * 4 / np.ptp(p.outputs())
    sight = stretch * (f - floor) / np.tan(np.radians(view[0]))  # how far behind it meets the floor
    behind = points - sight[:, None] * space._to_eye(view)
    assert (p.locate(behind) == -1).all()


def test_a_facet_has_its_whole_outline(p):
    ax = viz.plot_surface(p, path=None)
    ax.figure.canvas.draw()
    facets = [c for c in ax.collections if c.get_zorder() >= 3]
    assert len(facets) == p.num_cells
    for facet in facets:
        (path,) = facet.get_paths()
        assert path.codes[-1] == path.CLOSEPOLY
        assert np.isfinite(path.vertices).all()
        assert to_hex(facet.get_edgecolor()[0]).upper() == viz.EDGE_NEW


def test_the_boundary_is_lifted_to_height_zero(p):
    ax = viz.plot_surface(p)
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    heights = [np.asarray(line.get_data_3d()[2]) for line in solid]
    assert {to_hex(line.get_color()).upper() for line in solid} == {viz.BOUNDARY}
    assert all((abs(z) < 1e-9).all() or (z < 0).all() for z in heights)
    assert viz.plot_surface(p, path=None).lines[:] == []


def test_verticals_stand_where_the_path_turns(p, net):
    pieces = p.pieces(2, 1)
    ax = viz.plot_surface(p, path=pieces)
    dotted = [np.array(a.get_data_3d()) for a in ax.lines if a.get_linestyle() == ":"]
    assert all((a == b).all() for a, b in zip(dotted[::2], dotted[1::2], strict=True))  # two tones
    assert len(dotted) >= 2
    assert {to_hex(line.get_color()).upper() for line in ax.lines} == {viz.UNIT}
    for x, y, z in dotted:
        assert x[0] == x[1]
        assert y[0] == y[1]
        with torch.no_grad():
            f = net(torch.tensor([[x[0], y[0]]], dtype=torch.float64)).item()
        assert max(z) == pytest.approx(f, abs=1e-9)
    straight = np.array([[0.0, 0.0], [1, 0], [2, 0], [2, 1]])
    assert space._turns(straight).tolist() == [True, False, True, True]
