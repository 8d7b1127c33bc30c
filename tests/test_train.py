"""splinelib.train: the loop beside one written out, recipes, penalties, watchers."""

import math
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training import SHORT, Breaking, Counter, InterruptedRunError, convnet, gap, images, source

from splinelib.train import (
    CIFAR,
    IMAGENET,
    Recipe,
    StepHook,
    accuracy,
    corrupted,
    layerwise,
    learning_rate,
    load,
    train,
    trainer,
)  # fmt: skip
from splinelib.train.recipe import KINDS
from splinelib.train.step import measure


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def plain(net, source, recipe, after=lambda net: None):
    """The same training, written out with torch's default optimizers and nothing for speed."""
    options = {"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}
    kind = KINDS[recipe.optimizer]
    optimizer = kind(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, **options)
    net.train()
    losses = []
    for epoch in range(recipe.epochs):
        if epoch in recipe.drops:
            for group in optimizer.param_groups:
                group["lr"] *= recipe.factor
        total = 0.0
        for x, y in source.epoch(epoch):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            after(net)
            optimizer.step()
            total += loss.item() * len(y)
        losses.append(total / source.images)
    return net, losses


# the loop


@pytest.mark.parametrize("optimizer", [*KINDS, "sgd without momentum"])
def test_steps_are_those_of_a_plain_loop(optimizer):
    recipe = replace(SHORT, optimizer=optimizer.split()[0], lr=None)
    if "without" in optimizer:
        recipe = replace(recipe, momentum=0)
    run = train(convnet(), source(augment="crop-flip"), recipe)
    net, losses = plain(convnet(), source(augment="crop-flip"), recipe)
    assert gap(run.net, net) < 1e-12
    assert [row["loss"] for row in run.log] == pytest.approx(losses, abs=1e-12)
    assert [row["epoch"] for row in run.log] == [1, 2, 3] == list(range(1, run.epoch + 1))
    assert [row["lr"] for row in run.log] == [learning_rate(recipe, e) for e in range(3)]


def test_it_learns_and_the_log_tells_accuracies():
    recipe = replace(SHORT, epochs=12, drops=())
    run = train(convnet(), source(n=120), recipe, test=source(n=50, seed=9))
    assert run.log[-1]["test_accuracy"] == accuracy(run.net, source(n=50, seed=9)) > 0.9
    assert 0 <= run.log[0]["accuracy"] <= run.log[-1]["accuracy"] <= 1
    assert not run.net.training
    assert run.seconds >= sum(row["seconds"] for row in run.log) > 0


def test_the_log_counts_what_is_right():
    net = convnet(norm=False)
    still = replace(SHORT, epochs=1, lr=1e-300)
    run = train(net, source(), still)
    x, y = next(source(batch=40).epoch(0))
    assert run.log[0]["accuracy"] == (net(x).argmax(1) == y).double().mean().item()
    assert run.log[0]["loss"] == pytest.approx(F.cross_entropy(net(x), y).item(), abs=1e-12)


def test_network_and_random_state_of_the_caller_stay():
    net = convnet(dropout=0.5)
    before, random = state(net), torch.get_rng_state()
    net[1].eval()
    train(net, source(), SHORT, test=source())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert not net[1].training


def test_dropout_depends_on_the_seed_of_the_source_alone():
    runs = []
    for seed in (0, 0, 1):
        torch.rand(len(runs))  # whatever the caller's generator has done before
        runs.append(train(convnet(dropout=0.5), source(seed=seed, shuffle=False), SHORT))
    assert gap(runs[0].net, runs[1].net) == 0 < gap(runs[0].net, runs[2].net)


def test_a_ticket_goes_on_in_the_middle_of_the_schedule():
    run = train(convnet(), source(), SHORT, first_epoch=2)
    assert [(row["epoch"], row["lr"]) for row in run.log] == [(3, 0.0125)]
    net = convnet()
    optimizer = torch.optim.SGD(net.parameters(), 0.0125, momentum=0.9, weight_decay=1e-4)
    for x, y in source().epoch(2):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert gap(run.net, net) < 1e-12


@pytest.mark.parametrize("micro_batch", [1, 5, 16, 99])
def test_micro_batches_add_up_to_the_batch(micro_batch):
    run = train(convnet(norm=False), source(), SHORT, micro_batch=micro_batch)
    assert gap(run.net, train(convnet(norm=False), source(), SHORT).net) < 1e-13


def test_micro_batches_give_batchnorm_their_own_statistics():
    recipe = replace(SHORT, epochs=1, drops=())
    run = train(convnet(), source(n=16), recipe, micro_batch=8)
    net = convnet()
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    x, y = next(source(n=16).epoch(0))
    for rows in (slice(0, 8), slice(8, 16)):
        (F.cross_entropy(net(x[rows]), y[rows]) / 2).backward()
    optimizer.step()
    assert gap(run.net, net) < 1e-13


# the penalty


def test_slimming_adds_the_sign_of_each_scale():
    def after(net):
        net[1].weight.grad += 0.01 * net[1].weight.sign()

    run = train(convnet(), source(), replace(SHORT, slimming=0.01))
    assert gap(run.net, plain(convnet(), source(), SHORT, after)[0]) < 1e-12
    assert gap(run.net, train(convnet(), source(), SHORT).net) > 1e-4


def test_slimming_needs_scales():
    with pytest.raises(ValueError, match="no BatchNorm"):
        train(convnet(norm=False), source(), replace(SHORT, slimming=0.01))


# recipes


def test_rates_of_the_paper():
    rates = {e: learning_rate(CIFAR, e) for e in (0, 79, 80, 119, 120, 159)}
    assert list(rates.values()) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert [learning_rate(IMAGENET, e) for e in (29, 30, 60, 89)] == pytest.approx(
        [0.1, 0.01, 0.001, 0.001]
    )
    assert (CIFAR.momentum, CIFAR.weight_decay, CIFAR.batch, CIFAR.epochs) == (0.9, 1e-4, 256, 160)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "rmsprop"])
def test_default_rates_are_those_of_torch(optimizer):
    weight = nn.Parameter(torch.zeros(1))
    assert Recipe(optimizer=optimizer).lr == KINDS[optimizer]([weight]).defaults["lr"]
    assert replace(CIFAR, optimizer=optimizer, lr=None).lr == Recipe(optimizer=optimizer).lr


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch", 0),
        ("optimizer", "lion"),
        ("lr", 0),
        ("lr", math.inf),
        ("lr", math.nan),
        ("momentum", 1),
        ("weight_decay", -1),
        ("drops", (-1,)),
        ("drops", (0.5,)),
        ("factor", 0),
        ("factor", 2),
        ("slimming", -1),
        ("slimming", math.nan),
    ],
)
def test_recipes_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        Recipe(**{setting: value})


def test_frozen_parameters_stay():
    net = convnet()
    net[0].weight.requires_grad_(False)
    run = train(net, source(), SHORT)
    assert torch.equal(run.net[0].weight, net[0].weight)
    assert not torch.equal(run.net[-1].weight, net[-1].weight)


# watchers


def test_watchers_look_before_the_first_epoch_and_after_each():
    watcher = Counter()
    run = train(convnet(), source(), SHORT, watch=[watcher])
    assert watcher.looks == 4
    assert [row["looks"] for row in run.log] == [2, 3, 4]
    assert watcher.modes == [False] * 4
    assert all(row["watch_seconds"] >= 0 for row in run.log)


@pytest.mark.parametrize(("yes_at", "epochs"), [(1, 0), (3, 2), (4, 3), (9, 3)])
@pytest.mark.parametrize("both", [False, True])
def test_until_ends_the_run(yes_at, epochs, both):
    until = Counter(yes_at)
    run = train(convnet(), source(), SHORT, until=until, watch=[until] if both else [])
    assert (run.epoch, run.stopped, until.looks) == (epochs, yes_at <= 4, min(yes_at, 4))


def test_watching_changes_nothing():
    run = train(convnet(dropout=0.5), source(), SHORT, watch=[Counter()])
    assert gap(run.net, train(convnet(dropout=0.5), source(), SHORT).net) == 0


def test_columns_of_the_same_name_are_refused_and_names_help():
    with pytest.raises(ValueError, match="'looks'"):
        train(convnet(), source(), SHORT, watch=[Counter()], until=Counter())
    run = train(convnet(), source(), SHORT, watch={"first": Counter(), "second": Counter()})
    assert run.log[0]["first"] == run.log[0]["second"] == {"looks": 2}


def test_what_on_epoch_changes_is_trained_on():
    def silence(net, row):
        with torch.no_grad():
            net[0].weight[0] = 0

    run = train(convnet(), source(), SHORT, on_epoch=silence)
    assert run.net[0].weight[0].eq(0).all()
    assert gap(run.net, train(convnet(), source(), SHORT).net) > 1e-3


def test_a_progress_bar_shows_if_asked_for(capsys):
    train(convnet(), source(), SHORT)
    assert capsys.readouterr().err == ""
    run = train(convnet(), source(), SHORT, progress=True, test=source(n=10))
    shown = capsys.readouterr().err.split("\r")
    assert re.match(r"epoch 1 of 3: +0%\|.* 0/9 \[00:00<\?", shown[1])
    loss, right, tested = (run.log[-1][k] for k in ("loss", "accuracy", "test_accuracy"))
    told = f", loss {loss:.3g}, accuracy {right:.1%}, test {tested:.1%}]"
    last = shown[-1].strip()
    assert re.match(r"epoch 3 of 3: 100%\|.* 9/9 \[\d\d:\d\d<00:00", last)
    assert last.endswith(told)


def test_the_bar_of_a_run_that_goes_on_begins_where_it_was(tmp_path, capsys):
    call = {"checkpoint": tmp_path / "run.pt", "save_every": 0, "progress": "dense"}
    with pytest.raises(InterruptedRunError):
        train(convnet(), Breaking(source(), 1, 2), SHORT, **call)
    assert "dense: epoch 2 of 3:" in capsys.readouterr().err
    train(convnet(), source(), SHORT, **call)
    first = capsys.readouterr().err.split("\r")[1]
    assert re.match(r"dense: epoch 2 of 3: +56%\|.* 5/9 \[", first)
    train(convnet(), source(), SHORT, **call)
    assert capsys.readouterr().err == ""  # there is nothing left to do


def test_the_bar_of_a_ticket_begins_at_its_epoch(capsys):
    train(convnet(), source(), SHORT, first_epoch=2, progress="retrain")
    assert re.match(
        r"retrain: epoch 3 of 3: +67%\|.* 6/9 \[", capsys.readouterr().err.split("\r")[1]
    )


# what is refused


def test_a_loss_that_is_not_finite_names_epoch_and_rate():
    with pytest.raises(ValueError, match=r"epoch 2, at learning rate 1e\+300"):
        train(convnet(), source(n=16), replace(SHORT, lr=1e300, epochs=5, drops=()))


@pytest.mark.parametrize(
    ("net", "images", "options", "message"),
    [
        (convnet(), source(batch=8), {}, "batches of 8"),
        (convnet(), source(dtype=torch.float32), {}, "float32"),
        (convnet(), source(), {"first_epoch": 4}, "first_epoch"),
        (convnet(), source(), {"micro_batch": 0}, "micro_batch"),
        (convnet(), source(), {"save_every": math.nan}, "save_every"),
        (nn.Flatten(), source(), {}, "no parameters"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 3)).double(), source(), {}, "does not take"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double(), source(), {}, "3 classes"),
    ],
)
def test_what_does_not_fit_is_refused(net, images, options, message):
    with pytest.raises(ValueError, match=message):
        train(net, images, SHORT, **options)


# accuracy, adversarial images


def test_accuracy_counts_and_leaves_the_modes():
    net, batches = convnet(), source(n=37)
    net[1].eval()
    x, y = next(source(n=37, batch=37).epoch(0))
    found = accuracy(net, batches)
    assert (net.training, net[1].training) == (True, False)
    assert found == (net.eval()(x).argmax(1) == y).double().mean().item()


def test_corrupted_copies():
    clean = images(n=30)
    bright = replace(clean, images=clean.images + 1)  # no zeros
    bad = corrupted(bright, copies=3, zeroed=0.25)
    assert len(bad) == 90
    assert (bad.images == 0).flatten(1).sum(1).tolist() == [9] * 90
    copied = bright.images.repeat_interleave(3, 0)
    assert torch.equal(bad.images[bad.images > 0], copied[bad.images > 0])
    assert set(bad.labels.tolist()) == {0, 1, 2}
    assert not torch.equal(bad.labels, bright.labels.repeat_interleave(3))
    assert not torch.equal(bad.images[0] == 0, bad.images[1] == 0)
    assert corrupted(bright, copies=3, zeroed=0.25).fingerprint == bad.fingerprint
    for copies in (0, 1.5):
        with pytest.raises(ValueError, match=f"copies={copies}"):
            corrupted(clean, copies=copies)


@pytest.mark.parametrize("setting", [{"epochs": 1.5}, {"every": 1.5}, {"side": 0.5}, {"epochs": 0}])
def test_pretraining_takes_whole_numbers(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"{name}={value}.* whole numbers, at least 1"):
        layerwise(convnet(), source(), **setting)


def test_networks_in_half_precision_are_counted_exactly():
    classes = torch.zeros(1000, dtype=torch.long)
    logits = torch.zeros(1000, 2, dtype=torch.bfloat16)
    logits[:997, 0], logits[997:, 1] = 1, 1
    loss, sums = measure(nn.Identity(), logits, classes)
    assert sums[1] == 997
    expected = nn.functional.cross_entropy(logits.float(), classes, reduction="sum")
    assert torch.allclose(loss, expected)


def test_slimming_passes_over_a_batchnorm_that_is_not_used():
    net = convnet()
    net.add_module("spare", nn.Module())
    net.spare.norm = nn.BatchNorm2d(3, dtype=torch.float64)
    net.spare.forward = lambda x: x
    train(net, source(), replace(SHORT, epochs=1, slimming=0.1))


class Freezing(StepHook):
    """Holds the first filter, and counts its calls."""

    def __init__(self):
        self.before, self.after, self.seen, self.begun, self.ends = [], [], [], [], []

    def begin(self, net, steps):
        self.begun.append(steps)

    def before_step(self, net, step):
        self.before.append(step)
        self.seen.append(net[0].weight.grad.abs().sum().item())
        net[0].weight.grad[0] = 0

    def after_step(self, net, step):
        self.after.append(step)
        net[0].bias[1] = 7.0

    def skipped_step(self, net, step):
        raise AssertionError("no step is skipped without a scaler")

    def after_epoch(self, net, epoch):
        assert not net.training
        assert not torch.is_grad_enabled()
        net[0].bias[2] += epoch
        self.ends.append((epoch, len(self.after)))

    def state_dict(self):
        return {"before": self.before, "after": self.after}

    def load_state_dict(self, state):
        self.before, self.after = state["before"], state["after"]


def test_a_hook_acts_on_gradients_before_and_on_weights_after_each_step():
    net, hook = convnet(norm=False), Freezing()
    recipe = replace(SHORT, weight_decay=0)
    rows = []

    def look(net, row):
        rows.append((row["epoch"], list(hook.ends)))

    run = train(net, source(), recipe, hook=hook, first_epoch=1, on_epoch=look)
    assert hook.before == hook.after == list(range(3, 9))  # 3 steps an epoch, from the second on
    assert hook.begun == [9]
    assert hook.ends == [(2, 3), (3, 6)]  # epochs that are done, each before on_epoch is called
    assert rows == [(2, hook.ends[:1]), (3, hook.ends)]
    assert all(size > 0 for size in hook.seen)
    assert torch.equal(run.net[0].weight[0], net[0].weight[0])
    assert not torch.equal(run.net[0].weight[1], net[0].weight[1])
    assert run.net[0].bias[1] == 7.0


def test_a_hook_is_part_of_a_run_and_goes_on_with_it(tmp_path):
    path = tmp_path / "run.pt"
    whole, parts = Freezing(), Freezing()
    train(convnet(norm=False), source(), SHORT, hook=whole)
    stop = Counter(yes_at=3)
    train(convnet(norm=False), source(), SHORT, hook=Freezing(), checkpoint=path, until=stop)
    assert load(path)["hook"]["before"] == whole.before[:6]
    with pytest.raises(ValueError, match="hook is None, in the checkpoint 'Freezing'"):
        train(convnet(norm=False), source(), SHORT, checkpoint=path, until=Counter(yes_at=3))
    run = train(
        convnet(norm=False), source(), SHORT, hook=parts, checkpoint=path, until=Counter(yes_at=3)
    )
    assert run.stopped
    assert parts.before == whole.before[:6]


def test_what_a_hook_does_after_an_epoch_is_trained_on_and_kept(tmp_path):
    class Silence(StepHook):
        def after_epoch(self, net, epoch):
            net[0].weight.zero_()

    path = tmp_path / "run.pt"
    run = train(convnet(norm=False), source(), SHORT, hook=Silence(), checkpoint=path)
    assert (run.net[0].weight == 0).all()
    assert (load(path)["net"]["0.weight"] == 0).all()
    other = train(convnet(norm=False), source(), SHORT)
    assert run.log[0]["loss"] == other.log[0]["loss"] < run.log[1]["loss"]


def test_a_trainer_fixes_what_trainings_have_in_common():
    fit = trainer(source(), SHORT, first_epoch=1)
    assert gap(fit(convnet(), "any").net, train(convnet(), source(), SHORT, first_epoch=1).net) == 0
    assert fit(convnet(), first_epoch=2).epoch == 3
