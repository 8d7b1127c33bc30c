"""One experiment as a value: all that decides what a run computes, and what it answers."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Self

from splinelib.train import CIFAR, Recipe

PROBES = ("held-out", "test", "random", "canvas", "mask-30", "mask-50", "mask-70")
AUGMENTS = ("crop-flip", "crop", None)
ABOUT = ("name", "seeds", "importance", "cells")  # what changes no run


@dataclass(frozen=True)
class Experiment:
    """A named configuration: one run of it with one seed gives one result.

    Attributes
    ----------
    name : str
        "network/data/method", such as "vgg16/cifar10/eb-spline-50"; small forms begin with
        "small/". It is the folder of the results, and ``data`` is one of its parts.
    network : str
        A name of :func:`splinelib.nets.build`.
    data : str
        A name of :func:`splinelib.data.load`.
    recipe : Recipe
        The training of the whole network, see :class:`splinelib.train.Recipe`.
    network_options : dict
        What ``build`` takes besides: ``width``, ``alpha``, ....
    images : int, optional
        Training images that are used, the same for all seeds; default: all.
    augment : "crop-flip", "crop" or None
    pad : int
        Pixels by which a crop may move an image.
    start : str
        How the weights begin, a key of ``STARTS``: "random", or for Table 7 "adversarial".
    start_options : dict
        Its settings, see ``splinelib.experiments.starts``.
    method : str
        What is done, a key of ``METHODS``: "dense", or a pruning method.
    method_options : dict
        Its settings: ``ratio`` in [0, 1), ``rho``, ....
    probes : tuple of str
        What a dense run compares between all pairs of epochs: codes of "held-out" (training images
        that are not trained on), "test", "random" or "canvas" inputs, or the masks of slimming at
        30, 50 or 70 %, "mask-50".
    probe_images : int
        Training images that are held out, and inputs of each probe. They are held out even if
        nothing is watched: all runs of a network on a data set have one number, so that they train
        on the same images.
    probe_features : int
        Entries of each layer that these comparisons look at, see
        :func:`splinelib.earlybird.codes`.
    speed : dict
        Settings of :class:`splinelib.train.Speed`; empty: what suits the device.
    seeds : int
        Results that are wanted.
    importance : int
        Larger runs first.
    cells : tuple of str
        Which rows of the paper's tables this answers, see :func:`splinelib.experiments.cell`.

    Raises
    ------
    ValueError
        A name that does not hold ``data`` as a part, unknown probes, numbers out of range.

    Notes
    -----
    Used in *Drawing the ticket*.

    Examples
    --------
    >>> e = Experiment("vgg16/cifar10/dense", "vgg16", "cifar10")
    >>> Experiment.from_json(e.to_json()) == e
    True
    >>> e.on("cifar10-jpeg75").name
    'vgg16/cifar10-jpeg75/dense'
    """

    name: str
    network: str
    data: str
    recipe: Recipe = CIFAR
    network_options: Mapping = field(default_factory=dict)
    images: int | None = None
    augment: str | None = "crop-flip"
    pad: int = 4
    start: str = "random"
    start_options: Mapping = field(default_factory=dict)
    method: str = "dense"
    method_options: Mapping = field(default_factory=dict)
    probes: tuple[str, ...] = ()
    probe_images: int = 512
    probe_features: int = 256
    speed: Mapping = field(default_factory=dict)
    seeds: int = 3
    importance: int = 0
    cells: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "probes", tuple(self.probes))
        object.__setattr__(self, "cells", tuple(self.cells))
        _check_name(self.name, self.data)
        unknown = [probe for probe in self.probes if probe not in PROBES]
        if unknown or self.augment not in AUGMENTS:
            raise ValueError(
                f"{self.name}: probes {unknown} are unknown, or augment {self.augment!r} is; there "
                f"are the probes {', '.join(PROBES)}, and augment {AUGMENTS}"
            )
        for name in ("probe_images", "probe_features", "seeds"):
            _check_count(self.name, name, getattr(self, name))
        if self.images is not None:
            _check_count(self.name, "images", self.images)

    def __hash__(self) -> int:
        return hash((self.name, self.key))

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of what a run computes: equal configs give equal keys."""
        decisive = {k: v for k, v in self.to_json().items() if k not in ABOUT}
        text = json.dumps(decisive, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def on(self, data: str) -> Self:
        """The same experiment on another data set, under the name that says so."""
        parts = [data if part == self.data else part for part in self.name.split("/")]
        return replace(self, name="/".join(parts), data=data)

    def to_json(self) -> dict:
        """The config in JSON's types."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, config: Mapping) -> Self:
        """The experiment of a recorded config; ``ValueError`` if it holds what no experiment has.

        What a config does not mention has its default, so results outlive new settings.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        known_recipe = {f.name for f in dataclasses.fields(Recipe)}
        recipe = dict(config.get("recipe", {}))
        strange = sorted({*config} - known) + sorted({*recipe} - known_recipe)
        if strange:
            raise ValueError(
                f"the config of {config.get('name')!r} holds {', '.join(strange)}, which this "
                "version of splinelib does not know: install the one that wrote it"
            )
        recipe["drops"] = tuple(recipe.get("drops", CIFAR.drops))
        return cls(**{**config, "recipe": Recipe(**recipe)})


def _check_name(name: str, data: str) -> None:
    """Raise unless a name is a safe relative path of at least three parts, one of them the data."""
    parts = name.split("/")
    safe = all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", part) for part in parts)
    if not safe or len(parts) < 3 or parts.count(data) != 1:
        raise ValueError(
            f"{name!r} is no name of an experiment on {data!r}: write network/data/method in small "
            "letters, digits, dots and hyphens, with the data set as one part"
        )


def _check_count(experiment: str, name: str, value: object) -> None:
    """Raise unless a value is a whole number, at least 1."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{experiment}: {name} is {value!r}; give a whole number, at least 1")
