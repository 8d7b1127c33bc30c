"""splinelib.stages and splinelib.affine: f(x) = A x + b, codes, slopes, for every kind of layer."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune

from splinelib import nets
from splinelib.affine import affine_map, codes, slopes
from splinelib.soft import soften
from splinelib.stages import read


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


class Block(nn.Module):
    """A residual block with an in-place sum and functions instead of modules."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        y = self.b(torch.relu(self.a(x)))
        y += x
        return nn.functional.leaky_relu(y, 0.2)


def everything():
    """Conv, BatchNorm, every activation, both poolings, overlapping and padded windows."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3),
        nn.LeakyReLU(-0.3),
        nn.MaxPool2d(3, stride=1, padding=1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(5, 3),
        nets.Abs(),
        nn.Dropout(0.5),
    )
    norm = net[1]
    with torch.no_grad():
        for value, seed in ((norm.running_mean, 1), (norm.weight, 2), (norm.bias, 3)):
            value.copy_(normal(4, seed=seed))
        norm.running_var.copy_(normal(4, seed=4).abs() + 0.5)
    return net


CASES = {
    "relu": (nets.mlp([3, 8, 8, 2]), (3,)),
    "leaky": (nets.mlp([3, 8, 8, 2], alpha=0.1), (3,)),
    "abs": (nets.mlp([3, 8, 8, 2], alpha=-1.0), (3,)),
    "linear": (nn.Linear(3, 2), (3,)),
    "everything": (everything(), (1, 8, 8)),
    "residual": (nets.residual_mlp(3, 6, 2, 2), (3,)),
    "functions": (nn.Sequential(Block(3), Block(3), nn.Linear(3, 2)), (3,)),
    "convnet": (nets.convnet(batch_norm=True, pool="max"), (1, 8, 8)),
    "float32": (nets.mlp([3, 8, 2], dtype=torch.float32), (3,)),
}


@pytest.mark.parametrize("name", CASES)
def test_f_is_its_affine_map(name):
    net, shape = CASES[name]
    net = copy.deepcopy(net).eval()
    x = normal(6, *shape)
    double = copy.deepcopy(net).double()
    f = double(x)
    before = copy.deepcopy(net.state_dict())
    rng = torch.random.get_rng_state()
    found = affine_map(net, x)
    assert found.A.shape == (6, f.shape[1], x[0].numel())
    assert torch.allclose(found(x), f, atol=1e-10, rtol=0)
    # the second route: automatic differentiation
    for A, point in zip(found.A, x, strict=True):
        jacobian = torch.autograd.functional.jacobian(double, point[None])
        assert torch.allclose(A, jacobian.reshape_as(A), atol=1e-10, rtol=0)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), rng)


@pytest.mark.parametrize("name", ["relu", "everything", "functions"])
def test_the_map_holds_in_the_whole_region(name):
    net, shape = CASES[name]
    net = copy.deepcopy(net).eval().double()
    x = normal(4, *shape)
    found, near = affine_map(net, x), x + 1e-7 * normal(4, *shape, seed=9)
    assert torch.equal(codes(net, x), codes(net, near))
    assert torch.allclose(found(near), net(near), atol=1e-10, rtol=0)
    assert not torch.allclose(found(near), net(x), atol=1e-10, rtol=0)


def test_directions_restrict_the_map():
    net, x, directions = nets.mlp([5, 7, 2]), normal(3, 5), normal(2, 5, seed=1)
    full, part = affine_map(net, x), affine_map(net, x, directions)
    assert torch.allclose(full.A @ directions.T, part.A, atol=1e-12)
    assert torch.allclose(full.b, part.b, atol=1e-12)


def test_codes_and_slopes_by_hand():
    net = nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(0.25))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        net[0].bias.copy_(torch.tensor([0.0, -1.0, 0.0]))
    x = torch.tensor([[2.0, 3.0], [2.0, -3.0], [0.0, 1.0]])
    assert codes(net, x).tolist() == [[1, 1, 1], [1, -1, -1], [-1, -1, 1]]
    assert slopes(net, x).tolist() == [[1, 1, 1], [1, 0.25, 0.25], [0.25, 0.25, 1]]


def test_code_of_a_window_is_the_winner():
    net = nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.MaxPool2d(2), nn.Flatten())
    assert codes(net, torch.tensor([[0.0, 3, 1, 2], [5, 1, 5, 0]])).tolist() == [[1], [0]]


def test_a_torchvision_network_is_read_unchanged():
    net = torchvision.models.resnet18(num_classes=4).eval()
    x = normal(1, 3, 32, 32)
    assert len(read(net, (3, 32, 32))) == 1 + 17 + 1  # max-pool, ReLUs, output
    direction = normal(1, 3 * 32 * 32, seed=1)
    found = affine_map(net, x, torch.cat([direction, x.flatten(1)]))
    f = copy.deepcopy(net).double()
    assert torch.allclose(found.A[:, :, 1] + found.b, f(x), atol=1e-10)
    _, slope = torch.autograd.functional.jvp(f, x, direction.reshape_as(x))
    assert torch.allclose(found.A[:, :, 0], slope, atol=1e-8)


class Mixing(nn.Module):
    def forward(self, x):
        return x.reshape(1, -1)


class Square(nn.Module):
    def forward(self, x):
        return x * x


class Reciprocal(nn.Module):
    def forward(self, x):
        return 1.0 / x


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class ReadsAgain(nn.Module):
    """A pre-activation block whose in-place ReLU changes what the shortcut reads."""

    def __init__(self):
        super().__init__()
        self.act, self.body = nn.ReLU(inplace=True), nn.Linear(2, 2)

    def forward(self, x):
        return x + self.body(self.act(x))


class Statement(nn.Module):
    def forward(self, x):
        y = x + 1
        y.mul_(2)
        return y


class Hidden(nn.Module):
    """Aliasing that no ordinary input shows."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 5)

    def forward(self, x):
        h = self.a(x) + 50
        return h + 2 * nn.functional.relu_(h.view(-1, 5))


class Floor(nn.Module):
    def forward(self, x):
        return torch.div(x, 0.3, rounding_mode="floor")


class View(nn.Module):
    """The usual way to flatten."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.body(x.view(x.size(0), -1)))
        return x.view(x.shape[0], 3)


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


def infinite():
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight[0, 0] = float("nan")
    return net


BAD = {
    "GELU": (nn.Sequential(nn.Linear(2, 2), nn.GELU()), "'1' is a GELU.*soft"),
    "softmax inside": (nn.Sequential(nn.Softmax(1), nn.Linear(2, 1)), "'0' is a Softmax"),
    "batch norm in training": (nn.Sequential(nn.BatchNorm1d(2)), r"training mode.*net\.eval\(\)"),
    "dropout in training": (nn.Sequential(nn.Dropout(0.5)), "training mode"),
    "norm without statistics": (
        nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).eval(),
        "running statistics",
    ),
    "NaN": (infinite(), "'weight' holds NaN"),
    "wrong size": (nn.Sequential(nn.Linear(3, 1)), r"shape \(2,\) does not fit '0'"),
    "mixing": (Mixing(), "mixes the inputs of a batch"),
    "square": (Square(), "the network calls mul"),
    "softened": (soften(nets.mlp([2, 3, 1]), 0.5), r"'1' \(SoftReLU\) calls sigmoid"),
    "reciprocal": (Reciprocal(), "calls truediv"),
    "read again in place": (ReadsAgain(), "in place that is read again"),
    "in-place statement": (Statement(), "in place that is read again"),
    "hidden alias": (Hidden(), "in place that is read again"),
    "floor division": (Floor(), "calls div"),
    "slope": (nn.Sequential(nn.LeakyReLU(float("nan"))), "finite slope"),
    "branching": (Branching(), "could not be traced"),
    "two inputs": (Two(), "one input tensor"),
    "ceil mode": (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_networks_are_refused_by_name(name):
    net, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        affine_map(net, torch.zeros(1, 2))


def test_reshapes_by_size_and_pruned_layers():
    net, x = View().double(), normal(5, 2, 2)
    assert torch.allclose(affine_map(net, x)(x), net(x), atol=1e-12)
    pruned = nets.mlp([3, 6, 2])
    prune.random_unstructured(pruned[0], "weight", 0.5)
    y = normal(4, 3)
    assert torch.allclose(affine_map(pruned, y)(y), pruned(y), atol=1e-12)
    assert (affine_map(pruned, y).A != affine_map(nets.mlp([3, 6, 2]), y).A).any()


@pytest.mark.parametrize("x", [torch.zeros(0, 3), torch.tensor([[0, 0, float("nan")]])])
def test_inputs_must_be_there_and_finite(x):
    for call in (affine_map, codes, slopes):
        with pytest.raises(ValueError, match="batch"):
            call(nets.mlp([3, 4, 1]), x)
