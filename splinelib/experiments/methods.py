"""What can be run: each method is a function from a job to its outcome.

``METHODS`` is a table. A row says when the ticket of a method is drawn, from what, and what
follows, see :class:`splinelib.experiments.pipelines.Pruning`. A new method is one more row.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from splinelib import pruning
from splinelib.experiments.config import Experiment
from splinelib.experiments.job import Job, Outcome
from splinelib.experiments.pipelines import Pruning
from splinelib.experiments.starts import STARTS
from splinelib.experiments.watching import distances, inputs, watchers


def dense(job: Job) -> Outcome:
    """Train the whole network, and watch how its codes settle.

    Parameters
    ----------
    job : Job

    Returns
    -------
    Outcome
        With distances if the config names probes.

    Notes
    -----
    The ledger has the training alone, since watching changes nothing in it; what the watchers cost
    is told apart.
    """
    e = job.experiment
    net, before = STARTS[e.start](job)
    watched = watchers(job.images.probes, e.probes, e.probe_features)
    run = job.train(net, "dense", watch=watched)
    looks = (run.epoch + 1) * inputs(watched)
    return Outcome(run.net, [*before, run], distances(watched), 2 * job.macs(run.net) * looks)


def _thinet(
    net: nn.Module, ratio: float, x: Tensor, y: Tensor, *, generator, **options
) -> pruning.Ticket:
    """ThiNet with the weights that it rescales."""
    return pruning.thinet_ticket(net, ratio, x=x, generator=generator, **options)


begun = partial(Pruning, on="start")
sparse = partial(begun, cuts=False)

METHODS: dict[str, Callable[[Job], Outcome]] = {
    "dense": dense,
    # Units, chosen when the training is over.
    "spline": Pruning(pruning.spline),
    "ns": Pruning(pruning.slimming),
    "l1": Pruning(pruning.l1),
    "random": Pruning(pruning.random_units),
    "thinet": Pruning(_thinet, gives=("images",)),
    "legr": Pruning(pruning.legr, gives=("images",)),
    "minimal": Pruning(pruning.spline, weights="reinit"),
    # Units, chosen by a further training of a trained network.
    "gdp": Pruning(partial(pruning.gdp, finetune=False), gives=("fit",)),
    "c-sgd": Pruning(pruning.c_sgd, gives=("fit",), schedule="none"),
    "gal": Pruning(pruning.gal, gives=("source",)),
    # Units, chosen within the first training.
    "eb-spline": begun(pruning.eb_spline, gives=("fit", "probe"), schedule="continue"),
    "eb-train": begun(pruning.eb_train, gives=("fit",), schedule="continue"),
    "ns-ip": begun(pruning.iterative, gives=("fit",)),
    "sfp": begun(pruning.sfp, gives=("fit",), schedule="none"),
    "metapruning": begun(pruning.metapruning, gives=("fit", "judges"), weights="reinit"),
    # Single weights: the network keeps its shape.
    "lt": Pruning(pruning.magnitude, cuts=False, weights="rewind"),  # pruning.lottery in two steps
    "snip": sparse(pruning.snip, gives=("images",), weights="rewind", images=100),
    "grasp": sparse(pruning.grasp, gives=("images",), weights="rewind", images=10, of_each=True),
    "synflow": sparse(pruning.synflow, gives=("images",), weights="rewind"),
    "rigl": sparse(pruning.rigl, gives=("fit",), schedule="none"),
}


def available(experiment: Experiment) -> bool:
    """Whether the method and the start of an experiment are there."""
    return experiment.method in METHODS and experiment.start in STARTS


def method(experiment: Experiment) -> Callable[[Job], Outcome]:
    """The method of an experiment; ``ValueError`` if it is not in splinelib yet."""
    if experiment.method not in METHODS:
        raise ValueError(
            f"{experiment.name}: the method {experiment.method!r} is not in splinelib yet; there "
            f"are {', '.join(METHODS)}"
        )
    if experiment.start not in STARTS:
        raise ValueError(
            f"{experiment.name}: the start {experiment.start!r} is not in splinelib yet; there are "
            f"{', '.join(STARTS)}"
        )
    return METHODS[experiment.method]
