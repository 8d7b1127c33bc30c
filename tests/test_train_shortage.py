"""Memory that runs short: the training goes on with fewer images at once, and says so."""

import warnings

import pytest
import torch
from torch import nn
from training import Counter, convnet, gap, images, source

from splinelib import cost
from splinelib.earlybird import EarlyBird
from splinelib.experiments import Job, get
from splinelib.experiments.images import Images
from splinelib.train import Recipe, StepHook, shortage, train, train_in_memory

SIZED = Recipe(epochs=3, batch=64, lr=0.05, drops=(1, 2), factor=0.5)


class Small(nn.Module):
    """A device with room for so many images at once, from some step on."""

    def __init__(self, net, room, steps=0, error=None):
        super().__init__()
        self.net, self.room, self.steps = net, room, steps
        self.error = error or torch.OutOfMemoryError("CUDA out of memory (a test)")

    def forward(self, x):
        if self.training:
            self.steps -= 1
        if self.training and self.steps < 0 and len(x) > self.room:
            raise self.error
        return self.net(x)


def short_of(room, net=None, **options):
    """A training of 130 images in batches of 64 where memory is short; and what it warns of."""
    net = Small(net or convnet(norm=False), room)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = train_in_memory(net, source(130, 64), SIZED, **options)
    return run, [str(w.message) for w in caught]


def test_enough_memory_changes_nothing():
    run, warned = short_of(64)
    plain = train(convnet(norm=False), source(130, 64), SIZED)
    assert not warned
    assert gap(run.net.net, plain.net) == 0
    assert "micro_batch" not in run.log[0]


@pytest.mark.parametrize(("room", "told"), [(63, [32]), (32, [32]), (31, [32, 16]), (16, [32, 16])])
def test_images_are_halved_until_they_fit_and_the_steps_stay(room, told):
    run, warned = short_of(room)
    assert all(f"{n} images at once" in text for n, text in zip(told, warned, strict=True))
    assert [row["micro_batch"] for row in run.log] == [told[-1]] * 3
    plain = train(convnet(norm=False), source(130, 64), SIZED)
    assert gap(run.net.net, plain.net) < 1e-12


@pytest.mark.parametrize(
    "words",
    [
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously",
    ],
)
def test_libraries_that_find_no_memory_are_understood(words):
    net = Small(convnet(), 32, error=RuntimeError(words))
    with pytest.warns(RuntimeWarning, match="32 images"):
        assert train_in_memory(net, source(130, 64), SIZED).log[-1]["micro_batch"] == 32


def test_other_errors_are_raised():
    for words in ("CUDNN_STATUS_EXECUTION_FAILED", "CUDA error: an illegal memory access"):
        net = Small(convnet(), 32, error=RuntimeError(words))
        with pytest.raises(RuntimeError, match=words):
            train_in_memory(net, source(130, 64), SIZED)


def test_batchnorm_is_told_to_see_parts():
    run, warned = short_of(32, convnet())
    assert "BatchNorm takes the statistics of these parts" in warned[0]
    parts = train(convnet(), source(130, 64), SIZED, micro_batch=32)
    whole = train(convnet(), source(130, 64), SIZED)
    assert gap(run.net.net, parts.net) == 0
    assert gap(run.net.net, whole.net) > 1e-3


def test_too_little_memory_is_an_error():
    with pytest.warns() as warned, pytest.raises(torch.OutOfMemoryError):
        train_in_memory(Small(convnet(), 15), source(130, 64), SIZED)
    assert [str(w.message).split()[6] for w in warned] == ["32", "16"]


def test_one_of_several_processes_does_not_go_on_alone(monkeypatch):
    def fails(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory (a test)")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(shortage, "train", fails)
    with pytest.raises(torch.OutOfMemoryError):
        train_in_memory(convnet(), source(130, 64), SIZED)


class Steps(StepHook):
    """Counts steps, and keeps the count in checkpoints."""

    def __init__(self):
        self.steps = 0

    def after_step(self, net, step):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def test_watchers_and_hook_start_anew_with_the_training():
    """Short from the fifth step on: the first epoch is made twice, and counts once."""
    probe = images(8).inputs().double()
    bird, hook, count = EarlyBird(probe, keep="all"), Steps(), Counter()
    start = Small(convnet(), 32, steps=4)
    with pytest.warns(RuntimeWarning, match="32 images"):
        train_in_memory(start, source(130, 64), SIZED, watch=[bird, count], hook=hook)
    assert (len(bird.history), hook.steps, count.looks) == (4, 9, 4)


def test_it_goes_on_from_the_checkpoint(tmp_path):
    steps = []

    class Seen(Small):
        def forward(self, x):
            steps.extend([len(x)] if self.training else [])
            return super().forward(x)

    call = {"checkpoint": tmp_path / "run.pt", "save_every": 0}
    with pytest.warns(RuntimeWarning, match="32 images"):
        run = train_in_memory(Seen(convnet(norm=False), 32, 4), source(130, 64), SIZED, **call)
    assert steps[:5] == [64, 64, 2, 64, 64]
    assert len(steps[5:]) == 2 + 1 + 2 * 2 + 1  # the rest of epoch 2, then epoch 3
    assert [row.get("micro_batch") for row in run.log] == [None, 32, 32]


def test_a_job_trains_so_and_its_ledger_does_not_notice(tmp_path, monkeypatch):
    found = Images(images(130), images(30), {}, {})
    ledgers = []
    for room in (64, 32):
        e = get("small/convnet/digits/dense-80")
        job = Job(e, 0, found, torch.device("cpu"), tmp_path / f"{room}", cost.Ledger())
        net = Small(convnet(norm=False, dtype=torch.float32), room)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = job.train(net, recipe=SIZED)
        assert len(caught) == (room == 32)
        assert run.epoch == 3
        ledgers.append(job.ledger.total)
    assert ledgers[0] == ledgers[1]
