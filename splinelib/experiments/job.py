"""One run in progress: what a method gets, and what it gives back."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from splinelib import cost, data, nets, train
from splinelib.earlybird import EarlyBird
from splinelib.experiments.booking import parts
from splinelib.experiments.config import Experiment
from splinelib.experiments.images import Images
from splinelib.experiments.watching import looked_at
from splinelib.train import Recipe, Run, Speed


@dataclass(frozen=True)
class Outcome:
    """What a method gives back.

    Attributes
    ----------
    net : nn.Module
        The final network; the runner counts and tests it.
    runs : list of Run
        All trainings, in order; their logs are joined.
    distances : dict or None
        The section "distances" of the result.
    watching : int
        Floating-point operations that only served the record.
    told : dict
        Whatever else the method wants recorded, in JSON's types: ticket epoch, kept widths, ....
    plan : surgery.Plan or None
        How the network was cut, if it was.
    seconds : float
        What was computed besides trainings, such as scores.
    """

    net: nn.Module
    runs: list[Run]
    distances: dict | None = None
    watching: int = 0
    told: Mapping = field(default_factory=dict)
    plan: object | None = None
    seconds: float = 0.0


@dataclass
class Job:
    """One run of one experiment with one seed, as a method sees it.

    Attributes
    ----------
    experiment : Experiment
    seed : int
        Draws the weights, the order and augmentation of the images, and what is held out.
    images : Images
        Training and test images and probes, on ``device``.
    device : torch.device
    folder : Path
        Keeps the checkpoints of this run.
    ledger : cost.Ledger
        Every training by :meth:`train` is booked, with the detector that may end it; what is
        computed in between is for the method to book.
    progress : bool
        Show a bar for each training, named after its label.
    save_every : float
        Seconds between checkpoints.

    Notes
    -----
    A method trains as often as it needs to, each time under another label. After an interruption
    the same calls are made again: trainings that were complete come back from their checkpoints
    at once, so a method has to be a function of its job and draw all random numbers from
    :meth:`generator`.
    """

    experiment: Experiment
    seed: int
    images: Images
    device: torch.device
    folder: Path
    ledger: cost.Ledger
    progress: bool = False
    save_every: float = 60.0

    @property
    def speed(self) -> Speed:
        """What is done for speed, by the config."""
        return Speed(**self.experiment.speed)

    def generator(self, stream: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator of this run, another one for each ``stream``, at most 999."""
        return torch.Generator(device).manual_seed(1000 * self.seed + stream)

    @property
    def network_config(self) -> dict:
        """What :func:`splinelib.nets.build` makes the network from, as values of JSON."""
        e, (channels, *size) = self.experiment, self.images.train.shape
        options = {**e.network_options}
        if e.network in ("mlp", "convnet"):
            options.setdefault("in_shape", [channels, *size])
        elif not e.network.startswith("resnet"):
            options.setdefault("in_channels", channels)
        return {"name": e.network, "classes": len(self.images.train.classes), **options}

    def network(self, stream: int = 0) -> nn.Module:
        """The network of the config at its random start; another draw for each ``stream``."""
        return nets.build(**self.network_config, generator=self.generator(stream)).to(self.device)

    def sample(
        self, count: int, stream: int = 10, *, of_each: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Training images that a method may look at, in random order, as a network takes them.

        Parameters
        ----------
        count : int
            How many; all that there are if they are fewer.
        stream : int
            Which random choice, see :meth:`generator`.
        of_each : bool
            Whether so many of each class, or of all together.

        Returns
        -------
        x : Tensor (b, C, H, W)
            Not augmented, on the device of the run.
        y : Tensor (b,) int64
        """
        images, labels = self.images.train, self.images.train.labels
        order = torch.randperm(len(labels), generator=self.generator(stream)).to(labels.device)
        kinds = labels[order].unique() if of_each else ()
        parts = [order[labels[order] == kind] for kind in kinds] or [order]
        rows = torch.cat([part[:count] for part in parts])
        return images.inputs(rows), labels[rows]

    def macs(self, net: nn.Module) -> int:
        """Multiply-adds of a network for one of the images."""
        return cost.macs(net, self.images.train.shape)

    def batches(self, images, recipe: Recipe | None = None, augment: str | None = "config"):
        """Training images in batches; a stream comes as it is."""
        if not isinstance(images, data.ImageSet):
            return images
        augment = self.experiment.augment if augment == "config" else augment
        batch = (recipe or self.experiment.recipe).batch
        options = {"augment": augment, "pad": self.experiment.pad, "seed": self.seed}
        return data.Batches(images, batch, **options)

    def test(self):
        """Test images in batches, as they are."""
        if not isinstance(self.images.test, data.ImageSet):
            return self.images.test
        return data.Batches(self.images.test, 1000, shuffle=False)

    def train(
        self,
        net: nn.Module,
        label: str = "dense",
        *,
        recipe: Recipe | None = None,
        source: object | None = None,
        watch: Iterable | Mapping[str, object] = (),
        until: object | None = None,
        first_epoch: int = 0,
        micro_batch: int | None = None,
        on_epoch: Callable[[nn.Module, dict], object] | None = None,
        hook: train.StepHook | None = None,
    ) -> Run:
        """Train a copy of a network under a label of its own, and book what it cost.

        Parameters
        ----------
        net : nn.Module
            Where to start.
        label : str
            Names the checkpoint and the rows of the ledger.
        recipe, source : optional
            Default: the config's recipe and the training images.
        watch, until, first_epoch, micro_batch, on_epoch, hook
            As for :func:`splinelib.train.train_in_memory`.

        Returns
        -------
        Run
        """
        recipe = recipe or self.experiment.recipe
        source = source or self.batches(self.images.train, recipe)
        run = train.train_in_memory(
            net,
            source,
            recipe,
            test=self.test(),
            watch=watch,
            until=until,
            first_epoch=first_epoch,
            micro_batch=micro_batch,
            on_epoch=on_epoch,
            hook=hook,
            speed=self.speed,
            checkpoint=self.folder / f"{label}.pt",
            save_every=self.save_every,
            progress=self.progress and label,
        )
        self.ledger.label = label
        self._book(run.net, run.epoch - first_epoch, source)
        if isinstance(until, EarlyBird) and looked_at(until):  # what watches alone is told apart
            looks = run.epoch - first_epoch + 1
            self.ledger.forward(self.macs(run.net), looks * looked_at(until))
        return run

    def _book(self, net: nn.Module, epochs: int, source) -> None:
        """Book a training, with all that an image, and what a batch costs."""
        found = parts(net, self.images.train.shape)
        self.ledger.train(found.trained, epochs * source.images)
        if found.still:
            self.ledger.forward(found.still, epochs * source.images, "layers that stand still")
        if found.batch:
            self.ledger.train(found.batch, epochs * source.steps)
