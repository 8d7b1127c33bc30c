"""splinelib.pruning with splinelib.surgery: whatever a method removes, the small network agrees."""

import math

import learning
import pytest
import torch
from planted import inputs, network, removed_units, settled
from torch import nn

from splinelib import nets, pruning
from splinelib.folding import fold_constants
from splinelib.merging import merge_all
from splinelib.pruning.family import Ticket, targets
from splinelib.pruning.grasp import grasp
from splinelib.pruning.l1 import l1
from splinelib.pruning.lottery import magnitude
from splinelib.pruning.random_units import random_units
from splinelib.pruning.slimming import slimming
from splinelib.pruning.snip import snip
from splinelib.pruning.synflow import synflow
from splinelib.pruning.thinet import thinet, thinet_ticket
from splinelib.pruning.weights import start
from splinelib.surgery import cut

SHAPES = {"mlp": (1, 8, 8), "convnet": (1, 8, 8), "vgg16": (3, 16, 16), "preresnet20": (3, 16, 16)}
UNITS = {"random": random_units, "l1": l1, "slimming": slimming, "thinet": thinet}
WEIGHTS = {"magnitude": magnitude, "snip": snip, "grasp": grasp, "synflow": synflow}
PAIRS = [(m, n) for m in UNITS for n in SHAPES if (m, n) != ("slimming", "mlp")]


def built(name):
    options = {"mlp": {"in_shape": (1, 8, 8), "hidden": [12, 9]}, "convnet": {"batch_norm": True}}
    net = nets.build(name, 5, dtype=torch.float64, **options.get(name, {"width": 0.125}))
    return settled(net.eval())


def batch(name, b=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, *SHAPES[name], dtype=torch.float64, generator=generator)
    return x, torch.arange(b) % 5


@torch.no_grad()
def agrees(net, mask, x):
    """The small network, after a check that its outputs are those of the masked one."""
    masked, small = mask.apply(net)(x), cut(net, mask).net
    torch.testing.assert_close(small(x), masked, rtol=0, atol=1e-12 * float(masked.abs().max() + 1))
    return small


def size(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("method, name", PAIRS)
def test_pruned_is_masked(method, name):
    net, (x, y) = built(name), batch(name)
    mask = UNITS[method](net, 0.5, *([x, y] if method == "thinet" else []))
    small = agrees(net, mask, x)
    assert size(small) < size(net)
    widths = {layer: len(small.get_submodule(layer).weight) for layer in targets(net)}
    entries = mask.entries
    assert widths == {n: int(entries[f"{n}.weight"].flatten(1).any(1).sum()) for n in widths}
    if method in ("random", "slimming"):  # these count over all layers
        total = sum(group.width for group in targets(net).values())
        assert sum(widths.values()) == total - math.floor(total / 2 + 0.5)


@pytest.mark.parametrize("residual", ["select", "joint"])
@pytest.mark.parametrize("method", UNITS)
def test_pruned_is_masked_on_the_residual_stream(method, residual):
    net, (x, y) = built("preresnet20"), batch("preresnet20")
    data = [x, y] if method == "thinet" else []
    mask = UNITS[method](net, 0.5, *data, residual=residual)
    small = agrees(net, mask, x)
    inner = cut(net, UNITS[method](net, 0.5, *data)).net
    assert size(small) < size(inner) < size(net)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("method", WEIGHTS)
def test_masks_of_weights_are_cut_where_nothing_is_left(method, name):
    net, (x, y) = built(name), batch(name)
    options = {"rounds": 3} if method == "synflow" else {}
    data = [] if method == "magnitude" else [x, y]
    small = agrees(net, WEIGHTS[method](net, 0.97, *data, **options), x)
    assert size(small) <= size(net)


def test_a_rescaled_ticket_is_cut():
    net, (x, _) = built("vgg16"), batch("vgg16")
    ticket = thinet_ticket(net, 0.5, x=x)
    assert isinstance(ticket, Ticket)
    torch.testing.assert_close(cut(*ticket).net(x), ticket.net(x))


# --- a network in training mode ---

TINY = {"population": 4, "sample": 2, "generations": 4}
READING = {  # running statistics count
    "spline": lambda net, x, y: pruning.spline(net, 0.5),
    "spline_scores": lambda net, x, y: pruning.spline_scores(net),
    "synflow": lambda net, x, y: pruning.synflow(net, 0.5, x, rounds=2),
    "thinet": lambda net, x, y: pruning.thinet(net, 0.5, x),
    "thinet_ticket": lambda net, x, y: pruning.thinet_ticket(net, 0.5, x=x).mask,
    "legr": lambda net, x, y: pruning.legr(net, 0.5, x, y, steps=1, **TINY),
    "gal": lambda net, x, y: pruning.gal(net, 0.5, learning.source(), epochs=1, every=3).mask,
    "fold_constants": lambda net, x, y: fold_constants(net),
    "merge_all": lambda net, x, y: merge_all(net),
}
EITHER = {  # they do not
    "slimming": lambda net, x, y: pruning.slimming(net, 0.5),
    "l1": lambda net, x, y: pruning.l1(net, 0.5),
    "random_units": lambda net, x, y: pruning.random_units(net, 0.5),
    "magnitude": lambda net, x, y: pruning.magnitude(net, 0.5),
    "snip": lambda net, x, y: pruning.snip(net, 0.5, x, y),
    "grasp": lambda net, x, y: pruning.grasp(net, 0.5, x, y),
    "spline, beta": lambda net, x, y: pruning.spline(net, 0.5, bias="beta"),
    "spline, none": lambda net, x, y: pruning.spline(net, 0.5, bias="none"),
}
TRAINING = {  # they train it themselves
    "lottery": {},
    "eb_spline": {"probe": inputs("convnet")[0]},
    "eb_train": {},
    "iterative": {"rounds": 2},
    "sfp": {},
    "gdp": {"period": 2},
    "rigl": {"period": 2},
    "c_sgd": {"strength": 8.0},
    "metapruning": {**dict(zip("xy", inputs("convnet"), strict=True)), "iterations": 1},
}
OTHERS = {"CSGD", "GDP", "SFP", "Held", "RigL", "Scope", "Ticket", "first_epoch", "start"}


def trained(net, name):
    """The ticket of a method that trains."""
    fit = learning.fit(recipe=learning.PLAIN if name == "c_sgd" else learning.SHORT)
    return getattr(pruning, name)(net, 0.5, fit, **TRAINING[name])


def test_every_method_is_tried_in_training_mode():
    assert {*pruning.__all__} - OTHERS <= {*READING, *EITHER, *TRAINING}


@pytest.mark.parametrize("name", READING)
def test_running_statistics_that_count_are_asked_for(name):
    net, (x, y) = network("convnet"), inputs("convnet")
    net[5].train()  # the second of two BatchNorms
    with pytest.raises(ValueError, match=r"'5' \(BatchNorm2d\) is in training mode.*net\.eval\(\)"):
        READING[name](net, x, y)
    assert net[5].training
    net[5].eval()
    net[6].train()  # of a ReLU the mode does not matter
    assert READING[name](net, x, y)


@pytest.mark.parametrize("name", EITHER)
def test_the_mode_does_not_matter_where_running_statistics_do_not(name):
    net, (x, y) = network("convnet"), inputs("convnet")
    assert EITHER[name](net, x, y) == EITHER[name](network("convnet").train(), x, y)


@pytest.mark.parametrize("name", TRAINING)
def test_methods_that_train_begin_with_a_fresh_network(name):
    net = nets.convnet((2, 8, 8), (6, 8), (3, 3), 3, batch_norm=True)
    assert net.training
    ticket = trained(net, name)
    assert net.training
    assert int(net[1].num_batches_tracked) == 0
    assert 0 < ticket.mask.kept < ticket.mask.total


@pytest.mark.parametrize("training", [False, True])
def test_a_cut_network_agrees_in_the_mode_that_it_has(training):
    net, (x, _) = network("preresnet").train(training), inputs("preresnet")
    mask = pruning.l1(net, 0.5)
    masked, small = mask.apply(net), cut(net, mask).net
    assert all(m.training is training for m in small.modules())
    torch.testing.assert_close(small(x), masked(x), rtol=0, atol=1e-12)
    agrees(net.eval(), mask, x)


@pytest.mark.parametrize("name", sorted({*READING, *EITHER, *TRAINING}))
def test_a_network_without_numbers_is_refused(name):
    net, (x, y) = network("convnet").to("meta"), inputs("convnet")
    call = {**READING, **EITHER}.get(name, lambda net, x, y: trained(net, name))
    with pytest.raises(ValueError, match=r"'0\.weight' is on the meta device"):
        call(net, x, y)
    with pytest.raises(ValueError, match=r"'0\.weight' is on the meta device"):
        cut(net, pruning.l1(network("convnet"), 0.5))


@pytest.mark.parametrize("method", [pruning.spline, pruning.l1, pruning.slimming])
def test_selections_where_there_is_no_place_for_them(method):
    net = nets.resnet(18, 5, small=True)  # BatchNorms in front of the sums
    with pytest.raises(ValueError, match=r"'select'.*ResNet has none.*PreResNets.*'joint'"):
        method(settled(net.eval()), 0.5, residual="select")


def test_a_layer_behind_fixed_numbers_is_told():
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Unflatten(1, (2, 4)), nn.Flatten(),
                        nn.Linear(8, 2))  # fmt: skip
    with pytest.raises(ValueError, match=r"written out \(write x\.flatten\(1\)\)"):
        pruning.l1(net, 0.5)


class Summed(nn.Module):
    """Two layers of six channels that meet in a sum, which is read or is the output."""

    def __init__(self, read=True):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(2, 6, 1)
        self.last = nn.Linear(6, 3) if read else nn.Identity()

    def forward(self, x):
        return self.last(torch.relu(self.a(x) + self.b(x)).mean((2, 3)))


def test_a_sum_that_keeps_all_channels_is_told():
    with pytest.raises(ValueError, match=r"written by 'a', 'b',.*='joint' finds 1 group; give"):
        pruning.l1(Summed().eval(), 0.5)
    mask = pruning.l1(Summed().eval(), 0.5, residual="joint")  # the way out is one
    assert removed_units(mask, "a") == removed_units(mask, "b")
    assert len(removed_units(mask, "a")) == 3
    for residual in ("inner", "joint"):  # where there is none, none is named
        with pytest.raises(ValueError, match="has no channels") as told:
            pruning.l1(Summed(read=False).eval(), 0.5, residual=residual)
        assert "'joint' finds" not in str(told.value)
        assert ("written by 'a', 'b'" in str(told.value)) == (residual == "inner")


@pytest.mark.parametrize("method", {**READING, **EITHER})
def test_a_name_is_no_network(method):
    with pytest.raises(ValueError, match="net is 'vgg16', but must be a network"):
        {**READING, **EITHER}[method]("vgg16", *inputs("convnet"))


@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_without_batchnorm_no_mode_is_asked_for(name):
    net = nets.mlp([6, 8, 3]) if name == "mlp" else nets.convnet((2, 8, 8), (6, 8), (3, 3), 3)
    assert pruning.spline(net.train(), 0.5) == pruning.spline(net.eval(), 0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", [*UNITS, *WEIGHTS])
def test_masks_of_a_network_on_a_gpu(method):
    net, (x, y) = built("convnet"), batch("convnet")
    call = {**UNITS, **WEIGHTS}[method]
    data = [x, y] if method in ("thinet", "snip", "grasp", "synflow") else []
    here = call(net, 0.5, *data)
    there = call(net.cuda(), 0.5, *(part.cuda() for part in data))
    assert there.counts() == here.counts()
    differ = sum(int((a != there.entries[n]).sum()) for n, a in here.entries.items())
    assert differ <= 0.02 * here.total  # equal but for scores that rounding swaps
    agrees(net, there, x.cuda())


@pytest.mark.parametrize("alpha", [0.5, -1.0])
def test_reinit_draws_for_the_slope_behind_a_layer(alpha):
    """The deviation that keeps the mean square of what comes out: 2 / (1 + alpha^2) a weight."""
    net = nets.build("mlp", 10, in_shape=(100,), hidden=(200, 200), alpha=alpha)
    plan = cut(net, pruning.l1(net, 0.5, scope="layerwise")).plan
    small = start(net, net, plan, "reinit", rule="mlp")
    for layer in (small[1], small[3]):
        assert layer.weight.shape == (100, 100)
        found = float(layer.weight.detach().square().mean())
        assert found == pytest.approx(2 / (1 + alpha**2) / 100, rel=0.06)
