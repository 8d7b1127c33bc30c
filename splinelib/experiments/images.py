"""The images of one run: what it trains on, tests on and watches."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from splinelib import data
from splinelib.data.stream import MEAN, STD
from splinelib.earlybird import canvas, held_out, random_inputs
from splinelib.experiments.config import Experiment
from splinelib.experiments.sources import MissingDataError, Places, advice, load

STREAMED = "imagenet"  # fits into no memory


@dataclass(frozen=True)
class Images:
    """What an experiment trains on, tests on and watches.

    Attributes
    ----------
    train, test : ImageSet or Stream
        ``train`` without the held-out images.
    probes : dict of str to Tensor
        Inputs by the name of the probe.
    told : dict
        The section "data" of the result.
    judges : tuple of Tensor, optional
        The held-out images and their labels, for methods that search; None for a stream.
    """

    train: data.ImageSet
    test: data.ImageSet
    probes: dict[str, Tensor]
    told: dict
    judges: tuple[Tensor, Tensor] | None = None


def images(
    experiment: Experiment,
    seed: int,
    *,
    device: torch.device | str = "cpu",
    root: str | os.PathLike | None = None,
    places: Places | None = None,
    download: bool = False,
) -> Images:
    """Load the images of one run and draw its probes.

    Parameters
    ----------
    experiment, seed
        The run. The seed draws what is held out and the random probes; a smaller training set is
        the same for all seeds.
    device : torch.device
        Where images and probes shall lie.
    root, places, download
        As for :func:`load`.

    Returns
    -------
    Images

    Raises
    ------
    MissingDataError
        As for :func:`load`.
    ValueError
        More images wanted than there are, or probes that a stream does not have.
    """
    if experiment.data == STREAMED:
        return _streams(experiment, seed, device, root, places)
    whole, test = load(experiment.data, root, places, download)
    train = _part(whole, experiment).to(device)
    test = test.to(device)
    generator = torch.Generator().manual_seed(seed)
    drawn = _drawn(len(train), experiment.probe_images, generator)
    probe, rest = held_out(train, experiment.probe_images, generator)
    told = {
        "name": train.name,
        "fingerprint": whole.fingerprint,
        "test_fingerprint": test.fingerprint,
        "loaded_images": len(whole),
        "train_images": len(rest),
        "held_out_images": len(probe),
        "test_images": len(test),
        "classes": len(train.classes),
        "shape": list(train.shape),
    }
    judges = probe, train.labels[drawn.to(train.device)]
    return Images(rest, test, _probes(experiment, probe, test, generator), told, judges)


def _drawn(n: int, count: int, generator: torch.Generator) -> Tensor:
    """The rows that :func:`held_out` is about to draw with the generator, which stays as it is."""
    same = torch.Generator()
    same.set_state(generator.get_state())
    return torch.randperm(n, generator=same)[:count].sort().values


def _streams(experiment, seed: int, device, root, places) -> Images:
    """ImageNet from its folder; nothing is held out, since images come from the disk one by one."""
    given = list((places or {}).get(experiment.data, ()))
    above = Path(root or os.environ.get("SPLINELIB_DATA") or ".")
    where = Path(given[0]) if given else above / experiment.data
    settings = {"batch": experiment.recipe.batch, "seed": seed, "device": device}
    try:
        train = data.Stream(where, "train", name=experiment.data, **settings)
        test = data.Stream(where, "val", augment=False, name=experiment.data, **settings)
    except ValueError as error:
        raise MissingDataError(f"{error}. {advice(experiment.data)}") from error
    told = {
        "name": train.name,
        "fingerprint": train.fingerprint,
        "test_fingerprint": test.fingerprint,
        "loaded_images": train.images,
        "train_images": train.images,
        "held_out_images": 0,
        "test_images": test.images,
        "classes": len(train.classes),
        "shape": list(train.shape),
    }
    return Images(train, test, dict(_stream_probes(experiment, test, seed)), told)


def _stream_probes(experiment, test: data.Stream, seed: int) -> Iterator[tuple[str, Tensor]]:
    """The first test images in the stream's random order, or random pixels."""
    count = experiment.probe_images
    for name in experiment.probes:
        if name == "test":
            batches, taken = test.epoch(0), []
            while sum(map(len, taken)) < min(count, test.images):
                taken.append(next(batches)[0])
            yield name, torch.cat(taken)[:count]
        elif name == "random":
            pixels = torch.rand(count, *test.shape, generator=torch.Generator().manual_seed(seed))
            mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
            yield name, ((pixels - mean) / std).to(test.device)
        elif not name.startswith("mask-"):
            raise ValueError(
                f"{experiment.name}: a stream has no probe {name!r}, only test, random"
            )


def _part(whole: data.ImageSet, experiment: Experiment) -> data.ImageSet:
    """The training images that an experiment asks for, with at least one left to train on."""
    wanted = experiment.images or len(whole)
    if wanted > len(whole) or experiment.probe_images >= wanted:
        raise ValueError(
            f"{experiment.name} wants {wanted} images, {experiment.probe_images} of them held out, "
            f"but {whole.name!r} has {len(whole)}: lower images or probe_images"
        )
    if wanted == len(whole):
        return whole
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    return whole.subset(order[:wanted].sort().values)


def _probes(experiment, probe: Tensor, test: data.ImageSet, generator) -> dict[str, Tensor]:
    """The inputs of each probe that is named in a config; masks need none."""
    count = min(experiment.probe_images, len(test))

    def spread() -> Tensor:
        corners = [int((test.labels == label).nonzero()[0]) for label in test.labels.unique()[:2]]
        return canvas(*test.inputs(corners), side=max(math.isqrt(count), 2))

    make = {
        "held-out": lambda: probe,
        "test": lambda: test.inputs(
            torch.randperm(len(test), generator=generator)[:count].sort().values
        ),
        "random": lambda: random_inputs(test, count, generator),
        "canvas": spread,
    }
    return {"held-out": probe} | {
        name: make[name]() for name in experiment.probes if name in make and name != "held-out"
    }
