"""Seconds that are measured: real steps of training, and what the device at hand can do."""

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from splinelib.cost.cards import Card
from splinelib.cost.ledger import count
from splinelib.data.batches import Batches
from splinelib.data.images import ImageSet
from splinelib.train import Recipe, Speed, train

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def throughput(
    net: nn.Module,
    shape: Sequence[int],
    batch: int = 256,
    *,
    steps: int = 8,
    rounds: int = 3,
    speed: Speed | None = None,
) -> float:
    """Measure how many images a second a network trains on, on the device where it lies.

    Parameters
    ----------
    net : nn.Module
        Maps ``(B, C, H, W)`` to logits; a copy of it is trained.
    shape : sequence of int
        Shape of one image, ``(C, H, W)``.
    batch : int
        Images of a step.
    steps, rounds : int
        Steps of a round, and rounds that are timed, after one that is not: it compiles and warms
        up. The median of the rounds counts.
    speed : Speed, optional
        As for :func:`splinelib.train.train`; default: what suits the device.

    Returns
    -------
    float
        Images a second, of :func:`splinelib.train.train` itself: crop, flip, forward, backward,
        update. The images are noise and lie on the device, so a disk that is slower does not show.

    Raises
    ------
    ValueError
        A shape or a number that does not fit.

    Notes
    -----
    A full run takes :func:`hours` at this rate. Taught in *What it costs*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.convnet((1, 8, 8), (4,), (3,), batch_norm=True, dtype=torch.float32)
    >>> throughput(net, (1, 8, 8), batch=16, steps=2, rounds=1) > 0
    True
    """
    for name, value in (("steps", steps), ("rounds", rounds)):
        if count(name, value) < 1:
            raise ValueError(f"{name} is {value}; at least one is timed")
    images = _noise(net, shape, steps * batch)
    recipe = Recipe(epochs=rounds + 1, batch=batch, drops=(), lr=1e-3)
    source = Batches(images, batch, augment="crop-flip", pad=4 if min(shape[1:]) > 8 else 1)
    log = train(net, source, recipe, speed=speed).log
    return steps * batch / statistics.median(row["seconds"] for row in log[1:])


def _noise(net: nn.Module, shape: Sequence[int], images: int) -> ImageSet:
    """Random pixels with random labels, on the device of a network, as many classes as logits."""
    device, generator = next(net.parameters()).device, torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, *shape), dtype=torch.uint8, generator=generator)
    kind = [m for m in net.modules() if isinstance(m, nn.Linear)]
    classes = kind[-1].out_features if kind else 2
    labels = torch.randint(classes, (images,), generator=generator)
    channels = (0.5,) * shape[0]
    names = tuple(map(str, range(classes)))
    return ImageSet("noise", pixels.to(device), labels.to(device), names, channels, channels)


def hours(images: int, epochs: int, per_second: float) -> float:
    """Hours of a training at a rate that was measured.

    Parameters
    ----------
    images, epochs : int
        Images of an epoch, and epochs.
    per_second : float
        Images a second, from :func:`throughput`.

    Raises
    ------
    ValueError
        A rate that is not above 0; a number that is not whole.

    Examples
    --------
    >>> round(hours(images=1_281_167, epochs=90, per_second=2500), 1)
    12.8
    """
    if not per_second > 0:
        raise ValueError(f"per_second is {per_second}; give images a second, above 0")
    return count("images", images) * count("epochs", epochs) / per_second / 3600


def measured_card(
    device: torch.device | str = "cpu", *, size: int = 1024, megabytes: int = 64, rounds: int = 5
) -> Card:
    """Measure what a device does in place of a data sheet: one product, and one copy.

    Parameters
    ----------
    device : torch.device or str
    size : int
        Rows and columns of the two matrices; a GPU needs 8192 or so to be busy.
    megabytes : int
        What is copied; take more than the caches hold.
    rounds : int
        How often; the fastest counts.

    Returns
    -------
    Card
        FLOP/s in 16 bits on a GPU, as training takes them, and in float32 on a CPU. Memory is
        infinite where the system does not tell.

    Notes
    -----
    Taught in *What it costs*.

    Examples
    --------
    >>> card = measured_card(size=64, megabytes=1, rounds=2)
    >>> card.flops > 0, card.bandwidth > 0
    (True, True)
    """
    device = torch.device(device)
    probe = nn.Linear(1, 1, device=device)
    dtype = HALF[Speed().resolve(probe).precision]
    a = torch.ones(size, size, device=device, dtype=dtype)
    source = torch.ones(megabytes * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    product = _fastest(lambda: a @ a, device, rounds)
    copy = _fastest(lambda: target.copy_(source), device, rounds)
    moved = 2 * source.numel() * source.element_size()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
    return Card(name, 2 * size**3 / product, moved / copy, _memory(device), "measured here")


def _fastest(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Seconds of the fastest of several calls, after one that is not timed."""
    seconds = []
    for _ in range(rounds + 1):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> float:
    """Bytes of a device; infinite if it does not tell."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return math.inf
