"""splinelib.pruning, what acts within training: SFP, GDP, RigL, C-SGD, GAL."""

import math
from dataclasses import replace

import planted
import pytest
import torch
from learning import PLAIN, SHORT, fit, images, network, source
from torch import nn
from training import gap

from splinelib import data, nets
from splinelib.pruning.c_sgd import c_sgd
from splinelib.pruning.erk import erk
from splinelib.pruning.gal import gal
from splinelib.pruning.gdp import GDP, gdp, taylor
from splinelib.pruning.held import Held
from splinelib.pruning.rigl import RigL, rewired, rigl
from splinelib.pruning.sfp import SFP, sfp
from splinelib.surgery import cut, groups
from splinelib.train import Recipe, train, trainer


def rows_at_zero(net, path):
    return (net.get_submodule(path).weight.flatten(1) == 0).all(1)


def test_pruned_is_masked_and_nothing_of_the_callers_is_changed():
    net, state = network(), torch.random.get_rng_state()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, _ = planted.inputs("convnet")
    tickets = [
        sfp(net, 0.5, fit()),
        gdp(net, 0.5, fit(), period=4),
        rigl(net, 0.5, fit(), period=3),
        c_sgd(net, 0.5, fit(recipe=PLAIN), strength=8.0),
        gal(net, 0.5, source(), epochs=2),
    ]
    for ticket in tickets:
        assert not ticket.net.training
        small = cut(ticket.net, ticket.mask).net
        assert (small(x) - ticket.mask.apply(ticket.net)(x)).abs().max() < 1e-12
    for ticket in tickets[:3]:
        kept = ticket.mask.entries["4.weight"]
        assert (ticket.net[4].weight[~kept] == 0).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("method", [sfp, gdp, rigl, c_sgd, gal])
def test_bad_input(method):
    name = method.__name__
    given = source() if method is gal else fit()
    with pytest.raises(ValueError, match="ratio is 1"):
        method(network(), 1.0, given)
    with pytest.raises(ValueError, match="source" if method is gal else f"{name} trains"):
        method(network(), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: sfp(net, 0.5, fit(), residual="select"), "has none"),
        (lambda net: gdp(net, 0.5, fit(), period=1), "batches < period"),
        (
            lambda net: gdp(net, 0.5, fit(), period=90, batches=80),
            "no mask would be drawn: the training has 9 steps",
        ),
        (lambda net: rigl(net, 0.5, fit(), stop=0), "stop in"),
        (lambda net: rigl(net, 0.5, fit(), alpha=2), "alpha"),
        (lambda net: rigl(net, 0.5, fit(), dense=("x",)), "dense names 'x'"),
        (lambda net: rigl(net, 0.5, fit(), dense=("0", "4", "9")), "all layers"),
        (lambda net: c_sgd(net, 0.5, fit(), kind="odd"), "kind='odd'"),
        (lambda net: c_sgd(net, 0.5, fit(), strength=-1), "at least 0"),
        (lambda net: c_sgd(net, 0.5, fit(), strength=0.0), "train longer"),
        (lambda net: gal(net, 0.5, source(), every=0), "at least 1 step"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call(network())


# soft filter pruning


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9])
def test_sfp_zeroes_the_smallest_filters_and_no_batchnorm(ratio):
    net = network()
    norms = net[4].weight.flatten(1).norm(dim=1)
    goes = min(math.floor(8 * ratio + 0.5), 7)
    smallest = set(norms.argsort()[:goes].tolist())
    others = {n: p.clone() for n, p in net.named_parameters() if n not in ("0.weight", "4.weight")}
    SFP(ratio).zero(net)
    assert set(rows_at_zero(net, "4").nonzero().flatten().tolist()) == smallest
    assert planted.removed_units(SFP(ratio).mask(net), "4") == smallest
    assert all(torch.equal(p, others[n]) for n, p in net.named_parameters() if n in others)
    assert SFP(ratio).mask(net).entries["5.bias"].all() != (goes > 0)


def test_sfp_removes_weak_filters():
    net = network("mlp")
    with torch.no_grad():
        net[1].weight[[2, 5]] *= 1e-3
    gentle = trainer(source("mlp"), replace(SHORT, lr=1e-4))
    assert planted.removed_units(sfp(net, 0.25, gentle).mask, "1") == {2, 5}


def test_sfp_lets_a_filter_come_back():
    # unit 0 is weak but needed, unit 1 is stronger and nobody reads it
    net = nets.by_hand(([[0.01] + [0] * 5, [0.03] * 6], [1, 1]), ([[1, 0], [-1, 0]], [0, 0]))
    net, batches = nn.Sequential(nn.Flatten(), *net), images("mlp", n=64, classes=2)
    batches.labels.copy_((batches.images[:, 0, 0, 0] < 128).long())
    batches = data.Batches(batches, batch=16, dtype=torch.float64)
    seen = []

    class Look(SFP):
        def after_epoch(self, net, epoch):
            seen.append((epoch, self.keep(net)["1"].tolist()))
            super().after_epoch(net, epoch)
            assert rows_at_zero(net, "1").tolist() == [False, True]

    SFP(0.5).zero(net)
    assert rows_at_zero(net, "1").tolist() == [True, False]
    train(net, batches, replace(SHORT, lr=0.1), hook=Look(0.5))
    assert seen == [(epoch, [True, False]) for epoch in (1, 2, 3)]


@pytest.mark.parametrize("rescale", [True, False])
def test_sfp_behind_a_batchnorm_a_filter_comes_back_with_the_norm_it_had(rescale):
    net, sizes = network(), []
    hook = SFP(0.5, rescale=rescale)
    norms = net[4].weight.detach().flatten(1).norm(dim=1)
    hook.zero(net)

    class Look(SFP):
        def before_step(self, net, step):
            grad, usual = net[4].weight.grad.clone(), 1 / (net[5].running_var + 1e-5).sqrt()
            hook.before_step(net, step)
            if rescale:  # BatchNorm divided by sqrt(eps), where it usually divides by more
                factor = torch.where(gone, 1e-5**0.5 * usual, 1)[:, None, None, None]
                assert torch.allclose(net[4].weight.grad, factor * grad)
            else:
                assert torch.equal(net[4].weight.grad, grad)

        def after_step(self, net, step):
            hook.after_step(net, step)
            sizes.append(net[4].weight.detach().flatten(1).norm(dim=1))

    gone = rows_at_zero(net, "4")
    train(net, source(n=16), replace(SHORT, epochs=1, drops=(), lr=0.1), hook=Look(0.5))
    passes = net[5].bias > 0  # behind a ReLU, what a zeroed filter puts out in training
    factor = sizes[0] / norms
    assert (gone & passes).any()
    assert (factor[gone & ~passes] == 0).all()
    if rescale:
        assert torch.allclose(factor[gone & passes], torch.ones_like(factor[gone & passes]))
    else:
        assert (factor[gone & passes] > 2).all()


# global dynamic pruning


def test_the_taylor_score_is_the_slope_of_the_loss_by_a_factor_on_the_channel():
    net, (x, y) = network().train(), planted.inputs("convnet")
    gate = torch.ones(8, dtype=torch.float64, requires_grad=True)
    handle = net[5].register_forward_hook(lambda m, i, z: z * gate[:, None, None])
    nn.functional.cross_entropy(net(x), y).backward()
    handle.remove()
    group = groups(net)["4"]
    behind, printed = taylor(net, group), taylor(net, replace(group, norms=()))
    assert torch.allclose(behind, gate.grad.abs(), atol=1e-6)
    assert printed.max() < 1e-4 * behind.max()  # BatchNorm undoes every factor


def test_gdp_calls_a_filter_back_when_its_gradient_says_so():
    net = nets.mlp([3, 4, 2])
    hook, start = GDP(0.5, period=3), net[0].weight.detach().clone()
    hook.begin(net, 4)

    def step(number, scores):
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        net[0].bias.grad = torch.tensor(scores).double() / net[0].bias.detach()
        with torch.no_grad():
            hook.before_step(net, number)
            if number < 3:
                assert torch.equal(net[0].weight, start)  # what the optimizer moves is dense
            hook.after_step(net, number)

    step(0, [1, 2, 3, 4])
    assert rows_at_zero(net, "0").tolist() == [True, True, False, False]
    step(1, [9, 9, 0, 0])  # no scoring step
    assert rows_at_zero(net, "0").tolist() == [True, True, False, False]
    step(2, [9, 9, 0, 0])
    assert torch.equal(net[0].weight, start)  # all filters are back in place to be scored
    step(3, [3, 2, 1, 0.5])  # less than what was scored before, and that does not count any more
    assert rows_at_zero(net, "0").tolist() == [False, False, True, True]
    assert torch.equal(net[0].weight[:2], start[:2])


def test_gdp_adds_up_the_scores_of_its_batches_also_over_an_interruption():
    net = nets.mlp([3, 4, 2])
    hook = GDP(0.5, period=9, batches=2)
    hook.begin(net, 2)
    for step, scores in enumerate(([1.0, 2.0, 3.0, 4.0], [9.0, 0.0, 0.0, 0.0])):
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        net[0].bias.grad = torch.tensor(scores).double() / net[0].bias.detach()
        with torch.no_grad():
            hook.before_step(net, step)
            hook.after_step(net, step)
        again = GDP(0.5, period=9, batches=2)
        again.begin(net, 2)
        again.load_state_dict(hook.state_dict())
        hook = again
    assert rows_at_zero(net, "0").tolist() == [False, True, True, False]


def test_gdp_masks_an_exact_number_and_its_mask_moves():
    class Spy(GDP):
        seen = []

        def after_step(self, net, step):
            super().after_step(net, step)
            gone = torch.cat([rows_at_zero(net, "0"), rows_at_zero(net, "4")])
            self.seen.append((step, tuple(gone.tolist())))

    net = network()
    train(net, source(), replace(SHORT, epochs=6), hook=Spy(0.5, period=3))
    assert [step for step, gone in Spy.seen if sum(gone) != 7] == [2, 5, 8, 11, 14, 17]
    assert not any(any(gone) for step, gone in Spy.seen if step % 3 == 2)
    assert len({gone for _, gone in Spy.seen if any(gone)}) > 1


def test_gdp_removes_what_nobody_listens_to():
    net = planted.dead_out(network(), "4", [0, 3, 6])
    net = planted.dead_out(net, "0", [2])
    gentle = trainer(source(), replace(SHORT, lr=1e-5, epochs=1, drops=()))
    mask = gdp(net, 4 / 14, gentle, period=50, finetune=False).mask
    assert (planted.removed_units(mask, "4"), planted.removed_units(mask, "0")) == ({0, 3, 6}, {2})


def test_gdp_holds_its_last_mask_in_the_finetuning():
    labels = []

    def noted(net, label, **changes):
        labels.append((label, changes["hook"]))
        return fit()(net, label, **changes)

    ticket = gdp(network(), 0.5, noted, period=4)
    assert [label for label, _ in labels] == ["gdp", "finetune"]
    assert isinstance(labels[1][1], Held)
    assert gap(ticket.net, ticket.mask.apply(ticket.net)) == 0
    assert sum(len(planted.removed_units(ticket.mask, layer)) for layer in ("0", "4")) == 7


# RigL


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9, 0.98])
def test_erk_counts(ratio):
    shapes = {"a": (16, 1, 3, 3), "b": (16, 16, 3, 3), "c": (32, 16, 3, 3), "d": (10, 32)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    counts = erk({name: torch.Size(shape) for name, shape in shapes.items()}, ratio)
    assert sum(counts.values()) == sum(sizes.values()) - math.floor(ratio * 7376 + 0.5)
    assert all(1 <= counts[name] <= sizes[name] for name in shapes)
    part = {n: counts[n] for n in shapes if counts[n] < sizes[n]}
    factors = [counts[n] / sum(shapes[n]) for n in part]  # count = eps * sum of sizes
    assert not factors or max(factors) / min(factors) < 1.06
    whole = [sum(shapes[n]) / sizes[n] for n in shapes if n not in part]
    assert not part or all(w >= max(sum(shapes[n]) / sizes[n] for n in part) for w in whole)


def test_rewired_against_a_plain_count():
    generator = torch.Generator().manual_seed(0)
    weight, grad = torch.randn(2, 5, 6, generator=generator).unbind()
    kept = torch.rand(5, 6, generator=generator) < 0.4
    used, rest = kept.flatten().nonzero().flatten().tolist(), (~kept).flatten().nonzero()
    w, g = weight.flatten().abs().tolist(), grad.flatten().abs().tolist()
    stay = sorted(used, key=lambda i: -w[i])[: len(used) - 4]
    free = [i for i in [*used, *rest.flatten().tolist()] if i not in stay]
    grown = sorted(free, key=lambda i: -g[i])[:4]
    found = rewired(weight, grad, kept, 4)
    assert set(found.flatten().nonzero().flatten().tolist()) == {*stay, *grown}
    assert torch.equal(rewired(weight, grad, kept, 0), kept)


def test_a_weight_that_was_just_dropped_may_grow_again():
    """What is smallest and has the largest gradient stays in use, and keeps its value."""
    weight, grad = torch.tensor([[3.0, 1, 0, 0]]), torch.tensor([[0.0, 9, 0.1, -5]])
    kept = torch.tensor([[True, True, False, False]])
    assert torch.equal(rewired(weight, grad, kept, 1), kept)
    assert rewired(weight, grad, kept, 2).tolist() == [[False, True, False, True]]
    net = nn.Sequential(nn.Linear(4, 1))
    net[0].weight.data, net[0].weight.grad = weight.clone(), grad.clone()
    hook = RigL({"0.weight": kept}, alpha=1.0)
    hook.begin(net, 9)
    with torch.no_grad():
        hook.before_step(net, 0)  # drops all
    assert hook.kept["0.weight"].tolist() == [[False, True, False, True]]
    assert net[0].weight.tolist() == [[0, 1, 0, 0]]


class SpyRigL(RigL):
    """Keeps after each step: mask, weights, and whether the step moved anything."""

    def before_step(self, net, step):
        self.old = {name: p.detach().clone() for name, p in net.named_parameters()}
        super().before_step(net, step)

    def after_step(self, net, step):
        super().after_step(net, step)
        weights = {name: net.get_parameter(name).detach().clone() for name in self.kept}
        moved = any(
            not torch.equal(p, self.old[n]) for n, p in net.named_parameters() if p.ndim < 2
        )
        self.seen.append((dict(self.kept), weights, moved))


def test_rigl_is_exactly_sparse_at_every_step():
    net = network()
    kept = {n: torch.rand(p.shape) < 0.3 for n, p in net.named_parameters() if p.ndim > 1}
    hook = SpyRigL(kept, period=4, alpha=0.5, stop=2 / 3)
    hook.seen = []
    for name, entries in kept.items():
        net.get_parameter(name).data *= entries
    train(net, source(), replace(SHORT, epochs=10), hook=hook)
    moves = [not all(torch.equal(a[n], b[n]) for n in kept) for (a, _, _), (b, _, _) in pairs(hook)]
    assert [step + 1 for step, move in enumerate(moves) if move] == [4, 8, 12, 16]
    assert [step for step, (*_, moved) in enumerate(hook.seen) if not moved] == [0, 4, 8, 12, 16]
    for masks, weights, _ in hook.seen:
        for name, entries in kept.items():
            assert masks[name].sum() == entries.sum()
            assert (weights[name][~masks[name]] == 0).all()
    for old, new in pairs(hook):  # what grew starts at 0
        for name in kept:
            grown = new[0][name] & ~old[0][name]
            assert (new[1][name][grown] == 0).all()


def pairs(hook):
    return zip(hook.seen, hook.seen[1:], strict=False)


def test_rigl_drops_half_a_cosine():
    hook = RigL({})
    hook.begin(network(), 1000)
    shares = [hook.share(step) for step in (0, 250, 375, 750, 900)]
    assert shares == pytest.approx([0.3, 0.225, 0.15, 0, 0])


def test_rigl_starts_at_random_by_its_seed():
    masks = [rigl(network(), 0.5, fit(), period=90, seed=seed).mask for seed in (0, 0, 1)]
    assert masks[0] == masks[1] != masks[2]


def test_rigl_finds_the_inputs_that_matter():
    pictures = images("mlp", n=320, classes=2)
    bright = pictures.images[:, 0, 0, :2].float().sum(1)
    pictures.labels.copy_((bright > 255).long())
    net = nn.Sequential(nn.Flatten(), *nets.mlp([6, 8, 2], alpha=0.3))
    kept = torch.zeros(8, 6, dtype=torch.bool)
    kept[:, 2:4] = True  # at the start no weight reads an input that matters
    net[1].weight.data *= 0.1 * kept
    hook = RigL({"1.weight": kept}, period=20, alpha=0.5, stop=0.625)
    recipe = Recipe(epochs=80, batch=64, drops=(), weight_decay=5e-3)
    done = train(net, data.Batches(pictures, batch=64, dtype=torch.float64), recipe, hook=hook)
    reads = hook.mask(done.net).entries["1.weight"].sum(0)
    sizes = done.net[1].weight.detach().abs().sum(0)
    assert reads.sum() == 16
    assert reads[:2].sum() >= 8
    assert sizes[:2].sum() > 0.9 * sizes.sum()


def test_rigl_leaves_dense_layers_whole():
    mask = rigl(network(), 0.8, fit(), period=2, dense=("0",)).mask
    total = sum(n for _, n in mask.counts().values())
    assert "0.weight" not in mask.counts()
    assert mask.kept == total - math.floor(0.8 * total + 0.5)
