"""Each method of pruning as an experiment, from its config to its result, in two epochs."""

import dataclasses
import inspect
import math
from collections import Counter

import pytest
import torch
from test_experiments_run import STREAM, as_imagenet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from training import InterruptedRunError

from splinelib import cost, data, experiments, nets, surgery, train
from splinelib.experiments import METHODS, Job, get, kept_units, paper_values, record, registry, run
from splinelib.experiments.booking import Counting, parts
from splinelib.experiments.catalogue import method_options
from splinelib.experiments.images import images
from splinelib.experiments.methods import available
from splinelib.experiments.pipelines import FOLLOWING, Pruning
from splinelib.experiments.show import ours, show
from splinelib.experiments.small import EPOCHS
from splinelib.experiments.telling import bits, unbits
from splinelib.experiments.trainings import Trainings
from splinelib.pruning.memory import Memory
from splinelib.pruning.spline import spline

DENSE, UNITS, WEIGHTS, IMAGES = 64832, 64, 144 + 2304 + 4608 + 320, 1442 - 256
SINGLE = ("lt", "snip", "grasp", "synflow", "rigl")  # these remove single weights
TINY = {  # settings with which two epochs, and few seconds, are enough
    "legr": {"population": 2, "sample": 1, "generations": 3, "steps": 1},
    "metapruning": {"population": 3, "parents": 2, "iterations": 1},
    "gal": {"epochs": 2},
    "gdp": {"period": 10},
    "c-sgd": {"tolerance": 100.0},
    "ns-ip": {"rounds": 2},
    "rigl": {"period": 10},
    "synflow": {"rounds": 10},
    "minimal": {"weights": "reinit"},
}
UNTRAINED = ("metapruning", "snip", "grasp", "synflow")  # these draw before a training


def short(method, epochs=2, **options):
    """The small form of a method, cut to few epochs; it keeps its name, and has another config."""
    names = {"minimal": "minimal-layerwise-50"}
    e = get(f"small/convnet/digits/{names.get(method, f'{method}-50')}")
    recipe = dataclasses.replace(e.recipe, epochs=epochs, drops=(1,), lr=0.05)
    settings = {**e.method_options, **TINY.get(method, {}), **options}
    return dataclasses.replace(e, recipe=recipe, method_options=settings)


def job(e, folder, seed=0):
    return Job(e, seed, images(e, seed), torch.device("cpu"), folder, cost.Ledger())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of all methods, each run once, and the folder of the networks that were kept."""
    place, found = tmp_path_factory.mktemp("methods"), {}

    def result(method):
        if method not in found:
            file = run(short(method), out=place / "out", keep=place / "kept", device="cpu")
            found[method] = record.read(file)
        return found[method], place

    return result


# The table and the configs


def test_no_config_waits_for_a_method_or_a_start():
    assert [e.name for e in registry().values() if not available(e)] == []
    assert {e.method for e in registry().values()} == set(METHODS)


@pytest.mark.parametrize("table", [1, 2, 3, 4, 5, 7, 8, 9, 10, 11])
def test_every_row_of_the_tables_has_a_config_that_can_be_run(table):
    rows = {v.cell for v in paper_values(table=table) if "mprov." not in v.method}
    ready = {cell for e in registry().values() if available(e) for cell in e.cells}
    assert rows
    assert rows - ready == set()


def takes(draw):
    """The settings that a method understands."""
    found = {*inspect.signature(draw).parameters}
    return found | ({*inspect.signature(spline).parameters} if "options" in found else set())


def test_methods_understand_the_settings_of_their_configs():
    for e in registry().values():
        row = METHODS[e.method]
        if isinstance(row, Pruning):
            assert {*e.method_options} - {*FOLLOWING} <= takes(row.draw), e.name
            assert 0 < e.method_options["ratio"] < 1


def test_settings_that_the_paper_fixes():
    options = get("preresnet101/cifar10/eb-spline-50").method_options
    assert options["reduce"] == "pca"
    assert (options["rho"], options["scope"], options["residual"]) == (0.05, "global", "select")
    assert get("vgg16/cifar10/spline-layerwise-30").method_options["reduce"] == "none"
    assert "residual" not in get("vgg16/cifar10/ns-30").method_options
    begins = [get(f"vgg16/cifar10/minimal-{w}-90") for w in ("random", "lottery", "layerwise")]
    weights = [e.method_options["weights"] for e in begins]
    assert weights == ["reinit", "rewind", "layerwise"]
    slimmed = {e.method for e in registry().values() if e.recipe.slimming and e.method != "dense"}
    assert slimmed == {"ns", "ns-ip", "eb-train"}


def test_all_methods_on_digits_train_for_as_long():
    """Whole trainings times their epochs; GAL has 20 more of its own."""
    trainings = Counter({"ns-ip": 4, "gdp": 3, "gal": 2})
    trainings.update(dict.fromkeys(("sfp", "rigl", "snip", "grasp", "synflow"), 1))
    trainings.update(dict.fromkeys(("eb-train", "eb-spline"), 1))  # one, in two parts
    for method, epochs in EPOCHS.items():
        total = epochs * (trainings[method] or 2) + 20 * (method == "gal")
        assert total in (80, 81), method
    assert get("small/convnet/digits/dense-80").recipe.epochs == 80


# Each method, end to end


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dense"])
def test_a_method_from_its_config_to_its_result(made, method):
    result, place = made(method)
    told = result["outcome"]
    pruned = told["pruned"]
    of = WEIGHTS if method in SINGLE else UNITS
    assert (pruned["removed"], pruned["of"]) == (of // 2, of)
    assert sum(kept for kept, _ in pruned["widths"].values()) == of - of // 2
    assert {"weights", "schedule", "nonzero"} <= told.keys()
    assert {"accuracy_before", "accuracy_cut"} & told.keys() == (
        set() if method in UNTRAINED else {"accuracy_before", "accuracy_cut"}
    )
    assert told["macs"] == [DENSE, result["macs"]]
    assert told["parameters"][1] == result["parameters"]
    assert min(told["forward_seconds"]) > 0
    assert set(result["config"]["method_options"]) >= {"ratio"}
    kept = surgery.load(place / "kept" / result["name"] / "seed0.pt").net
    assert told["nonzero"] == sum(int(p.count_nonzero()) for p in kept.parameters())
    assert train.accuracy(kept, job(short(method), place).test()) == pytest.approx(
        result["accuracy"], abs=1e-5
    )
    assert any("accuracy" in line for line in show(result["name"], place / "out"))


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("dense", *UNTRAINED)])
def test_a_ticket_is_measured_as_the_trained_network_that_it_was_drawn_from(made, method):
    """Not as the start: what the last epoch of that training logged is told again."""
    result, _ = made(method)
    told = result["outcome"]
    dense = [row["test_accuracy"] for row in result["log"] if row.get("run", 0) == 0]
    if method in ("eb-spline", "eb-train", "rigl") or METHODS[method].on == "trained":
        assert told["accuracy_before"] == pytest.approx(dense[-1], abs=1e-5)
        assert told["accuracy_before"] > 0.3
    if told["schedule"] == "none":  # what is cut is what is recorded
        assert told["accuracy_cut"] == pytest.approx(result["accuracy"], abs=1e-5)


@pytest.mark.parametrize("method", ["ns", "ns-ip", "eb-train"])
def test_the_penalty_on_scales_serves_to_choose_alone(tmp_path, monkeypatch, method):
    seen, real = {}, Job.train

    def spy(self, net, label="dense", *, recipe=None, **options):
        seen[label] = (recipe or self.experiment.recipe).slimming
        return real(self, net, label, recipe=recipe, **options)

    monkeypatch.setattr(Job, "train", spy)
    METHODS[method](job(short(method, epochs=1), tmp_path))
    assert seen.pop("retrain") == 0
    assert {*seen.values()} == {1e-3}


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("dense", *SINGLE)])
def test_units_that_go_make_the_network_as_small_as_one_of_these_widths(made, method):
    result, _ = made(method)
    units = kept_units(result)
    widths = [int(kept.sum()) for kept in units.values()]
    assert [[w, len(k)] for w, k in zip(widths, units.values(), strict=True)] == [
        *result["outcome"]["pruned"]["widths"].values()
    ]
    net = nets.build("convnet", 10, channels=widths, kernels=[3, 3, 3], batch_norm=True)
    assert result["macs"] == cost.macs(net, (1, 8, 8)) < DENSE
    assert result["parameters"] == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("method", SINGLE)
def test_weights_that_go_save_no_operation_and_stay_0(made, method):
    result, place = made(method)
    assert result["macs"] == DENSE
    assert "kept" not in result["outcome"]["pruned"]
    kept = surgery.load(place / "kept" / result["name"] / "seed0.pt").net
    for name, (left, size) in result["outcome"]["pruned"]["widths"].items():
        weight = kept.get_parameter(name)
        assert int(weight.count_nonzero()) <= left <= size == weight.numel()
    with pytest.raises(ValueError, match="removed no units"):
        kept_units(result)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dense"])
def test_all_trainings_are_logged_and_booked(made, method):
    """By hand: three passes of two operations, each image of each epoch, at the width it had."""
    result, _ = made(method)
    epochs = Counter(row.get("run", 0) for row in result["log"])
    assert sorted(epochs) == list(range(len(epochs)))
    rows = [r for r in result["flops"]["rows"] if r["what"] == "training"]
    if method == "metapruning":
        hyper = 3 * (2 * 32) + 32 + 32 * (144 + 2304 + 4608 + 16 + 16 + 32) + 2 * 32 + 32 * 330 - 32
        whole = rows[0]["flops"] / (6 * 2)
        assert whole == DENSE * IMAGES + 19 * hyper
        rows = rows[1:]
    macs = {"retrain": result["macs"], "round 2": None}
    for row in rows:
        cheap = macs.get(row["label"], DENSE)
        trained = row["flops"] / (6 * IMAGES)
        if cheap is None:
            assert 2 * result["macs"] < trained < 2 * DENSE
        else:
            assert trained in (2 * cheap, 0)
    assert sum(epochs.values()) == 2 * sum(
        r["flops"] > 0 for r in result["flops"]["rows"] if r["what"] == "training"
    )
    searching = {"spline", "minimal", "thinet", "legr", "gal", "snip", "grasp", "synflow"}
    searching |= {"metapruning", "eb-spline", "c-sgd"}
    analysed = [r["flops"] for r in result["flops"]["rows"] if r["what"] == f"{method} ticket"]
    assert (len(analysed) == 1 and analysed[0] > 0) == (method in searching)
    assert result["flops"]["total"] == sum(r["flops"] for r in result["flops"]["rows"])


# Early birds


def test_an_early_bird_pays_for_its_detector_and_goes_on_in_the_schedule(tmp_path):
    result = record.read(run(short("eb-spline", epochs=12), out=tmp_path, device="cpu"))
    told = result["outcome"]
    epoch = told["ticket_epoch"]
    assert told["fired"]
    assert 2 <= epoch < 12
    rows = {(r["label"], r["what"]): r["flops"] for r in result["flops"]["rows"]}
    assert rows["dense", "training"] == 6 * DENSE * IMAGES * epoch
    assert rows["dense", "detector"] == 2 * DENSE * 256 * (epoch + 1)
    assert rows["retrain", "training"] == 6 * result["macs"] * IMAGES * (12 - epoch)
    assert [row["epoch"] for row in result["log"]] == list(range(1, 13))
    again = experiments.results("*", tmp_path)[0]
    assert experiments.column(again, "loss", run=1).shape == (12 - epoch,)
    assert f"ticket after {epoch} epochs" in show(result["name"], tmp_path)[-1]


def test_an_early_bird_that_is_not_found_is_trained_once_more(made):
    """Two epochs are too few for the rule: the ticket is that of the last one, and costs more."""
    result, place = made("eb-spline")
    told = result["outcome"]
    assert (told["fired"], told["ticket_epoch"], told["schedule"]) == (False, 2, "full")
    assert [row["epoch"] for row in result["log"] if row["run"] == 1] == [1, 2]
    line = "no early bird: ticket after all epochs, schedule full"
    assert line in show(result["name"], place / "out")[-1]
    assert ours(result, paper_values(table=6, quantity="emerge_epoch")[0]) is None


# Where tickets go on


def begun(weights, tmp_path, method="spline"):
    """What a ticket starts its training from, and the network before and after the dense one."""
    e = short(method, weights=weights, schedule="none")
    here = job(e, tmp_path)
    return here, METHODS[method](here)


def test_tickets_inherit_rewind_or_begin_anew(tmp_path):
    found = {w: begun(w, tmp_path / w) for w in ("inherit", "rewind", "reinit")}
    here, inherited = found["inherit"]
    rows = inherited.plan.kept["0"]
    assert torch.equal(inherited.net[0].weight, inherited.runs[0].net[0].weight[rows])
    start = here.network()
    rewound = found["rewind"][1].net
    assert torch.equal(rewound[0].weight, start[0].weight[rows])
    anew = found["reinit"][1].net
    assert anew[0].weight.shape == rewound[0].weight.shape
    assert not torch.isin(anew[0].weight, start[0].weight).any()
    assert [len(outcome.runs) for _, outcome in found.values()] == [1, 1, 1]


def test_layerwise_pretraining_books_layers_that_stand_still(tmp_path):
    e = short("minimal", weights="layerwise", pretraining={"epochs": 1})
    here = job(e, tmp_path)
    outcome = METHODS["minimal"](here)
    assert len(outcome.runs) == 1 + 4 + 1
    rows = {(r["label"], r["what"]): r["flops"] for r in here.ledger.rows}
    small = list(cost.layer_macs(outcome.net, (1, 8, 8)).values())
    still = rows["layer 8", "layers that stand still"]
    assert still == 2 * sum(small[:2]) * IMAGES
    assert rows["layer 8", "training"] > 6 * small[2] * IMAGES
    assert ("layer 0", "layers that stand still") not in rows


def test_the_adversarial_start_goes_before_a_ticket(tmp_path):
    options = {"start": "adversarial", "start_options": {"epochs": 1, "batch": 64}}
    e = dataclasses.replace(short("eb-train", epochs=3), **options)
    here = job(e, tmp_path)
    outcome = METHODS["eb-train"](here)
    assert len(outcome.runs) == 3
    assert here.ledger.rows[0]["label"] == "adversarial start"


def test_seeds_draw_other_tickets(tmp_path):
    masks = []
    for seed in (0, 0, 1):
        here = job(short("random", schedule="none"), tmp_path / str(len(masks)), seed)
        masks.append(METHODS["random"](here).told["pruned"]["kept"])
    assert masks[0] == masks[1] != masks[2]


def test_streams_of_residual_networks_are_selected_from(tmp_path):
    """What remains costs less, though the stream stays whole; the cut changes no answer."""
    small = get("small/preresnet20/digits/dense")
    recipe = dataclasses.replace(small.recipe, epochs=1, drops=())
    options = {"ratio": 0.5, "scope": "global", "residual": "select"}
    for method in ("ns", "spline"):
        e = dataclasses.replace(
            small,
            method=method,
            method_options={**options, "schedule": "none"},
            recipe=recipe,
            probes=(),
            network_options={"width": 0.25},
            images=700,
        )
        here = job(e, tmp_path / method)
        outcome = METHODS[method](here)
        pruned = outcome.told["pruned"]
        assert pruned["removed"] == math.floor(pruned["of"] / 2 + 0.5)
        gates = {n for n, g in surgery.groups(here.network(), "select").items() if g.gate}
        assert gates <= pruned["widths"].keys()
        assert here.macs(outcome.net) < here.macs(here.network())
        assert surgery.shrink(here.network(), outcome.plan)(here.images.held.inputs()).shape


ON_RESIDUAL = {e.method for e in registry().values() if "resnet" in e.network}


@pytest.mark.parametrize("method", sorted(ON_RESIDUAL - {"dense", *SINGLE}))
def test_methods_that_the_tables_run_on_residual_networks_run_on_one(tmp_path, method):
    small = get("small/preresnet20/digits/dense")
    e = dataclasses.replace(
        small,
        method=method,
        method_options={**method_options(method, 0.3, "preresnet20"), **TINY.get(method, {})},
        recipe=dataclasses.replace(small.recipe, epochs=1, drops=()),
        probes=(),
        network_options={"width": 0.25},
        images=400,
    )
    outcome = METHODS[method](job(e, tmp_path))
    pruned = outcome.told["pruned"]
    assert 0 < pruned["removed"] < pruned["of"] / 2
    assert outcome.told["macs"][1] < outcome.told["macs"][0]
    assert outcome.net.eval()(data.load("digits")[1].inputs(range(4))).shape == (4, 10)


# Interrupted


TIMES = ("seconds", "cpu_seconds", "watch_seconds", "forward_seconds", "started", "file", "code")


def timeless(result):
    """What must be the same whenever a run is made."""
    if isinstance(result, dict):
        return {k: timeless(v) for k, v in result.items() if k not in TIMES}
    return [timeless(v) for v in result] if isinstance(result, list) else result


def interrupted(monkeypatch, steps):
    """Let the so manieth step of all trainings together break off, and count those taken."""
    taken, real = Counter(), train.session.update

    def update(*arguments):
        if taken["steps"] == steps:
            raise InterruptedRunError
        taken["steps"] += 1
        return real(*arguments)

    monkeypatch.setattr(train.session, "update", update)
    return taken


@pytest.mark.parametrize("method, steps", [("spline", 50), ("gdp", 60), ("rigl", 25), ("lt", 60)])
def test_a_run_that_breaks_off_in_any_training_ends_as_one_that_did_not(
    made, tmp_path, monkeypatch, method, steps
):
    whole, _ = made(method)
    total = 19 * len(whole["log"])
    with monkeypatch.context() as patch:
        interrupted(patch, steps)
        with pytest.raises(InterruptedRunError):
            run(short(method), out=tmp_path, device="cpu", save_every=0.0)
    assert experiments.results("*", tmp_path) == []
    with monkeypatch.context() as patch:
        taken = interrupted(patch, -1)
        again = record.read(run(short(method), out=tmp_path, device="cpu"))
    assert taken["steps"] == total - steps  # nothing is trained twice
    assert timeless(again) == timeless(whole)


@pytest.mark.parametrize("method", ["gal", "legr", "metapruning"])
def test_a_search_that_breaks_off_goes_on_where_it_was(made, tmp_path, monkeypatch, method):
    """What it costs is counted once: the operations that led to what was kept are kept along."""
    whole, _ = made(method)
    kept, real = [], Memory.keep

    def keep(self, *arguments):
        real(self, *arguments)
        kept.append(self.path)
        if len(kept) == 2:
            raise InterruptedRunError

    monkeypatch.setattr(Memory, "keep", keep)
    with pytest.raises(InterruptedRunError):
        run(short(method), out=tmp_path, device="cpu", save_every=0.0)
    assert kept[0].name == f"{method} search.pt"
    again = record.read(run(short(method), out=tmp_path, device="cpu", save_every=0.0))
    assert timeless(again) == timeless(whole)
    assert not kept[0].exists()


# Counting


def test_operations_are_those_of_torchs_own_counter():
    net = nets.build("convnet", 10, channels=[4], kernels=[3], batch_norm=True)
    x = torch.randn(5, 1, 8, 8)

    def work():
        loss = net(x).square().sum()
        (grad,) = torch.autograd.grad(loss, [net[0].weight], create_graph=True)
        grad.square().sum().backward()

    with FlopCounterMode(display=False) as oracle:
        work()
    with Counting() as counted:
        work()
    assert counted.flops == oracle.get_total_flops() > 0
    with Counting() as counted, torch.inference_mode():
        net.eval()(x)
    assert counted.flops == 2 * cost.macs(net, (1, 8, 8)) * 5


def test_trainings_inside_an_analysis_are_booked_once(tmp_path):
    here = job(short("random"), tmp_path)
    fit = Trainings(here)
    net = here.network()
    with fit.analysing("scores"):
        torch.ones(2, 3) @ torch.ones(3, 4)
        fit(net, "a/b: c")
        fit(net, "a/b: c")
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert [(r["label"], r["what"], r["flops"]) for r in here.ledger.rows] == [
        ("ab c", "training", 6 * DENSE * IMAGES * 2),
        ("ab c 2", "training", 6 * DENSE * IMAGES * 2),
        ("analysis", "scores", 2 * 48),
    ]
    assert {p.name for p in tmp_path.glob("*.pt")} == {"ab c.pt", "ab c 2.pt"}
    assert 0 < fit.seconds < sum(r.seconds for r in fit.runs)


def test_forward_passes_are_timed_where_a_run_is_alone(made, tmp_path, monkeypatch):
    result, _ = made("random")
    dense, final = result["outcome"]["forward_seconds"]
    assert min(dense, final) > 0
    monkeypatch.setenv("SPLINELIB_SIDE_BY_SIDE", "2")
    told = METHODS["random"](job(short("random", schedule="none"), tmp_path)).told
    assert "forward_seconds" not in told
    assert {"macs", "parameters", "nonzero"} <= told.keys()


def test_parts_of_a_training():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert parts(net, (4,)) == (32 + 64 + 16, 0, 0)
    net[0].requires_grad_(False)
    net[4].requires_grad_(False)  # gradients go back through it all the same
    assert parts(net, (4,)) == (64 + 16, 32, 0)


@pytest.mark.parametrize("width", [1, 7, 8, 13])
def test_bits_of_channels_come_back(width):
    kept = torch.rand(width, generator=torch.Generator().manual_seed(width)) < 0.5
    assert torch.equal(unbits(bits(kept), width), kept)


def test_random_units_and_images_are_drawn_by_the_run(tmp_path):
    here = job(short("random"), tmp_path)
    x, y = here.sample(40)
    again, other = here.sample(40), here.sample(40, stream=11)
    assert torch.equal(x, again[0])
    assert not torch.equal(x, other[0])
    assert (x.shape, y.shape) == ((40, 1, 8, 8), (40,))
    assert len(here.sample(10**6)[0]) == IMAGES
    assert here.sample(10, of_each=True)[1].bincount().tolist() == [10] * 10
    assert here.sample(100)[1].bincount(minlength=10).tolist() != [10] * 10


@pytest.mark.parametrize("data_set", ["digits", "imagenet"])
def test_what_judges_is_held_out_and_not_augmented(tmp_path, monkeypatch, data_set):
    e, root = short("metapruning"), None
    if data_set == "imagenet":
        root = as_imagenet(tmp_path, monkeypatch).parent
        e = dataclasses.replace(STREAM, probe_images=20)
    here = Job(e, 0, images(e, 0, root=root), torch.device("cpu"), tmp_path, cost.Ledger())
    fit = Trainings(here)
    x, y = METHODS["metapruning"]._given("judges", fit)
    assert len(x) == e.probe_images
    assert bag(x, y) == bag(here.images.held.inputs(), here.images.held.labels)
    assert (bag(x, y) & bag(*here.sample(10**6))).total() <= 1  # digits has one image twice
    plain = data.Stream(root / "imagenet", augment=False) if root else data.load("digits")[0]
    assert bag(x, y) + bag(*here.sample(10**6)) == bag(plain.inputs(), plain.labels)
    row = dataclasses.replace(METHODS["eb-spline"], images=7)
    (probe,) = row._given("probe", fit)
    assert torch.equal(probe, x[:7])
    assert len(here.sample(3, of_each=True)[1]) == 3 * len(here.images.train.classes)


def bag(x, y):
    """How often each image comes with its label, whatever the order."""
    return Counter(x.numpy().tobytes() + bytes([y]) for x, y in zip(x, y.tolist(), strict=True))
