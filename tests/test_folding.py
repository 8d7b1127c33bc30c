"""splinelib.folding: the function stays, constant units go."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Written, conv, linears, normal, shaken, state, unchanged
from torch import nn
from torch.nn.utils import parametrizations, prune

from splinelib import nets
from splinelib.folding import fold_constants, remove_units, working_copy
from splinelib.masks import unit_mask, weight_mask
from splinelib.merging import merge, merge_all
from splinelib.units import rows, units

alphas = st.sampled_from([0.0, 0.2, -1.0, 1.0])
seeds = st.integers(0, 9999)


def prepared(net, seed, share=0.5):
    """``shaken``, about half of the rows zero, offsets of all sizes."""
    net = shaken(net, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in [*units(net)][:-1]:
            module = net.get_submodule(layer)
            zero = torch.rand(len(module.weight), generator=generator) < share
            module.weight[zero] = 0
            if module.bias is not None:
                module.bias.normal_(generator=generator)
    return net


def assert_folded(net, *shape, seed=0, layers=None):
    """The function is the same, the network given too, and nothing that is left is constant."""
    before = state(net)
    folded = fold_constants(net, layers)
    assert unchanged(net, before)
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
    def forward(m, x):
        h = -2 * m.norm(F.max_pool2d(F.leaky_relu(m.conv(x), 0.3), 2))
        return m.fc(m.flat(h.flatten(1) / 3))

    parts = {"conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4)}
    parts |= {"flat": nn.BatchNorm1d(16), "fc": nn.Linear(16, 2)}
    for seed in range(5):
        net = prepared(Written(forward, **parts), seed)
        with torch.no_grad():
            net.conv.weight[seed % 4] = 0
        assert_folded(net, 1, 6, 6, layers=["conv"])


def test_several_readers_get_their_share():
    def forward(m, x):
        h = m.fc1(x).relu()
        return m.fc2(h) - m.fc3(h)

    net = prepared(Written(forward, **linears(2, 4, 4, 4)), 3)
    assert_folded(net, 2, layers=["fc1"])


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


def test_a_batchnorm_on_the_way_makes_a_padded_constant_of_a_zero_offset():
    net = nn.Sequential(conv(1, 3, 1), nn.ReLU(), nn.BatchNorm2d(3), conv(3, 2, 3, padding=1))
    net = shaken(net)
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, 0
    with pytest.raises(ValueError, match="unit 1 of '0' is constant .* zeros of its padding"):
        fold_constants(net)
    net[3].padding = (0, 0)
    assert_folded(net, 1, 6, 6, layers=["0"])


def test_only_units_that_are_seen_are_named():
    net = nn.Sequential(conv(1, 4, 1), nn.ReLU(), conv(4, 2, 3, padding=1))
    with torch.no_grad():
        net[0].weight[1:], net[0].bias[1:] = 0, torch.tensor([-1, 2, 0])
    with pytest.raises(ValueError, match="unit 2 of '0' is constant"):
        fold_constants(net)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["0.weight", "1.running_mean", "3.bias"])
def test_what_is_no_number_is_refused_by_name(name, value):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1)).eval()
    path, _, part = name.rpartition(".")
    with torch.no_grad():
        getattr(net.get_submodule(path), part)[0] = value
    for edit in (fold_constants, merge_all, lambda net: merge(net, "0", 1, 2)):
        with pytest.raises(ValueError, match=f"'{name}' holds NaN or infinity"):
            edit(net)


@pytest.mark.parametrize("behind", [[], [nn.BatchNorm1d(1)]])
@pytest.mark.parametrize("bias", [True, False])
def test_a_shift_too_large_for_half_precision_is_refused(bias, behind):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1, bias=bias), *behind, nn.ReLU(),
                        nn.Linear(1, 1)).eval().half()  # fmt: skip
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1], net[2].weight[0, 1] = 0, 6e4, 2
    with pytest.raises(ValueError, match="would overflow float16; a wider type is needed"):
        fold_constants(net)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_new_bias_is_frozen_as_its_weights_are(frozen):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1, bias=False))
    net[2].weight.requires_grad = not frozen
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, 1
    assert fold_constants(net)[2].bias.requires_grad is not frozen


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
    with pytest.raises(ValueError, match="no layer '1'; its layers: 0, 2"):
        fold_constants(nets.mlp([2, 3, 1]), ["0", "1"])
    with pytest.raises(ValueError, match=r"layers is the text '0'; give a list of paths: \['0'\]"):
        fold_constants(nets.mlp([2, 3, 1]), "0")
    net = nets.mlp([2, 3, 1])
    parametrizations.weight_norm(net[2])
    with pytest.raises(ValueError, match="weight of '2' is computed from other parameters"):
        working_copy(net)


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
