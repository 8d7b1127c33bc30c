"""A process that trains in children and kills them: at each stage of writing, and at any moment.

    python killed.py FOLDER

Each child makes the same call of ``train``, with a checkpoint; a child that ends puts its result
into FOLDER. Children are forked, so that torch is imported once.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from splinelib import data
from splinelib.data.images import ImageSet
from splinelib.earlybird import EarlyBird
from splinelib.train import Recipe, checkpoint, train

STAGES = ("write", "fsync", "link", "unlink", "replace", "renamed")


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(6 * 64, 3))


def images():
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(256, (90, 1, 8, 8), generator=generator).to(torch.uint8)
    return ImageSet("noise", pixels, torch.arange(90) % 3, ("a", "b", "c"), (0.5,), (0.3,))


def run(path, save_every=0.0, **options):
    source = data.Batches(images(), batch=16, augment="crop-flip", pad=1)
    recipe = Recipe(epochs=12, batch=16, lr=0.05, drops=(2,), slimming=1e-3)
    bird = EarlyBird(images().subset(slice(0, 20)).inputs())
    test = data.Batches(images(), batch=32)
    return train(
        network(), source, recipe, watch=[bird], test=test, checkpoint=path, save_every=save_every,
        **options,
    )  # fmt: skip


def result(done):
    """All of a run but its seconds, as texts."""
    log = [{k: v for k, v in row.items() if "seconds" not in k} for row in done.log]
    state = {name: value.tolist() for name, value in done.net.state_dict().items()}
    return json.dumps([log, state, done.epoch, done.stopped])


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(stage, after):
    """Make the child die at one stage of its writing, once it has come there ``after`` times."""
    owner, name = {
        "write": (checkpoint.io.BytesIO, None),
        "fsync": (os, "fsync"),
        "link": (os, "link"),
        "unlink": (Path, "unlink"),
        "replace": (os, "replace"),
        "renamed": (checkpoint, "_flush_folder"),
    }[stage]
    if stage == "write":
        real = open

        def half(path, mode="r", *more):
            file = real(path, mode, *more)
            if mode == "wb" and next(count) >= after:
                file.write(b"PK\x03\x04 half a checkpoint")
                file.flush()
                die()
            return file

        checkpoint.open = half
    else:
        real = getattr(owner, name)
        setattr(owner, name, lambda *a, **k: die() if next(count) >= after else real(*a, **k))
    count = iter(range(10**9))


def child(work):
    """Fork a child; return its number."""
    number = os.fork()
    if number == 0:
        try:
            work()
        finally:
            os._exit(0)
    return number


def finish(path, target):
    target.write_text(result(run(path)))


def slowly(path):
    """Train with a slow disk, so that no run ends before it is killed."""
    os.fsync = lambda number: time.sleep(0.005)
    run(path)


def second(path, target):
    """Make the call while another process is at it."""
    try:
        run(path)
    except ValueError as error:
        target.write_text(str(error))


def two_at_once(path, target):
    """Start a run, and a second one on the same file while the first is at work."""
    first = child(lambda: slowly(path))
    while not path.exists():
        time.sleep(0.001)
    os.waitpid(child(lambda: second(path, target)), 0)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)


def main(folder):
    random.seed(0)
    path, killed = folder / "run.pt", 0
    # First, since it also imports what torch imports late: a child would do so again each time.
    (folder / "straight.json").write_text(result(run(None)))

    def armed(stage, after):
        arm(stage, after)
        run(path)

    for stage in STAGES:
        number = child(lambda stage=stage: armed(stage, random.randint(0, 3)))
        killed += os.WIFSIGNALED(os.waitpid(number, 0)[1])
    for _ in range(6):
        number = child(lambda: slowly(path))
        time.sleep(random.uniform(0.02, 0.1))
        os.kill(number, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(number, 0)[1])
    two_at_once(folder / "twice.pt", folder / "second.txt")
    unfinished = checkpoint.load(path)["epoch"] < 12
    os.waitpid(child(lambda: finish(path, folder / "resumed.json")), 0)
    (folder / "facts.json").write_text(json.dumps({"killed": killed, "unfinished": unfinished}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
