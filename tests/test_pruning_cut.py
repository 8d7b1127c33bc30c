"""splinelib.pruning with splinelib.surgery: whatever a method removes, the small network agrees."""

import math

import pytest
import torch
from planted import settled

from splinelib import nets
from splinelib.pruning.family import Ticket, targets
from splinelib.pruning.grasp import grasp
from splinelib.pruning.l1 import l1
from splinelib.pruning.lottery import magnitude
from splinelib.pruning.random_units import random_units
from splinelib.pruning.slimming import slimming
from splinelib.pruning.snip import snip
from splinelib.pruning.synflow import synflow
from splinelib.pruning.thinet import thinet, thinet_ticket
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
