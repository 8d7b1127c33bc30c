"""splinelib.experiments, run for real: the command line, kills, queues, missing data, methods."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from splinelib import cost, data, experiments, train
from splinelib.experiments import (
    METHODS,
    Experiment,
    Outcome,
    get,
    methods,
    places,
    queue,
    record,
    run,
)
from splinelib.experiments.claims import claim, done, taken
from splinelib.experiments.cli import main
from splinelib.experiments.images import Images, images
from splinelib.experiments.queue import Queue, environment
from splinelib.experiments.run import _started, _told, shares_right
from splinelib.experiments.starts import adversarial
from splinelib.train import Recipe

BRIEF = get("small/mlp/digits/brief")
LONG = dataclasses.replace(
    BRIEF, name="test/mlp/digits/long", recipe=Recipe(epochs=30, batch=64, drops=(15,))
)
QUICK = get("small/convnet/digits/dense")
TIMES = ("seconds", "watch_seconds")


def command(*arguments, **options):
    """The command line in a process of its own, as a reader starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "splinelib.experiments", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(1),
        **options,
    )


def without_times(result):
    """What must be the same whenever a run is made."""
    left_out = ("seconds", "cpu_seconds", "started", "file", "code")
    log = [{k: v for k, v in row.items() if k not in TIMES} for row in result["log"]]
    return {k: v for k, v in result.items() if k not in left_out} | {"log": log}


def ended(process, seconds=60):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


# From the command line to the file


def test_a_run_through_the_command_line_and_its_result(tmp_path):
    status, out, err = ended(command("run", BRIEF.name, "--out", tmp_path, "--device", "cpu"))
    assert (status, out) == (0, f"{BRIEF.name}: {tmp_path / BRIEF.name}/seed0.json\n"), err
    (result,) = experiments.results("*", tmp_path)
    train_set, test_set = data.load("digits")
    assert result["data"]["fingerprint"] == train_set.fingerprint
    assert result["data"]["test_fingerprint"] == test_set.fingerprint
    macs = 64 * 32 + 32 * 32 + 32 * 10
    assert result["macs"] == macs
    assert result["parameters"] == macs + 32 + 32 + 10
    # The ledger by hand: three passes, two operations each, every image in each of four epochs.
    assert result["flops"]["total"] == 3 * 2 * macs * (1442 - 128) * 4
    # Four watchers of 128 inputs looked at the start and after each epoch.
    assert result["flops"]["watching"] == 2 * macs * 4 * 128 * 5
    assert [row["epoch"] for row in result["log"]] == [1, 2, 3, 4]
    assert result["log"][-1]["test_accuracy"] == pytest.approx(result["accuracy"], abs=1e-5)
    assert result["accuracy"] > 0.8
    assert 0 < result["cpu_seconds"] < 60
    assert (result["energy"], result["peak_memory"]) == ("not measured", "not measured")
    assert Experiment.from_json(result["config"]) == BRIEF
    matrix = experiments.distance_matrix(result, "random")
    assert matrix.shape == (5, 5)
    moved = experiments.column(result, "distance held-out")
    found = experiments.distance_matrix(result, "held-out").diagonal(1)
    assert torch.allclose(moved, found, atol=6e-5)
    assert len(experiments.layer_distances(result)[0]) == 2
    left = [p.name for p in (tmp_path / ".work").rglob("*") if p.is_file()]
    assert sorted(left) == [".gitignore", "seed0.lock"]  # the checkpoint has served


def test_a_second_run_takes_the_next_seed_and_a_given_one_is_kept_beside(tmp_path, capsys):
    arguments = ["run", BRIEF.name, "--out", str(tmp_path), "--device", "cpu", "--quiet"]
    assert [main(arguments), main(arguments), main([*arguments, "--seed", "0"])] == [0, 0, 0]
    told = capsys.readouterr().out.splitlines()
    assert told[2].endswith("seed0-2.json (that seed had a result, which stays)")
    first, again, other = experiments.results("*", tmp_path, again=True)
    assert (first["seed"], again["seed"], other["seed"]) == (0, 0, 1)
    assert without_times(first) == without_times(again)
    assert first["log"][0]["loss"] != other["log"][0]["loss"]


def test_two_processes_of_torchrun_make_one_run(tmp_path):
    """Started as ImageNet's page says; the same epochs as one process makes, to rounding."""
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    asked = ["splinelib.experiments", "run", BRIEF.name, "--seed", "0", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *asked, "--out", tmp_path / "two"],
        env=environment(1) | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    path = tmp_path / "two" / BRIEF.name / "seed0.json"
    assert done.stdout == f"{BRIEF.name}: {path}\n"  # the first process alone tells and records
    assert [p.name for p in path.parent.iterdir()] == ["seed0.json"]
    assert "dense: epoch 4 of 4: 100%" in done.stderr
    two, one = (record.read(p) for p in (path, run(BRIEF, 0, out=tmp_path, device="cpu")))
    assert two["flops"] == one["flops"]
    for a, b in zip(two["log"], one["log"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert a["test_accuracy"] == pytest.approx(b["test_accuracy"], abs=0.01)


# Killed, and run again


def test_a_killed_run_goes_on_and_ends_as_one_never_killed(tmp_path):
    script = (
        "import sys\nfrom splinelib.experiments import Experiment, run\n"
        f"e = Experiment.from_json({LONG.to_json()!r})\n"
        "run(e, out=sys.argv[1], device='cpu', save_every=0.0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "killed"], env=environment(1)
    )
    end = time.monotonic() + 60
    while not (found := list(tmp_path.rglob("dense.pt"))) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert train.load(found[0])["epoch"] < 30
    assert experiments.results("*", tmp_path / "killed") == []
    once, torn = (run(LONG, out=tmp_path / name, device="cpu") for name in ("once", "killed"))
    assert torn.name == "seed0.json"
    assert without_times(record.read(once)) == without_times(record.read(torn))


def test_a_full_disk_at_the_end_costs_no_training(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(record.os, "link", full)
        with pytest.raises(OSError, match="Its checkpoint is: free 1?[0-9] kB there"):
            run(BRIEF, out=tmp_path, device="cpu")
    assert experiments.results("*", tmp_path) == []
    steps = []
    monkeypatch.setattr(train.step, "gradients", lambda *a, **k: steps.append(1))
    assert run(BRIEF, out=tmp_path, device="cpu").name == "seed0.json"
    assert steps == []  # the complete training came back from its checkpoint


# Errors of the command line


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (
            ["run", "vgg16/cifar10/dense", "--root", "nowhere"],
            3,
            "--as-data cifar10=cifar10-jpeg75",
        ),
        (["run", "vgg16/cifar/dense"], 1, "did you mean vgg16/cifar10/dense"),
        (["run", "small/*/dense"], 1, "name one, or use queue --match"),
        (["run", BRIEF.name, "--data", "digits"], 1, "--data is 'digits'; give NAME=VALUE"),
        (
            ["run", BRIEF.name, "--data", "mnist=x"],
            1,
            "--data mnist=... changes nothing: 'small/mlp",
        ),
        (["show", "small/*", "--as-data", "mnist=x"], 1, "runs on cifar10, colour, digits"),
        (["queue", "--budget", "25"], 1, "give a number with its unit"),
        (["queue", "--budget", "1s", "--jobs", "0"], 1, "jobs is 0; give at least 1"),
        (["show", "nothing"], 1, "no experiment matches"),
    ],
)
def test_errors_are_one_line_and_a_status(
    tmp_path, capsys, monkeypatch, arguments, status, message
):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--out", str(tmp_path), "--device", "cpu"]) == status
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_list_and_missing(tmp_path, capsys):
    assert main(["list", "small/*", "--out", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert f"{BRIEF.name:<44} 0/1" in listed
    assert f"{'small/convnet/digits/spline-50':<44} 0/5" in listed
    run(BRIEF, out=tmp_path, device="cpu")
    assert main(["missing", "small/mlp/*", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("0 results of 0 experiments are missing")
    assert main(["missing", "vgg16/cifar10/dense", "--as-data", "cifar10=cifar10-jpeg75"]) == 0
    assert "vgg16/cifar10-jpeg75/dense" in capsys.readouterr().out


def test_whoever_reads_may_leave(tmp_path):
    """As in ``list | head``; and a queue goes on without its listener."""
    for arguments in (["list"], ["queue", "--budget", "1m", "--match", BRIEF.name]):
        with command(*arguments, "--out", tmp_path, "--device", "cpu") as process:
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 0
    assert len(experiments.results("*", tmp_path)) == 1


# Stand-ins


def folder_of_images(place, size=8):
    """Two classes of small pictures, as a reader's own folder."""
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 40), ("test", 10)):
        for label, shade in (("dark", 40), ("light", 180)):
            (place / split / label).mkdir(parents=True)
            for n in range(count):
                pixels = torch.randint(shade, shade + 40, (size, size, 3), generator=generator)
                Image.fromarray(pixels.byte().numpy()).save(place / split / label / f"{n}.png")
    return place


def test_a_stand_in_is_recorded_under_its_own_name(tmp_path, capsys):
    pictures = folder_of_images(tmp_path / "my-pictures")
    arguments = ["--as-data", "digits=my-pictures", "--data", f"my-pictures={pictures}"]
    small = dataclasses.replace(BRIEF, probe_images=16, seeds=1)
    e = small.on("my-pictures")
    assert e.name == "small/mlp/my-pictures/brief"
    path = run(e, out=tmp_path / "out", places={"my-pictures": [pictures]}, device="cpu")
    result = record.read(path)
    assert (result["data"]["name"], result["data"]["train_images"]) == ("my-pictures", 64)
    assert result["data"]["classes"] == 2
    # The same from the command line, where 128 of the 80 images cannot be held out.
    assert main(["run", BRIEF.name, "--out", str(tmp_path / "out"), *arguments]) == 1
    assert "small/mlp/my-pictures/brief wants 80 images, 128 of them held out" in (
        capsys.readouterr().err
    )


@pytest.mark.skipif(
    not any((up / "shared/data/mnist").is_dir() for up in Path(__file__).resolve().parents)
    and not (Path(__file__).resolve().parents[2] / "shared/data/mnist").is_dir(),
    reason="MNIST's test files are not at hand",
)
def test_a_set_that_is_not_what_it_is_called_is_refused():
    from splinelib.experiments.sources import MissingDataError, load

    assert load("mnist-t10k")[0].name == "mnist-t10k"
    with pytest.raises(MissingDataError, match="'mnist' is not at hand, only 'mnist-t10k'"):
        load("mnist")


STREAM = dataclasses.replace(
    get("resnet18/imagenet/dense"), recipe=Recipe(epochs=1, batch=16), probe_images=5
)


def as_imagenet(place, monkeypatch):
    """A folder that is taken for ImageNet, whose images are decoded in this process."""
    folder = folder_of_images(place / "imagenet", size=24)
    (folder / "test").rename(folder / "val")
    monkeypatch.setattr(data, "Stream", partial(data.Stream, workers=0))
    return folder


def key(x):
    return x.numpy().tobytes()


def test_imagenet_comes_as_a_stream(tmp_path, monkeypatch):
    folder = as_imagenet(tmp_path, monkeypatch)
    found = images(STREAM, 0, root=tmp_path)
    assert found.told["name"] == "imagenet"
    numbers = [found.told[f"{part}_images"] for part in ("train", "held_out", "test")]
    assert numbers == [75, 5, 20] == [len(part) for part in (found.train, found.held, found.test)]
    assert found.probes == {}
    whole = data.Stream(folder, "train", augment=False)
    assert found.told["fingerprint"] == whole.fingerprint
    parts = torch.cat([found.train.inputs(), found.held.inputs()])
    assert sorted(map(key, parts)) == sorted(map(key, whole.inputs()))  # no image is in both
    with pytest.raises(ValueError, match="wants 80 images, 80 of them held out"):
        images(dataclasses.replace(STREAM, probe_images=80), 0, root=tmp_path)


def test_probes_of_a_stream(tmp_path, monkeypatch):
    as_imagenet(tmp_path, monkeypatch)
    names = ("held-out", "test", "random", "canvas")
    e = dataclasses.replace(STREAM, probes=names)
    found, again = images(e, 0, root=tmp_path), images(e, 0, root=tmp_path)
    assert {name: tuple(x.shape) for name, x in found.probes.items()} == {
        **dict.fromkeys(("held-out", "test", "random"), (5, 3, 224, 224)),
        "canvas": (4, 3, 224, 224),
    }
    assert all(torch.equal(x, again.probes[name]) for name, x in found.probes.items())


# Queues


def in_queue(tmp_path, wanted, programs, budget=60.0, jobs=2):
    """A queue whose runs are small scripts, by the name of the experiment."""
    said = []
    box = Queue(
        wanted,
        tmp_path / "out",
        tmp_path / "work",
        budget=budget,
        jobs=jobs,
        command=lambda e: [sys.executable, "-S", "-c", programs[e.name]],
        say=said.append,
    )
    return box.run(), said


def test_a_queue_goes_on_when_runs_fail_or_data_are_missing(tmp_path):
    first, bad, last = get("small/convnet/digits/dense"), get("small/vgg16/colour/dense"), BRIEF
    no_data = [get("vgg16/cifar10/dense"), get("vgg16/cifar10/dense-adam")]
    programs = {
        first.name: "print('the file')",
        bad.name: "print('begun'); raise SystemExit('out of memory')",
        no_data[0].name: "import sys; print('no cifar10', file=sys.stderr); sys.exit(3)",
        no_data[1].name: "raise SystemExit('never started')",
        last.name: "",
    }
    report, said = in_queue(tmp_path, [first, bad, *no_data, last], programs)
    assert report.finished.count(first.name) == 3  # all its seeds
    assert report.finished.count(last.name) == 1
    # The others are not tried again, though two may have been started side by side.
    assert report.failed.count(bad.name) <= 2
    assert {*report.failed} == {bad.name, no_data[0].name}
    assert report.stopped == []
    assert any(f"FAILED {bad.name}: out of memory (see" in line for line in said)
    assert any("no cifar10" in line for line in said)
    assert "left out" in " ".join(said)
    done = [line for line in said if line.startswith("done in")]
    assert sum(line.endswith(": the file") for line in done) == 3


def test_a_queue_knows_how_many_share_the_device(tmp_path):
    programs = {BRIEF.name: "import os; print(os.environ['SPLINELIB_SIDE_BY_SIDE'])"}
    _, said = in_queue(tmp_path, [BRIEF], programs, jobs=4)
    assert said[-1].endswith(": 4")


def test_runs_that_do_not_end_when_told_are_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "GRACE", 0.5)
    monkeypatch.setattr(queue, "SHORT", 0.0)
    stubborn = (
        "import signal, time, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path)!r}, 'ready').touch()\n"
        "time.sleep(60)"
    )
    start = time.monotonic()
    report, said = in_queue(tmp_path, [BRIEF], {BRIEF.name: stubborn}, budget=1.5)
    assert (tmp_path / "ready").exists()
    assert report.stopped == [BRIEF.name]
    assert said[-1] == f"stopped {BRIEF.name}: the next queue goes on there"
    assert time.monotonic() - start < 20


def test_nothing_is_started_when_the_time_is_almost_over(tmp_path):
    report, said = in_queue(tmp_path, [BRIEF], {BRIEF.name: ""}, budget=1.0)
    assert (report, said) == (queue.Report(), [])


def test_a_queue_stops_a_real_run_and_the_next_ends_it(tmp_path, capsys):
    """The time is over as soon as there is something to lose."""
    folders = ["--out", str(tmp_path), "--device", "cpu"]
    arguments = ["queue", "--budget", "2m", "--match", QUICK.name, *folders]

    def left(box):
        return 0 if list(tmp_path.rglob("dense.pt")) else 60

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queue, "_time", left)
        assert main(arguments) == 0
    assert "0 runs finished, 0 failed, 1 stopped on the way" in capsys.readouterr().out
    (checkpoint,) = tmp_path.rglob("dense.pt")
    begun = train.load(checkpoint)
    assert begun["log"] or begun["step"]
    assert experiments.results("*", tmp_path) == []
    with claim(QUICK, tmp_path, tmp_path / ".work") as seed:
        assert seed == 0  # its lock is free, and the next run takes up this seed
    assert main(["run", QUICK.name, *folders]) == 0
    (result,) = experiments.results("*", tmp_path)
    assert result["seed"] == 0
    assert result["log"][: len(begun["log"])] == [
        record.rounded(_told(row)) for row in begun["log"]
    ]


def test_ctrl_c_ends_a_queue_and_its_runs(tmp_path):
    process = command(
        *("queue", "--budget", "2m", "--match", QUICK.name, "--out", tmp_path, "--device", "cpu"),
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not list(tmp_path.rglob("queue-1.log")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    assert status == 130, err
    assert f"stopped {QUICK.name}: the next queue goes on there" in out
    assert out.endswith("0 runs finished, 0 failed, 1 stopped on the way\n")
    with claim(QUICK, tmp_path, tmp_path / ".work", seed=0):
        pass  # nobody holds it any more


# Methods


def test_a_method_plugs_in_with_its_own_trainings_and_costs(tmp_path, monkeypatch):
    def halves(job):
        """Train, cut the first layer in half, train on from where the schedule was."""
        first = job.train(job.network(), "dense", recipe=Recipe(epochs=2, batch=128, drops=(2,)))
        small = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10))
        job.ledger.other("scores", 123)
        second = job.train(small, "retrain", first_epoch=2)
        told, trained = {"ticket_epoch": 2, "widths": [5]}, [first, second]
        spent.append(first.seconds + second.seconds + 1000)
        return Outcome(second.net, trained, told=told, seconds=1000.0)

    spent = []

    monkeypatch.setitem(METHODS, "halves", halves)
    e = dataclasses.replace(BRIEF, name="test/mlp/digits/halves-50", method="halves", probes=())
    result = record.read(run(e, out=tmp_path, device="cpu"))
    dense, small, images = 64 * 32 + 32 * 32 + 320, 64 * 5 + 50, 1442 - 128
    assert result["flops"]["rows"] == [
        {"label": "dense", "what": "training", "flops": 6 * dense * images * 2},
        {"label": "dense", "what": "scores", "flops": 123},
        {"label": "retrain", "what": "training", "flops": 6 * small * images * 2},
    ]
    assert result["macs"] == small
    assert [(row["run"], row["epoch"]) for row in result["log"]] == [(0, 1), (0, 2), (1, 3), (1, 4)]
    assert result["outcome"] == {"ticket_epoch": 2, "widths": [5]}
    assert "distances" not in result
    assert result["seconds"] == pytest.approx(spent[0], rel=1e-5)  # of trainings, and in between


def test_methods_and_starts_that_are_missing_are_named():
    assert methods.available(BRIEF)
    for change, message in (
        (
            {"method": "magic"},
            "the method 'magic' is not in splinelib yet; there are dense, spline",
        ),
        ({"start": "frozen"}, "the start 'frozen' is not in splinelib yet; there are random"),
    ):
        e = dataclasses.replace(BRIEF, **change)
        assert not methods.available(e)
        with pytest.raises(ValueError, match=message):
            methods.method(e)


def test_the_adversarial_start_learns_random_labels(tmp_path):
    """On few images, a network that can: then the dense training has to undo it."""
    train_set, test_set = data.load("digits")
    part = train_set.subset(range(60))
    options = {"epochs": 200, "batch": 20, "lr": 0.1}
    e = dataclasses.replace(BRIEF, start="adversarial", start_options=options, probes=())
    job = experiments.Job(
        e, 0, Images(part, test_set, {}, {}), torch.device("cpu"), tmp_path, cost.Ledger()
    )
    net, (learnt,) = adversarial(job)
    assert learnt.stopped
    assert learnt.log[-1]["learnt"] == 1
    assert train.accuracy(net, data.Batches(test_set, 355)) < 0.5  # labels without a meaning
    rows = {row["what"]: row["flops"] for row in job.ledger.rows}
    macs = job.macs(net)
    assert rows["training"] == 6 * macs * 60 * learnt.epoch
    assert rows["is it learnt"] == 2 * macs * 60 * (learnt.epoch + 1)
    assert {row["label"] for row in job.ledger.rows} == {"adversarial start"}


def test_the_five_best_answers_count_where_classes_are_many():
    class Source:
        classes, images = range(100), 3

        def epoch(self, _number):
            yield torch.eye(100)[[3, 50, 99]], torch.tensor([3, 51, 0])

    class Near(nn.Module):
        def forward(self, x):
            return x + torch.linspace(0, 0.5, 100).mul(-1) * (torch.arange(100) < 5)

    first, five = shares_right(Near(), Source())
    assert first == pytest.approx(1 / 3)
    assert five == pytest.approx(2 / 3) or five == pytest.approx(1 / 3)
    Source.classes = range(10)
    assert shares_right(nn.Identity(), Source())[1] is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_a_gpu(tmp_path):
    e = dataclasses.replace(get("small/convnet/digits/dense"), recipe=Recipe(epochs=2, batch=64))
    result = record.read(run(e, out=tmp_path, device="cuda"))
    assert result["device"]["type"] == "cuda"
    assert result["peak_memory"] > 0
    assert os.path.getsize(result["file"]) < 200_000


def test_a_config_is_recorded_to_the_last_digit(tmp_path):
    recipe = Recipe(epochs=1, batch=64, lr=0.123456789, drops=())
    exact = dataclasses.replace(BRIEF, name="test/mlp/digits/exact", recipe=recipe)
    result = record.read(run(exact, out=tmp_path))
    assert result["config"]["recipe"]["lr"] == 0.123456789


def test_a_note_of_the_start_that_was_cut_short_is_written_anew(tmp_path):
    (tmp_path / "started").write_text("2026-")
    first = _started(tmp_path)
    assert len(first) == 20
    assert _started(tmp_path) == first


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_seeds_are_whole_numbers_from_zero_on(tmp_path, seed):
    with pytest.raises(ValueError, match="whole number from 0 on"):
        run(BRIEF, seed, out=tmp_path)


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_there_is_told_in_one_line(tmp_path, capsys, device):
    assert main(["run", BRIEF.name, "--device", device, "--out", str(tmp_path), "--quiet"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_installed_package_counts_what_it_brings_and_what_was_made_with_it(
    tmp_path, monkeypatch
):
    package = tmp_path / "site" / "splinelib"
    monkeypatch.setattr(places, "PACKAGE", package)
    monkeypatch.delenv("SPLINELIB_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    mine, brought = Path("results").absolute(), package / "results"
    run(BRIEF, 1, out=brought)
    run(BRIEF, 3)
    assert [r["seed"] for r in experiments.results(BRIEF.name)] == [1, 3]
    assert done(BRIEF, mine) == [1, 3]
    assert taken(BRIEF, tmp_path / "elsewhere") == set()
