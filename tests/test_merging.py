"""splinelib.merging: units that draw one hyperplane become one, and the function stays."""

import itertools

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Written, linears, normal, shaken, state, unchanged
from torch import nn
from torch.nn.utils import prune

from splinelib import nets
from splinelib.merging import coincident, merge, merge_all
from splinelib.ops import copied
from splinelib.partition import partition
from splinelib.plane import Plane
from splinelib.redundancy import pair_matrix
from splinelib.units import rows, units

BOX = ((-3.0, -3.0), (3.0, 3.0))
POINTS = 10_000
seeds = st.integers(0, 9999)
factors = st.sampled_from([1 / 3, 2.0, 1e-8, 1e8, 0.7])


def duplicate(net, layer, first, second, factor):
    """Make unit ``second`` a multiple of unit ``first``, through the BatchNorm behind."""
    at = units(net)[layer]
    module = net.get_submodule(layer)
    with torch.no_grad():
        for value in (module.weight, module.bias):
            if value is not None:
                value[second] = factor * value[first]
        if at.norm:
            norm = net.get_submodule(at.norm)
            norm.running_mean[second] = factor * norm.running_mean[first]
            variances = norm.running_var[[first, second]] + norm.eps
            scale = norm.weight[[first, second]] / variances.sqrt()
            norm.bias[second] = scale[1] * factor / scale[0] * norm.bias[first]
    return net


@torch.no_grad()
def assert_same(net, merged, *shape, points=POINTS, seed=0):
    """The same function to 1e-12 of the largest output, in evaluation mode."""
    net, merged = copied(net).eval(), copied(merged).eval()
    for x in normal(points, *shape, seed=seed).split(1000):
        y = net(x)
        assert (y - merged(x)).abs().max() < 1e-12 * y.abs().max()
        assert y.std(0).min() > 0


def assert_gone(net, layer, unit):
    """Nothing is left of a unit, and nothing reads it."""
    at = units(net)[layer]
    W, b = rows(net, layer)
    assert not W[unit].any()
    assert b[unit] == 0
    for reader in at.readers:
        columns = net.get_submodule(reader.layer).weight
        columns = columns if columns.ndim == 4 else columns.unflatten(1, (at.width, -1))
        assert not columns[:, unit].any()


def cells_of(drawn, lost):
    """Corners of all cells, rounded; and their codes without the units that are gone."""
    corners = {tuple(sorted(map(tuple, np.round(cell, 8) + 0.0))) for cell in drawn.polygons()}
    codes = np.delete(drawn.codes(), lost, axis=1)
    return corners, {tuple(code) for code in codes}


# Which units coincide


@given(seeds, factors, st.sampled_from([1, -1]))
def test_groups_of_equal_hyperplanes(seed, factor, side):
    W, b = normal(9, 3, seed=seed), normal(9, seed=seed + 1)
    for first, second in ((0, 4), (4, 8), (2, 3)):
        W[second], b[second] = side * factor * W[first], side * factor * b[first]
    W[5] = 0
    assert coincident(W, b) == [[0, 4, 8], [2, 3]]
    assert coincident(W.numpy(), b.tolist()) == [[0, 4, 8], [2, 3]]


def test_no_groups():
    assert coincident(normal(5, 3), normal(5)) == []
    assert coincident([[1.0, 2.0]], [0.0]) == []
    assert coincident([[0.0], [0.0], [1.0]], [1.0, 1.0, 1.0]) == []
    with pytest.raises(ValueError, match=r"offset a row of W, \(2,\)"):
        coincident([[1.0], [2.0]], [0.0])


# The function stays


@given(seeds, factors, st.sampled_from([0.0, 0.1, -0.3, -1.0, 1.0]))
@settings(max_examples=15)
def test_merging_in_an_mlp_leaves_the_function(seed, factor, alpha):
    net = nets.mlp([3, 6, 7, 2], alpha=alpha, generator=torch.Generator().manual_seed(seed))
    net = duplicate(duplicate(net, "0", 1, 4, factor), "2", 5, 0, factor)
    before = state(net)
    merged = merge(merge(net, "0", 1, 4), "2", 5, 0)
    assert_same(net, merged, 3, points=1000)
    assert_gone(merged, "0", 4)
    assert_gone(merged, "2", 0)
    assert unchanged(net, before)


@pytest.mark.parametrize("factor", [1e200, 1e-200])
@pytest.mark.parametrize("survivor, gone", [(1, 4), (4, 1)])
def test_factors_near_the_ends_of_float64(factor, survivor, gone):
    net = duplicate(nets.mlp([3, 6, 2]), "0", 1, 4, factor)
    assert_same(net, merge(net, "0", survivor, gone), 3, points=1000)


def test_ratios_and_weights_beyond_their_type_are_refused():
    net = duplicate(nets.mlp([3, 6, 2]), "0", 1, 4, 1e200)
    with torch.no_grad():
        net[0].weight[1] *= 1e-200
        net[0].bias[1] *= 1e-200
    with pytest.raises(ValueError, match="cannot be merged: the ratio of their weights is inf"):
        merge(net, "0", 1, 4)
    net = nets.mlp([3, 6, 6, 2]).half()
    with torch.no_grad():
        net[0].weight[4], net[0].bias[4] = 8 * net[0].weight[1], 8 * net[0].bias[1]
        net[2].weight[0, 4] = 6e4
    with pytest.raises(ValueError, match="the weights of '2' would overflow float16"):
        merge(net, "0", 1, 4)
    merged, done, refused = merge_all(net, ["0"])
    assert (done, [refusal[:3] for refusal in refused]) == ([], [("0", 1, 4)])
    assert unchanged(merged, state(net))


@pytest.mark.parametrize("alpha", [-1.0, 1.0])
@pytest.mark.parametrize("factor", [-1 / 3, -1e8, -1.0])
def test_opposite_sides_merge_where_the_activation_keeps_the_factor(alpha, factor):
    net = duplicate(nets.mlp([3, 6, 2], alpha=alpha), "0", 1, 4, factor)
    assert_same(net, merge(net, "0", 1, 4), 3)
    assert_same(net, merge(net, "0", 4, 1), 3)


def test_ten_thousand_points_and_the_cells_of_an_mlp():
    """Duplicates in both layers; after the merge the same cells, to the last corner."""
    net = nets.mlp([2, 8, 9, 2], generator=torch.Generator().manual_seed(1))
    net = duplicate(duplicate(net, "0", 1, 4, 1 / 3), "2", 5, 0, 1e8)
    merged, done, refused = merge_all(net)
    assert (done, refused) == ([("0", 1, 4), ("2", 0, 5)], [])
    assert_same(net, merged, 2)
    before, after = partition(net[:-1], BOX), partition(merged[:-1], BOX)
    assert cells_of(before, [4, 8 + 5]) == cells_of(after, [4, 8 + 5])
    assert after.num_cells == before.num_cells > 40
    assert np.sort(after.areas) == pytest.approx(np.sort(before.areas), abs=1e-10)


def test_what_merely_drops_the_unit_is_not_the_same():
    """The check above can fail: without the outgoing weights the function is another."""
    net = duplicate(nets.mlp([2, 8, 2]), "0", 1, 4, 2.0)
    dropped = merge(net, "0", 1, 4)
    with torch.no_grad():
        dropped[2].weight[:, 1] = net[2].weight[:, 1]
    with pytest.raises(AssertionError):
        assert_same(net, dropped, 2, points=100)


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_merging_through_convolutions_and_pooling(pool, batch_norm):
    net = shaken(nets.convnet(batch_norm=batch_norm, pool=pool), positive=True)
    first, second = [*units(net)][:2]
    net = duplicate(duplicate(net, first, 1, 3, 1 / 3), second, 2, 5, 7.0)
    merged, done, refused = merge_all(net)
    assert (done, refused) == ([(first, 1, 3), (second, 2, 5)], [])
    shape = (1, 8, 8)
    assert_same(net, merged, *shape, points=POINTS if batch_norm else 1000)
    assert_gone(merged, first, 3)
    assert_gone(merged, second, 5)  # read by a Linear that has several inputs a unit


def test_the_cells_of_a_convolution():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip
    net = duplicate(shaken(net, positive=True), "0", 0, 2, 1 / 3)
    merged = merge(net, "0", 0, 2)
    plane = Plane.through(normal(3, 1, 4, 4))
    before, after = (partition(n[:-2], BOX, plane=plane) for n in (net, merged))
    lost = list(range(2 * 16, 3 * 16))
    assert cells_of(before, lost) == cells_of(after, lost)
    assert after.num_cells > 20


def test_two_merges_may_make_others_coincide():
    """Two units that read one duplicate each look alike once the duplicates are one."""
    net = nets.by_hand(
        ([[1, 0], [1, 0], [0, 1]], [1, 1, 0]), ([[2, 0, 1], [0, 2, 1]], [3, 3]), ([[1, 5]], [0])
    )
    assert coincident(*rows(net, "2")) == []
    merged, done, _ = merge_all(net)
    assert done == [("0", 0, 1), ("2", 0, 1)]
    assert_same(net, merged, 2)


def test_groups_of_several_become_one():
    net = nets.mlp([3, 8, 2])
    for second, factor in ((3, 2.0), (5, 1 / 3), (7, 1e-8)):
        net = duplicate(net, "0", 1, second, factor)
    merged, done, refused = merge_all(net)
    assert done == [("0", 1, 3), ("0", 1, 5), ("0", 1, 7)]
    assert refused == []
    assert_same(net, merged, 3)


def test_both_sides_of_a_hyperplane_become_two_units():
    net = nets.mlp([3, 8, 2])
    for second, factor in ((3, -2.0), (5, 1 / 3), (7, -1e-8)):
        net = duplicate(net, "0", 1, second, factor)
    merged, done, refused = merge_all(net)
    assert done == [("0", 1, 5), ("0", 3, 7)]
    assert [refusal[:3] for refusal in refused] == [("0", 1, 3)]
    assert_same(net, merged, 3)
    assert merge_all(merged).merged == []


def test_layers_choose_and_nothing_to_merge_is_a_copy():
    net = nets.mlp([3, 6, 6, 2])
    net = duplicate(duplicate(net, "0", 1, 4, 2.0), "2", 5, 0, 2.0)
    assert merge_all(net, ["2"]).merged == [("2", 0, 5)]
    assert merge_all(net, ["4"]).merged == []
    same = merge_all(net, []).net
    assert same is not net
    assert unchanged(same, state(net))
    with pytest.raises(ValueError, match="no layer '9'; its layers: 0, 2, 4"):
        merge_all(net, ["0", "9"])
    with pytest.raises(ValueError, match="layers is the text '2'"):
        merge_all(net, "2")


@given(seeds, st.lists(st.sampled_from([0.5, -0.5, 3.0, -1.0]), min_size=4, max_size=4))
@settings(max_examples=20)
def test_merge_all_keeps_the_function_whatever_is_planted(seed, chosen):
    net = nets.mlp([2, 6, 6, 1], generator=torch.Generator().manual_seed(seed))
    for layer, factor in zip("0022", chosen, strict=True):
        duplicate(net, layer, seed % 3, 3 + seed % 2, factor)
    merged, done, refused = merge_all(net)
    assert_same(net, merged, 2, points=200)
    assert len(done) + len(refused) == 2


def test_a_resnet_whose_mode_comes_along():
    """Duplicates in inner convolutions of a residual network, BatchNorm between."""
    net = shaken(torchvision.models.resnet18(num_classes=5), positive=True)
    net = duplicate(duplicate(net, "layer1.0.conv1", 3, 9, 1 / 3), "layer3.1.conv1", 0, 5, 4.0)
    net = duplicate(net, "layer2.0.conv2", 1, 2, 1.0)  # enters the residual sum
    net.layer4[1].relu.train()
    before = state(net)
    merged, done, refused = merge_all(net)
    assert done == [("layer1.0.conv1", 3, 9), ("layer3.1.conv1", 0, 5)]
    assert [refusal[:3] for refusal in refused] == [("layer2.0.conv2", 1, 2)]
    assert "it enters a sum" in refused[0][-1]
    assert [m.training for m in merged.modules()] == [m.training for m in net.modules()]
    assert unchanged(net, before)
    assert_same(net, merged, 3, 32, 32, points=24)
    for call in (merge_all, lambda net: merge(net, "layer1.0.conv1", 3, 9)):
        with pytest.raises(ValueError, match=r"'bn1' \(BatchNorm2d\) is in training mode.*eval"):
            call(copied(net).train())
    wrong = copied(merged)
    with torch.no_grad():
        wrong.layer3[1].conv2.weight[:, 0] = net.layer3[1].conv2.weight[:, 0]
    with pytest.raises(AssertionError):
        assert_same(net, wrong, 3, 32, 32, points=8)
    assert_gone(merged, "layer1.0.conv1", 9)


def test_float32_networks_merge_to_their_own_precision():
    net = nets.mlp([5, 20, 3], dtype=torch.float32)
    net = duplicate(net, "0", 1, 4, 1 / 3)
    merged, done, _ = merge_all(net)
    assert done == [("0", 1, 4)]
    assert merged[0].weight.dtype == torch.float32
    x = normal(1000, 5).float()
    torch.testing.assert_close(merged(x), net(x), rtol=1e-5, atol=1e-5)


def test_a_network_that_torch_prunes():
    net = duplicate(nets.mlp([3, 6, 2]), "0", 1, 4, 2.0)
    mask = torch.ones_like(net[0].weight)
    mask[:, 0] = 0
    prune.custom_from_mask(net[0], "weight", mask)
    net(normal(1, 3))
    merged = merge(net, "0", 1, 4)
    assert_same(net, merged, 3, points=1000)
    assert not prune.is_pruned(merged)
    assert prune.is_pruned(net)


# What is refused


def added():
    """A residual block around one layer."""

    def forward(m, x):
        x = torch.relu(m.fc1(x))
        return m.fc3(x + torch.relu(m.fc2(x)))

    return Written(forward, **linears(3, 4, 4, 1))


def pooled(inputs, *behind):
    return nn.Sequential(nn.Conv2d(1, 4, 3), *behind, nn.Flatten(), nn.Linear(inputs, 2))


LEAKY = nets.mlp([3, 4, 1], alpha=0.25)
NORMED = pooled(16, nn.ReLU(), nn.BatchNorm2d(4))
REFUSED = {
    "relu": (nets.mlp([3, 4, 1]), "0", -2.0, "opposite sides", "relu(-z) = relu(z) - z needs a"),
    "leaky": (LEAKY, "0", -2.0, "opposite sides", "sigma(-z) = sigma(z) - 1.25 z needs a"),
    "output": (nets.mlp([3, 4, 2]), "2", 2.0, "cannot be merged", "it is the output"),
    "sum": (added(), "fc2", 2.0, "cannot be merged", "it enters a sum"),
    "also a sum": (added(), "fc1", 2.0, "cannot be merged", "it enters a sum"),
    "max": (pooled(4, nn.MaxPool2d(2)), "0", -2.0, "opposite signs", "a max-pooling"),
    "abs": (pooled(4, nn.MaxPool2d(2), nets.Abs()), "0", -2.0, "opposite signs", "a max-pooling"),
    "norm": (NORMED, "0", 2.0, "a BatchNorm stands between", "'0' and '4'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_merged_is_refused_with_the_reason(name):
    net, layer, factor, *words = REFUSED[name]
    net = duplicate(copied(net).double().eval(), layer, 0, 1, factor)
    before = state(net)
    with pytest.raises(ValueError, match=words[0]) as error:
        merge(net, layer, 0, 1)
    assert words[1] in str(error.value)
    result = merge_all(net, [layer])
    assert (result.merged, result.refused) == ([], [(layer, 0, 1, str(error.value))])
    assert unchanged(result.net, before)


def test_opposite_signs_pass_a_max_pooling_behind_the_absolute_value():
    net = duplicate(pooled(16, nets.Abs(), nn.MaxPool2d(2)).double(), "0", 0, 1, -2.0)
    assert_same(net, merge(net, "0", 0, 1), 1, 6, 6, points=1000)


@pytest.mark.parametrize("digits", [1, 6, 9, 12])
def test_planes_that_differ_are_refused_and_by_how_much(digits):
    net = duplicate(nets.mlp([3, 4, 1]), "0", 0, 1, 2.0)
    with torch.no_grad():
        net[0].bias[1] *= 1 + 10.0**-digits
    distance = pair_matrix(*rows(net, "0"))[0, 1]
    with pytest.raises(ValueError, match="different hyperplanes") as error:
        merge(net, "0", 0, 1)
    assert f"(N* = {distance:.3g})" in str(error.value)
    assert merge_all(net).merged == merge_all(net).refused == []


@pytest.mark.parametrize(
    "layer, survivor, gone, words",
    [
        ("9", 0, 1, "no layer '9'; its layers: 0, 2"),
        ("0", 0, 4, "'0' has no unit 4; its units are 0 to 3"),
        ("0", -1, 0, "'0' has no unit -1"),
        ("0", 2, 2, "both 2; give two different"),
        ("0", 0, 3, "one of units 0 and 3 of '0' is constant; .*fold_constants"),
    ],
)
def test_units_that_do_not_exist_are_refused(layer, survivor, gone, words):
    net = nets.mlp([2, 4, 1])
    with torch.no_grad():
        net[0].weight[3] = 0
    with pytest.raises(ValueError, match=words):
        merge(net, layer, survivor, gone)


def test_units_that_merging_leaves_are_constant_and_stay_out_of_groups():
    net = nets.mlp([2, 6, 1])
    for first, second in itertools.pairwise([0, 2, 4]):
        net = duplicate(net, "0", first, second, 2.0)
    merged = merge_all(net).net
    assert coincident(*rows(merged, "0")) == []
    assert merge_all(merged).merged == []
