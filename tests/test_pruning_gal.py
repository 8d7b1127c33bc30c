"""splinelib.pruning.gal: soft masks against a discriminator."""

import planted
import pytest
import torch
from learning import images, network, source
from torch import nn
from training import Interrupted, InterruptedRunError, gap

from splinelib.data import Batches
from splinelib.pruning.adversary import Game
from splinelib.pruning.fista import FISTA
from splinelib.pruning.gal import _clear, contest, gal
from splinelib.pruning.memory import Memory
from splinelib.pruning.soft_masks import fold, masked, ones
from splinelib.surgery import cut, groups
from splinelib.surgery.groups import group_mask


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


def test_a_mask_covers_all_entries_of_its_channel():
    """Behind a Flatten, a BatchNorm has one entry for each pixel of a channel."""
    layers = [nn.Conv2d(2, 3, 7), nn.Flatten(), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 2)]
    net, x = planted.settled(nn.Sequential(*layers).double().eval()), planted.inputs("convnet")[0]
    found = groups(net)
    with masked(net, found, {"0": torch.tensor([1.0, 0.0, 2.0]).double()}):
        soft = net(x)
    fold(net, found, {"0": torch.tensor([1.0, 0.0, 2.0]).double()})
    assert torch.equal(net[2].weight == 0, torch.arange(12) // 4 == 1)
    assert (net(x) - soft).abs().max() < 1e-12


@pytest.mark.parametrize(("form", "residual"), [
    ("mlp", "inner"), ("convnet", "inner"), ("preresnet", "select"), ("preresnet", "joint"),
])  # fmt: skip
def test_soft_masks_fold_into_the_weights(form, residual):
    net, (x, _) = network(form), planted.inputs(form)
    found = groups(net, residual)
    masks, generator = ones(net, found), torch.Generator().manual_seed(0)
    for mask in masks.values():
        mask.data.uniform_(0, 2, generator=generator)
    plain = net(x)
    with masked(net, found, masks):
        soft = net(x)
    assert torch.equal(net(x), plain)
    assert (soft - plain).abs().max() > 1e-3
    fold(net, found, masks)
    assert (net(x) - soft).abs().max() < 1e-10


class Block(nn.Module):
    """Two paths that meet; which of them passes a BatchNorm, its kind says."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 4, 1)
        self.bn, self.c, self.d = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        z = self.a(x)
        if self.kind == "shortcut without BatchNorm":
            z = self.c((self.bn(z) + self.b(x)).relu())
        elif self.kind == "read raw and through a BatchNorm":
            z = self.c(self.bn(z).relu()) + self.d(z)
        else:  # a block with its BatchNorm in front, whose shortcut is a convolution of the stream
            z = z + self.b(x)
            z = self.c(self.bn(z).relu()) + self.d(z)
        return self.last(z.relu().mean((2, 3)))


BLOCKS = ("shortcut without BatchNorm", "read raw and through a BatchNorm", "raw shortcut conv")


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_soft_mask_of_0_is_the_mask(kind):
    """On every path on which a channel leaves its group; and folded masks do what masks did."""
    torch.manual_seed(0)
    net, x = planted.settled(Block(kind).double().eval()), planted.inputs("convnet")[0]
    found = groups(net, "joint")
    masks = ones(net, found)
    name = "a"
    with torch.no_grad():
        masks[name][[0, 2]] = 0
    keep = {name: masks[name] != 0}
    with masked(net, found, masks):
        soft = net(x)
    assert (soft - net(x)).abs().max() > 1e-3
    assert (soft - group_mask(net, found, keep).apply(net)(x)).abs().max() < 1e-12
    with torch.no_grad():
        masks[name].copy_(torch.tensor([0.3, 1.7, 0.0, 0.8]))
    with masked(net, found, masks):
        soft = net(x)
    fold(net, found, masks)
    assert (net(x) - soft).abs().max() < 1e-12


@pytest.mark.parametrize("kind", BLOCKS)
def test_gal_cuts_what_its_student_does_without(kind):
    torch.manual_seed(0)
    net, x = planted.settled(Block(kind).double().eval()), planted.inputs("convnet")[0]
    ticket = gal(net, 0.5, source(), epochs=2, every=2, residual="joint")
    assert (cut(*ticket).net(x) - ticket.net(x)).abs().max() < 1e-12


def test_a_mask_without_a_place_is_refused():
    layers = [nn.Conv2d(2, 3, 7), nn.BatchNorm2d(3, affine=False), nn.Flatten(), nn.Linear(12, 2)]
    net = nn.Sequential(*layers).double().eval()
    with pytest.raises(ValueError, match=r"'1' has no weight .*affine=True"):
        fold(net, groups(net), ones(net, groups(net)))


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
        classes, steps, epoch_ = source().classes, source().steps, source().epoch

        def epoch(self, number, start):
            return ((x, None) for x, _ in self.epoch_(number, start))

    one, two = (gal(network(), 0.5, given, epochs=2) for given in (source(), Unlabelled()))
    assert one.mask == two.mask
    assert gap(one.net, two.net) == 0


def test_the_masks_stand_where_batchnorm_does_not_undo_them():
    net, (x, _) = network().train(), planted.inputs("convnet")
    found = groups(net)
    masks = ones(net, found)
    masks["4"].data[0] = 0.5
    plain = net(x)
    with masked(net, found, masks):
        assert (net(x) - plain).abs().max() > 1e-3


def test_the_discriminator_alone_moves_the_student():
    net, still = network("mlp"), {"sparsity": 0.0, "match": 0.0, "weight_decay": 0.0, "every": 3}
    assert gap(gal(net, 0.5, source("mlp"), epochs=1, **still).net, net) > 1e-5


def test_gal_draws_dropout_from_its_seed():
    net = network("mlp")
    net = nn.Sequential(*net[:3], nn.Dropout(0.5), *net[3:]).eval()
    state, given = torch.random.get_rng_state(), source("mlp")
    one = gal(net, 0.5, given, epochs=1, every=3).net
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    two = gal(net, 0.5, given, epochs=1, every=3).net
    assert gap(one, two) == 0
    assert gap(one, gal(net, 0.5, given, epochs=1, every=3, seed=1).net) > 0


def test_dropout_draws_anew_in_each_step(monkeypatch):
    """Each step by its own seed: numbers drawn in it are none of another step, nor of a rerun."""
    drawn = []
    kept = Game.ready
    monkeypatch.setattr(Game, "ready", lambda *a: (drawn.append(torch.rand(1).item()), kept(*a))[1])
    gal(network("mlp"), 0.5, source("mlp"), epochs=2)
    first, drawn[:] = list(drawn), []
    gal(network("mlp"), 0.5, source("mlp"), epochs=2)
    assert drawn == first
    assert len(set(first)) == 6


def test_the_penalty_is_four_tenths_of_the_ratio():
    net, given = network("mlp"), source("mlp")
    one, two, other = (gal(net, 0.5, given, epochs=2, sparsity=s).net for s in (None, 0.2, 0.02))
    assert gap(one, two) == 0
    assert gap(one, other) > 1e-4


def test_gal_keeps_near_its_teacher():
    net, (x, _) = network("mlp"), planted.inputs("mlp", b=64, seed=5)
    given, far = source("mlp", n=96), []
    for match in (0.0, 10.0):
        more = {"mask_lr": 0.02, "every": 1}
        student = gal(net, 0.0, given, epochs=16, match=match, **more).net
        far.append((student(x) - net(x)).square().mean().item())
    assert far[1] < far[0] / 10


def game(form="convnet", **settings):
    net = network(form)
    found = groups(net)
    rates = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0}
    return net, found, Game(net, found, 3, **{"sparsity": 0.1, "seed": 0} | settings,
                            **rates)  # fmt: skip


def test_the_discriminator_learns_to_tell_student_from_teacher():
    """Against a student that cannot move and is not the teacher."""
    _, found, play = game("mlp")
    x, _ = planted.inputs("mlp", b=64)
    x = x.reshape(64, 1, 1, 6)
    for mask in play.masks.values():
        mask.data.fill_(0.2)
    start = {name: value.clone() for name, value in play.judge.state_dict().items()}
    rates = play.optimizers[1]
    rates.step = lambda: None
    with masked(play.student, found, play.masks):
        for _ in range(60):
            contest(play, x, 1.0, 0.1)
        told = play.judge(play.teacher(x)).mean() - play.judge(play.student(x)).mean()
    assert told > 0.5
    assert all(not torch.equal(start[n], value) for n, value in play.judge.state_dict().items())


def test_losses_of_both_players_by_hand():
    """The discriminator's has three terms; the student's comes after its step."""
    _, found, play = game("mlp")
    x = planted.inputs("mlp")[0].reshape(8, 1, 1, 6)
    play.masks["1"].data.fill_(0.5)
    play.optimizers[1].step = lambda: None
    with masked(play.student, found, play.masks):
        made, real = play.student(x).detach(), play.teacher(x)
        says = lambda z: torch.nn.functional.softplus(play.judge(z)).mean()  # noqa: E731
        loss = says(real) - play.judge(real).mean() + 2 * says(made) - play.judge(made).mean()
        wanted = torch.autograd.grad(loss, list(play.judge.parameters()))
        before = [p.detach().clone() for p in play.judge.parameters()]
        contest(play, x, 0.7, 0.01)
        for old, new, gradient in zip(before, play.judge.parameters(), wanted, strict=True):
            assert torch.allclose(new, old - 0.01 * gradient, atol=1e-12)
        made = play.student(x)
        loss = 0.7 * (made - real).square().mean()
        loss = loss + torch.nn.functional.softplus(-play.judge(made)).mean()
        for mask in play.masks.values():
            wanted = torch.autograd.grad(loss, mask, retain_graph=True)[0]
            assert torch.allclose(mask.grad, wanted, atol=1e-12)


def test_the_teacher_goes_by_its_statistics():
    """Far from the batch's own: a teacher in training mode would give other logits, and learn."""
    net, found, play = game()
    x = 3 * planted.inputs("convnet", b=16)[0] + 2
    state = {name: value.clone() for name, value in play.teacher.state_dict().items()}
    seen = []
    play.judge.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    with masked(play.student, found, play.masks):
        contest(play, x, 1.0, 0.01)
    assert any(torch.equal(given, net.eval()(x)) for given in seen)
    assert all(torch.equal(state[n], value) for n, value in play.teacher.state_dict().items())
    assert play.student.training


def test_the_student_does_without_what_goes_at_the_end():
    """So the cut network is the student, however weak the penalty is, with one early update, too.

    The seventh of 12 steps is in front of the last third, from which on all have gone.
    """
    for ratio, sparsity, every in ((0.3, None, 2), (0.8, None, 2), (0.8, 0.0, 2), (0.5, None, 7)):
        ticket = gal(network(), ratio, source(), epochs=4, sparsity=sparsity, every=every)
        x = planted.inputs("convnet")[0]
        assert (cut(*ticket).net(x) - ticket.net(x)).abs().max() < 1e-10
        zero = [int((ticket.net[place].weight == 0).sum()) for place in (1, 5)]
        assert sum(zero) == round(ratio * 14)


def test_clearing_takes_the_smallest_and_leaves_one_of_a_layer():
    masks = {"a": torch.tensor([0.1, 0.2]), "b": torch.tensor([0.9, 0.3, 0.8, 0.7])}
    _clear(masks, 0.0)
    assert (masks["a"] > 0).all()
    _clear(masks, 0.5)
    assert torch.equal(masks["a"], torch.tensor([0.0, 0.2]))
    assert torch.equal(masks["b"], torch.tensor([0.9, 0.0, 0.8, 0.0]))


@pytest.mark.parametrize("wild", [{"lr": 1e6}, {"mask_lr": 1e200}])
def test_wild_rates_are_told(wild):
    with pytest.raises(ValueError, match="not finite, or all its masks are 0: lower lr"):
        gal(network("mlp"), 0.5, source("mlp"), epochs=10, every=1, **wild)


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_goes_on_after_an_interruption_with_the_same_bits(tmp_path, steps):
    """Within an epoch of three steps, at its end, and between updates of the masks."""
    net = nn.Sequential(*network()[:-1], nn.Dropout(0.5), network()[-1]).eval()
    settings = {"epochs": 3, "every": 2}
    whole = gal(net, 0.5, source(), **settings)
    with pytest.raises(InterruptedRunError):
        gal(net, 0.5, source(), **settings, memory=Interrupted(tmp_path / "gal.pt", steps))
    again = gal(net, 0.5, source(), **settings, memory=Memory(tmp_path / "gal.pt"))
    assert again.mask == whole.mask
    assert gap(again.net, whole.net) == 0
    with pytest.raises(ValueError, match="ratio is 0.4, in the checkpoint 0.5"):
        gal(net, 0.4, source(), **settings, memory=Memory(tmp_path / "gal.pt"))


@pytest.mark.parametrize("other", [
    {"batch": 24}, {"seed": 1}, {"shuffle": False}, {"augment": "crop", "pad": 1},
])  # fmt: skip
def test_a_memory_of_other_batches_is_refused(tmp_path, other):
    given = {"batch": 16, "dtype": torch.float64}
    gal(
        network(),
        0.5,
        Batches(images(), **given),
        epochs=1,
        every=2,
        memory=Memory(tmp_path / "m", 0),
    )
    again = Batches(images(), **given | other)
    with pytest.raises(ValueError, match=f"images.{next(iter(other))} is .*, in the checkpoint"):
        gal(network(), 0.5, again, epochs=1, every=2, memory=Memory(tmp_path / "m", 0))


def frozen():
    return network().requires_grad_(False)


@pytest.mark.parametrize(("net", "settings", "told"), [
    (network, {"ratio": 0.95}, "ratio=0.95 removes 13 of 14 channels, but only 12"),
    (network, {"epochs": 2.5}, "epochs is 2.5; give a number of whole epochs"),
    (network, {"every": 2.5}, "every=2.5.* whole number"),
    (network, {"epochs": 1, "every": 4}, "one update in the 3 steps"),
    (network, {"momentum": -1}, r"momentum is -1; give a number in \[0, 1\)"),
    (network, {"lr": float("nan")}, "lr is nan; give a number above 0"),
    (network, {"mask_lr": 0}, "mask_lr is 0"),
    (network, {"match": float("inf")}, "match is inf"),
    (network, {"sparsity": -0.1}, "sparsity is -0.1"),
    (frozen, {}, r"all weights of Sequential are frozen.*requires_grad_\(True\)"),
    (lambda: network("mlp"), {}, r"does not take inputs of shape \(16, 2, 8, 8\)"),
    (lambda: network().float(), {}, "the images come as torch.float64"),
    (lambda: network().train(), {}, "in training mode.* call net.eval"),
])  # fmt: skip
def test_what_cannot_be_trained_is_told_before(monkeypatch, net, settings, told):
    monkeypatch.setattr(Game, "ready", None)  # a step would raise a TypeError
    with pytest.raises(ValueError, match=told):
        gal(net(), source=source(), **{"ratio": 0.5, "epochs": 2} | settings)


def test_a_network_with_more_logits_than_classes():
    net = network("mlp")
    net = nn.Sequential(*net[:-1], nn.Linear(8, 5).double()).eval()
    assert gal(net, 0.5, source("mlp"), epochs=2).mask.kept


class Deep(nn.Module):
    """Leaves its branch out in every second step of a training, the first one's included."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 7), nn.Conv2d(4, 6, 1)
        self.c, self.last = nn.Conv2d(6, 4, 1), nn.Linear(4, 3)
        self.steps = 0

    def forward(self, x):
        z = self.a(x)
        if self.training:
            self.steps += 1
            if self.steps % 2:
                return self.last(z.relu().mean((2, 3)))
        return self.last((z + self.c(self.b(z).relu())).relu().mean((2, 3)))


def test_a_mask_of_a_layer_that_a_step_leaves_out_stays():
    torch.manual_seed(0)
    net = Deep().double().eval()
    ticket = gal(net, 0.5, source(), epochs=2, every=1)
    assert int(planted.kept_units(ticket.mask, "b").sum()) == 3
    masks = {name: torch.ones(2, requires_grad=True) for name in "ab"}
    masks["a"].grad = torch.ones(2)
    FISTA(masks, 0.5).step(0.1)
    assert torch.allclose(masks["a"].detach(), torch.full((2,), 0.85))
    assert torch.equal(masks["b"].detach(), torch.ones(2))
