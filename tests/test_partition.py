"""splinelib.partition against its invariants and against an exact rational count."""

import copy

import numpy as np
import pytest
import torch
from exact import cells, linear
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from splinelib import nets
from splinelib.affine import codes
from splinelib.boundary import decision
from splinelib.partition import partition
from splinelib.plane import Plane

BOX = ((-1, -1), (1, 1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def check(p, samples=2000):
    """Everything that must hold of any partition."""
    mesh, (low, high) = p.mesh, np.array(p.box)
    assert len(p.vertices) - len(p.edges) + p.num_cells == 1  # Euler
    assert p.areas.min() > 0
    assert p.areas.sum() == pytest.approx(np.prod(high - low), abs=1e-9, rel=1e-12)
    assert_convex(p)
    assert sorted(np.unique(p.edges)) == list(range(len(p.vertices)))
    assert (p.edge_cells.max(axis=1) >= 0).all()
    assert ((p.edge_layer == 0) == (p.edge_cells.min(axis=1) < 0)).all()
    code = p.codes()
    assert len(np.unique(code, axis=0)) == p.num_cells  # one code a cell, one cell a code
    for fine, coarse in zip(p.layers[1:], p.layers, strict=False):
        assert (np.unique(fine.parent) == np.arange(coarse.num_cells)).all()
    # f = A u + b at every corner of every cell
    A, b = p.affine_maps()
    cell, f = mesh.slot_cell, p.outputs()[mesh.loop_vertex]
    at_corners = (A[cell] @ p.vertices[mesh.loop_vertex][:, :, None])[:, :, 0] + b[cell]
    assert np.abs(at_corners - f).max() < 1e-10 * max(1.0, np.abs(f).max())
    # what sampling sees is there
    u = (
        torch.rand(samples, 2, dtype=torch.float64, generator=seeded(1)).numpy() * (high - low)
        + low
    )
    seen = np.unique(codes(p.net, p.plane.embed(u)).numpy(), axis=0)
    exact = {row.tobytes() for row in code}
    assert {row.tobytes() for row in seen} <= exact
    found = p.locate(u)
    assert (found >= 0).all()
    assert (code[found] == codes(p.net, p.plane.embed(u)).numpy()).all()


def assert_convex(p):
    for corners in p.polygons():
        along = np.roll(corners, -1, axis=0) - corners
        length = np.hypot(*along.T)
        along = along[length > 1e-12]
        ahead = np.roll(along, -1, axis=0)
        turn = along[:, 0] * ahead[:, 1] - along[:, 1] * ahead[:, 0]
        assert turn.min() > -1e-12


# -- networks and their exact counts ---------------------------------------------------------------


def integer_layer(weight, bias):
    layer = nn.Linear(len(weight[0]), len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        layer.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    return layer


def mlp_of(layers, alpha):
    """A network of given layers, and the same as exact steps."""
    modules, steps = [], []
    for weight, bias in layers:
        modules += [integer_layer(weight, bias), nets.activation(alpha)]
        steps += [("linear", weight, bias), ("act", alpha)]
    return nn.Sequential(*modules), steps


@st.composite
def integer_networks(draw):
    """Small integer weights: coincident, parallel and concurrent lines are the rule."""
    depth = draw(st.integers(1, 3))
    widths = [2, *draw(st.lists(st.integers(1, 4), min_size=depth, max_size=depth))]
    entry = st.integers(-2, 2)
    bias = draw(st.sampled_from([st.just(0), entry]))
    layers = []
    for before, after in zip(widths, widths[1:], strict=False):
        row = st.lists(entry, min_size=before, max_size=before)
        weight = draw(st.lists(row, min_size=after, max_size=after))
        layers.append((weight, draw(st.lists(bias, min_size=after, max_size=after))))
    return layers, draw(st.sampled_from([0.0, 0.5, -1.0, -0.25]))


@given(integer_networks())
@example(([([[1, 0], [1, 0], [-2, 0], [0, 1]], [0, 0, 0, 0])], 0.0))
def test_count_is_exact_on_integer_networks(case):
    net, steps = mlp_of(*case)
    p = partition(net, BOX)
    check(p, samples=200)
    assert p.num_cells == len(cells(steps, BOX))


DEGENERATE = {
    "zero biases": [
        ([[1, 2], [-1, 1], [2, 1], [1, -3]], [0] * 4),
        ([[1, -1, 2, 1], [1, 1, -1, -2]], [0, 0]),
    ],
    "coincident": [([[1, 2], [1, 2], [2, 4], [-1, -2], [-3, -6]], [0.5, 0.5, 1, -0.5, -1.5])],
    "parallel": [([[1, 1], [1, 1], [2, 2], [-1, -1]], [0, 0.25, -0.5, 0.125])],
    "near-parallel": [([[1, 0], [1, 2**-20], [1, -(2**-20)], [1, 0]], [0, 0, 0, 2**-21])],
    "nearly coincident": [([[1, 0], [1, 0], [0, 1]], [0, 2**-30, 0])],
    "concurrent": [
        ([[1, 0], [0, 1], [1, 1], [1, -1], [2, 1], [1, 3]], [-0.25, -0.25, -0.5, 0, -0.75, -1])
    ],
    "two concurrent points": [
        ([[1, 0], [0, 1], [1, 1], [1, -1], [0, 1], [1, 1]], [0, 0, 0, 0, -0.5, -0.5])
    ],
    "edge and corners of the box": [([[1, 0], [0, 1], [1, 1], [1, -1], [1, 0]], [-1, 1, 0, 0, 0])],
    "zero rows": [([[0, 0], [0, 0], [1, 1]], [0, 1, 0]), ([[1, 1, 1], [0, 0, 0]], [0, 0])],
    "dead on the box": [([[1, 0], [1, 1]], [5, -5]), ([[1, -2], [-1, 1]], [-5, 0])],
    "cancelling": [
        ([[1, 2], [1, 2], [2, -1]], [0.1, 0.1, 0.3]),
        ([[1, -1, 0], [1, -1, 1]], [0, -0.5]),
    ],
    "touching from one side": [([[1, 0], [-1, 0]], [0, 0]), ([[1, 1], [1, -1]], [0, 0])],
    "units of very different size": [([[1e6, 1], [1e-6, 1e-6], [1, 0]], [0, 1e-7, 1e-3])],
}


@pytest.mark.parametrize("alpha", [0.0, -1.0, 0.5])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_networks_are_counted_exactly(name, alpha):
    net, steps = mlp_of(DEGENERATE[name], alpha)
    p = partition(net, BOX)
    check(p)
    assert p.num_cells == len(cells(steps, BOX))


@given(st.integers(0, 10**6), st.floats(-14, -6), st.integers(3, 6))
@example(seed=0, power=-12.0, lines=5)
def test_almost_concurrent_lines_are_right_or_refused(seed, power, lines):
    """Offsets down to rounding: an answer holds all invariants, or there is a clear error."""
    rng = np.random.default_rng(seed)
    turn = rng.uniform(0, np.pi, lines)
    first = np.stack([np.cos(turn), np.sin(turn)], axis=1).tolist()
    second = rng.integers(-2, 3, (2, lines)).tolist()
    offsets = (10**power * rng.standard_normal(lines)).tolist()
    net, _ = mlp_of([(first, offsets), (second, [0, 0])], 0.0)
    check_or_refused(net, BOX)


@pytest.mark.parametrize("half", [1e-6, 1e6, 1e8, 1e12])
def test_boxes_of_any_size_are_right_or_refused(half):
    for seed in range(4):
        net = nets.mlp([2, 16, 16, 1], generator=seeded(seed))
        p = check_or_refused(net, ((-half, -half), (half, half)))
        assert p is not None or half > 1e6


def check_or_refused(net, box):
    try:
        p = partition(net, box)
    except ArithmeticError:
        return None
    assert len(p.vertices) - len(p.edges) + p.num_cells == 1
    assert len(np.unique(p.codes(), axis=0)) == p.num_cells
    assert p.areas.min() >= 0
    return p


def test_many_lines_through_one_point():
    turns = torch.arange(24) * torch.pi / 24
    layer = nn.Linear(2, 24).double()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([turns.cos(), turns.sin()], dim=1))
        layer.bias.copy_(-layer.weight @ torch.tensor([0.3, 0.1], dtype=torch.float64))
    p = partition(nn.Sequential(layer, nn.ReLU()), BOX)
    check(p)
    assert p.num_cells == 48  # all through (0.3, 0.1)
    assert len(p.vertices) == 4 + 1 + 48


# -- other layers ----------------------------------------------------------------------------------


def rounded(net, bits=3):
    """Weights as small dyadic fractions, so that the rational count stays quick."""
    net = copy.deepcopy(net).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 2**-20
            module.running_var.fill_(4 - 2**-20)
            module.running_mean.copy_(torch.arange(module.num_features) / 8 - 0.25)
            module.bias.data.copy_(torch.arange(module.num_features) / 4 - 0.5)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_((value * 2**bits).round() / 2**bits)
    return net


def steps_of(net, shape):
    """Exact steps of a chain of layers; max-pooling windows are read off index images."""
    steps, size = [], torch.Size(shape)
    for layer in net:
        out = layer(torch.zeros(1, *size, dtype=torch.float64)).shape[1:]
        if isinstance(layer, (nn.ReLU, nn.LeakyReLU, nets.Abs)):
            slope = {nn.ReLU: 0.0, nets.Abs: -1.0}.get(type(layer))
            steps.append(("act", layer.negative_slope if slope is None else slope))
        elif isinstance(layer, nn.MaxPool2d):
            index = torch.arange(1.0, size.numel() + 1, dtype=torch.float64).reshape(1, *size)
            k, s, p = layer.kernel_size, layer.stride, layer.padding
            patches = nn.functional.unfold(index, k, stride=s, padding=p)
            patches = patches.reshape(size[0], k * k, -1).transpose(1, 2).reshape(-1, k * k)
            steps.append(("max", [[int(i) - 1 for i in w if i > 0] for w in patches]))
        else:
            steps.append(linear(layer, size))
        size = out
    return steps


CHAINS = {
    "conv and batch norm": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nets.Abs()
    ),
    "max-pool": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.MaxPool2d(2, stride=1), nn.Flatten(), nn.Linear(8, 3)
    ),
    "relu and max-pool": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
        nn.LeakyReLU(0.1),
    ),
    "padded max-pool": lambda: nn.Sequential(
        nn.MaxPool2d(3, stride=2, padding=1), nn.Flatten(), nn.Linear(4, 3), nn.ReLU()
    ),
    "average pooling": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 1),
        nn.LeakyReLU(-0.5),
        nn.AvgPool2d(2),
        nn.Conv2d(2, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_images_on_a_slice_are_counted_exactly(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = rounded(CHAINS[name]())
    points = (normal(3, 1, 4, 4, seed=5) * 4).round() / 4
    plane = Plane(points[0].flatten(), (points[1:] - points[0]).flatten(1), (1, 4, 4))
    p = partition(net, ((-1, -1), (2, 2)), plane)
    check(p)
    embed = ("linear", plane.basis.T.tolist(), plane.origin.tolist())
    assert p.num_cells == len(cells([embed, *steps_of(net, (1, 4, 4))], p.box))


@given(st.sampled_from(sorted(CHAINS)), st.integers(0, 10**6))
@settings(max_examples=15)
def test_random_chains_of_layers_are_counted_exactly(name, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = rounded(CHAINS[name](), bits=2)
    points = (normal(3, 1, 4, 4, seed=seed) * 4).round() / 4
    plane = Plane(points[0].flatten(), (points[1:] - points[0]).flatten(1), (1, 4, 4))
    p = partition(net, BOX, plane)
    embed = ("linear", plane.basis.T.tolist(), plane.origin.tolist())
    assert p.num_cells == len(cells([embed, *steps_of(net, (1, 4, 4))], BOX))


def test_windows_of_many_entries():
    """More entries than a byte can count, two of which win."""
    for size, winners in ((200, (150, 180)), (400, (100, 356))):
        layer = nn.Linear(2, size).double()
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.fill_(-5)
            for winner, slope in zip(winners, (1, -1), strict=True):
                layer.weight[winner, 0], layer.bias[winner] = slope, 0
        d = decision(partition(layer, BOX))
        assert sorted(d.classes) == sorted(winners)
        side = int(size**0.5)
        if side**2 == size:
            pool = nn.Sequential(layer, nn.Unflatten(1, (1, side, side)), nn.MaxPool2d(side))
            p = partition(nn.Sequential(pool, nn.Flatten()), BOX)
            assert sorted(p.codes()[:, 0]) == sorted(winners)


def test_a_partition_stays_when_the_network_goes_on_training():
    net = nets.mlp([2, 6, 1], generator=seeded(2))
    p = partition(net, BOX)
    before = p.affine_maps(), p.outputs(), p.codes()
    with torch.no_grad():
        net[0].weight.mul_(-2)
    after = p.affine_maps(), p.outputs(), p.codes()
    assert all((a == b).all() for a, b in zip(before[0], after[0], strict=True))
    assert all((a == b).all() for a, b in zip(before[1:], after[1:], strict=True))


def test_residual_network_is_counted_exactly():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = integer_layer([[1, 0], [1, 2], [-1, 1]], [0, -1, 0.5])
            self.body = integer_layer([[1, -1, 1], [2, 0, -1], [1, 1, -3]], [0, 0.25, -0.5])
            self.last = integer_layer([[1, -2, 1], [3, 1, -1]], [0.125, 0])

        def forward(self, x):
            x = torch.relu(self.first(x))
            return torch.relu(self.last(torch.relu(x + self.body(x))))

    net = Net()
    p = partition(net, BOX)
    check(p)
    first, body, last = (
        (m.weight.tolist(), m.bias.tolist()) for m in (net.first, net.body, net.last)
    )
    steps = [
        ("linear", *first),
        ("act", 0),
        ("push",),
        ("linear", *body),
        ("add",),
        ("act", 0),
        ("linear", *last),
        ("act", 0),
    ]
    assert p.num_cells == len(cells(steps, BOX))


@pytest.mark.parametrize("alpha", [0.0, 0.1, -1.0])
@pytest.mark.parametrize("widths", [[2, 8, 8, 1], [2, 5, 5, 5, 5, 3], [2, 20, 20, 2]])
def test_random_networks(widths, alpha):
    check(partition(nets.mlp(widths, alpha, generator=seeded(3)), ((-2, -1), (1, 3))))


def test_large_network_holds_the_invariants():
    p = partition(nets.mlp([2, 64, 64, 64, 1], generator=seeded(1)), BOX)
    assert p.num_cells > 2000
    check(p)


def test_a_trained_scale_does_not_matter():
    """Scaling a unit moves no line."""
    net = nets.mlp([2, 10, 10, 1], generator=seeded(5))
    scaled = copy.deepcopy(net)
    with torch.no_grad():
        for factor, row in zip(10.0 ** torch.arange(-5, 5), range(10), strict=True):
            scaled[0].weight[row] *= factor
            scaled[0].bias[row] *= factor
            scaled[2].weight[:, row] /= factor
    p, q = partition(net, BOX), partition(scaled, BOX)
    assert p.num_cells == q.num_cells
    assert np.abs(np.sort(p.areas) - np.sort(q.areas)).max() < 1e-10


# -- views -----------------------------------------------------------------------------------------


def test_after_is_the_partition_of_the_first_layers():
    net = nets.mlp([2, 6, 6, 1], generator=seeded(2))
    p = partition(net, BOX)
    assert p.after(0).num_cells == 1
    for layer, depth in ((1, 2), (2, 4)):
        alone = partition(net[:depth], BOX)
        assert p.after(layer).num_cells == alone.num_cells
        cell = np.arange(p.num_cells)
        for mesh in p.layers[:layer:-1]:
            cell = mesh.parent[cell]
        assert (p.codes()[:, : 6 * layer] == p.after(layer).codes()[cell]).all()
        assert np.allclose(p.after(layer).vertices, alone.vertices)
    with pytest.raises(ValueError, match="0 to 2; got 3"):
        p.after(3)


def test_what_needs_all_layers_says_so():
    p = partition(nets.mlp([2, 4, 4, 1]), BOX).after(1)
    for call in (p.outputs, p.affine_maps, lambda: decision(p)):
        with pytest.raises(ValueError, match="only 1 of 2 layers"):
            call()


def test_pieces_of_a_unit_lie_on_its_hyperplane():
    net = nets.mlp([2, 6, 6, 1], generator=seeded(2))
    p = partition(net, BOX)
    total = 0
    for layer, depth in ((1, 1), (2, 3)):
        for unit in range(6):
            pieces = torch.from_numpy(p.pieces(layer, unit))
            with torch.no_grad():
                z = net[:depth](pieces.reshape(-1, 2))[:, unit]
            assert (z.abs() < 1e-12).all()
            total += len(pieces)
    assert total == (p.edge_layer > 0).sum()  # no line coincides with another here
    with pytest.raises(ValueError, match="units 0 to 5; got 6"):
        p.pieces(2, 6)


def test_pieces_are_complete_where_units_coincide():
    net, _ = mlp_of([([[1, 0], [0, 1], [-2, 0]], [0, 0, 0])], 0.0)
    p = partition(net, BOX)
    assert p.num_cells == 4
    length = [np.linalg.norm(np.diff(p.pieces(1, unit), axis=1), axis=2).sum() for unit in range(3)]
    assert length == pytest.approx([2, 2, 2])


def test_points_on_borders_and_outside():
    p = partition(mlp_of([([[1, 0], [0, 1]], [0, 0])], 0.0)[0], BOX)
    cell = p.locate([[0.0, 0.0], [0.5, 0.0], [2.0, 0.0], [1.0, 1.0]])
    assert cell[0] >= 0
    assert cell[2] == -1
    assert p.codes()[cell[3]].tolist() == [1, 1]
    assert p.codes()[cell[1]][0] == 1


def test_a_network_without_nonlinearity_draws_nothing():
    p = partition(nn.Linear(2, 3), BOX)
    assert (p.num_cells, p.num_layers, p.codes().shape) == (1, 0, (1, 0))


def test_a_slice_is_the_partition_of_the_composed_network():
    net, plane = nets.mlp([7, 9, 9, 2], generator=seeded(3)), Plane.through(normal(3, 7))
    inner = nn.Linear(2, 7).double()
    with torch.no_grad():
        inner.weight.copy_(plane.basis.T)
        inner.bias.copy_(plane.origin)
    p = partition(net, plane=plane)
    q = partition(nn.Sequential(inner, *net), p.box)
    check(p)
    assert p.num_cells == q.num_cells
    assert p.box == plane.box()


def test_nothing_of_the_caller_is_changed():
    net = nets.mlp([2, 6, 1], dtype=torch.float32)
    before, rng = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    partition(net, BOX)
    assert all(
        torch.equal(v, before[k]) and v.dtype == torch.float32 for k, v in net.state_dict().items()
    )
    assert torch.equal(torch.random.get_rng_state(), rng)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device_follows_the_network():
    net = nets.mlp([2, 16, 16, 1], generator=seeded(1))
    here, there = partition(net, BOX), partition(copy.deepcopy(net).cuda(), BOX)
    assert here.num_cells == there.num_cells
    check(there)


# -- refusals --------------------------------------------------------------------------------------


def test_too_large_a_partition_ends_in_a_clear_error():
    net = nets.mlp([2, 200, 200, 200, 1])
    for memory in (1e6, 2e7, 6e7):
        with pytest.raises(MemoryError, match=r"GB may be used; choose a smaller box"):
            partition(net, BOX, memory=memory)


def test_pooling_keeps_the_memory_limit():
    conv = nn.Conv2d(1, 8, 3, padding=1)
    net = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(5, stride=1, padding=2), nn.Flatten())
    with pytest.raises(MemoryError, match="may be used"):
        partition(net, plane=Plane.through(normal(3, 1, 8, 8)), memory=2e8)
    with pytest.raises(MemoryError):
        partition(nets.mlp([2, 3, 1]), BOX, memory=float("nan"))


@pytest.mark.parametrize(
    "box",
    [
        ((0, 0), (0, 1)),
        ((1, 0), (0, 1)),
        ((0, 0), (float("nan"), 1)),
        ((0, 0), (float("inf"), 1)),
        5,
        (0, 0, 1, 1),
        ((0, 0), (1,)),
        ((0, 0), (1, 1), (2, 2)),
    ],
)
def test_bad_boxes(box):
    with pytest.raises(ValueError, match="xmin < xmax"):
        partition(nets.mlp([2, 3, 1]), box)


def test_bad_planes_and_dimensions():
    with pytest.raises(ValueError, match="on one line"):
        Plane.through(torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]))
    with pytest.raises(ValueError, match="three points"):
        Plane.through(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="finite"):
        Plane.through(torch.full((3, 2), float("nan")))
    with pytest.raises(ValueError, match=r"does not fit"):
        partition(nets.mlp([3, 4, 1]), BOX)
    with pytest.raises(ValueError, match=r"give a box"):
        partition(nets.mlp([2, 4, 1]))
    with pytest.raises(ValueError, match="parallel or zero"):
        Plane(torch.zeros(3), torch.ones(2, 3), (3,))
    with pytest.raises(ValueError, match=r"need an origin \(3,\)"):
        Plane(torch.zeros(2), torch.ones(2, 3), (3,))
    p = partition(nets.mlp([2, 4, 1]), BOX)
    with pytest.raises(ValueError, match="layer must be 1 to 1; got 5"):
        p.codes(5)
    for points in ([[0.0, 0.0, 0.0]], [[0.0, float("nan")]]):
        with pytest.raises(ValueError, match=r"\(B, 2\)"):
            p.locate(points)
    with pytest.raises(ValueError, match="GELU"):
        partition(nn.Sequential(nn.Linear(2, 3), nn.GELU()), BOX)


def test_plane_coordinates_invert_embed():
    plane = Plane.through(normal(3, 2, 3))
    u = normal(5, 2, seed=1)
    assert plane.embed(u).shape == (5, 2, 3)
    assert torch.allclose(plane.coordinates(plane.embed(u)), u)
    assert torch.allclose(plane.embed(plane.marks), normal(3, 2, 3))
