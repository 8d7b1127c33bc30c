"""splinelib.cost: operations and bytes of a step, bounds on cards, images a second."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from networks import state, unchanged
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from splinelib import cost, nets
from splinelib.cost import measured as measuring
from splinelib.cost.bound import held_up

SHAPES = {"vgg16": (3, 32, 32), "preresnet20": (3, 32, 32), "resnet18": (3, 32, 32)}


def small(name):
    """A network of each kind, narrow where it can be."""
    options = {"small": True} if name == "resnet18" else {"width": 0.25}
    return nets.build(name, 10, **options)


def real_step(net, shape, batch):
    """FLOPs, and bytes kept for the backward pass, of a step with numbers."""
    kept = {}
    own = {p.data_ptr() for p in net.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = F.cross_entropy(net(torch.zeros(batch, *shape)), torch.zeros(batch).long())
        loss.backward()
    return counter.get_total_flops(), sum(s.nbytes() for a, s in kept.items() if a not in own)


@pytest.mark.parametrize("name", SHAPES)
def test_a_step_does_and_keeps_what_a_real_step_does(name):
    net, shape = small(name), SHAPES[name]
    step = cost.training_step(net, shape, 4, half=False)
    flops, kept = real_step(net, shape, 4)
    assert step.flops == flops
    assert step.kept == pytest.approx(kept, rel=1e-3)  # the loss keeps a few numbers more or less


@pytest.mark.parametrize("name", SHAPES)
def test_the_ledger_books_one_gradient_more(name):
    net, shape = small(name), SHAPES[name]
    first = next(iter(cost.layer_macs(net, shape).values()))
    ledger = cost.Ledger()
    ledger.train(cost.macs(net, shape), 4)
    assert ledger.total - cost.training_step(net, shape, 4).flops == 2 * first * 4


def chain(inplace=False):
    """Convolution, BatchNorm, ReLU, pooling, Linear."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 3),
    )  # fmt: skip


@pytest.mark.parametrize("inplace", [False, True])
def test_bytes_of_each_layer_by_hand(inplace):
    batch, size = 8, 4
    layers = cost.training_step(chain(inplace), (2, 8, 8), batch, half=False).layers()
    x, z = batch * 2 * 64, batch * 4 * 64  # entries of the images, of the convolution's output
    filters, pooled = 4 * 2 * 9, batch * 4 * 16
    # forward reads x and filters, writes z; backward reads both and the gradient, writes filters'
    assert layers["0"][1] == size * (x + filters + z) + size * (x + filters + z + filters)
    assert layers["2"][1] == size * 2 * z + size * 3 * z  # gradient and output in, gradient out
    # the largest entries' places are whole numbers of 8 bytes
    pool = size * (z + pooled) + 8 * pooled
    assert layers["3"][1] == pool + size * (pooled + 2 * z) + 8 * pooled
    assert "4" not in layers  # Flatten only looks
    statistics = layers["1"][1] - size * (2 * z + 3 * z)
    assert 0 < statistics < 4 * 30 * size  # a few numbers a channel
    assert layers["5"][0] == 3 * 2 * batch * 64 * 3


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_grouped_convolutions_by_hand(kind, groups):
    """Each of 8 outputs reads 8 / groups channels, in the forward pass and for two gradients."""
    net = nn.Sequential(
        nn.Conv2d(2, 8, 1), kind(8, 8, 3, stride=2, groups=groups), nn.Flatten(), nn.LazyLinear(3)
    )
    net(torch.zeros(2, 2, 9, 9))
    flops, _ = cost.training_step(net, (2, 9, 9), batch=4).layers()["1"]
    places = 4 * 4 if kind is nn.Conv2d else 9 * 9  # at which the filters are laid
    once = 2 * 4 * places * 8 * (8 // groups) * 9
    assert flops == 3 * once


def test_a_depthwise_network_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.ReLU(),
        nn.Conv2d(6, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    first, depthwise, pointwise, last = 64 * 6 * 27, 64 * 6 * 9, 64 * 4 * 6, 8
    macs = 2 * first + 3 * (depthwise + pointwise + last)  # the images need no gradient
    assert cost.training_step(net, (3, 8, 8), batch=5).flops == 2 * 5 * macs


def test_layers_sum_up_and_nothing_of_a_chain_is_left_over():
    net = small("vgg16")
    step = cost.training_step(net, (3, 32, 32), 4)
    layers = step.layers()
    assert sum(flops for flops, _ in layers.values()) == step.flops
    assert sum(moved for _, moved in layers.values()) == step.moved
    paths = [path for path, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.ReLU)]
    assert set(paths) < set(layers)
    macs = cost.layer_macs(net, (3, 32, 32))
    for path in paths[2:]:
        assert layers[path][0] == 3 * 2 * 4 * macs.get(path, 0)
    backward = [o for o in step.operations if "backward" in o.name and not o.layer]
    assert all(o.moved < 2000 for o in backward)  # the loss alone


def test_half_the_bits_move_half_the_bytes_of_activations():
    net = chain()
    half, full = (cost.training_step(net, (2, 8, 8), 64, half=h) for h in (True, False))
    assert half.layers()["2"][1] * 2 == full.layers()["2"][1]
    assert half.flops == full.flops
    weights = sum(p.numel() for p in net.parameters())
    # reads weight, gradient, momentum, writes weight and momentum; and back and forth two casts
    assert full.operations[-1].moved == (3 + 2) * 4 * weights
    assert half.operations[-1].moved == ((3 + 2) * 4 + (4 + 2) + (2 + 4)) * weights
    assert full.memory == full.kept + 12 * weights
    assert half.memory == half.kept + 14 * weights


def test_twice_the_images_twice_the_work():
    one, two = (cost.training_step(small("preresnet20"), (3, 32, 32), b) for b in (8, 16))
    assert two.flops == 2 * one.flops
    assert len(two.operations) == len(one.operations)
    assert 1.9 * one.moved < two.moved < 2 * one.moved  # weights are read once


def test_frozen_layers_are_not_trained():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    _ = net[0].requires_grad_(False)
    step = cost.training_step(net, (4,), 10)
    assert step.layers()["0"][0] == 2 * 10 * 32
    assert step.weights == 18
    with pytest.raises(ValueError, match="no parameter that needs a gradient"):
        cost.training_step(net.requires_grad_(False), (4,), 10)


def test_a_step_changes_nothing():
    net = small("resnet18")
    before, random = state(net), torch.random.get_rng_state()
    cost.training_step(net, (3, 32, 32), 2)
    unchanged(net, before)
    assert torch.equal(random, torch.random.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("shape", "batch", "words"),
    [((3, 32, 32), 1, "at least 2"), ((3, 32, 32), 2.5, "whole"), ((5, 32, 32), 4, "does not run")],
)
def test_steps_that_are_refused(shape, batch, words):
    with pytest.raises(ValueError, match=words):
        cost.training_step(small("vgg16"), shape, batch)


# --- bounds -------------------------------------------------------------------------------------

SLOW = cost.Card("slow", flops=1e9, bandwidth=1e9, memory=10**9)


@pytest.fixture(scope="module")
def step():
    return cost.training_step(nets.vgg16(), (3, 32, 32), 256)


def test_an_operation_takes_the_largest_of_three_times():
    product = cost.Operation("", "mm", flops=3 * 10**9, moved=10**9)
    copied = cost.Operation("", "copy_", flops=0, moved=2 * 10**9)
    assert held_up(product, SLOW) == ("compute", 3.0)
    assert held_up(copied, SLOW) == ("memory", 2.0)
    assert held_up(copied, SLOW, launch=5.0) == ("launch", 5.0)


def test_bounds_by_hand():
    operations = (
        cost.Operation("a", "mm", 4 * 10**9, 10**9),
        cost.Operation("b", "mm", 10**9, 3 * 10**9),
        cost.Operation("c", "relu", 0, 2 * 10**9),
    )
    made = cost.Step(images=10, operations=operations, kept=900, weights=10, half=True)
    found = cost.bound(made, images=20, epochs=3, card=SLOW, launch=2.5)  # six steps
    assert found.flops == 6 * 5 * 10**9
    assert found.floor == pytest.approx(6 * (4 + 3))
    assert found.plain == pytest.approx(6 * (4 + 3 + 2.5))
    assert found.causes == pytest.approx({"compute": 24, "memory": 18, "launch": 15})
    assert (found.binds, found.memory, found.fits) == ("compute", 1040, True)
    by_layer = cost.seconds_by_layer(made, SLOW, launch=2.5)
    assert by_layer == pytest.approx({"a": 4, "b": 3, "c": 2.5})
    free = cost.bound(made, 20, 3, SLOW, launch=0)
    assert free.plain == pytest.approx(6 * (4 + 3 + 2))


@pytest.mark.parametrize("card", cost.CARDS)
def test_floor_is_below_plain_and_above_the_peak(step, card):
    found = cost.bound(step, 50_000, 160, card)
    peak = found.flops / cost.CARDS[card].flops
    assert peak <= found.floor <= found.plain
    assert sum(found.causes.values()) == pytest.approx(found.plain)
    assert found.plain == pytest.approx(
        sum(cost.seconds_by_layer(step, card).values()) * 50_000 * 160 / 256
    )


def test_estimates_of_the_paper_s_networks(step):
    """A T4 in less than half an hour, an H100 in less than three minutes: VGG-16, dense."""
    assert cost.bound(step, 50_000, 160, "T4").plain < 30 * 60
    assert cost.bound(step, 50_000, 160, "H100").plain < 3 * 60
    whole = cost.estimate(nets.vgg16(), (3, 32, 32), images=50_000, epochs=160, card="T4")
    assert whole == cost.bound(step, 50_000, 160, "T4")
    deep = cost.training_step(nets.preresnet(101), (3, 32, 32), 256)
    assert deep.flops < step.flops / 2  # and yet it moves more bytes
    assert deep.moved > 6 * step.moved
    assert cost.bound(deep, 50_000, 160, "H100").binds == "memory"


def test_two_trainings_on_one_card(step):
    half = cost.training_step(nets.vgg16(width=0.5), (3, 32, 32), 256)
    dense, pruned = (cost.bound(s, 50_000, 80, "T4") for s in (step, half))
    both = dense + pruned
    assert both.flops == dense.flops + pruned.flops
    assert both.floor == pytest.approx(dense.floor + pruned.floor)
    assert sum(both.causes.values()) == pytest.approx(both.plain)
    assert both.memory == dense.memory
    with pytest.raises(ValueError, match="two cards"):
        dense + cost.bound(half, 50_000, 80, "L4")
    assert dense.__add__(3) is NotImplemented


def test_what_does_not_fit():
    step = cost.training_step(nets.resnet(50), (3, 224, 224), 256)
    assert not cost.bound(step, 1000, 1, cost.Card("8 GB", 1e13, 1e11, 8 * 10**9)).fits
    assert cost.bound(step, 1000, 1, "A100").fits


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"card": "GTX 1080"}, "there are T4"),
        ({"launch": -1.0}, "give seconds"),
        ({"launch": math.nan}, "give seconds"),
        ({"epochs": 1.5}, "whole"),
        ({"images": -3}, "no cost is negative"),
    ],
)
def test_bounds_that_are_refused(step, options, words):
    with pytest.raises(ValueError, match=words):
        cost.bound(step, **{"images": 100, "epochs": 1, **options})


# Multiprocessors, 16-bit multiply-adds a clock of each (without sparsity), GHz; bits between memory
# and cores, Gbit/s of each; GB.
BUILT = {
    "T4": (40, 512, 1.59, 256, 10.0, 16),
    "L4": (58, 512, 2.04, 192, 12.5, 24),
    "A100": (108, 1024, 1.41, 5120, 2.43, 40),
    "H100": (132, 2048, 1.83, 5120, 5.23, 80),
    "H200": (132, 2048, 1.83, 6144, 6.25, 141),
}


@pytest.mark.parametrize("name", BUILT)
def test_cards_do_what_their_parts_do_together(name):
    processors, products, clock, wires, rate, memory = BUILT[name]
    card = cost.CARDS[name]
    assert card.flops == pytest.approx(processors * products * 2 * clock * 1e9, rel=0.005)
    assert card.bandwidth == pytest.approx(wires / 8 * rate * 1e9, rel=0.005)
    assert card.memory == memory * 10**9


def test_cards_say_where_their_numbers_are_from():
    for name, card in cost.CARDS.items():
        assert card.name == name
        assert "data sheet" in card.source
    assert not cost.CARDS.keys() ^ BUILT.keys()
    peaks = [card.flops for card in cost.CARDS.values()]
    assert peaks == sorted(peaks)
    with pytest.raises(ValueError, match="bandwidth of mine is 0"):
        cost.Card("mine", 1e12, 0, 10**9)


# --- measured -----------------------------------------------------------------------------------


def test_throughput_is_the_median_of_the_rounds_after_the_first(monkeypatch):
    seen = {}

    def train(net, source, recipe, *, speed):
        seen.update(epochs=recipe.epochs, steps=source.steps, images=source.images)
        return SimpleNamespace(log=[{"seconds": s} for s in (90.0, 1.0, 4.0, 2.0)])

    monkeypatch.setattr(measuring, "train", train)
    found = cost.throughput(small("vgg16"), (3, 32, 32), batch=10, steps=5, rounds=3)
    assert seen == {"epochs": 4, "steps": 5, "images": 50}
    assert found == 50 / 2.0


def test_throughput_of_real_steps_leaves_the_network_alone():
    net = nets.convnet((3, 8, 8), (4, 4), (3, 3), batch_norm=True, dtype=torch.float32)
    before = state(net)
    fast = cost.throughput(net, (3, 8, 8), 32, steps=3, rounds=2)
    unchanged(net, before)
    wide = nets.convnet((3, 8, 8), (64, 64), (3, 3), batch_norm=True, dtype=torch.float32)
    assert 0 < cost.throughput(wide, (3, 8, 8), 32, steps=3, rounds=2) < fast
    for name in ("steps", "rounds"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            cost.throughput(net, (3, 8, 8), 32, **{name: 0})


def test_hours():
    assert cost.hours(3600, 10, 10.0) == 1.0
    for wrong in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="images a second"):
            cost.hours(100, 1, wrong)


def test_a_card_that_is_measured_counts_what_was_done(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: 0.5 * next(ticks))
    card = cost.measured_card(size=8, megabytes=1, rounds=2)
    assert card.flops == 2 * 8**3 / 0.5
    assert card.bandwidth == 2 * 2**20 / 0.5
    assert card.memory > 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_memory_needed_at_least_is_needed():
    net = nets.preresnet(20).cuda()
    needed = cost.training_step(net, (3, 32, 32), 512).memory
    with cost.Meter() as meter:
        cost.throughput(net, (3, 32, 32), 512, steps=2, rounds=1)
    assert needed <= meter.peak_memory <= 4 * needed
