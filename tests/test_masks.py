"""splinelib.masks: masks as values, exact counts, composition, copies; selection."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import normal, state, unchanged
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from splinelib import nets
from splinelib.affine import codes
from splinelib.fit import fit
from splinelib.masks import Mask, select, unit_mask, weight_mask
from splinelib.partition import partition
from splinelib.units import rows

SHAPES = {"a": (2, 3), "b": (4,), "c": (1, 1)}


def bits(*shape):
    return st.lists(st.booleans(), min_size=math.prod(shape), max_size=math.prod(shape)).map(
        lambda values: torch.tensor(values, dtype=torch.bool).reshape(shape)
    )


masks = st.sets(st.sampled_from("abc")).flatmap(
    lambda names: st.fixed_dictionaries({name: bits(*SHAPES[name]) for name in names}).map(Mask)
)


@given(masks)
def test_counts_are_exact(mask):
    kept = {name: int(np.sum(entry.numpy())) for name, entry in mask.entries.items()}
    sizes = {name: math.prod(SHAPES[name]) for name in mask.entries}
    assert mask.counts() == {name: (kept[name], sizes[name]) for name in kept}
    assert (mask.kept, mask.total) == (sum(kept.values()), sum(sizes.values()))
    assert len(mask) == len(kept)
    assert mask.density == (mask.kept / mask.total if kept else 1)
    assert f"{mask.kept} of {mask.total}" in repr(mask)


@given(masks, masks, masks)
def test_composition_laws(a, b, c):
    assert a & b == b & a
    assert (a & b) & c == a & (b & c)
    assert a & a == a
    assert a & Mask({}) == a
    ones = Mask({name: torch.ones(shape) for name, shape in SHAPES.items()})
    assert (ones & a).counts() == {**ones.counts(), **a.counts()}
    assert (a & b).entries.keys() == a.entries.keys() | b.entries.keys()


@given(masks, masks)
def test_equality_is_of_names_and_entries(a, b):
    same = a.entries.keys() == b.entries.keys() and all(
        (a.entries[name] == b.entries[name]).all() for name in a.entries
    )
    assert (a == b) == same
    assert (a != b) != same
    assert Mask(a.entries) == a


def test_equality_with_other_things_and_shapes():
    a = Mask({"a": torch.ones(2, 3)})
    assert a != Mask({"a": torch.ones(3, 2)})
    assert a != {"a": torch.ones(2, 3)}
    with pytest.raises(TypeError):
        a & {"a": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=r"'a' have shapes \(2, 3\) and \(3, 2\)"):
        a & Mask({"a": torch.ones(3, 2)})


def test_a_mask_keeps_its_own_entries():
    given_entries = {"a": torch.ones(2, 3, dtype=torch.bool)}
    mask = Mask(given_entries)
    given_entries["a"][0] = False
    given_entries["b"] = torch.zeros(1)
    assert mask.counts() == {"a": (6, 6)}
    mask.entries["a"][0] = False  # a copy
    assert mask.counts() == {"a": (6, 6)}
    with pytest.raises(TypeError):
        mask.entries["a"] = torch.zeros(2, 3)
    with pytest.raises(AttributeError):
        mask.entries = {}


@pytest.mark.parametrize(
    "entry",
    [[1, 0, 1], np.array([1.0, 0.0, 1.0]), torch.tensor([True, False, True]),
     torch.tensor([1, 0, 1], dtype=torch.int8), torch.tensor([1.0, 0.0, 1.0]).half()],
)  # fmt: skip
def test_zeros_and_ones_of_any_type(entry):
    assert Mask({"a": entry}).entries["a"].tolist() == [True, False, True]
    assert Mask({"a": entry}).entries["a"].dtype == torch.bool


@pytest.mark.parametrize("bad", [0.5, 2, -1, math.nan, math.inf])
def test_other_entries_are_refused(bad):
    with pytest.raises(ValueError, match=f"'0.weight' holds {bad}"):
        Mask({"0.weight": torch.tensor([1.0, bad])})


def test_ones_keep_a_network_as_it_is():
    net = nets.convnet(batch_norm=True).eval()
    mask = Mask.ones(net)
    assert list(mask.entries) == [name for name, _ in net.named_parameters()]
    assert mask.density == 1
    assert mask.total == sum(p.numel() for p in net.parameters())
    assert unchanged(mask.apply(net), state(net))
    assert unchanged(mask.apply(net, hold=True), state(net))  # nothing to hold


@pytest.mark.parametrize("hold", [False, True])
def test_apply_multiplies_a_copy(hold):
    net = nets.mlp([2, 4, 1])
    before, M = state(net), normal(4, 2) > 0
    with torch.no_grad():
        net[0].weight[~M] = math.inf  # zero all the same
    before["0.weight"] = net[0].weight.detach().clone()
    masked = Mask({"0.weight": M}).apply(net, hold=hold)
    assert torch.equal(masked[0].weight, torch.where(M, before["0.weight"], 0))
    assert torch.equal(masked[2].weight, net[2].weight)
    assert unchanged(net, before)
    assert not any(map(prune.is_pruned, (net, net[0])))


@given(st.integers(0, 999), st.booleans())
def test_apply_twice_is_the_composed_mask(seed, hold):
    net = nets.mlp([2, 4, 1])
    a, b = (Mask({"0.weight": normal(4, 2, seed=2 * seed + i) > 0}) for i in range(2))
    one_by_one, at_once = b.apply(a.apply(net, hold=hold)), (a & b).apply(net)
    for part in ("weight", "bias"):
        assert torch.equal(getattr(one_by_one[0], part), getattr(at_once[0], part))
    x = normal(5, 2)
    assert torch.equal(one_by_one(x), at_once(x))


@pytest.mark.parametrize(
    "entries, words",
    [
        ({"1.weight": torch.ones(4, 2)}, "names '1.weight', which is no parameter"),
        ({"0.weight": torch.ones(2, 4)}, r"'0.weight' has shape \(2, 4\).*shape \(4, 2\)"),
        ({"0.weight": torch.ones(4, 2), "0.bias": torch.ones(1)}, r"'0.bias' has shape \(1,\)"),
    ],
)
def test_masks_that_do_not_fit(entries, words):
    net = nets.mlp([2, 4, 1])
    for use in (Mask(entries).check, Mask(entries).apply, lambda net: weight_mask(net, entries)):
        with pytest.raises(ValueError, match=words):
            use(net)


def test_held_entries_stay_zero_in_training():
    net = nets.convnet((1, 4, 4), (3,), (3,), 2, pool=None, batch_norm=True)
    keep = torch.tensor([True, False, True])
    mask = unit_mask(net, {"0": keep}) & weight_mask(net, {"4.weight": normal(2, 48) > 0})
    x, y = normal(20, 1, 4, 4), torch.arange(20) % 2
    held = fit(mask.apply(net, hold=True), x, y, steps=5, lr=0.1, weight_decay=0.1)
    free = fit(mask.apply(net), x, y, steps=5, lr=0.1)
    assert not torch.equal(held[0].weight, net[0].weight)
    assert all((held_by(held, name)[~entry] == 0).all() for name, entry in mask.entries.items())
    assert not all((held_by(free, name)[~entry] == 0).all() for name, entry in mask.entries.items())
    assert not rows(held, "0").W[1].any()
    assert codes(held, x).shape == codes(net.eval(), x).shape
    assert Mask.ones(held) == Mask.ones(net)


def held_by(net, name):
    """A parameter as the network uses it."""
    net(torch.zeros(1, 1, 4, 4, dtype=torch.float64))
    path, _, part = name.rpartition(".")
    return getattr(net.get_submodule(path), part)


def test_held_copies_have_partitions():
    net = nets.paper_toy()
    mask = unit_mask(net, {"0": torch.tensor([1, 1, 0, 1, 0, 1])})
    box = ((-1, -1), (1, 1))
    held = fit(mask.apply(net, hold=True), normal(9, 2), normal(9, 1), steps=2)
    assert {piece for piece in (2, 4) if len(partition(held, box).pieces(1, piece))} == set()
    plain = partition(mask.apply(net), box)
    assert partition(mask.apply(net, hold=True), box).num_cells == plain.num_cells
    assert plain.num_cells < partition(net, box).num_cells


@pytest.mark.parametrize("hold", [False, True])
def test_networks_that_torch_prunes_already(hold):
    net = nets.mlp([2, 4, 1], alpha=-1)
    prune.custom_from_mask(net[0], "weight", torch.tensor([[1, 0], [1, 1], [0, 1], [1, 1]]))
    old, original = net[0].weight_mask.bool(), net[0].weight_orig.detach().clone()
    M = torch.tensor([[1, 1], [0, 0], [1, 1], [1, 0]]).bool()
    assert list(Mask.ones(net).entries) == ["0.bias", "0.weight", "2.weight", "2.bias"]
    masked = weight_mask(net, {"0.weight": M}).apply(net, hold=hold)
    expected = torch.where(M & old, original, 0)
    assert torch.equal(masked[0].weight, expected)
    masked(normal(3, 2))
    assert torch.equal(masked[0].weight, expected)
    trained = fit(masked, normal(9, 2), normal(9, 1), steps=2)
    now = rows(trained, "0").W
    assert not now[~old].any()
    assert bool(now[old & ~M].any()) != hold
    assert torch.equal(net[0].weight_orig, original)


def test_unit_masks_silence_units():
    net = nets.convnet((1, 4, 4), (3, 2), (3, 3), 2, pool=None, batch_norm=True).eval()
    nn.init.normal_(net[1].bias, generator=torch.Generator().manual_seed(0))
    mask = unit_mask(net, {"0": torch.tensor([1, 0, 1])})
    assert mask.counts() == {
        "0.weight": (18, 27), "0.bias": (2, 3), "1.weight": (2, 3), "1.bias": (2, 3)
    }  # fmt: skip
    hidden = [part(normal(5, 1, 4, 4)) for part in (net[:3], mask.apply(net)[:3])]
    assert not hidden[1][:, 1].any()
    assert torch.equal(hidden[0][:, ::2], hidden[1][:, ::2])


def test_unit_masks_without_bias_and_without_scale():
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3, affine=False), nn.ReLU(),
                        nn.Linear(3, 1))  # fmt: skip
    assert list(unit_mask(net, {"3": torch.ones(1)}).entries) == ["3.weight", "3.bias"]
    assert list(unit_mask(net, {"0": torch.ones(3)}).entries) == ["0.weight"]
    with pytest.raises(ValueError, match="BatchNorm '1' behind has no scale and shift"):
        unit_mask(net, {"0": torch.tensor([1, 0, 1])})


@pytest.mark.parametrize(
    "keep, words",
    [
        ({"1": torch.ones(4)}, "no layer '1'; its layers: 0, 2"),
        ({"0": torch.ones(3)}, r"keep\['0'\] has shape \(3,\), but the layer has 4 units"),
        ({"0": torch.tensor([1, 0, 1, 0.5])}, "'0' holds 0.5"),
    ],
)
def test_unit_masks_that_do_not_fit(keep, words):
    with pytest.raises(ValueError, match=words):
        unit_mask(nets.mlp([2, 4, 1]), keep)


def test_units_whose_weights_are_no_parameters_of_their_own_cannot_be_masked():
    weight_normed, spectral, tied, normed = (nets.mlp([3, 3, 3, 1]) for _ in range(4))
    parametrizations.weight_norm(weight_normed[2])
    spectral_norm(spectral[2])
    tied[2].weight = tied[0].weight
    for net in (weight_normed, spectral, tied):
        with pytest.raises(ValueError, match="'2' cannot be masked: '2.weight' is no parameter of"):
            unit_mask(net, {"2": torch.tensor([1, 0, 1])})
    normed = nn.Sequential(normed[0], nn.BatchNorm1d(3), normed[2], nn.BatchNorm1d(3), normed[4])
    normed[3].bias = normed[1].bias
    with pytest.raises(ValueError, match="'3.bias' is no parameter of its own"):
        unit_mask(normed, {"2": torch.tensor([1, 0, 1])})


def test_another_default_device_changes_nothing():
    net, values = nets.mlp([2, 4, 1]), {"0": normal(4), "2": normal(1)}
    expected = select(values, 0.4, scope="global")
    with torch.device("meta"):
        kept = select(values, 0.4, scope="global")
        assert select([2, 1], 0.5).tolist() == [True, False]
        mask = Mask.ones(net) & unit_mask(net, {"0": kept["0"]}) & Mask({"0.bias": [1, 1, 1, 1]})
    assert all(torch.equal(kept[layer], expected[layer]) for layer in values)
    assert mask == Mask.ones(net) & unit_mask(net, {"0": expected["0"]})


scores = st.lists(st.integers(-2, 2), min_size=0, max_size=12).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)
fractions = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])


def naive(layers, number, least):
    """Remove the lowest scores one by one, passing over layers that would get too small."""
    kept = [[True] * len(values) for values in layers]
    order = sorted((v, i, k) for i, values in enumerate(layers) for k, v in enumerate(values))
    for _, layer, k in order:
        if number and sum(kept[layer]) > least:
            kept[layer][k], number = False, number - 1
    return None if number else kept


@given(scores, fractions, st.integers(0, 2))
def test_select_removes_exactly_the_lowest(values, fraction, least):
    number = math.floor(fraction * len(values) + 0.5)
    expected = naive([values.tolist()], number, least)
    if expected is None:
        with pytest.raises(ValueError, match=f"removes {number} of {len(values)}"):
            select(values, fraction, least=least)
    else:
        assert select(values, fraction, least=least).tolist() == expected[0]


@given(st.lists(scores, min_size=1, max_size=4), fractions, st.integers(0, 2))
def test_select_over_all_layers(layers, fraction, least):
    named = {f"layer{i}": values for i, values in enumerate(layers)}
    total = sum(map(len, layers))
    number = math.floor(fraction * total + 0.5)
    expected = naive([values.tolist() for values in layers], number, least)
    if expected is None:
        with pytest.raises(ValueError, match="to empty layers on purpose, say least=0"):
            select(named, fraction, scope="global", least=least)
        return
    kept = select(named, fraction, scope="global", least=least)
    assert list(kept) == list(named)
    assert [keep.tolist() for keep in kept.values()] == expected
    assert sum(int(keep.sum()) for keep in kept.values()) == total - number


def test_select_layer_by_layer_and_of_any_shape():
    named = {"0": normal(4, 2), "2": normal(3)}
    kept = select(named, 0.5)
    assert {name: keep.shape for name, keep in kept.items()} == {"0": (4, 2), "2": (3,)}
    for name, values in named.items():
        assert torch.equal(kept[name], select(values, 0.5))
    assert [int((~keep).sum()) for keep in kept.values()] == [4, 2]  # 1.5 is rounded up
    assert select({}, 0.5, scope="global") == {}


def test_select_keeps_the_order_of_ties_and_infinities():
    assert select(torch.zeros(5), 0.4).tolist() == [False, False, True, True, True]
    assert select(torch.tensor([math.inf, 1, -math.inf]), 2 / 3).tolist() == [True, False, False]
    assert select(torch.tensor([3, 1, 2]), 1 / 3).tolist() == [True, False, True]


@pytest.mark.parametrize("least", [0, 1, 30])
def test_ties_among_many_entries_go_in_order(least):
    """Beyond 16 entries a sort that is not stable mixes ties."""
    values = {"0": torch.arange(600) % 3, "2": torch.arange(300) % 3}
    kept = select(values, 0.5, scope="global", least=least)
    expected = naive([v.tolist() for v in values.values()], 450, least)
    assert [keep.tolist() for keep in kept.values()] == expected
    assert select(torch.zeros(600), 0.5, least=least).tolist() == [False] * 300 + [True] * 300


def stable(values, number):
    """Which of many values stay when the lowest go, those first among equals."""
    kept = torch.ones(len(values), dtype=torch.bool)
    kept[values.sort(stable=True).indices[:number]] = False
    return kept


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_many_entries_of_which_many_are_equal(share, dtype):
    values = (8 * normal(20_000, seed=1)).to(dtype)
    values[normal(20_000, seed=2).abs() < normal(20_000, seed=3).abs() * share] = -100
    for number in (1, 100, 4_000, 16_001, 19_996):
        kept = stable(values, number)
        assert torch.equal(select(values, number / 20_000), kept)
        parts = select(dict(enumerate(values.split(5_000))), number / 20_000, scope="global")
        if all(part.any() for part in kept.split(5_000)):  # else each part keeps its best one
            assert torch.equal(torch.cat([*parts.values()]), kept)
        assert sum(int((~part).sum()) for part in parts.values()) == number


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_select_stays_on_the_gpu_and_says_the_same(dtype):
    values = dict(enumerate((8 * normal(20_000, seed=1)).to(dtype).split(5_000)))
    for scope, least in (("layer", 1), ("global", 1), ("global", 0), ("global", 900)):
        for fraction in (0, 0.1, 0.5, 0.79):
            options = {"scope": scope, "least": least}
            here = select(values, fraction, **options)
            there = select({n: v.cuda() for n, v in values.items()}, fraction, **options)
            assert all(part.is_cuda for part in there.values())
            assert all(torch.equal(there[n].cpu(), part) for n, part in here.items())


def test_scores_may_be_lists_and_arrays():
    for values in ([3, 1, 2, 0.5], np.array([3, 1, 2, 0.5]), torch.tensor([3, 1, 2, 0.5]).half()):
        assert select(values, 0.5).tolist() == [True, False, True, False]
        assert select({"0": values}, 0.5, scope="global")["0"].tolist() == [1, 0, 1, 0]


def test_an_emptied_layer_needs_a_word():
    assert not select(torch.arange(3.0), 1, least=0).any()
    with pytest.raises(ValueError, match="least=0"):
        select(torch.arange(3.0), 1)
    lopsided = {"0": torch.zeros(2), "2": torch.ones(4)}
    kept = select(lopsided, 0.5, scope="global")
    assert [keep.tolist() for keep in kept.values()] == [[False, True], [False, False, True, True]]
    kept = select(lopsided, 0.5, scope="global", least=0)
    assert [int(keep.sum()) for keep in kept.values()] == [0, 3]


@pytest.mark.parametrize(
    "values, arguments, words",
    [
        (torch.tensor([1, math.nan]), {}, "NaN"),
        (torch.tensor([1, 1j]), {}, "complex numbers; give every unit a real number"),
        (torch.ones(2), {"fraction": 1.1}, "fraction=1.1"),
        (torch.ones(2), {"fraction": -0.1}, "fraction=-0.1"),
        (torch.ones(2), {"fraction": math.nan}, "fraction=nan"),
        (torch.ones(2), {"least": -1}, "least=-1"),
        (torch.ones(2), {"scope": "net"}, "scope is 'net'"),
        ({"0": torch.ones(2), "2": torch.tensor([math.nan])}, {"scope": "global"}, "'2' hold NaN"),
    ],
)
def test_bad_selections(values, arguments, words):
    with pytest.raises(ValueError, match=words):
        select(values, **{"fraction": 0.5, **arguments})
