"""splinelib.train: checkpoints that survive kills, full disks, damage, and are of one run only."""

import errno
import io
import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.functional import to_pil_image
from training import PLAIN, SHORT, Breaking, Counter, InterruptedRunError, convnet, gap, source

from splinelib.data import Stream, colour
from splinelib.train import Speed, checkpoint, keeper, load, lock, save, train


def interrupted(path, epoch, step, net=None, recipe=SHORT, **options):
    """Train until a source breaks off, with a checkpoint at each step."""
    broken, options = Breaking(source(), epoch, step), {"save_every": 0, **options}
    with pytest.raises(InterruptedRunError):
        train(net or convnet(), broken, recipe, checkpoint=path, **options)


def without_seconds(log):
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in log]


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path):
    script = Path(__file__).with_name("killed.py")
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=300, env=PLAIN)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts == {"killed": 12, "unfinished": True}
    assert (tmp_path / "resumed.json").read_text() == (tmp_path / "straight.json").read_text()
    assert "another process is using" in (tmp_path / "second.txt").read_text()


@pytest.mark.parametrize("place", [(0, 1), (1, 0), (1, 2), (2, 1)])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad", "rmsprop"])
def test_an_interrupted_run_goes_on(tmp_path, optimizer, place):
    recipe = replace(SHORT, optimizer=optimizer, lr=None)
    call = {"recipe": recipe, "net": convnet(dropout=0.5), "micro_batch": 9}
    interrupted(tmp_path / "run.pt", *place, **call, watch=[Counter()])
    assert load(tmp_path / "run.pt")["step"] == place[1]
    last = Counter()
    call = {**call, "source": source(), "watch": [last]}
    resumed = train(**call, checkpoint=tmp_path / "run.pt")
    straight = train(**{**call, "watch": [Counter()]})
    assert gap(resumed.net, straight.net) == 0
    assert without_seconds(resumed.log) == without_seconds(straight.log)
    assert last.looks == 4


def test_a_complete_run_comes_back_at_once(tmp_path):
    call = {"net": convnet(), "recipe": SHORT, "checkpoint": tmp_path / "new" / "run.pt"}
    run = train(source=source(), until=Counter(3), **call)
    again = train(source=Breaking(source(), 2, 0), until=Counter(3), **call)
    assert (again.log, again.epoch, again.stopped) == (run.log, 2, True)
    assert gap(again.net, run.net) == 0
    assert again.seconds >= run.log[-1]["seconds"]


def test_seconds_add_up(tmp_path):
    interrupted(tmp_path / "run.pt", 2, 1)
    saved = load(tmp_path / "run.pt")
    run = train(convnet(), source(), SHORT, checkpoint=tmp_path / "run.pt")
    assert run.seconds > saved["seconds"] > sum(row["seconds"] for row in saved["log"])
    assert run.log[2]["seconds"] > saved["epoch_seconds"] > 0


def test_a_run_may_go_on_in_another_precision(tmp_path):
    net, batches = convnet(dtype=torch.float32), source(dtype=torch.float32)
    with pytest.raises(InterruptedRunError):
        train(net, Breaking(batches, 1, 1), SHORT, checkpoint=tmp_path / "run.pt", save_every=0)
    path, speed = tmp_path / "run.pt", Speed(precision="bf16")
    run = train(net, batches, SHORT, checkpoint=path, speed=speed)
    assert gap(run.net, train(net, batches, SHORT).net) < 0.05


def test_a_stream_goes_on(tmp_path):
    images = tmp_path / "images"
    few, _ = colour(30, size=8)
    for number, (pixels, label) in enumerate(zip(few.images, few.labels, strict=True)):
        folder = images / "train" / str(label.item())
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image(pixels).save(folder / f"{number}.png")
    recipe = replace(SHORT, batch=8, epochs=2)
    call = {"net": nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), "recipe": recipe}

    def stream():
        return Stream(images, "train", 8, size=8, workers=0)

    path = tmp_path / "run.pt"
    with pytest.raises(InterruptedRunError):
        train(source=Breaking(stream(), 1, 2), checkpoint=path, save_every=0, **call)
    resumed = train(source=stream(), checkpoint=path, **call)
    assert gap(resumed.net, train(source=stream(), **call).net) == 0


# how often


@pytest.mark.parametrize(
    ("seconds", "every", "epochs", "count"),
    [(0, math.inf, 3, 3), (0, 0, 3, 3 * 3 + 3), (0.1, math.inf, 5, 2)],
)
def test_when_it_saves(tmp_path, monkeypatch, seconds, every, epochs, count):
    places, clock = [], [0.0]

    def slow(path, state):
        places.append((state["epoch"], state["step"]))
        clock[0] += seconds

    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(keeper.time, "monotonic", lambda: clock[0])
    recipe = replace(SHORT, epochs=epochs)
    train(convnet(), source(), recipe, checkpoint=tmp_path / "run.pt", save_every=every)
    assert len(places) == count
    assert places[-1] == (epochs, 0)


# faults of the disk


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "run.pt"
    save(path, {"epoch": 1, "weights": torch.zeros(100)})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))
    try:
        with pytest.raises(OSError, match="free 0 MB there and make the same call again") as caught:
            save(path, {"epoch": 2, "weights": torch.zeros(9999)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("place", ["fsync", "link", "replace"])
def test_a_run_goes_on_after_the_disk_was_full(tmp_path, monkeypatch, place):
    path, count = tmp_path / "run.pt", iter(range(100))
    real = getattr(os, place)

    def full(*arguments, **options):
        if next(count) >= 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    monkeypatch.setattr(os, place, full)
    if place == "link":  # a file system without links copies instead
        monkeypatch.setattr(checkpoint.shutil, "copyfile", full)
    with pytest.raises(OSError, match="cannot write the checkpoint") as caught:
        train(convnet(), source(), SHORT, checkpoint=path, save_every=0)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    monkeypatch.undo()
    saved = load(path)
    assert 0 < saved["epoch"] * 3 + saved["step"] < 9
    resumed = train(convnet(), source(), SHORT, checkpoint=path)
    assert gap(resumed.net, train(convnet(), source(), SHORT).net) == 0


def test_without_links_the_old_one_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    for epoch in range(3):
        save(tmp_path / "run.pt", {"epoch": epoch})
    assert load(tmp_path / "run.pt") == {"epoch": 2}
    assert load(tmp_path / "run.pt.old") == {"epoch": 1}


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[content.index(b"ABCDEFGH")] ^= 1  # inside the weights
    elif how == "truncated":
        del content[len(content) // 2 :]
    elif how == "empty":
        content.clear()
    elif how == "noise":
        content = np.random.default_rng(0).bytes(len(content))
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "noise"])
def test_damage_is_found_and_the_one_before_is_taken(tmp_path, how):
    path = tmp_path / "run.pt"
    letters = torch.tensor(list(b"ABCDEFGH" * 9), dtype=torch.uint8)
    for epoch in (1, 2):
        save(path, {"epoch": epoch, "weights": letters})
    spoil(path, how)
    with pytest.warns(RuntimeWarning, match=r"run\.pt is damaged.*run\.pt\.old"):
        assert load(path)["epoch"] == 1
    spoil(path.with_name("run.pt.old"), how)
    with pytest.raises(ValueError, match=r"run\.pt is damaged.*no whole checkpoint before it"):
        load(path)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path):
    path = tmp_path / "run.pt"
    interrupted(path, 1, 2)
    spoil(path, "truncated")
    with pytest.warns(RuntimeWarning, match="taking the one before"):
        resumed = train(convnet(), source(), SHORT, checkpoint=path)
    assert gap(resumed.net, train(convnet(), source(), SHORT).net) == 0


def test_a_deleted_checkpoint_starts_over(tmp_path):
    path = tmp_path / "run.pt"
    interrupted(path, 1, 2)
    path.unlink()
    train(convnet(), source(), replace(SHORT, epochs=1), checkpoint=path, save_every=math.inf)
    assert not path.with_name("run.pt.old").exists()


# what is refused


class Code:
    """Unpickled by calling ``open``: the file it makes would betray that it ran."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def test_code_is_refused_and_not_run(tmp_path):
    path, mark = tmp_path / "run.pt", tmp_path / "ran"
    save(path, {"epoch": 0})
    save(path, {"epoch": 1})
    packed = io.BytesIO()
    torch.save({"format": checkpoint.FORMAT, "state": Code(mark)}, packed)
    path.write_bytes(checkpoint.sealed(packed.getvalue()))
    with pytest.raises(ValueError, match="holds code"):
        train(convnet(), source(), SHORT, checkpoint=path)
    path.write_bytes(pickle.dumps(Code(mark)))
    path.with_name("run.pt.old").unlink()
    with pytest.raises(ValueError, match="no checkpoint"):
        train(convnet(), source(), SHORT, checkpoint=path)
    assert not mark.exists()


def test_other_files_of_torch_are_refused(tmp_path):
    torch.save(convnet().state_dict(), tmp_path / "run.pt")
    with pytest.raises(ValueError, match="no checkpoint of splinelib"):
        train(convnet(), source(), SHORT, checkpoint=tmp_path / "run.pt")
    packed = io.BytesIO()
    torch.save({"format": "another", "state": {}}, packed)
    (tmp_path / "run.pt").write_bytes(checkpoint.sealed(packed.getvalue()))
    with pytest.raises(ValueError, match="no checkpoint of this version"):
        train(convnet(), source(), SHORT, checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_that_is_of_no_run_is_refused(tmp_path):
    save(tmp_path / "run.pt", {"epoch": 3})
    with pytest.raises(ValueError, match="no checkpoint of a run"):
        train(convnet(), source(), SHORT, checkpoint=tmp_path / "run.pt")


def test_every_flipped_byte_is_found(tmp_path):
    path = tmp_path / "run.pt"
    for epoch in (1, 2):
        save(path, {"epoch": epoch, "weights": torch.ones(2)})
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.warns(RuntimeWarning, match="taking the one before"):
            assert load(path)["epoch"] == 1


def test_what_cannot_be_saved_is_told_before_the_first_step(tmp_path):
    counted = source()
    recipe = replace(SHORT, lr=np.float64(0.05))
    with pytest.raises(ValueError, match="float64 of numpy"):
        train(convnet(), counted, recipe, checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "run.pt").exists()


def test_layers_of_another_kind_are_another_run(tmp_path):
    path = tmp_path / "run.pt"
    interrupted(path, 1, 2)
    other = convnet()
    for name, module in list(other.named_children()):
        if isinstance(module, torch.nn.ReLU):
            setattr(other, name, torch.nn.LeakyReLU(0.3))
    with pytest.raises(ValueError, match=r"network\.layers"):
        train(other, source(), SHORT, checkpoint=path)


OTHER = convnet()
with torch.no_grad():
    OTHER[0].weight[0, 0, 0, 0] += 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": replace(SHORT, lr=0.01)}, r"recipe.lr is 0.01, in the checkpoint 0.05"),
        ({"recipe": replace(SHORT, slimming=0.1)}, "recipe.slimming"),
        ({"net": OTHER}, "network.start"),
        ({"net": convnet(norm=False)}, "network.parameters"),
        ({"source": source(n=41)}, "images.fingerprint"),
        ({"source": source(seed=1)}, "images.seed is 1, in the checkpoint 0"),
        ({"source": source(augment="crop")}, "images.augment"),
        ({"test": source()}, "test.fingerprint"),
        ({"watch": [Counter()]}, "watchers is 'Counter'"),
        ({"first_epoch": 1}, "first_epoch"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    path = tmp_path / "run.pt"
    interrupted(path, 1, 1)
    before = path.read_bytes()
    call = {"net": convnet(), "source": source(), "recipe": SHORT, **change}
    with pytest.raises(ValueError, match=message):
        train(**call, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [np.float64(1.0), {1, 2}, nn.ReLU(), {"a": [np.zeros(2)]}])
def test_what_could_not_be_read_back_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match=r"\['log'\].* which a checkpoint cannot hold"):
        save(tmp_path / "run.pt", {"log": [value]})
    assert not list(tmp_path.iterdir())


def test_the_last_finite_state_is_kept(tmp_path):
    path, seen = tmp_path / "run.pt", []

    def spoiled(net, row):
        seen.append({name: value.clone() for name, value in net.state_dict().items()})

    with pytest.raises(ValueError, match="not finite in epoch 2"):
        train(convnet(), NaN(source(), 1), SHORT, checkpoint=path, save_every=0, on_epoch=spoiled)
    kept = load(path)
    assert (kept["epoch"], kept["step"]) == (1, 1)
    assert all(value.isfinite().all() for value in kept["net"].values())
    assert len(seen) == 1


class NaN(Breaking):
    """A source whose images are NaN in one epoch, from step 1 on."""

    def __init__(self, source, epoch):
        self.source, self.bad = source, epoch

    def epoch(self, epoch, start=0, **place):
        for step, (x, y) in enumerate(self.source.epoch(epoch, start=start, **place), start):
            yield (x * math.nan if epoch == self.bad and step else x), y


def test_a_folder_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(number):
        raise lock.NoLocksError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock, "_lock", refuse)
    with pytest.warns(RuntimeWarning, match="cannot lock files"):
        train(convnet(), source(), SHORT, checkpoint=tmp_path / "run.pt")


def test_two_runs_in_one_process_do_not_share_a_checkpoint(tmp_path):
    path = tmp_path / "run.pt"

    def again(net, row):
        train(net, source(), SHORT, checkpoint=path)

    with pytest.raises(ValueError, match="another run in this one"):
        train(convnet(), source(), SHORT, checkpoint=path, on_epoch=again)
    train(convnet(), source(), SHORT, checkpoint=path)  # the lock is open again
