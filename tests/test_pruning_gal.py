"""splinelib.pruning.gal: soft masks against a discriminator."""

import planted
import pytest
import torch
from learning import network, source
from torch import nn
from training import gap

from splinelib.pruning.fista import FISTA
from splinelib.pruning.gal import _fold, _masked, _ones, gal
from splinelib.surgery import groups


def test_fista_finds_the_soft_threshold():
    wanted = torch.tensor([2.0, 1.0, 0.3, -0.7, 0.4]).double()
    masks = {"a": torch.ones(5, dtype=torch.float64, requires_grad=True)}
    fista = FISTA(masks, 0.5)
    for _ in range(2000):
        masks["a"].grad = masks["a"].detach() - wanted
        fista.step(0.1)
        assert (masks["a"] >= 0).all()
    assert torch.allclose(
        masks["a"].detach(), torch.tensor([1.5, 0.5, 0, 0, 0]).double(), atol=1e-4
    )


@pytest.mark.parametrize(("form", "residual"), [
    ("mlp", "inner"), ("convnet", "inner"), ("preresnet", "select"), ("preresnet", "joint"),
])  # fmt: skip
def test_soft_masks_fold_into_the_weights(form, residual):
    net, (x, _) = network(form), planted.inputs(form)
    found = groups(net, residual)
    masks, generator = _ones(net, found), torch.Generator().manual_seed(0)
    for mask in masks.values():
        mask.data.uniform_(0, 2, generator=generator)
    plain = net(x)
    with _masked(net, found, masks):
        soft = net(x)
    assert torch.equal(net(x), plain)
    assert (soft - plain).abs().max() > 1e-3
    _fold(net, found, masks)
    assert (net(x) - soft).abs().max() < 1e-10


@pytest.mark.parametrize("seed", [0, 1])
def test_gal_gives_useless_channels_the_smallest_masks(seed):
    net = nn.Sequential(nn.Flatten(), *planted.network("mlp", seed)).eval()
    net = planted.dead_in(net, "1", [1, 4, 5])
    more = {"sparsity": 0.2, "match": 10.0, "mask_lr": 0.01, "every": 1}
    ticket = gal(net, 3 / 16, source("mlp"), epochs=30, **more)
    assert planted.removed_units(ticket.mask, "1") == {1, 4, 5}
    assert planted.removed_units(ticket.mask, "3") == set()


def test_gal_looks_at_no_label_and_repeats_itself():
    class Unlabelled:
        classes, epoch_ = source().classes, source().epoch

        def epoch(self, number):
            return ((x, None) for x, _ in self.epoch_(number))

    one, two = (gal(network(), 0.5, given, epochs=2) for given in (source(), Unlabelled()))
    assert one.mask == two.mask
    assert gap(one.net, two.net) == 0


def test_the_masks_stand_where_batchnorm_does_not_undo_them():
    net, (x, _) = network().train(), planted.inputs("convnet")
    found = groups(net)
    masks = _ones(net, found)
    masks["4"].data[0] = 0.5
    plain = net(x)
    with _masked(net, found, masks):
        assert (net(x) - plain).abs().max() > 1e-3


def test_the_discriminator_alone_moves_the_student():
    net, still = network("mlp"), {"sparsity": 0.0, "match": 0.0, "weight_decay": 0.0}
    assert gap(gal(net, 0.5, source("mlp"), epochs=1, **still).net, net) > 1e-5


def test_gal_draws_dropout_from_its_seed():
    net = network("mlp")
    net = nn.Sequential(*net[:3], nn.Dropout(0.5), *net[3:]).eval()
    state, given = torch.random.get_rng_state(), source("mlp")
    one = gal(net, 0.5, given, epochs=1).net
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    two = gal(net, 0.5, given, epochs=1).net
    assert gap(one, two) == 0
    assert gap(one, gal(net, 0.5, given, epochs=1, seed=1).net) > 0


def test_gal_keeps_near_its_teacher():
    net, (x, _) = network("mlp"), planted.inputs("mlp", b=64, seed=5)
    given, far = source("mlp", n=96), []
    for match in (0.0, 10.0):
        more = {"mask_lr": 0.02, "every": 1}
        student = gal(net, 0.0, given, epochs=16, match=match, **more).net
        far.append((student(x) - net(x)).square().mean().item())
    assert far[1] < far[0] / 10
