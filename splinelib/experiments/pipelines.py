"""How a method of pruning becomes a run: when its ticket is drawn, and what follows."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from splinelib import surgery
from splinelib.experiments.job import Job, Outcome
from splinelib.experiments.telling import moved, removed_units, removed_weights, right, sizes
from splinelib.experiments.trainings import Trainings
from splinelib.masks import Mask
from splinelib.pruning import weights
from splinelib.pruning.family import Ticket
from splinelib.pruning.held import Held
from splinelib.train.layerwise import layerwise

# Settings of a run, not of its method:
FOLLOWING = ("weights", "schedule", "images", "of_each", "pretraining")
REINIT, DRAWS = 8, 9  # streams of random numbers: for weights drawn anew, for a method's draws


@dataclass(frozen=True)
class Pruning:
    """A run that prunes: a row of the table ``METHODS``.

    Attributes
    ----------
    draw : callable
        The method, from ``splinelib.pruning``: ``draw(net, ratio, ...) -> Mask or Ticket``.
    on : "trained" or "start"
        The network that it gets: after the whole training, or as it begins.
    gives : tuple of str
        What it gets besides, in order: "fit" trains; "images" are training images and their labels;
        "judges" are images and labels that nobody trains on, "probe" as many of these images as
        ``images`` says; "source" are batches of the training images.
    cuts : bool
        Whether it removes units, so that the network gets smaller. Else it removes single weights,
        which are held at 0 in a network of the old shape.
    weights : "inherit", "rewind", "reinit" or "layerwise"
        Where the ticket goes on: from the weights that it was drawn with, from those of the start,
        from a new draw, or from a new draw whose layers were trained one after the other.
    schedule : "full", "continue" or "none"
        Whether it is trained by the whole recipe, from the epoch of the ticket on, or not at all,
        because the method's own training was all. Where nothing is left to continue, since no early
        bird was found until the end, it is "full": spline pruning without its saving.
    images : int
        Images that it looks at, if it does.
    of_each : bool
        Whether so many of each class, or of all together.
    pretraining : mapping
        Settings of ``train.layerwise``, for ``weights="layerwise"``.

    Notes
    -----
    Options of a config go to the method, but for ``weights``, ``schedule``, ``images``,
    ``of_each`` and ``pretraining``, which take the place of those here. A method that takes
    ``generator``, ``seed`` or ``memory`` gets those of the run. Taught in *A tour of pruning
    methods*.
    """

    draw: Callable
    on: Literal["trained", "start"] = "trained"
    gives: tuple[str, ...] = ()
    cuts: bool = True
    weights: Literal["inherit", "rewind", "reinit", "layerwise"] = "inherit"
    schedule: Literal["full", "continue", "none"] = "full"
    images: int = 512
    of_each: bool = False
    pretraining: Mapping = field(default_factory=dict)

    def __call__(self, job: Job) -> Outcome:
        """Train, draw, cut, train on."""
        fit, options = Trainings(job), {**job.experiment.method_options}
        how = replace(self, **{name: options.pop(name) for name in FOLLOWING if name in options})
        start = fit.start()
        net = fit(start, "dense").net if self.on == "trained" else start
        with fit.analysing(f"{job.experiment.method} ticket"):
            ticket = how.ticket(fit, net, **options)
        if how.schedule == "continue" and ticket.fired is False:
            how = replace(how, schedule="full")
        before = net if self.on == "trained" else ticket.net
        return how.follow(fit, start, before, ticket)

    def ticket(self, fit: Trainings, net: nn.Module, ratio: float, **options) -> Ticket:
        """What the method makes of a network; a mask goes with the network it was drawn for."""
        takes = inspect.signature(self.draw).parameters
        if "generator" in takes:
            options["generator"] = fit.job.generator(DRAWS)
        if "seed" in takes:
            options["seed"] = fit.job.seed
        if "memory" in takes:
            options["memory"] = fit.memory(f"{fit.job.experiment.method} search")
        given = [each for name in self.gives for each in self._given(name, fit)]
        found = self.draw(net, ratio, *given, **options)
        return Ticket(net, found) if isinstance(found, Mask) else found

    def _given(self, name: str, fit: Trainings) -> tuple:
        """What stands behind a name of ``gives``."""
        job, held = fit.job, fit.job.images.held
        make = {
            "fit": lambda: (fit,),
            "images": lambda: job.sample(self.images, of_each=self.of_each),
            "judges": lambda: (held.inputs(), held.labels),
            "probe": lambda: (held.inputs(slice(self.images)),),
            "source": lambda: (job.batches(job.images.train),),
        }
        return make[name]()

    def follow(
        self, fit: Trainings, start: nn.Module, before: nn.Module, ticket: Ticket
    ) -> Outcome:
        """Make of a ticket the network to go on with, train it, and tell what was removed."""
        job, (net, mask) = fit.job, ticket
        plan = surgery.plan(net, mask) if self.cuts else None
        cut = mask.apply(net) if plan is None else surgery.shrink(mask.apply(net), plan)
        residual = job.experiment.method_options.get("residual", "inner")
        told = {
            "weights": self.weights,
            "schedule": self.schedule,
            "ticket_epoch": ticket.epoch,
            "fired": ticket.fired,
            "pruned": removed_units(net, mask, residual) if self.cuts else removed_weights(mask),
        }
        if moved(start, before):
            told |= {"accuracy_before": right(job, before), "accuracy_cut": right(job, cut)}
        begin = cut if self.weights == "inherit" else self._begin(fit, start, mask, plan)
        final = self._retrained(fit, begin, ticket)
        told |= sizes(job, start, final)
        told = {name: value for name, value in told.items() if value is not None}
        return Outcome(final, fit.runs, told=told, plan=plan, seconds=fit.seconds)

    def _begin(self, fit: Trainings, start: nn.Module, mask: Mask, plan) -> nn.Module:
        """The ticket with other weights than those that it was drawn with."""
        job, new = fit.job, self.weights != "rewind"
        if plan is None:
            return mask.apply(job.network(REINIT) if new else start)
        if not new:
            return surgery.shrink(mask.apply(start), plan)
        first = job.network()
        drawing = {"generator": job.generator(REINIT), "rule": job.experiment.network}
        small = weights.start(first, first, plan, "reinit", **drawing)
        if self.weights == "reinit":
            return small
        source, generator = job.batches(job.images.train), job.generator(DRAWS)
        return layerwise(small, source, fit=fit, generator=generator, **self.pretraining).net

    def _retrained(self, fit: Trainings, small: nn.Module, ticket: Ticket) -> nn.Module:
        """Train the ticket, without a penalty on scales, which served to choose alone."""
        if self.schedule == "none":
            return small.eval()
        first = weights.first_epoch(ticket.epoch, self.schedule)
        recipe = replace(fit.job.experiment.recipe, slimming=0.0)
        hook = None if self.cuts else Held(ticket.mask)
        return fit(small, "retrain", recipe=recipe, first_epoch=first, hook=hook).net
