"""splinelib.pruning: the criteria that look at a network as it is, and at a batch of images."""

import functools
import math
from fractions import Fraction

import numpy
import pytest
import torch
from networks import state, unchanged
from planted import (
    HIDDEN,
    data_of_some_inputs,
    dead_in,
    dead_out,
    duplicated,
    important,
    inputs,
    network,
    removed_units,
    rescaled,
)
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from splinelib import nets
from splinelib.pruning.family import check_ratio, keep_best, keep_best_weights, targets
from splinelib.pruning.grasp import grasp, grasp_scores
from splinelib.pruning.l1 import l1
from splinelib.pruning.legr import legr
from splinelib.pruning.lottery import magnitude
from splinelib.pruning.random_units import random_units
from splinelib.pruning.slimming import slimming
from splinelib.pruning.snip import snip, snip_scores
from splinelib.pruning.spline import spline
from splinelib.pruning.synflow import flow, magnitudes, synflow
from splinelib.pruning.thinet import thinet
from splinelib.surgery import cut
from splinelib.units import units

UNITS = {"random": random_units, "l1": l1, "slimming": slimming, "thinet": thinet}
WEIGHTS = {"magnitude": magnitude, "snip": snip, "grasp": grasp, "synflow": synflow}
DATA = ("thinet", "snip", "grasp", "synflow")
RATIOS = (0, 0.1, 0.5, 0.9)


def call(name, net, ratio, x, y, **options):
    method = {**UNITS, **WEIGHTS}[name]
    return method(net, ratio, x, y, **options) if name in DATA else method(net, ratio, **options)


def rounded(ratio, n):
    return math.floor(ratio * n + 0.5)


# --- counts ---


@pytest.mark.parametrize("ratio", [*RATIOS, 1 - 1 / 6, 1 - 1 / 8])
@pytest.mark.parametrize("name", UNITS)
def test_units_go_in_exact_numbers_layer_by_layer(name, ratio):
    net, (x, y) = network("convnet"), inputs("convnet")
    options = {} if name == "thinet" else {"scope": "layerwise"}
    mask = call(name, net, ratio, x, y, **options)
    for layer, at in units(net).items():
        if not at.closed:
            goes = min(rounded(ratio, at.width), at.width - 1)
            assert len(removed_units(mask, layer)) == goes


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", ["random", "l1", "slimming"])
def test_units_go_in_exact_numbers_over_all_layers(name, ratio):
    net = network("preresnet")
    found = targets(net)
    mask = UNITS[name](net, ratio, scope="global")
    removed = {layer: len(removed_units(mask, layer)) for layer in found}
    assert sum(removed.values()) == rounded(ratio, sum(at.width for at in found.values()))
    assert all(removed[layer] < at.width for layer, at in found.items())


@pytest.mark.parametrize("ratio", [*RATIOS, 0.97])
@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_go_in_exact_numbers(name, scope, ratio):
    net, (x, y) = network("convnet"), inputs("convnet")
    counts = call(name, net, ratio, x, y, scope=scope).counts()
    assert list(counts) == ["0.weight", "4.weight", "9.weight"]
    assert all(kept for kept, _ in counts.values())
    sizes = [n for _, n in counts.values()]
    removed = [n - kept for kept, n in counts.values()]
    if scope == "global":
        assert sum(removed) == rounded(ratio, sum(sizes))
    else:
        assert removed == [rounded(ratio, n) for n in sizes]


def test_ties_go_by_index_and_no_layer_is_emptied():
    net = network("mlp")
    found = targets(net)
    scores = {"0": torch.ones(8), "2": torch.ones(8)}
    mask = keep_best(net, found, scores, 0.5)
    assert removed_units(mask, "0") == set(range(7))  # the eighth is its layer's last
    assert removed_units(mask, "2") == {0}
    mask = keep_best(net, found, scores, 0.9, "layerwise")  # 7.2 of 8: seven
    assert removed_units(mask, "0") == removed_units(mask, "2") == set(range(7))
    mask = keep_best(net, found, scores, 0.99, "layerwise")  # 7.92 would be eight
    assert removed_units(mask, "0") == set(range(7))
    low = {"0.weight": torch.zeros(8, 6), "2.weight": torch.ones(8, 8)}
    assert keep_best_weights(net, low, 48 / 112).counts()["0.weight"] == (1, 48)


def test_scores_of_infinity_stay():
    net = network("mlp")
    found, inf = targets(net), torch.full((8,), torch.inf)
    some = torch.arange(8.0)
    some[[0, 1, 2]] = torch.inf
    mask = keep_best(net, found, {"0": inf, "2": some}, 5 / 16)
    assert removed_units(mask, "2") == {3, 4, 5, 6, 7}
    with pytest.raises(ValueError, match=r"removes 6 of 16 channels, but only 5 may go"):
        keep_best(net, found, {"0": inf, "2": some}, 6 / 16)
    with pytest.raises(ValueError, match=r"removes 6 of 8 in '2', but the scores let only 5 go"):
        keep_best(net, found, {"2": some}, 0.75, "layerwise")
    with pytest.raises(ValueError, match="NaN"):
        keep_best(net, found, {"2": some * torch.nan}, 0.5)


# --- what each is meant to find, and what it is known to miss ---


@pytest.mark.parametrize("form", ["mlp", "convnet", "preresnet"])
@pytest.mark.parametrize("name", ["l1", "slimming", "thinet"])
def test_dead_units_are_found(name, form):
    if (name, form) == ("slimming", "mlp"):
        pytest.skip("without BatchNorm there is nothing to go by")
    layer, (x, y) = HIDDEN[form], inputs(form)
    net = dead_in(network(form), layer, [1, 4])
    width = units(net)[layer].width
    assert removed_units(call(name, net, 2 / width, x, y, layers=[layer]), layer) == {1, 4}


@pytest.mark.parametrize("form", ["mlp", "convnet", "preresnet"])
def test_only_thinet_asks_who_listens(form):
    layer, (x, _) = HIDDEN[form], inputs(form)
    net = important(network(form), layer, [0, 2, 3])
    width = units(net)[layer].width
    ratio = (width - 3) / width
    unheard = set(range(width)) - {0, 2, 3}
    mask = thinet(net, ratio, x, layers=[layer])
    assert removed_units(mask, layer) == unheard
    torch.testing.assert_close(mask.apply(net)(x), net(x), rtol=0, atol=1e-12)
    with torch.no_grad():
        net.get_submodule(layer).weight[list(unheard)] *= 10
    assert removed_units(l1(net, 3 / width, layers=[layer]), layer) == {0, 2, 3}


def test_l1_adds_absolute_values_up_in_each_layer():
    net = nets.mlp([2, 3, 2, 1])
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 1.6], [-1.2, -1.2]]))
        net[2].weight.copy_(torch.tensor([[0.1, 0.1, 0.1], [-0.01, 0.0, 0.2]]))
    mask = l1(net, 1 / 3)  # 1.6 is less than 2, though longer; a third of two units is one
    assert removed_units(mask, "0") == {1}
    assert removed_units(mask, "2") == {1}
    assert removed_units(l1(net, 0.4, scope="global"), "2") == {1}


def test_l1_keeps_large_copies():
    net = duplicated(network("mlp"), "0", 3, 5, scale=10.0)
    mask = l1(duplicated(net, "0", 5, 3), 0.5)  # units 3 and 5 draw one hyperplane, both large
    assert not removed_units(mask, "0") & {3, 5}


@pytest.mark.parametrize("form", ["convnet", "preresnet"])
def test_slimming_is_fooled_by_a_scale_that_the_next_layer_undoes(form):
    layer, (x, _), net = HIDDEN[form], inputs(form), network(form)
    width = units(net)[layer].width
    kept = thinet(net, 1 / width, x, layers=[layer])
    for unit in (0, width - 1):
        same = rescaled(net, layer, unit, 1e-3)
        torch.testing.assert_close(same(x), net(x))
        assert removed_units(slimming(same, 1 / width, layers=[layer]), layer) == {unit}
        assert thinet(same, 1 / width, x, layers=[layer]) == kept


def test_slimming_is_global_and_takes_absolute_values():
    net = network("convnet")
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([-5.0, 0.1, 0.2, 3.0, -0.3, 4.0]))
        net[5].weight.copy_(torch.arange(8) + 1.0)
    mask = slimming(net, 3 / 14)
    assert removed_units(mask, "0") == {1, 2, 4}
    assert removed_units(mask, "4") == set()
    assert not mask.entries["1.bias"][[1, 2, 4]].any()


def test_random_units_are_even_and_repeatable():
    net = network("mlp")
    counts = torch.zeros(8)
    for seed in range(100):
        mask = random_units(net, 0.25, generator=torch.Generator().manual_seed(seed))
        counts += ~mask.entries["0.bias"]
    assert (counts > 10).all()  # 25 each on the average
    assert (counts < 40).all()
    assert random_units(net, 0.25) == random_units(dead_in(net, "0", [1]), 0.25)


def mask_of(name, net, ratio, x, y):
    return {k: ~v for k, v in call(name, net, ratio, x, y).entries.items()}


@pytest.mark.parametrize("name", ["snip", "synflow"])
def test_weights_of_dead_units_score_nothing_and_go_first(name):
    x, y = inputs("mlp", b=50)
    for plant in (dead_in, dead_out):
        net = plant(network("mlp"), "0", [1, 4])
        ones = torch.ones(1, 6, dtype=torch.float64)
        scores = snip_scores(net, x, y) if name == "snip" else flow(magnitudes(net), ones)
        assert not scores["0.weight"][[1, 4]].any()
        assert not scores["2.weight"][:, [1, 4]].any()
        nothing = sum(int((s == 0).sum()) for s in scores.values())
        assert 28 <= nothing < 68  # two units have 6 weights in and 8 out
        removed = mask_of(name, net, nothing / 136, x, y)
        assert all((removed[k] == (s == 0)).all() for k, s in scores.items())


def test_grasp_keeps_dead_weights_and_drops_living_ones():
    x, y = inputs("mlp", b=50)
    net = dead_in(network("mlp"), "0", [1, 4])
    scores = grasp_scores(net, x, y)
    assert not scores["0.weight"][[1, 4]].any()
    assert not scores["2.weight"][:, [1, 4]].any()
    below = sum(int((s < 0).sum()) for s in scores.values())
    removed = mask_of("grasp", net, below / 136, x, y)
    assert not removed["0.weight"][[1, 4]].any()
    assert not removed["2.weight"][:, [1, 4]].any()


def test_grasp_sees_that_a_unit_without_listeners_may_find_some():
    x, y = inputs("mlp", b=50)
    net = dead_out(network("mlp"), "0", [1, 4])
    assert not snip_scores(net, x, y)["0.weight"][[1, 4]].any()
    assert grasp_scores(net, x, y)["0.weight"][[1, 4]].all()


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_inputs_that_never_vary_are_found_from_data(name):
    x, y = data_of_some_inputs()
    x[:, 2:] = 0
    net = nets.mlp([6, 8, 2])
    scores = {"snip": snip_scores, "grasp": grasp_scores}[name](net, x, y)["0.weight"]
    assert not scores[:, 2:].any()
    assert scores[:, :2].any()
    assert synflow(net, 0.5, x).entries["0.weight"][:, 2:].any()  # it has seen no data


def test_copies_score_alike_so_snip_keeps_both():
    x, y = inputs("mlp")
    net = duplicated(network("mlp"), "0", 3, 5)
    with torch.no_grad():
        net[2].weight[:, 5] = net[2].weight[:, 3]
    scores = snip_scores(net, x, y)
    torch.testing.assert_close(scores["0.weight"][3], scores["0.weight"][5])
    torch.testing.assert_close(scores["2.weight"][:, 3], scores["2.weight"][:, 5])


def test_synflow_cannot_see_what_cancels():
    net = duplicated(network("mlp"), "0", 3, 5)
    with torch.no_grad():
        net[2].weight[:, 5] = -net[2].weight[:, 3]
    x, _ = inputs("mlp", b=20)
    torch.testing.assert_close(dead_out(net, "0", [3, 5])(x), net(x))
    scores = flow(magnitudes(net), torch.ones(1, 6, dtype=torch.float64))
    assert scores["0.weight"][5].min() > 0


@pytest.mark.parametrize("name", ["snip", "synflow"])
def test_scores_do_not_hang_on_how_a_unit_is_scaled(name):
    x, y = inputs("mlp")
    net = network("mlp")
    assert call(name, net, 0.5, x, y) == call(name, rescaled(net, "0", 2, 64.0), 0.5, x, y)


def test_thinet_removes_a_small_unit_rather_than_one_of_two_copies():
    net = duplicated(network("mlp"), "0", 3, 5)
    with torch.no_grad():
        net[2].weight[:, 5] = net[2].weight[:, 3]
        net[2].weight[:, 0] *= 1e-3
    x, _ = inputs("mlp", b=40)
    assert removed_units(thinet(net, 1 / 8, x, layers=["0"]), "0") == {0}


def test_synflow_in_rounds_spares_a_wide_layer_that_one_round_empties():
    net = nets.mlp([4, 4, 128, 128, 4, 2])
    once = synflow(net, 0.99, shape=(4,), rounds=1).counts()
    often = synflow(net, 0.99, shape=(4,)).counts()
    assert once["4.weight"] == (1, 128 * 128)  # kept by our own rule alone
    assert often["4.weight"][0] > 5


# --- nothing of the caller's is touched ---


@pytest.mark.parametrize("name", [*UNITS, *WEIGHTS])
def test_the_network_stays_as_it_is(name):
    net, (x, y) = network("preresnet"), inputs("preresnet")
    if name not in ("thinet", "synflow"):  # these go by running statistics
        net.train().stage1.eval()
    net.stem.weight.requires_grad_(False)
    net.classifier.weight.grad = torch.ones_like(net.classifier.weight)
    before, modes = state(net), [m.training for m in net.modules()]
    random, data = torch.get_rng_state(), x.clone()
    options = {"rounds": 3} if name == "synflow" else {}
    with torch.no_grad():
        mask = call(name, net, 0.3, x, y, **options)
    assert unchanged(net, before)
    assert [m.training for m in net.modules()] == modes
    assert [n for n, p in net.named_parameters() if p.grad is not None] == ["classifier.weight"]
    assert (net.classifier.weight.grad == 1).all()
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["stem.weight"]
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, data)
    assert (
        call(name, net.eval(), 0.3, x, y, **options) == mask
    )  # mode and requires_grad do not matter


@pytest.mark.parametrize("name", WEIGHTS)
def test_dropout_is_left_out(name):
    x, y = inputs("mlp")
    net = network("mlp").train()
    dropping = nn.Sequential(*net[:2], nn.Dropout(0.9), *net[2:])
    counts = call(name, net, 0.5, x, y).counts().values()
    assert list(counts) == list(call(name, dropping, 0.5, x, y).counts().values())


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_layer_that_is_never_used_is_scored(name):
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()

        def forward(self, x):
            return self.used(x)

    x, y = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
    mask = call(name, Spare(), 0.4, x, y)
    assert mask.kept == 14


# --- bad input ---


@pytest.mark.parametrize("name", [*UNITS, *WEIGHTS])
@pytest.mark.parametrize("ratio", [-0.1, 1, 1.0, 50, float("nan"), True, "0.5"])
def test_ratios_outside_are_refused(name, ratio):
    with pytest.raises(ValueError, match=r"ratio is .* in \[0, 1\)"):
        call(name, network("convnet"), ratio, *inputs("convnet"))


@pytest.mark.parametrize("name", ["random", "l1", "slimming", *WEIGHTS])
def test_unknown_scopes_are_refused(name):
    with pytest.raises(ValueError, match="scope is 'layer', but must be one of"):
        call(name, network("convnet"), 0.5, *inputs("convnet"), scope="layer")
    check_ratio(0.5, "layerwise")


@pytest.mark.parametrize("name", DATA)
def test_a_forgotten_batch_is_named(name):
    with pytest.raises(ValueError, match=rf"{name} .*needs? .*{name}\(net, ratio, x"):
        call(name, network("mlp"), 0.5, None, None)


@pytest.mark.parametrize("method", [snip, grasp])
def test_batches_that_do_not_fit_are_refused(method):
    net, (x, y) = network("mlp"), inputs("mlp")
    with pytest.raises(ValueError, match=r"got \(8, 6\) and \(7,\)"):
        method(net, 0.5, x, y[:7])
    with pytest.raises(ValueError, match="labels are int64"):
        method(net, 0.5, x, y.double())
    with pytest.raises(ValueError, match="label 3, but the network has 3 classes"):
        method(net, 0.5, x, y + 1)
    with pytest.raises(ValueError, match="x is torch.float32 .* the network torch.float64"):
        method(net, 0.5, x.float(), y)
    with pytest.raises(ValueError, match="temperature is 0"):
        grasp(net, 0.5, x, y, temperature=0)


def test_slimming_names_the_layers_without_batch_norm():
    with pytest.raises(ValueError, match="'0', '2'.*layers="):
        slimming(network("mlp"), 0.5)
    net = nn.Sequential(
        nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)
    )
    with pytest.raises(ValueError, match="behind '3': leave them out"):
        slimming(net, 0.5)
    assert len(removed_units(slimming(net, 0.5, layers=["0"]), "0")) == 2
    net[1] = nn.BatchNorm1d(4, affine=False)
    with pytest.raises(ValueError, match="behind '0', '3'"):
        slimming(net, 0.5)


def test_what_cannot_be_pruned_is_said():
    with pytest.raises(ValueError, match="no channels that can be removed"):
        l1(nn.Sequential(nn.Linear(2, 3)), 0.5)
    with pytest.raises(ValueError, match="names '7', but .* from: 0, 2"):
        l1(network("mlp"), 0.5, layers=["7"])
    with pytest.raises(ValueError, match="no Linear or Conv2d layer"):
        magnitude(nn.Sequential(nn.ReLU()), 0.5)
    with pytest.raises(ValueError, match=r"removes 15 of 16 channels, but only 14"):
        random_units(network("mlp"), 15 / 16)
    with pytest.raises(ValueError, match="Sigmoid"):
        l1(nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1)), 0.5)
    masked = magnitude(network("mlp"), 0.5).apply(network("mlp"), hold=True)
    with pytest.raises(ValueError, match="weight of '0' is computed from others"):
        magnitude(masked, 0.5)


@pytest.mark.parametrize("method", [snip, grasp])
def test_one_image_has_no_spread(method):
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    x, y = torch.randn(1, 2), torch.tensor([1])
    with pytest.raises(ValueError, match=r"of one image .* give two images or more \(Expected"):
        method(net, 0.5, x, y)
    assert method(net, 0.5, x.repeat(2, 1) + torch.eye(2), y.repeat(2)).kept == 8
    assert method(network("convnet"), 0.5, *(part[:1] for part in inputs("convnet"))).kept


def test_synflow_refuses_what_it_cannot_score():
    with pytest.raises(ValueError, match="rounds is 0"):
        synflow(network("mlp"), 0.5, shape=(6,), rounds=0)
    bare = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match="BatchNorm '1' keeps no running statistics"):
        synflow(bare, 0.5, shape=(2,))
    huge = network("mlp")
    with torch.no_grad():
        for parameter in huge.parameters():
            parameter.fill_(1e150)
    with pytest.raises(ValueError, match="beyond float64"):
        synflow(huge, 0.5, shape=(6,))


def test_thinet_refuses_what_it_does_not_know():
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect"),
        nn.Flatten(), nn.Linear(32, 2),
    )  # fmt: skip
    with pytest.raises(ValueError, match="'2' has padding_mode='reflect'"):
        thinet(net, 0.5, torch.randn(2, 1, 6, 6))
    with pytest.raises(ValueError, match="samples 0"):
        thinet(net, 0.5, torch.randn(2, 1, 6, 6), samples=0)
    with pytest.raises(ValueError, match="x is torch.float64 .* the network torch.float32"):
        thinet(net, 0.5, torch.randn(2, 1, 6, 6, dtype=torch.float64))


def cut_before():
    """A residual network whose branches read selections of the stream already."""
    net = nets.preresnet(20, width=0.25)
    return cut(net, slimming(net, 0.3, residual="select")).net


def test_what_a_cut_network_does_not_tell_is_said_in_words():
    x, y = torch.randn(20, 3, 8, 8), torch.arange(20) % 10
    for method in (l1, functools.partial(legr, x=x, y=y)):
        with pytest.raises(ValueError, match="cut before, so its channels have no"):
            method(cut_before(), 0.5, residual="select")
    assert slimming(cut_before(), 0.5, residual="select").kept


@pytest.mark.parametrize("method", [l1, slimming, random_units, spline])
def test_no_layers_is_no_choice(method):
    with pytest.raises(ValueError, match="layers names no layer"):
        method(network("convnet"), 0.5, layers=[])


def test_errors_of_scores_name_the_layer():
    net = network("convnet")
    net[4].weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="scores of '4' hold NaN"):
        l1(net, 0.5)
    with pytest.raises(ValueError, match="what '0' passes on holds NaN"):
        thinet(net, 0.5, inputs("convnet")[0])
    with pytest.raises(ValueError, match="flow is NaN"):
        synflow(net, 0.5, inputs("convnet")[0])


def test_weights_that_cannot_be_masked_are_refused_before_any_work():
    net = nn.Sequential(weight_norm(nn.Linear(2, 4)), nn.ReLU(), nn.Linear(4, 1))
    for method in (l1, random_units, spline):
        with pytest.raises(ValueError, match="computed from others"):
            method(net, 0.5)


def test_any_kind_of_real_number_is_a_ratio():
    net = network("convnet")
    assert l1(net, numpy.float32(0.5)) == l1(net, 0.5) == l1(net, Fraction(1, 2))
