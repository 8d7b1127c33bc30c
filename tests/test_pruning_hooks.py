"""splinelib.pruning, hooks within training: what they owe to a run, and what each one does."""

import math
from dataclasses import replace

import planted
import pytest
import torch
from learning import PLAIN, SHORT, fit, halves, images, network, source
from torch import nn
from training import Breaking, InterruptedRunError, gap

from splinelib import data, nets
from splinelib.masks import Mask, select
from splinelib.pruning.c_sgd import CSGD, c_sgd, merged
from splinelib.pruning.clusters import means
from splinelib.pruning.filters import filters
from splinelib.pruning.gdp import GDP, gdp, taylor
from splinelib.pruning.held import Held
from splinelib.pruning.rigl import RigL, rigl
from splinelib.pruning.sfp import SFP, sfp
from splinelib.surgery import cut, groups
from splinelib.train import Speed, train, trainer
from splinelib.train.session import Session
from splinelib.train.speed import Plan
from splinelib.train.watching import Watchers

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def half(net):
    return {"4.weight": select(net[4].weight.detach().abs(), 0.5)}


HOOKS = {
    "held": lambda net: Held(Mask(half(net))),
    "sfp": lambda net: SFP(0.5),
    "gdp": lambda net: GDP(0.5, period=4, batches=2),
    "rigl": lambda net: RigL(half(net), period=2),
    "c-sgd": lambda net: CSGD(groups(net), halves(net), strength=0.5),
}


def gradients(net, value=1.0):
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, value)


# what all of them owe


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_begins_anew_with_each_run(name):
    net = network()
    hook = HOOKS[name](net)
    first = train(net, source(), SHORT, hook=hook)
    mask = hook.mask(first.net)
    second = train(net, source(), SHORT, hook=hook)
    assert gap(first.net, second.net) == 0
    assert hook.mask(second.net) == mask
    assert gap(first.net, train(net, source(), SHORT).net) > 1e-3


@pytest.mark.parametrize("name", ["held", "rigl", "c-sgd"])  # the others look at numbers
def test_a_hook_begins_anew_on_another_device(name):
    net = network()
    hook = HOOKS[name](net)
    train(net, source(), replace(SHORT, epochs=2), hook=hook)
    there = network().to("meta")  # it has shapes and no numbers
    hook.begin(there, 9)
    gradients(there)
    if name == "rigl":
        hook.last = 0  # no update is due
    hook.before_step(there, 1)
    hook.after_step(there, 1)
    own = {"held": "_gone", "rigl": "kept", "c-sgd": "_means"}
    for value in getattr(hook, own[name]).values():
        assert getattr(value, "matrix", value).is_meta


@pytest.mark.parametrize("name", [name for name in HOOKS if name != "held"])
def test_a_state_comes_to_the_device_of_the_network(name):
    net, seen = network(), []
    hook = HOOKS[name](net)

    class Look(type(hook)):
        def load_state_dict(self, state):
            seen.append(state)

    options = {"test": None, "watchers": Watchers((), None), "first_epoch": 0, "micro_batch": None}
    plan = Speed().resolve(net)
    session = Session(net, source(), SHORT, plan, team(), hook=hook, **options)
    while not session.ended:
        session.train_epoch(lambda: None)
        hook.after_epoch(net, session.epoch)
    state = session.state()
    hook.__class__ = Look
    session.plan = replace(plan, device=torch.device("meta"))
    session.restore(state)
    moved = [
        value for part in seen[0].values() if isinstance(part, dict) for value in part.values()
    ]
    assert moved
    assert all(value.is_meta for value in moved)
    assert seen[0].keys() == state["hook"].keys()


def team():
    from splinelib.train.distributed import Team

    return Team()


@pytest.mark.parametrize("place", [(0, 2), (1, 0), (1, 2), (2, 1)])
@pytest.mark.parametrize("name", HOOKS)
def test_a_run_that_was_killed_ends_with_the_same_bits(tmp_path, name, place):
    net, path = network(), tmp_path / "run.pt"

    def run(batches, **options):
        hook = HOOKS[name](net)
        return train(net, batches, SHORT, hook=hook, **options).net, hook

    with pytest.raises(InterruptedRunError):
        run(Breaking(source(), *place), checkpoint=path, save_every=0)
    (resumed, hook), (straight, other) = run(source(), checkpoint=path), run(source())
    assert gap(resumed, straight) == 0
    assert hook.mask(resumed) == other.mask(straight)


@needs_gpu
@pytest.mark.parametrize("name", HOOKS)
def test_a_run_goes_on_on_a_gpu(tmp_path, name):
    net, path = network(), tmp_path / "run.pt"
    hook, plain = HOOKS[name](net), Speed(compile=False)

    def run(net, batches):
        return train(net, batches, SHORT, hook=hook, checkpoint=path, save_every=0, speed=plain).net

    with pytest.raises(InterruptedRunError):
        run(net, Breaking(source(), 1, 2))
    pixels = images().to("cuda")
    there = run(network().cuda(), data.Batches(pixels, batch=16, dtype=torch.float64))
    mask = hook.mask(there)
    straight = train(net, source(), SHORT, hook=hook).net
    assert gap(there.cpu(), straight) < 1e-6
    assert hook.mask(straight) == mask


class Overflowing(torch.amp.GradScaler):
    """torch's own scaler, on the CPU, with infinite gradients in some steps."""

    def __init__(self, at):
        super().__init__("cpu", init_scale=4.0)
        self.at, self.calls = at, 0

    def scale(self, loss):
        self.calls += 1
        return super().scale(loss) * (math.inf if self.calls - 1 in self.at else 1)


@pytest.fixture
def overflow(monkeypatch):
    """Let the gradients of some steps overflow."""
    return lambda *at: monkeypatch.setattr(Plan, "scaler", lambda self: Overflowing(at))


def spying(hook):
    """The same hook, which notes its calls and checks that no gradient is infinite."""

    class Spy(type(hook)):
        def before_step(self, net, step):
            assert all(p.grad.isfinite().all() for p in net.parameters())
            super().before_step(net, step)

        def after_step(self, net, step):
            super().after_step(net, step)
            self.told.append(step)

        def skipped_step(self, net, step):
            super().skipped_step(net, step)
            self.told.append(-step)

    hook.__class__, hook.told = Spy, []
    return hook


@pytest.mark.parametrize("name", HOOKS)
def test_steps_whose_gradients_overflow_are_told_and_spoil_nothing(overflow, name):
    overflow(1, 3, 4)
    net = network()
    hook = spying(HOOKS[name](net))
    run = train(net, source(), SHORT, hook=hook)
    assert hook.told == [0, -1, 2, -3, -4, 5, 6, 7, 8]
    assert all(value.isfinite().all() for value in run.net.state_dict().values())
    mask = hook.mask(run.net)
    assert 0 < mask.density < 1


class Leaving(nn.Module):
    """A block that a step leaves out, as stochastic depth does, when ``used`` is False."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
        self.used = True

    def forward(self, x):
        return x + self.inside(x) if self.used else x


def deep():
    """A network with a block that may be left out, and a layer that never is."""
    torch.manual_seed(0)
    layers = [nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 4), Leaving(), nn.Linear(4, 3)]
    return nn.Sequential(nn.Flatten(), *layers).double()


LEAVING = {
    "held": lambda net: Held(Mask({"4.inside.0.weight": torch.eye(6, 4)})),
    "sfp": lambda net: SFP(0.5),
    "gdp": lambda net: GDP(0.5, period=3),
    "rigl": lambda net: RigL({"4.inside.0.weight": torch.eye(6, 4)}, period=2),
    "c-sgd": lambda net: CSGD(groups(net), halves(net), strength=0.5),
}


def left_out(hook, net, at):
    """Train with a hook; the block is left out in the steps ``at``."""
    x = torch.randn(30, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    hook.begin(net.train(), 9)
    for step in range(9):
        net[4].used = step not in at
        nn.functional.cross_entropy(net(x), torch.arange(30) % 3).backward()
        with torch.no_grad():
            hook.before_step(net, step)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            hook.after_step(net, step)
            if step == 2:
                hook.after_epoch(net, 1)
        yield step


@pytest.mark.parametrize("name", LEAVING)
def test_a_layer_that_steps_leave_out_stops_no_hook(name):
    net = deep()
    hook = LEAVING[name](net)
    assert [*left_out(hook, net, (0, 3, 4, 7))] == [*range(9)]
    assert 0 < hook.mask(net).density < 1
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_sfp_waits_with_the_norm_for_a_step_that_uses_the_layer():
    net = deep()
    nn.init.constant_(net[4].inside[1].bias, 0.5)
    hook, path = SFP(0.5), "4.inside.0"
    for step in left_out(hook, net, (3, 4)):
        norms = net.get_submodule(path).weight.detach().norm(dim=1)
        if step == 2:
            gone, sizes = hook.gone[path], hook.sizes[path]
        if step in (3, 4):
            assert torch.equal(hook.gone[path], gone)
            assert (norms[gone] == 0).all()
        if step == 5:
            assert torch.allclose(norms[gone], sizes[gone])
            assert not hook.gone


def test_gdp_scores_a_layer_by_the_steps_that_use_it():
    def means(at, batches):
        net, seen = deep(), []

        class Look(GDP):
            def _draw(self):
                seen.append((dict(self.sums), dict(self.times)))
                super()._draw()

        hook = Look(0.5, period=8, batches=batches)
        steps = left_out(hook, net, at)
        while not seen:
            next(steps)
        return seen[0], hook.keep

    (sums, times), keep = means((0,), 3)
    assert {name: int(n) for name, n in times.items()} == {"1": 3, "4.inside.0": 2}
    whole = {name: values / times[name] for name, values in sums.items()}
    expected = torch.cat([*whole.values()]).argsort()[6:].sort()[0]
    by_sums = torch.cat([*sums.values()]).argsort()[6:].sort()[0]
    assert not torch.equal(expected, by_sums)
    assert torch.equal(torch.cat([*keep.values()]).nonzero().flatten(), expected)
    (sums, _), keep = means((0,), 1)
    assert sums.keys() == {"1"}
    assert keep == {}  # no step scored the block: no mask yet


@pytest.mark.parametrize("skipped", [False, True])
def test_sfp_gives_a_filter_its_norm_at_the_first_step_that_is_taken(overflow, skipped):
    overflow(*[3, 4][: 2 * skipped])
    net, sizes = network(), {}
    nn.init.constant_(net[5].bias, 0.5)  # above 0: what a zeroed filter puts out passes the ReLU

    class Look(SFP):
        def after_step(self, net, step):
            super().after_step(net, step)
            sizes[step] = net[4].weight.flatten(1).norm(dim=1)

        def after_epoch(self, net, epoch):
            sizes["end"] = net[4].weight.flatten(1).norm(dim=1)
            super().after_epoch(net, epoch)
            self.bright = net[5].bias > 0

    hook = Look(0.5)
    end = []

    def stop(net, row):
        end.append((sizes["end"].clone(), hook.gone["4"].clone(), hook.bright.clone()))

    train(net, source(), replace(SHORT, epochs=2, drops=()), hook=hook, on_epoch=stop)
    size, gone, bright = end[0]
    back = gone & bright
    assert back.any()
    assert torch.allclose(sizes[5 if skipped else 3][back], size[back])


def test_gdp_keeps_to_its_times_when_steps_are_skipped(overflow):
    def masks(*skipped):
        overflow(*skipped)
        seen = []

        class Look(GDP):
            def skipped_step(self, net, step):
                super().skipped_step(net, step)
                seen.append(self.gone_now(net))

            def after_step(self, net, step):
                super().after_step(net, step)
                seen.append(self.gone_now(net))

            def gone_now(self, net):
                rows = [net[k].weight.flatten(1).eq(0).all(1) for k in (0, 4)]
                return tuple(torch.cat(rows).tolist())

        train(network(), source(), SHORT, hook=Look(0.5, period=3))
        return seen

    for skipped in ((2,), (3,), (1, 5)):
        seen = masks(*skipped)
        assert [step for step, gone in enumerate(seen) if sum(gone) != 7] == [2, 5, 8]
    seen = masks(3)  # the step that should score
    assert seen[0] == seen[1] == seen[3] == seen[4] != seen[6]


@pytest.mark.parametrize("name", ["sfp", "gdp", "rigl", "c-sgd"])
def test_a_frozen_layer_is_named(name):
    calls = {"sfp": sfp, "gdp": gdp, "rigl": rigl, "c-sgd": c_sgd}
    net = network()
    net[4].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"'4.weight' is frozen .*requires_grad_\(True\) first"):
        calls[name](net, 0.5, fit())


def test_frozen_layers_that_a_method_does_not_need():
    net = network()
    net[4].requires_grad_(False)
    assert "4.weight" not in rigl(net, 0.5, fit(), dense=("4",)).mask.entries
    assert gap(c_sgd(net, 0.0, fit()).net[4], net[4]) == 0  # nothing to merge
    net = network()
    net[5].requires_grad_(False)  # a BatchNorm, whose scale and shift stay anyway
    assert sfp(net, 0.5, fit()).mask.density < 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: gdp(net, 0.5, fit(), period=2.5), "period=2.5.* whole numbers"),
        (lambda net: gdp(net, 0.5, fit(), batches=0.5), "batches=0.5.* whole numbers"),
        (lambda net: rigl(net, 0.5, fit(), period=2.5), "a whole period"),
        (lambda net: rigl(net, 0.5, fit(), dense="0"), r"give a tuple of paths, \('0',\)"),
        (lambda net: c_sgd(net, 0.5, fit(), strength=math.inf), "strength=inf"),
        (lambda net: c_sgd(net, 0.5, fit(), vectors=math.nan), "vectors=nan"),
        (lambda net: c_sgd(net, 0.5, fit(), tolerance=-1), "tolerance=-1"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call(network())


def test_settings_of_hooks_have_names():
    for hook, found in ((SFP, [0.5, True]), (GDP, [0.5, 4]), (RigL, [{}, 4]), (CSGD, [{}, {}, 1])):
        with pytest.raises(TypeError, match="positional"):
            hook(*found)


# masks and clusters of another network


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (lambda net: RigL({"4.weight": torch.ones(2, 2)}), "'4.weight' has shape"),
        (lambda net: RigL({"no.weight": torch.ones(2, 2)}), "names 'no.weight'"),
        (lambda net: RigL({"4.weight": torch.rand(2, 2)}), "entries? other than 0 or 1|0 and 1"),
        (lambda net: CSGD(groups(flat()), halves(flat())), "'0' is no group of this network"),
        (lambda net: CSGD(groups(net), {**halves(net), "x": torch.zeros(2)}), r"of \['x'\]"),
        (lambda net: CSGD(groups(net), {"0": halves(net)["0"]}), "of shape .0,.: give one"),
        (lambda net: CSGD(groups(net), {n: v[1:] for n, v in halves(net).items()}), "channels"),
        (lambda net: CSGD(groups(net), {n: v / 2 for n, v in halves(net).items()}), "int64"),
        (lambda net: CSGD(groups(net), {n: v - 1 for n, v in halves(net).items()}), "from 0 on"),
    ],
)
def test_masks_and_clusters_of_another_network_are_refused(hook, message):
    with pytest.raises(ValueError, match=message):
        train(network(), source(), SHORT, hook=hook(network()))


def test_numbers_of_a_mask_are_as_good_as_truth_values():
    net = network()
    kept = half(net)["4.weight"]
    runs = [train(net, source(), SHORT, hook=RigL({"4.weight": k}, period=2)).net
            for k in (kept, kept.float())]  # fmt: skip
    assert gap(*runs) == 0


@pytest.mark.parametrize("name", ["held", "rigl", "c-sgd"])
def test_a_checkpoint_with_another_mask_or_other_clusters_is_refused(tmp_path, name):
    net, path = network(), tmp_path / "run.pt"
    others = {
        "held": lambda: Held(Mask({"4.weight": half(net)["4.weight"].flip(0)})),
        "rigl": lambda: RigL({"4.weight": half(net)["4.weight"].flip(0)}, period=2),
        "c-sgd": lambda: CSGD(groups(net), {n: v.flip(0) for n, v in halves(net).items()},
                              strength=0.5),
    }  # fmt: skip
    with pytest.raises(InterruptedRunError):
        train(net, Breaking(source(), 1, 1), SHORT, hook=HOOKS[name](net), checkpoint=path)
    with pytest.raises(ValueError, match="is of another run: hook is"):
        train(net, source(), SHORT, hook=others[name](), checkpoint=path)
    hook = HOOKS[name](net)
    train(net, source(), SHORT, hook=hook, checkpoint=path)
    assert repr(hook) == repr(HOOKS[name](net))  # as it was before the run


# rows of channels


def flat(seed=0):
    """A network in which a BatchNorm behind a Flatten has four entries for each channel."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 4, 3, stride=3), nn.Flatten(), nn.BatchNorm1d(16), nn.ReLU()]
    return planted.settled(nn.Sequential(*layers, nn.Linear(16, 3)).double().eval())


def test_a_batchnorm_behind_a_flatten_has_several_entries_for_each_channel():
    net, (x, y) = flat().train(), planted.inputs("convnet")
    group = groups(net.eval())["0"]
    gate = torch.ones(4, dtype=torch.float64, requires_grad=True)
    z = net.train()[2](net[1](net[0](x))) * gate.repeat_interleave(4)
    nn.functional.cross_entropy(net[4](net[3](z)), y).backward()
    assert torch.allclose(taylor(net, group), gate.grad.abs(), rtol=1e-2)
    net, labels = flat(), {"0": torch.tensor([0, 1, 0, 2])}
    with torch.no_grad():
        for value in (net[0].weight, net[0].bias, *net[2].parameters(), *net[2].buffers()):
            if value.ndim:
                rows = value.view(4, -1)
                rows[2] = rows[0]
    small, hook = merged(net, groups(net), labels), CSGD(groups(net), labels)
    assert hook.spread(net) < 1e-12
    assert (cut(small, hook.mask(small)).net(x) - net(x)).abs().max() < 1e-12
    assert gdp(flat(), 0.5, fit(), period=4).mask.counts()["2.weight"] == (8, 16)


@pytest.mark.parametrize("residual", ["select", "joint"])
def test_gdp_scores_what_its_mask_removes(residual):
    """The slope of the loss by a factor on all that a mask of the group sets to 0."""
    net = network("preresnet").double()
    found, (x, y) = groups(net, residual), planted.inputs("preresnet")
    net.train()
    nn.functional.cross_entropy(net(x), y).backward()
    assert any(group.gate for group in found.values()) == (residual == "select")
    for group in found.values():
        ones = torch.ones(group.width)
        removed = [n for n, p in net.named_parameters()
                   if n in cut_names(net, found, group, ones)]  # fmt: skip
        parts = [(net.get_parameter(n) * net.get_parameter(n).grad) for n in removed]
        expected = sum(part.flatten(1).sum(1) if part.ndim > 1 else part for part in parts).abs()
        assert torch.allclose(taylor(net, group), expected)
        assert set(filters(net, group)) == set(removed) != set()


def cut_names(net, found, group, ones):
    from splinelib.surgery.groups import group_mask

    return set(group_mask(net, found, {group.name: ones}).entries)


def test_gdp_masks_selections_alone_and_lets_them_come_back():
    net = network("preresnet")
    run = gdp(net, 0.5, fit("preresnet"), period=4, residual="select")
    found = groups(net, "select")
    assert sum(int((~e).sum()) for n, e in run.mask.entries.items() if n.endswith("bn1.weight"))
    gates = [group for group in found.values() if group.gate]
    inner = {path for group in found.values() if not group.gate for path in group.writers}
    streams = {path for group in gates for path in group.writers} - inner
    assert streams
    assert not any(f"{path}.weight" in run.mask.entries for path in streams)


def test_sfp_ranks_a_stream_by_all_layers_that_write_it():
    net = network("preresnet")
    group = next(g for g in groups(net, "joint").values() if len(g.writers) > 1)
    norms = [net.get_submodule(path).weight.flatten(1).norm(dim=1) for path in group.writers]
    sizes = torch.stack(norms).square().sum(0)
    goes = sizes.argsort()[: group.width // 2]
    assert any(norm.argsort()[: len(goes)].sort()[0].ne(goes.sort()[0]).any() for norm in norms)
    hook = SFP(0.5, residual="joint")
    mask = hook.mask(net)
    hook.zero(net)
    expected = torch.zeros(group.width, dtype=torch.bool)
    expected[goes] = True
    for path in group.writers:
        assert torch.equal(net.get_submodule(path).weight.flatten(1).eq(0).all(1), expected)
    for path in group.norms:
        assert torch.equal(~mask.entries[f"{path}.weight"], expected)
        assert (net.get_submodule(path).weight != 0).all()


def test_sfp_keeps_the_norm_of_a_filter_that_did_not_come_back():
    net = network()
    hook, sizes = SFP(0.5), net[4].weight.detach().flatten(1).norm(dim=1)
    hook.zero(net)
    gone = hook.gone["4"]
    hook.zero(net)  # nothing was trained in between
    assert torch.equal(hook.sizes["4"], sizes)
    assert torch.equal(hook.gone["4"], gone)


# GDP and RigL: gradients that are no numbers


def test_gdp_does_not_score_gradients_that_are_no_numbers():
    net = nets.mlp([3, 4, 2])
    hook = GDP(0.5, period=9, batches=3)
    hook.begin(net, 9)
    with torch.no_grad():
        for step, scores in enumerate(([1.0, 2.0, 3.0, 4.0], [9.0, math.nan, 9.0, 0.0], [0.0] * 4)):
            gradients(net, 0.0)
            net[0].bias.grad = torch.tensor(scores).double() / net[0].bias.detach()
            hook.before_step(net, step)
            hook.after_step(net, step)
    assert hook.keep["0"].tolist() == [False, False, True, True]


def test_gdp_keeps_its_mask_if_no_step_could_score():
    net = nets.mlp([3, 4, 2])
    hook = GDP(0.5, period=2)
    hook.begin(net, 9)
    with torch.no_grad():
        for step, last in enumerate((4.0, 0.0, math.inf)):
            gradients(net, 0.0)
            net[0].bias.grad = torch.tensor([1.0, 2.0, 3.0, last]).double() / net[0].bias.detach()
            hook.before_step(net, step)
            hook.after_step(net, step)
    assert hook.keep["0"].tolist() == [False, False, True, True]
    assert (net[0].weight[:2] == 0).all()


def test_rigl_trains_the_weights_in_use_alone():
    net = network()
    hook = RigL(half(net), period=5)
    hook.begin(net, 9)
    gradients(net)
    hook.last = 0  # no update is due
    hook.before_step(net, 1)
    assert torch.equal(net[4].weight.grad, half(net)["4.weight"].to(torch.float64))
    assert all((p.grad == 1).all() for n, p in net.named_parameters() if n != "4.weight")


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_rigl_waits_for_gradients_that_are_numbers(value):
    net = network()
    hook, start = RigL(half(net), period=5), half(net)["4.weight"]
    hook.begin(net, 90)
    gradients(net)
    net[4].weight.grad[0, 0, 0, 0] = value
    hook.before_step(net, 0)
    assert torch.equal(hook.kept["4.weight"], start)
    assert net[0].weight.grad is not None
    gradients(net)
    hook.before_step(net, 1)  # not only after the next period
    assert not torch.equal(hook.kept["4.weight"], start)
    assert net[0].weight.grad is None


def test_rigl_moves_on_in_spite_of_a_layer_that_is_not_used():
    net = network()
    net.spare = nn.Module()
    net.spare.layer = nn.Linear(4, 4).double()
    net.spare.forward = lambda x: x
    start = {"spare.layer.weight": torch.eye(4, dtype=torch.bool), **half(net)}
    hook = RigL(start, period=2)
    train(net, source(), SHORT, hook=hook)
    assert torch.equal(hook.kept["spare.layer.weight"], start["spare.layer.weight"])
    assert not torch.equal(hook.kept["4.weight"], start["4.weight"])


# C-SGD


def test_means_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([2, 0, 1, 0, 2, 2])
    for shape in ((6,), (6, 5), (6, 3, 2, 2)):
        values = torch.randn(shape, generator=generator)
        found = means(values, labels)
        for k, label in enumerate(labels.tolist()):
            mates = [values[j] for j in range(6) if labels[j] == label]
            assert torch.allclose(found[k], sum(mates) / len(mates), atol=1e-6)
        assert torch.equal(found[0], found[5])  # the same bits for all of a cluster


@pytest.mark.parametrize("part", ["running_mean", "running_var"])
def test_the_spread_counts_running_statistics(part):
    net, labels = network(), halves(network())
    equal = merged(net, groups(net), labels)
    hook = CSGD(groups(net), labels)
    assert hook.spread(equal) < 1e-12
    values = getattr(equal[5], part)
    values[1] += 0.5 * values.abs().max()
    assert hook.spread(equal) > 0.1


def test_c_sgd_goes_on_with_what_was_not_yet_merged():
    net, (x, _) = network(), planted.inputs("convnet")
    brief = trainer(source(), replace(PLAIN, epochs=2))
    with pytest.raises(ValueError, match=r"c_sgd\(error.net") as caught:
        c_sgd(net, 0.5, brief, strength=4.0)
    assert gap(caught.value.net, net) > 1e-3
    ticket = c_sgd(caught.value.net, 0.5, fit(recipe=PLAIN), strength=8.0)
    assert (ticket.mask.apply(ticket.net)(x) - ticket.net(x)).abs().max() < 1e-10


def test_c_sgd_that_drives_filters_apart_asks_for_less_strength():
    with pytest.raises(ValueError, match=r"apart, .* less strength \(now 60\)") as caught:
        c_sgd(network(), 0.5, fit(recipe=PLAIN), strength=60.0)  # rate times strength is 3
    assert "more strength" not in str(caught.value)
    with pytest.raises(ValueError, match="more strength"):
        c_sgd(network(), 0.5, fit(recipe=PLAIN), strength=0.01)


def test_c_sgd_refuses_before_the_training_what_it_could_not_merge_after():
    def never(*args, **options):
        raise AssertionError("trained")

    net = network().float()
    with torch.no_grad():
        net[4].weight[:, :2] = 3e38  # readers of two filters of one cluster: their sum is infinite
    with pytest.raises(ValueError, match="weights of '4' would overflow float32"):
        c_sgd(net, 0.5, never, kind="even")


def test_c_sgd_works_with_sgd_alone():
    adam = trainer(source(), replace(SHORT, optimizer="adam", lr=None))
    with pytest.raises(ValueError, match="CSGD works with the optimizer 'sgd' alone.* has 'adam'"):
        c_sgd(network(), 0.5, adam)
    assert sfp(network(), 0.5, adam).mask.density < 1
