"""splinelib.experiments: result files, seeds, provenance, and what can go wrong with them."""

import copy
import dataclasses
import errno
import json
import os
import re
import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from splinelib import experiments
from splinelib.experiments import claims, get, provenance, record
from splinelib.experiments.claims import claim, done, taken
from splinelib.experiments.cli import main
from splinelib.experiments.packing import pack, pack_pairs
from splinelib.experiments.places import out_folder, results_folder, work_folder
from splinelib.experiments.queue import missing
from splinelib.experiments.record import as_text, check, read, rounded, write
from splinelib.experiments.show import show

E = get("small/mlp/digits/brief")


def made(e=E, seed=0, epochs=3, **changes):
    """A result that nobody ran, as small as the schema lets it be."""
    rows = [
        {"epoch": t + 1, "lr": 0.1, "loss": 1 / (t + 1), "accuracy": 0.5, "test_accuracy": 0.25}
        for t in range(epochs)
    ]
    images = dict.fromkeys(("loaded_images", "train_images", "held_out_images", "test_images"), 9)
    return {
        "schema": 1,
        "name": e.name,
        "seed": seed,
        "config": e.to_json(),
        "data": {
            "name": e.data,
            "fingerprint": "f",
            "test_fingerprint": "t",
            **images,
            "classes": 10,
            "shape": [1, 8, 8],
        },
        "code": {"version": "0", "commit": "unknown", "dirty": None},
        "libraries": {"python": "3", "torch": "2"},
        "device": {
            "type": "cpu",
            "name": "a device",
            "side_by_side": 1,
            "processes": 1,
            "precision": "fp32",
            "compiled": None,
        },
        "started": "2024-02-29T00:00:00Z",
        "accuracy": 0.5 + seed / 100,
        "parameters": 10,
        "macs": 20,
        "flops": {"total": 15 * 10**15, "watching": 0, "rows": []},
        "seconds": 1.5,
        "energy": "not measured",
        "peak_memory": "not measured",
        "log": rows,
        **changes,
    }


# Written and read


def test_what_is_written_is_read_back(tmp_path):
    path = write(made(), tmp_path)
    assert path == tmp_path / "small/mlp/digits/brief/seed0.json"
    found = read(path)
    assert found.pop("file") == str(path)
    assert found == made()
    assert [p.name for p in path.parent.iterdir()] == ["seed0.json"]  # nothing else is left
    assert path.stat().st_mode & 0o777 == 0o644


def test_whole_numbers_stay_exact_and_floats_are_short(tmp_path):
    flops = {"total": 15_033_607_680_000_001, "watching": 3, "rows": []}
    found = read(write(made(flops=flops, seconds=rounded(1.23456789)), tmp_path))
    assert (found["flops"]["total"], found["seconds"]) == (15_033_607_680_000_001, 1.23457)


def test_text_has_one_epoch_a_line_and_is_json():
    text = as_text(made(epochs=7))
    assert json.loads(text) == made(epochs=7)
    assert sum(line.strip().startswith('{"epoch"') for line in text.splitlines()) == 7
    assert max(map(len, text.splitlines())) < 300


def test_a_run_of_160_epochs_of_the_deepest_network_stays_below_200_kb():
    """PreResNet-101: 100 layers, five probes, distances as noisy as real ones."""
    noise = torch.Generator().manual_seed(0)
    size, layers = 161, 100
    t = torch.arange(size).double()
    level = 0.25 * (1 - (-(t[:, None] - t).abs() / 20).exp()) + 0.1 * (t < 80)[:, None]
    matrix = level + 0.01 * torch.rand(size, size, generator=noise, dtype=torch.float64)
    matrix = (matrix + matrix.T).fill_diagonal_(0) / 2
    moved = 0.2 * torch.rand(size - 1, layers, generator=noise, dtype=torch.float64)
    names = [f"stages.{n // 33}.{n % 33}.act{n % 3 + 1}" for n in range(layers)]
    about = {"inputs": 256, "features": 64, "weight": "layer", "rows": size}
    probes = {name: {**about, "matrix": pack_pairs(matrix)} for name in "abcde"}
    probes["detector"] = {
        **about,
        "layers": names,
        "widths": [16384] * layers,
        "consecutive": pack(moved),
    }
    columns = {f"distance {name}": 0.123456 for name in ("held-out", "test", "random", "canvas")}
    rows = [row | columns | {"seconds": 1.23456} for row in made(epochs=160)["log"]]
    distances = {"unit": 0.0001, "probes": probes, "fired": []}
    result = made(log=rows, distances=distances)
    check(result)
    assert len(as_text(result)) < 200_000


# Refused


@pytest.mark.parametrize(
    "change, message",
    [
        ({"accuracy": 93.1}, "accuracy: 93.1 is greater than the maximum"),
        ({"energy": None}, "energy: None is not valid"),
        ({"log": []}, "log: .* should be non-empty|log: .* too short"),
        ({"flops": {"total": 1.5, "watching": 0, "rows": []}}, "flops/total: 1.5 is not of type"),
        ({"started": "yesterday"}, "started: 'yesterday' does not match"),
        ({"notes": "typed in"}, "'notes' was unexpected"),
        ({"name": "small/mlp/digits/other"}, "but its config 'small/mlp/digits/brief'"),
        ({"data": {**made()["data"], "name": "digits-jpeg75"}}, "a stand-in needs its own name"),
    ],
)
def test_what_breaks_the_schema_is_not_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write(made(**change), tmp_path)
    assert not list(tmp_path.rglob("*"))


def test_a_missing_key_is_named():
    result = made()
    del result["seconds"]
    with pytest.raises(ValueError, match="'seconds' is a required property"):
        check(result)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(made(seconds=float("inf")), tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    path = write(made(), tmp_path)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    for look in (
        lambda: experiments.results("*", tmp_path),
        lambda: done(E, tmp_path),
        lambda: missing([E], tmp_path),
    ):
        with pytest.raises(ValueError, match=r"brief/seed0.json is damaged or no JSON"):
            look()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="damaged"):
        read(path)


def test_a_damaged_file_is_told_and_the_others_are_used(tmp_path, capsys):
    write(made(seed=1), tmp_path)
    write(made(seed=0), tmp_path).write_text("{")
    told = []
    assert [r["seed"] for r in experiments.results("*", tmp_path, damaged=told.append)] == [1]
    assert done(E, tmp_path, told.append) == [1]
    three = dataclasses.replace(E, seeds=3)
    assert missing([three], tmp_path, told.append) == [(three, 2)]
    assert len(told) == 3
    assert all(re.match(r"left out: .*brief/seed0.json is damaged", line) for line in told)
    assert taken(E, tmp_path) == {0, 1}  # no new result takes its name
    first, name, mine = show(E.name, tmp_path)
    assert (first, name) == (told[0], E.name)
    assert "seed 1" in mine
    assert main(["list", E.name, "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert (f"{E.name:<44} 1/1" in out, err.strip()) == (True, told[0])
    assert main(["queue", "--match", E.name, "--budget", "1s", "--out", str(tmp_path)]) == 0
    assert told[0] in capsys.readouterr().out


def test_a_seed_that_was_run_again_is_no_further_seed(tmp_path):
    older = dataclasses.replace(E, probe_images=50)
    for number, e in enumerate((older, E, E)):
        write(made(e, 0, seconds=float(number)), tmp_path)
    write(made(seed=1), tmp_path)
    found = experiments.results("*", tmp_path)
    assert [(r["seed"], r["seconds"]) for r in found] == [(0, 1.0), (1, found[1]["seconds"])]
    files = [os.path.basename(r["file"]) for r in experiments.results("*", tmp_path, again=True)]
    assert files == ["seed0.json", "seed0-2.json", "seed0-3.json", "seed1.json"]
    unknown = dataclasses.replace(E, name="test/mlp/digits/unknown")
    for number in range(12):
        write(made(unknown, 0, seconds=float(number)), tmp_path)
    assert [r["seconds"] for r in experiments.results("test/*", tmp_path)] == [0.0]
    numbers = [r["seconds"] for r in experiments.results("test/*", tmp_path, again=True)]
    assert numbers == list(range(12))


def test_a_file_in_a_wrong_place_is_named(tmp_path):
    path = write(made(), tmp_path)
    moved = path.with_name("seed5.json")
    os.rename(path, moved)
    with pytest.raises(ValueError, match="says that it is small/mlp/digits/brief, seed 0"):
        read(moved)
    other = tmp_path / "vgg16/cifar10/dense/seed0.json"
    other.parent.mkdir(parents=True)
    os.rename(moved, other)
    with pytest.raises(ValueError, match="move it to small/mlp/digits/brief/seed0.json"):
        read(other)


# Two writers, a full disk


def test_writers_at_one_time_lose_nothing(tmp_path):
    start = threading.Barrier(3)

    def write_all(number):
        start.wait()
        for seed in range(20):
            write(made(seconds=number, seed=seed), tmp_path)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write_all, range(3)))
    found = experiments.results("*", tmp_path, again=True)
    assert sorted((r["seed"], r["seconds"]) for r in found) == [
        (seed, number) for seed in range(20) for number in range(3)
    ]
    names = sorted(p.name for p in tmp_path.rglob("seed7*"))
    assert names == ["seed7-2.json", "seed7-3.json", "seed7.json"]


def test_the_second_result_of_a_seed_lies_beside_the_first(tmp_path):
    first = write(made(seconds=1.0), tmp_path)
    names = [write(made(seconds=float(n)), tmp_path).name for n in (2, 3)]
    assert names == ["seed0-2.json", "seed0-3.json"]
    assert read(first)["seconds"] == 1
    assert done(E, tmp_path) == [0]


def test_without_hard_links_the_first_result_stays_too(tmp_path, monkeypatch):
    def no_links(*_paths):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(record.os, "link", no_links)
    paths = [write(made(seconds=float(n)), tmp_path) for n in (1, 2)]
    assert [(p.name, read(p)["seconds"]) for p in paths] == [("seed0.json", 1), ("seed0-2.json", 2)]
    assert len(list(paths[0].parent.iterdir())) == 2


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, step):
    write(made(), tmp_path)

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(record.os, step, full)
    with pytest.raises(
        OSError, match=r"No space left.*nothing of it is left.*run it again"
    ) as told:
        write(made(seed=1), tmp_path)
    assert told.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["seed0.json"]


def test_a_write_that_the_system_cuts_short_leaves_nothing(tmp_path):
    """A limit on the size of files: the write itself fails, half way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="nothing of it is left"):
            write(made(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert write(made(), tmp_path).exists()


# Seeds


def test_the_lowest_free_seed_is_taken(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    for seed in (0, 2):
        write(made(seed=seed), out)
    with claim(E, out, work) as first, claim(E, out, work) as second:
        assert (first, second) == (1, 3)
        with (
            pytest.raises(ValueError, match="seed 1, is being run now"),
            claim(E, out, work, seed=1),
        ):
            pass
    with claim(E, out, work) as again:
        assert again == 1
    with claim(E, out, work, seed=0) as given:
        assert given == 0


def test_a_seed_of_another_process_is_left_alone_until_that_is_killed(tmp_path):
    script = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'a+b')\n"
        "fcntl.lockf(file.fileno(), fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    with claim(E, tmp_path, tmp_path) as seed:
        assert seed == 0
    (lock,) = tmp_path.rglob("seed0.lock")
    program = [sys.executable, "-S", "-c", script, str(lock)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with claim(E, tmp_path, tmp_path) as seed:
            assert seed == 1
        other.kill()
    assert lock.exists()  # but a lock file that was left behind holds nothing
    with claim(E, tmp_path, tmp_path) as seed:
        assert seed == 0


def test_a_seed_that_is_finished_between_look_and_lock_is_not_run_again(tmp_path, monkeypatch):
    looks = []

    def late(e, out):
        looks.append(1)
        return set() if len(looks) == 1 else {0}

    monkeypatch.setattr(claims, "taken", late)
    with claim(E, tmp_path, tmp_path) as seed:
        assert seed == 1


def test_results_of_another_config_do_not_count(tmp_path):
    older = dataclasses.replace(E, probe_images=50)
    write(made(older), tmp_path)
    assert done(E, tmp_path) == []
    assert taken(E, tmp_path) == {0}
    assert dict(missing([E], tmp_path)) == {E: 1}
    assert "(config of another version)" in show(E.name, tmp_path)[0]


def test_missing_counts_what_is_wanted_and_leaves_out_what_cannot_run(tmp_path):
    dense = get("small/convnet/digits/dense")
    unknown = dataclasses.replace(dense, method="magic")
    write(made(dense, 1), tmp_path)
    assert missing([dense, unknown, E], tmp_path) == [(dense, 2), (E, 1)]
    for seed in (0, 5):
        write(made(dense, seed), tmp_path)
    assert missing([dense], tmp_path) == []


# Found and shown


def test_results_are_sorted_and_filtered_by_name(tmp_path):
    dense = get("small/convnet/digits/dense")
    for e, seed in ((E, 10), (E, 2), (dense, 0)):
        write(made(e, seed), tmp_path)
    hidden = tmp_path / ".work" / "x/y/z"
    hidden.mkdir(parents=True)
    (hidden / "seed0.json").write_text("not a result")
    found = experiments.results("*", tmp_path)
    assert [(r["name"], r["seed"]) for r in found] == [(dense.name, 0), (E.name, 2), (E.name, 10)]
    assert [r["seed"] for r in experiments.results("small/mlp/*", tmp_path)] == [2, 10]
    assert experiments.results("*", tmp_path / "nowhere") == []


def test_columns_of_the_log(tmp_path):
    result = made(epochs=3)
    assert experiments.column(result, "loss").tolist() == [1, 1 / 2, 1 / 3]
    del result["log"][1]["test_accuracy"]
    assert experiments.column(result, "test_accuracy").isnan().tolist() == [False, True, False]
    for row, number in zip(result["log"], (0, 0, 1), strict=True):
        row["run"] = number
    found = [experiments.column(result, "loss", run).tolist() for run in (0, -1, None)]
    assert [len(values) for values in found] == [2, 1, 3]
    assert found[0] + found[1] == found[2]
    with pytest.raises(ValueError, match="has no column 'los'; there are accuracy, epoch, loss"):
        experiments.column(result, "los")


def test_show_sets_ours_beside_the_papers(tmp_path):
    e = get("vgg16/cifar10/dense")
    stand_in = e.on("cifar10-jpeg75")
    for seed in range(3):
        write(made(stand_in, seed), tmp_path)
    write(made(stand_in, 0), tmp_path)  # the same seed again is not one more
    (_, first, *_rest) = show("vgg16/cifar10/dense", tmp_path)
    where, value, mine = (" ".join(part.split()) for part in re.split("accuracy|ours", first))
    assert where == "Table 1 | VGG-16 | CIFAR-10 | Unpruned | 0%"
    assert value == "paper 92.71 ± 0.07"
    assert mine == "51 ± 1 (3 of 3 seeds) on cifar10-jpeg75"
    assert show("vgg16/cifar10-jpeg75/dense", tmp_path)[1] == first
    assert "not run here" in show("preresnet101/cifar10/dense", tmp_path)[1]


# Where and by what


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_and_changes_of_a_repository_are_told(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    clean = provenance.code(tmp_path)
    assert clean["commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert clean["dirty"] is False
    (tmp_path / "data/results").mkdir(parents=True)
    (tmp_path / "data/results/a.json").write_text("{}")
    assert provenance.code(tmp_path) == clean  # results are no code
    (tmp_path / "code.py").write_text("2")
    assert provenance.code(tmp_path)["dirty"] is True


def test_without_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_installed", lambda: None)
    told = provenance.code(tmp_path)
    assert (told["commit"], told["dirty"]) == ("unknown", None)


def test_pip_tells_the_commit_that_it_installed(tmp_path, monkeypatch):
    class Installed:
        def read_text(self, name):
            assert name == "direct_url.json"
            return '{"url": "https://x/y.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}'

    monkeypatch.setattr(provenance, "distribution", lambda name: Installed())
    assert provenance.code(tmp_path)["commit"] == "c0ffee"


def test_devices_and_libraries_are_named(monkeypatch):
    told = provenance.libraries()
    assert told["torch"].split("+")[0] == torch.__version__.split("+")[0]
    monkeypatch.setenv("SPLINELIB_SIDE_BY_SIDE", "3")
    here = provenance.device(torch.device("cpu"))
    assert (here["type"], here["side_by_side"]) == ("cpu", 3)
    assert here["name"]


def test_folders(tmp_path, monkeypatch):
    monkeypatch.delenv("SPLINELIB_RESULTS", raising=False)
    places = experiments.run.__globals__["out_folder"].__globals__
    package = tmp_path / "site" / "splinelib"
    package.mkdir(parents=True)
    monkeypatch.setitem(places, "PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    assert results_folder() == tmp_path / "site/data/results"  # as in a repository
    assert out_folder() == tmp_path / "results"  # no repository: where one works
    (package / "results").mkdir()
    assert results_folder() == package / "results"  # an installed package brings its own
    (tmp_path / "site/data/results").mkdir(parents=True)
    assert out_folder() == tmp_path / "site/data/results"
    monkeypatch.setenv("SPLINELIB_RESULTS", str(tmp_path / "mine"))
    assert results_folder() == out_folder() == tmp_path / "mine"
    assert results_folder(tmp_path) == tmp_path
    work = work_folder(None, tmp_path / "mine")
    assert (work.name, (work / ".gitignore").read_text()[-2:]) == (".work", "*\n")


def test_recorded_results_of_the_repository_are_whole():
    """Every file in data/results is read, with its schema, name and config."""
    for result in experiments.results():
        assert experiments.Experiment.from_json(result["config"]).name == result["name"]
        assert os.path.getsize(result["file"]) < 200_000
    assert copy.deepcopy(experiments.results("none/at/all")) == []
