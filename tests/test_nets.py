"""splinelib.nets: shapes, reproducible weights, hand-set nets against formulas."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from scipy import ndimage
from torch import nn

from splinelib import data, nets

BUILDERS = {
    "mlp": lambda **kw: nets.mlp([2, 6, 6, 1], **kw),
    "abs mlp": lambda **kw: nets.mlp([2, 5, 3], alpha=-1, **kw),
    "residual": lambda **kw: nets.residual_mlp(2, 5, 2, 3, alpha=0.1, **kw),
    "convnet": lambda **kw: nets.convnet(batch_norm=True, **kw),
    "avg convnet": lambda **kw: nets.convnet((2, 6, 7), (3,), (5,), 4, pool="avg", **kw),
    "fig 3": lambda **kw: nets.convnet(
        (1, 28, 28), (20, 20), (21, 5), pool=None, batch_norm=True, padded=False, **kw
    ),
}
SHAPES = {
    "mlp": ((2,), 1),
    "abs mlp": ((2,), 3),
    "residual": ((2,), 3),
    "convnet": ((1, 8, 8), 10),
    "avg convnet": ((2, 6, 7), 4),
    "fig 3": ((1, 28, 28), 10),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", BUILDERS)
def test_output_shape_and_type(name):
    in_shape, outputs = SHAPES[name]
    out = BUILDERS[name]()(randn(7, *in_shape))
    assert out.shape == (7, outputs)
    assert out.dtype == torch.float64
    assert torch.isfinite(out).all()
    low = BUILDERS[name](dtype=torch.float32)
    assert low(torch.zeros(2, *in_shape)).dtype == torch.float32


@pytest.mark.parametrize("name", BUILDERS)
def test_weights_are_a_function_of_the_generator_alone(name):
    build = BUILDERS[name]
    rng = torch.random.get_rng_state()
    first, again, other = (build(generator=seeded(seed)) for seed in (3, 3, 4))
    default = build()
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert same(first, again)
    assert not same(first, other)
    assert same(default, build(generator=seeded(0)))


@pytest.mark.parametrize("name", BUILDERS)
def test_nets_trace_and_keep_their_values(name):
    in_shape, _ = SHAPES[name]
    net = BUILDERS[name]().eval()
    x = randn(5, *in_shape)
    assert torch.equal(torch.fx.symbolic_trace(net)(x), net(x))


def test_one_generator_gives_one_net_after_another():
    generator = seeded(0)
    first, second = (nets.mlp([2, 4, 1], generator=generator) for _ in range(2))
    assert not same(first, second)


@pytest.mark.parametrize("alpha", [0, 0.25, -1])
def test_kaiming_weights_keep_the_mean_square_of_the_signal(alpha):
    net = nets.mlp([400, 1000, 1000], alpha)
    hidden = net[0].weight @ randn(400, 300)
    kept = net[2].weight @ net[1](hidden)
    assert (kept.square().mean() / hidden.square().mean()).item() == pytest.approx(1, abs=0.05)


def test_biases_spread_evenly_within_their_bound():
    bias = nets.mlp([16, 5000, 1])[0].bias.detach() / (1 / math.sqrt(16))
    assert -1 <= bias.min() < -0.99
    assert 0.99 < bias.max() <= 1
    assert bias.var().item() == pytest.approx(1 / 3, rel=0.05)


def test_convolution_bias_uses_the_fan_in_of_a_kernel():
    conv = nets.convnet((4, 8, 8), (3000,), (3,))[0]
    assert conv.bias.abs().max().item() == pytest.approx(1 / math.sqrt(36), rel=0.01)


def test_layers_stand_in_order():
    kinds = [type(layer) for layer in nets.mlp([2, 3, 4, 1], alpha=0.1)]
    assert kinds == [nn.Linear, nn.LeakyReLU, nn.Linear, nn.LeakyReLU, nn.Linear]
    kinds = [type(layer) for layer in nets.convnet(channels=(3,), kernels=(3,), batch_norm=True)]
    assert kinds == [
        nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear
    ]  # fmt: skip


@pytest.mark.parametrize("alpha", [0, 1, -1, 0.3, -0.5])
def test_activation_has_slope_one_and_alpha(alpha):
    z = torch.tensor([-2.0, 0.0, 3.0])
    expected = torch.tensor([-2.0 * alpha, 0, 3])
    assert torch.allclose(nets.activation(alpha)(z), expected)


def test_residual_adds_its_input():
    body = nn.Linear(3, 3, dtype=torch.float64)
    x = randn(4, 3)
    assert torch.equal(nets.Residual(body)(x), x + body(x))


def test_residual_net_by_hand():
    net = nets.residual_mlp(2, 4, 2, 1, alpha=-1)
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert len(linear) == 6
    x = randn(9, 2)
    w = [(layer.weight.T, layer.bias) for layer in linear]
    stream = (x @ w[0][0] + w[0][1]).abs()
    for i in (1, 3):
        inner = (stream @ w[i][0] + w[i][1]).abs()
        stream = (stream + inner @ w[i + 1][0] + w[i + 1][1]).abs()
    assert torch.allclose(net(x), stream @ w[5][0] + w[5][1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("peaks", [1, 2, 3, 10])
def test_sawtooth_net_equals_the_sawtooth(peaks):
    x, y = data.sawtooth(5001, peaks)
    net = nets.sawtooth_net(peaks)
    assert net[0].out_features == 2 * peaks
    assert torch.allclose(net(x)[:, 0], y, rtol=0, atol=1e-12)
    outside = torch.tensor([[-7.0], [1.0], [2 * peaks + 2.0]], dtype=torch.float64)
    assert net(outside).flatten().tolist() == [0, 0, -1]


def test_the_weights_printed_in_the_paper_miss_the_second_tooth():
    net = nets.sawtooth_net(2)
    printed = [1] + [(-2) ** ((k - 1) % 2) for k in (2, 3, 4)]
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([printed]))
    assert net(torch.tensor([[4.0], [5.0]], dtype=torch.float64)).flatten().tolist() == [0, -2]


def toy_on_a_grid(n=600):
    """Pre-activations of both layers and the logit of the toy net on an n x n grid of the box."""
    line = torch.linspace(-1, 1, n + 1, dtype=torch.float64)[:-1] + 1 / n
    x = torch.cartesian_prod(line, line)
    net = nets.paper_toy()
    with torch.no_grad():
        z1 = net[0](x)
        z2 = net[:3](x)
        return z1, z2, net(x).reshape(n, n)


def code_numbers(z):
    """Read the code of each row as a binary number."""
    return (z > 0).long() @ (2 ** torch.arange(z.shape[1]))


def test_toy_weights_are_exact_eighths_and_fresh_each_time():
    first, second = nets.paper_toy(), nets.paper_toy()
    assert [tuple(layer.weight.shape) for layer in first[::2]] == [(6, 2), (6, 6), (1, 6)]
    for p in first.parameters():
        assert p.dtype == torch.float64
        assert torch.equal(p * 8, (p * 8).round())
    with torch.no_grad():
        first[0].weight.zero_()
    assert same(second, nets.paper_toy())


def test_toy_lines_of_the_first_layer_are_in_general_position():
    layer = nets.paper_toy()[0]
    lines = [[*map(Fraction, w), Fraction(b)] for w, b in zip(
        layer.weight.tolist(), layer.bias.tolist(), strict=True
    )]  # fmt: skip
    for (a, b, _), (c, d, _) in itertools.combinations(lines, 2):
        assert a * d != b * c
    for p, q, r in itertools.combinations(lines, 3):
        minors = (q[1] * r[2] - q[2] * r[1], q[2] * r[0] - q[0] * r[2], q[0] * r[1] - q[1] * r[0])
        assert sum(a * m for a, m in zip(p, minors, strict=True)) != 0


def test_toy_has_the_cells_that_its_docstring_promises():
    z1, z2, _ = toy_on_a_grid()
    for z in (z1, z2):
        active = (z > 0).double().mean(0)
        assert (active > 0.1).all()
        assert (active < 0.9).all()
    # The smallest cell covers over a hundred grid points, so the grid sees every code.
    assert len(code_numbers(z1).unique()) == 17
    _, sizes = code_numbers(torch.cat([z1, z2], 1)).unique(return_counts=True)
    assert len(sizes) == 51
    assert sizes.min() > 100


def test_toy_boundary_bends_and_encloses_an_island():
    z1, z2, f = toy_on_a_grid()
    code = code_numbers(torch.cat([z1, z2], 1)).reshape(f.shape)
    positive = f > 0
    crossed = torch.cat([code[1:][positive[1:] != positive[:-1]],
                         code[:, 1:][positive[:, 1:] != positive[:, :-1]]])  # fmt: skip
    assert len(crossed.unique()) >= 12
    assert 0.3 < positive.double().mean() < 0.7
    assert ndimage.label(positive)[1] + ndimage.label(~positive)[1] == 3


BAD = {
    "one width": (lambda: nets.mlp([2]), r"widths is \(2,\).*at least 2"),
    "zero width": (lambda: nets.mlp([2, 0, 1]), r"widths is \(2, 0, 1\)"),
    "no width": (lambda: nets.mlp([]), r"widths is \(\)"),
    "float width": (lambda: nets.mlp([2, 3.0, 1]), r"widths is \(2, 3.0, 1\).*whole"),
    "alpha": (lambda: nets.mlp([2, 3, 1], alpha=1.5), r"alpha is 1.5.*\[-1, 1\]"),
    "nan alpha": (lambda: nets.activation(math.nan), "alpha is nan"),
    "blocks": (lambda: nets.residual_mlp(2, 4, 0, 1), r"\(2, 4, 0, 1\)"),
    "peaks": (lambda: nets.sawtooth_net(0), r"peaks is \(0,\)"),
    "in_shape": (lambda: nets.convnet((8, 8)), "in_shape"),
    "kernels": (lambda: nets.convnet(kernels=(3,)), r"channels \(8, 8\), kernels \(3,\)"),
    "even": (lambda: nets.convnet(kernels=(2, 2)), "padding needs odd sizes"),
    "pool": (lambda: nets.convnet(pool="min"), "pool is 'min'.*'max', 'avg' or None"),
    "used up": (lambda: nets.convnet((1, 3, 3)), "3 x 3 pixels is used up"),
    "used up too": (lambda: nets.convnet(kernels=(9, 3), padded=False), "8 x 8 pixels"),
    "classes": (lambda: nets.convnet(classes=0), "classes is"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_by_hand_takes_lists_and_tensors_and_refuses_misfits():
    net = nets.by_hand(([[1, 0], [0, 1], [1, 1]], [0, 0, -1]), ([[1, 1, -2]], [0]), alpha=-1)
    x = randn(20, 2)
    expected = x.abs().sum(1) - 2 * (x.sum(1) - 1).abs()
    assert torch.allclose(net(x)[:, 0], expected)
    again = nets.by_hand(*((m.weight.detach(), m.bias.detach()) for m in net[::2]), alpha=-1)
    assert same(net, again)
    with pytest.raises(ValueError, match=r"layer 2 has a weight of shape \(1, 2\).*after 3 values"):
        nets.by_hand(([[1, 0], [0, 1], [1, 1]], [0, 0, -1]), ([[1, 1]], [0]))
