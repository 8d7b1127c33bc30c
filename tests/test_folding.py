"""splinelib.folding: the function stays, constant units go; the primitives of merging."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

from splinelib import nets
from splinelib.folding import (
    add_columns,
    fold_constants,
    output_factor,
    remove_units,
    working_copy,
)
from splinelib.masks import unit_mask, weight_mask
from splinelib.units import NORMS, rows, units

alphas = st.sampled_from([0.0, 0.2, -1.0, 1.0])
seeds = st.integers(0, 9999)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def prepared(net, seed, share=0.5):
    """float64, evaluation mode, BatchNorms that do something, about half of the rows zero."""
    net = net.double().eval()
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, NORMS):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    found = units(net)
    with torch.no_grad():
        for layer in [*found][:-1]:
            module = net.get_submodule(layer)
            zero = torch.rand(len(module.weight), generator=generator) < share
            module.weight[zero] = 0
            if module.bias is not None:
                module.bias.normal_(generator=generator)
    return net


def assert_folded(net, *shape, seed=0, layers=None):
    """The function is the same, the network given too, and nothing that is left is constant."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = fold_constants(net, layers)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    x = 3 * normal(50, *shape, seed=seed)
    size = max(1.0, float(net(x).detach().abs().max()))
    assert torch.allclose(folded(x), net(x), rtol=0, atol=1e-12 * size)
    for layer in layers or [*units(net)][:-1]:
        W, b = rows(folded, layer)
        constant = (W == 0).all(1)
        assert not b[constant].any()
        assert (constant >= (rows(net, layer).W == 0).all(1)).all()
        for reader in units(folded)[layer].readers:
            weight = folded.get_submodule(reader.layer).weight
            assert not weight.reshape(len(weight), len(W), -1)[:, constant].any()
    return folded


def test_by_hand():
    # sigma(-2) = -0.2 with leakiness 0.1: the offset 1 becomes 1 - 3 * 0.2
    net = nets.by_hand(([[0, 0], [1, 1]], [-2, 0]), ([[3, 1]], [1]), alpha=0.1)
    folded = assert_folded(net, 2)
    assert folded[2].bias.tolist() == pytest.approx([0.4], abs=1e-15)
    assert folded[2].weight.tolist() == [[0, 1]]
    assert folded[0].bias.tolist() == [0, 0]


@settings(max_examples=60)
@given(seeds, alphas, st.booleans(), st.booleans())
def test_fully_connected(seed, alpha, normed, bias):
    layers = []
    for width, following in ((2, 6), (6, 5), (5, 4)):
        layers += [nn.Linear(width, following, bias=bias)]
        layers += [nn.BatchNorm1d(following)] * normed + [nets.activation(alpha)]
    net = prepared(nn.Sequential(*layers, nn.Linear(4, 2, bias=bias)), seed)
    assert_folded(net, 2, seed=seed)


@settings(max_examples=40)
@given(seeds, alphas, st.sampled_from(["max", "avg", None]), st.booleans())
def test_convolutions_without_padding(seed, alpha, pool, normed):
    net = nets.convnet((2, 9, 9), (4, 3), (3, 2), 2, alpha, pool, normed, padded=False)
    assert_folded(prepared(net, seed), 2, 9, 9, seed=seed)


@given(seeds, alphas)
def test_batchnorm_whose_scale_is_zero(seed, alpha):
    """As network slimming leaves it: gamma 0, beta not."""
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nets.activation(alpha), nn.Linear(5, 1))
    net = prepared(net, seed, share=0)
    with torch.no_grad():
        net[1].weight[::2] = 0
    folded = assert_folded(net, 3, seed=seed)
    assert not folded[3].weight[:, ::2].any()


def test_readers_without_bias():
    layers = [nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3, bias=False)]
    for behind in ([], [nn.BatchNorm1d(3)], [nn.BatchNorm1d(3, affine=False)]):
        net = prepared(nn.Sequential(*layers, *behind, nn.ReLU(), nn.Linear(3, 1)), 1)
        folded = assert_folded(net, 2)
        assert (folded[2].bias is None) == bool(behind)
    # the BatchNorm serves in two places: it must stay as it is
    norm = nn.BatchNorm1d(3)
    middle = [nn.Linear(4, 3, bias=False), norm, nn.ReLU(), nn.Linear(3, 3), norm, nn.Linear(3, 1)]
    net = prepared(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), *middle), 1)
    folded = assert_folded(net, 2, layers=["0"])
    assert folded[2].bias is not None


def test_batchnorm_and_scalings_between_activation_and_reader():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
            self.flat, self.fc = nn.BatchNorm1d(16), nn.Linear(16, 2)

        def forward(self, x):
            h = -2 * self.norm(F.max_pool2d(F.leaky_relu(self.conv(x), 0.3), 2))
            return self.fc(self.flat(h.flatten(1) / 3))

    for seed in range(5):
        net = prepared(Odd(), seed)
        with torch.no_grad():
            net.conv.weight[seed % 4] = 0
        assert_folded(net, 1, 6, 6, layers=["conv"])


def test_several_readers_get_their_share():
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.left, self.right = (nn.Linear(2, 4), nn.Linear(4, 3), nn.Linear(4, 3))

        def forward(self, x):
            h = self.first(x).relu()
            return self.left(h) - self.right(h)

    net = prepared(Split(), 3)
    assert_folded(net, 2, layers=["first"])


def test_what_becomes_constant_on_the_way_is_folded():
    # the second layer's only unit reads a unit that is constant
    net = nets.by_hand(([[0, 0], [1, 0]], [1, 0]), ([[2, 0], [0, 1]], [1, 1]), ([[5, 1]], [0]))
    folded = assert_folded(net, 2)
    assert not folded[2].weight[0].any()
    assert folded[4].weight.tolist() == [[0, 1]]
    assert folded[4].bias.tolist() == [15]  # 5 * (2 * 1 + 1)


def test_dead_units_ask_nothing_of_their_readers():
    # sigma(b) = 0: no matter that the reader pads
    net = nets.convnet((1, 6, 6), (3, 2), (3, 3), 2, pool=None)
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, -1
    folded = assert_folded(net, 1, 6, 6)
    assert torch.equal(folded[2].bias, net[2].bias)


def test_masked_networks():
    net = nets.mlp([2, 6, 4, 1])
    keep = torch.ones(6, 2, dtype=torch.bool)
    keep[[1, 4]] = False
    masked = weight_mask(net, {"0.weight": keep}).apply(net, hold=True)
    folded = assert_folded(masked, 2)
    assert not any(prune.is_pruned(part) for part in folded)
    assert not folded[0].bias[[1, 4]].any()
    silent = unit_mask(net, {"0": keep[:, 0]}).apply(net)  # nothing to move
    assert torch.equal(fold_constants(silent)[2].bias, silent[2].bias)


def test_one_precision_and_the_mode_are_kept():
    net = prepared(nets.mlp([2, 6, 1]), 0).float().train()
    folded = fold_constants(net)
    assert folded.training
    assert {p.dtype for p in folded.parameters()} == {torch.float32}
    x = normal(9, 2).float()
    assert torch.allclose(folded(x), net(x), atol=1e-5)


def test_channels_last_weights():
    net = prepared(nets.convnet((2, 9, 9), (4, 3), (3, 2), 2, padded=False), 2)
    assert_folded(net.to(memory_format=torch.channels_last), 2, 9, 9)


def conv(*args, **options):
    return nn.Conv2d(*args, dtype=torch.float64, **options)


REFUSED = {
    "the zeros of its padding": lambda: [conv(1, 3, 1), conv(3, 2, 3, padding=1)],
    "'2' reads it beside the zeros": lambda: [conv(1, 3, 1), conv(3, 2, 3, padding="same")],
    "'1' mixes other numbers into it": lambda: [conv(1, 3, 1), nn.AvgPool2d(2, padding=1)],
    "'1' mixes other": lambda: [conv(1, 3, 1), nn.ZeroPad2d(1)],
    "mixes other": lambda: [conv(1, 3, 1), nn.AvgPool2d(2, divisor_override=3)],
    "grouped convolution '2'": lambda: [conv(1, 3, 1), conv(3, 3, 1, groups=3)],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_constant_units_that_cannot_be_folded(reason):
    first, second = REFUSED[reason]()
    behind = [nn.ReLU(), second] if isinstance(second, nn.Conv2d) else [second]
    net = nn.Sequential(
        first, *behind, conv(3 if second is behind[0] else second.out_channels, 1, 1)
    )
    with torch.no_grad():
        first.weight[1], first.bias[1] = 0, 1
    with pytest.raises(ValueError, match=f"unit 1 of '0' is constant but cannot .*{reason}"):
        fold_constants(net)
    assert first.bias[1] == 1


@pytest.mark.parametrize(
    "first, second",
    [
        (lambda: conv(1, 3, 1), lambda: conv(3, 2, 3, padding=1, padding_mode="replicate")),
        (lambda: conv(1, 3, 1), lambda: conv(3, 2, 3, padding=1, padding_mode="circular")),
        (lambda: conv(1, 3, 1), lambda: conv(3, 2, 3, padding="valid")),
        (lambda: conv(1, 3, 1), lambda: conv(3, 2, 1, padding="same")),
        (lambda: conv(1, 3, 1, padding=1), lambda: conv(3, 2, 3)),
        (lambda: conv(1, 4, 1), lambda: nn.AvgPool2d(2, padding=1, count_include_pad=False)),
        (lambda: conv(1, 4, 1), lambda: nn.AdaptiveAvgPool2d(3)),
        (lambda: conv(1, 4, 1), lambda: nn.MaxPool2d(3, 2, padding=1)),
    ],
)
def test_harmless_padding(first, second):
    layer = second()
    net = [first(), nn.ReLU(), layer, conv(2 if isinstance(layer, nn.Conv2d) else 4, 1, 1)]
    net = prepared(nn.Sequential(*net), 4)
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, 1
    assert_folded(net, 1, 6, 6, layers=["0"])


def test_sums_and_outputs_are_refused():
    net = prepared(nets.residual_mlp(2, 6, 1, 1), 5)
    with pytest.raises(ValueError, match="of '0' is constant .*it enters a sum. Name the layers"):
        fold_constants(net)
    assert_folded(net, 2, layers=["2.body.0"])
    with pytest.raises(ValueError, match="'2.body.2' is constant .*it enters a sum"):
        fold_constants(net, ["2.body.2"])
    net = nets.by_hand(([[1, 1]], [0]), ([[0], [1]], [3, 0]))
    assert_folded(net, 2)
    with pytest.raises(ValueError, match="it is the output of the network"):
        fold_constants(net, ["2"])


def test_unknown_layers_and_computed_weights():
    with pytest.raises(ValueError, match=r"no layer \['1'\]; its layers: 0, 2"):
        fold_constants(nets.mlp([2, 3, 1]), ["0", "1"])
    net = nets.mlp([2, 3, 1])
    parametrizations.weight_norm(net[2])
    with pytest.raises(ValueError, match="weight of '2' is computed from other parameters"):
        working_copy(net)


@settings(max_examples=60)
@given(seeds, st.sampled_from([0.0, 0.3, -1.0, 1.0]), st.sampled_from([0.5, -1.0, 2.0, -3.0]),
       st.booleans(), st.sampled_from(["max", "avg", None]))  # fmt: skip
def test_proportional_units_are_merged_without_loss(seed, alpha, ratio, image, pool):
    """z_gone = ratio z_survivor, then the survivor can do the work of both."""
    if image:
        net, shape = nets.convnet((1, 6, 6), (4,), (3,), 2, alpha, pool), (1, 6, 6)
    else:
        net, shape = nets.mlp([3, 4, 2], alpha), (3,)
    with torch.no_grad():
        net[0].weight[3], net[0].bias[3] = ratio * net[0].weight[1], ratio * net[0].bias[1]
    here, before = units(net)["0"], net[0].weight.clone()
    if ratio < 0 and (alpha in (0.0, 0.3) or (alpha == 1 and image and pool == "max")):
        with pytest.raises(ValueError, match="opposite s"):
            output_factor(here, ratio)
        return
    merged = working_copy(net)
    add_columns(merged, here, 1, 3, output_factor(here, ratio))
    x = 3 * normal(40, *shape, seed=seed)
    assert torch.allclose(
        merged(x), net(x), rtol=0, atol=1e-12 * max(1, net(x).detach().abs().max().item())
    )
    assert not merged[0].weight[3].any()
    assert torch.equal(net[0].weight, before)
    assert not merged[:2](x)[:, 3].any()


def test_factors_that_do_not_exist():
    here = units(nets.mlp([2, 3, 1]))["0"]
    for ratio in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"ratio of the pre-activations is {ratio}"):
            output_factor(here, ratio)
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
    with pytest.raises(ValueError, match="a BatchNorm stands between '0' and '3'"):
        output_factor(units(net)["0"], 2.0)
    pooled = nn.Sequential(conv(1, 2, 1), nn.MaxPool2d(2), nets.Abs(), conv(2, 1, 1))
    with pytest.raises(ValueError, match="a max-pooling before '3'"):
        output_factor(units(pooled)["0"], -2.0)
    net = nets.residual_mlp(2, 3, 1, 1)
    with pytest.raises(ValueError, match="units of '0' cannot be merged: it enters a sum"):
        add_columns(working_copy(net), units(net)["0"], 0, 1, 1.0)


@pytest.mark.parametrize("gone", [[1, 3], torch.tensor([False, True, False, True])])
@pytest.mark.parametrize("affine", [True, False])
def test_removed_units_put_out_zero(gone, affine):
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4, affine=affine), nn.ReLU(),
                        nn.Linear(4, 2))  # fmt: skip
    net = working_copy(prepared(net, 0, share=0))
    kept = net[:2](normal(5, 2))[:, [0, 2]]
    remove_units(net, units(net)["0"], gone)
    z = net[:2](normal(5, 2))
    assert not z[:, [1, 3]].any()
    assert torch.equal(z[:, [0, 2]], kept)
    assert not net[3].weight[:, [1, 3]].any()
    assert net[3].weight[:, [0, 2]].all()
