"""splinelib.pruning.spline: which units go, how many, and in which order."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from doubles import FACTORS, REDUCE, kept, network, seeded, twin
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import state, unchanged
from planted import kept_units, removed_units
from torch import nn

from splinelib import nets
from splinelib.pruning.reduce import distances
from splinelib.pruning.spline import spline, spline_scores
from splinelib.surgery import groups
from splinelib.units import rows


def naive(matrices, removals):
    """The greedy over all layers as it is told: which units go, by layer, one after another."""
    left = [list(range(len(N))) for N in matrices]
    gone = []
    while len(gone) < removals:
        pairs = (
            (N[k][j], layer, (k, j))
            for layer, N in enumerate(matrices)
            for k, j in itertools.combinations(left[layer], 2)
        )
        _, layer, (low, high) = min(pairs)
        N = matrices[layer]
        second = [
            min((N[k][i] for i in left[layer] if i not in (low, high)), default=math.inf)
            for k in (low, high)
        ]
        goes = low if second[0] < second[1] else high
        left[layer].remove(goes)
        gone.append((layer, goes))
    return gone


# ------------------------------------------------------------------ the greedy of a whole network


def agrees(net, reduce="none"):
    """Whether all numbers of removals give what the naive greedy removes."""
    names = list(groups(net))
    matrices = [distances(rows(net, n), reduce=reduce).tolist() for n in names]
    total = sum(map(len, matrices))
    gone = naive(matrices, total - len(names))
    for number in range(total - len(names) + 1):
        mask = spline(net, number / total, scope="global", reduce=reduce)
        expected = {n: {k for at, k in gone[:number] if names[at] == n} for n in names}
        if {n: removed_units(mask, n) for n in names} != expected:
            return False
    return True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reduce", ["none", "null"])
def test_one_threshold_is_the_greedy_over_the_whole_network(seed, reduce):
    assert agrees(nets.mlp([3, 6, 5, 2], generator=seeded(seed)), reduce)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None)
def test_the_same_where_many_distances_are_equal(seed):
    rng = np.random.default_rng(seed)
    layers = [(rng.choice([-1, 1], (6, 1)), rng.integers(-2, 3, 6))]
    layers += [(rng.choice([-1, 0, 2], (5, 6)) + np.eye(5, 6) * 5, rng.integers(0, 2, 5))]
    layers += [(rng.choice([1, 2], (1, 5)), [0])]
    net = nets.by_hand(*[(np.asarray(W).tolist(), list(map(int, b))) for W, b in layers])
    assert agrees(net)


@pytest.mark.parametrize("criterion", ["invariant", "paper"])
@pytest.mark.parametrize("reduce", REDUCE)
def test_scores_and_masks_agree(criterion, reduce):
    net, _ = network("norm")
    scores = spline_scores(net, criterion=criterion, reduce=reduce)
    assert {n: len(s) for n, s in scores.items()} == {n: g.width for n, g in groups(net).items()}
    assert all(int(s.isposinf().sum()) == 1 for s in scores.values())
    mask = spline(net, 0.4, scope="global", criterion=criterion, reduce=reduce)
    going = torch.cat([s[~kept_units(mask, n)] for n, s in scores.items()])
    stay = torch.cat([s[kept_units(mask, n)] for n, s in scores.items()])
    assert going.max() <= stay.min()
    assert all(s.dtype == torch.float64 and not s.isnan().any() for s in scores.values())


@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_masks_grow_with_the_ratio(scope):
    net, _ = network("preresnet")
    before = None
    for ratio in (0, 0.2, 0.4, 0.6, 0.8):
        mask = spline(net, ratio, scope=scope)
        assert before is None or mask & before == mask
        before = mask


def test_the_network_and_the_random_state_stay_as_they_are():
    net, _ = network("norm")
    before, drawn = state(net), torch.get_rng_state()
    masks = [spline(net, 0.5, reduce=reduce) for reduce in REDUCE for _ in range(2)]
    assert unchanged(net, before)
    assert not any(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(a == b for a, b in zip(masks[::2], masks[1::2], strict=True))


# -------------------------------------------------------------------------------------- doubles


PAIRS = [(0, 4), (6, 2), (5, 7)]


@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("form", ["linear", "conv", "norm", "preresnet"])
def test_of_doubles_exactly_one_stays(form, reduce):
    net, layer = network(form)
    for factor, (source, target) in zip(FACTORS[1:], PAIRS, strict=True):
        net = twin(net, layer, source, target, factor)
    scores = spline_scores(net, reduce=reduce)[layer]
    assert int((scores == 0).sum()) == len(PAIRS)
    total = sum(group.width for group in groups(net).values())
    for number in (1, len(PAIRS), total // 2):
        mask = spline(net, number / total, scope="global", reduce=reduce)
        left = [int(kept_units(mask, layer)[list(pair)].sum()) for pair in PAIRS]
        if number <= len(PAIRS):
            assert removed_units(mask, layer) <= set(itertools.chain(*PAIRS))
            assert Counter(left) == Counter({1: number, 2: len(PAIRS) - number})
        else:
            assert max(left) <= 1


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_doubles_in_any_number(data):
    form = data.draw(st.sampled_from(["linear", "conv", "norm", "preresnet"]))
    net, layer = network(form, data.draw(st.integers(0, 99)))
    n = groups(net)[layer].width
    units_ = data.draw(st.permutations(range(n)))
    classes = [units_[:2], units_[2:5], units_[5:7]][: data.draw(st.integers(1, 3))]
    for source, *targets in classes:
        for target in targets:
            net = twin(net, layer, source, target, data.draw(st.sampled_from(FACTORS)))
    surplus = sum(len(members) - 1 for members in classes)
    mask = spline(net, surplus / n)
    left = [int(kept_units(mask, layer)[list(members)].sum()) for members in classes]
    assert left == [1] * len(classes)
    assert len(removed_units(mask, layer)) == surplus


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_doubles_that_were_rounded(dtype):
    net, layer = network("norm")
    net = twin(net.to(dtype), layer, 1, 7, -1.0)
    net = twin(net, layer, 0, 5, 2.0)
    assert int((spline_scores(net)[layer] == 0).sum()) == 2


def test_what_the_printed_criterion_gets_wrong():
    """(2w, b) and (-w, b) are at distance 0, though their hyperplanes differ; (w, b) and (2w, 2b)
    are not, though theirs coincide."""
    net = nets.by_hand(
        ([[2, 4, 0], [-1, -2, 0], [0, 3, 1], [0, 6, 2]], [1, 1, 2, 4]), ([[1] * 4], [0])
    )
    assert len(removed_units(spline(net, 0.25, criterion="paper"), "0") & {0, 1}) == 1
    assert len(removed_units(spline(net, 0.25), "0") & {2, 3}) == 1
    values = {
        c: sorted(spline_scores(net, criterion=c)["0"].tolist()) for c in ("paper", "invariant")
    }
    assert values["paper"][0] == values["invariant"][0] == 0
    assert values["paper"][1] > 0
    assert values["invariant"][1] > 0


def test_offsets_behind_a_batchnorm():
    """Two channels with the same filter that BatchNorm sets apart, or brings together."""
    net, layer = network("norm")
    net = twin(net, layer, 0, 1, 1.0)
    with torch.no_grad():
        net[1].running_mean[1] += 1
    same = {
        bias: int((spline_scores(net, bias=bias)[layer] == 0).sum())
        for bias in ("folded", "beta", "none")
    }
    assert same == {"folded": 0, "beta": 1, "none": 1}
    with torch.no_grad():
        net[1].bias[1] += net[1].weight[1] / (net[1].running_var[1] + net[1].eps).sqrt()
    same = {
        bias: int((spline_scores(net, bias=bias)[layer] == 0).sum())
        for bias in ("folded", "beta", "none")
    }
    assert same == {"folded": 1, "beta": 0, "none": 1}


# ------------------------------------------------------------------- units that draw nothing


@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_units_without_a_hyperplane_go_first(reduce, scope):
    net, _ = network("norm")
    with torch.no_grad():
        net[1].weight[[2, 5]] = 0
        net[4].weight[3] = 0
    scores = spline_scores(net, reduce=reduce)
    assert scores["0"].isneginf().nonzero().flatten().tolist() == [2, 5]
    assert scores["4"].isneginf().nonzero().flatten().tolist() == [3]
    total = sum(len(s) for s in scores.values())
    mask = spline(net, 3 / total if scope == "global" else 2 / 9, scope=scope, reduce=reduce)
    assert removed_units(mask, "0") == {2, 5}
    assert 3 in removed_units(mask, "4")


def test_a_layer_of_one_unit_stays_and_so_does_one_of_dead_units():
    net = nets.mlp([3, 1, 4, 2], generator=seeded())
    assert spline_scores(net)["0"].tolist() == [math.inf]
    assert spline_scores(net, reduce="pca")["0"].tolist() == [math.inf]
    nn.init.zeros_(net[2].weight)
    scores = spline_scores(net, reduce="svd")["2"]
    assert scores.tolist() == [math.inf, -math.inf, -math.inf, -math.inf]
    mask = spline(net, 0.6, scope="global")
    assert removed_units(mask, "0") == set()
    assert removed_units(mask, "2") == {1, 2, 3}


# ------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("form", ["linear", "conv", "norm", "preresnet"])
def test_counts_are_exact(form, ties):
    net, _ = network(form)
    if ties:  # all units of a layer alike
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(parameter[:1].expand_as(parameter))
            for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.running_mean.fill_(0.5)
                norm.running_var.fill_(2.0)
    widths = {name: group.width for name, group in groups(net).items()}
    for ratio in (0, 0.1, 0.5, 0.9, 1 - 1 / min(widths.values())):
        goes = {n: min(math.floor(ratio * c + 0.5), c - 1) for n, c in widths.items()}
        assert kept(net, spline(net, ratio)) == {n: widths[n] - goes[n] for n in widths}
    total = sum(widths.values())
    for ratio in (0, 0.1, 0.5, (total - len(widths)) / total):
        left = kept(net, spline(net, ratio, scope="global"))
        assert sum(left.values()) == total - math.floor(ratio * total + 0.5)
        assert min(left.values()) >= 1


def test_layers_that_are_not_named_stay():
    net, _ = network("norm")
    mask = spline(net, 0.5, scope="global", layers=["4"])
    assert list(mask.entries) == ["4.weight", "4.bias", "5.weight", "5.bias"]
    assert list(spline_scores(net, layers=["0"])) == ["0"]
    with pytest.raises(ValueError, match="layers names '9'"):
        spline(net, 0.5, layers=["9"])


def test_ratio_0_keeps_everything():
    net, _ = network("norm")
    mask = spline(net, 0)
    assert mask.kept == mask.total


# ------------------------------------------------------------------------------------ errors


def wrong(message, net=None, ratio=0.5, **options):
    with pytest.raises(ValueError, match=message):
        spline(network("norm")[0] if net is None else net, ratio, **options)


def test_bad_options_are_named():
    for ratio in (1, -0.1, 1.5, math.nan, "half", True):
        wrong("ratio is", ratio=ratio)
    wrong("scope is 'local'", scope="local")
    wrong("criterion is 'Eq. 6'", criterion="Eq. 6")
    wrong("bias is 'gamma'", bias="gamma")
    wrong("reduce is 'ica'", reduce="ica")
    wrong("residual is 'all'", residual="all")
    wrong("rho is -1", rho=-1)
    wrong("rank is 3, but reduce='none'", rank=3)
    wrong("rank is 19, but '4' has 8 hyperplanes of 81 inputs: .* 1 to 8", reduce="pca", rank=19)
    for rank in (0, True, 2.0):
        wrong("rank is", reduce="svd", rank=rank)


def test_bad_networks_are_named():
    wrong("no channels that can be removed", nn.Sequential(nn.Linear(3, 2)))
    wrong("wrap it|no channels", nn.Linear(3, 2))
    wrong("GELU|gelu", nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)))
    for value in (math.nan, math.inf):
        net, _ = network("norm")
        with torch.no_grad():
            net[4].weight[1] = value
        wrong("'4'.*NaN or infinity", net)
        net, _ = network("norm")
        net[5].running_mean[2] = value
        wrong("'4'.*NaN or infinity", net)
    net, _ = network("norm")
    wrong("ratio=0.99 removes", net, 0.99, scope="global")
