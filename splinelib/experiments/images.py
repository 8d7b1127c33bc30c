"""The images of one run: what it trains on, tests on, holds out and watches."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from splinelib import data
from splinelib.earlybird import canvas, random_inputs
from splinelib.experiments.config import Experiment
from splinelib.experiments.sources import MissingDataError, Places, advice, load

STREAMED = "imagenet"  # fits into no memory
Set = data.ImageSet | data.Stream


@dataclass(frozen=True)
class Images:
    """What an experiment trains on, tests on, holds out and watches.

    Attributes
    ----------
    train, test : ImageSet or Stream
        ``train`` without the held-out images.
    probes : dict of str to Tensor
        Inputs by the name of the probe; "held-out" and those that the config names, if it names
        any.
    told : dict
        The section "data" of the result.
    held : ImageSet or Stream, optional
        Training images that nobody trains on: for detectors, and for methods that search.
    """

    train: Set
    test: Set
    probes: dict[str, Tensor]
    told: dict
    held: Set | None = None


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
        More images wanted than there are.
    """
    if experiment.data == STREAMED:
        whole, test = _streams(experiment, seed, device, root, places)
    else:
        whole, test = (s.to(device) for s in load(experiment.data, root, places, download))
    train = _part(whole, experiment)
    generator = torch.Generator().manual_seed(seed)
    held, rest = _split(train, experiment.probe_images, generator)
    told = {
        "name": train.name,
        "fingerprint": whole.fingerprint,
        "test_fingerprint": test.fingerprint,
        "loaded_images": len(whole),
        "train_images": len(rest),
        "held_out_images": len(held),
        "test_images": len(test),
        "classes": len(train.classes),
        "shape": list(train.shape),
    }
    return Images(rest, test, _probes(experiment, held, test, generator), told, held)


def _split(train: Set, count: int, generator: torch.Generator) -> tuple[Set, Set]:
    """Images that are held out, and the others, each in their order."""
    order = torch.randperm(len(train), generator=generator)
    return tuple(train.subset(rows.sort().values) for rows in (order[:count], order[count:]))


def _streams(experiment, seed: int, device, root, places) -> tuple[data.Stream, data.Stream]:
    """ImageNet from its folder, image by image: to train on, and to test on."""
    given = list((places or {}).get(experiment.data, ()))
    above = Path(root or os.environ.get("SPLINELIB_DATA") or ".")
    where = Path(given[0]) if given else above / experiment.data
    settings = {"batch": experiment.recipe.batch, "seed": seed, "device": device}
    try:
        train = data.Stream(where, "train", name=experiment.data, **settings)
        test = data.Stream(where, "val", augment=False, name=experiment.data, **settings)
    except ValueError as error:
        raise MissingDataError(f"{error}. {advice(experiment.data)}") from error
    return train, test


def _part(whole: Set, experiment: Experiment) -> Set:
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


def _probes(experiment, held: Set, test: Set, generator) -> dict[str, Tensor]:
    """The inputs of each probe that is named in a config; masks need none."""
    count = min(experiment.probe_images, len(test))

    def spread() -> Tensor:
        corners = [int((test.labels == label).nonzero()[0]) for label in test.labels.unique()[:2]]
        return canvas(*test.inputs(corners), side=max(math.isqrt(count), 2))

    make = {
        "held-out": held.inputs,
        "test": lambda: test.inputs(
            torch.randperm(len(test), generator=generator)[:count].sort().values
        ),
        "random": lambda: random_inputs(test, count, generator),
        "canvas": spread,
    }
    wanted = dict.fromkeys(("held-out", *experiment.probes)) if experiment.probes else ()
    return {name: make[name]() for name in wanted if name in make}
