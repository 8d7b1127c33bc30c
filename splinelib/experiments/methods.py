"""What can be run: each method is a function from a job to its outcome.

A new method is one more entry of ``METHODS``; configs name it already, and ``list`` marks those
whose method is missing.
"""

from collections.abc import Callable

from splinelib.experiments.config import Experiment
from splinelib.experiments.job import Job, Outcome
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


METHODS: dict[str, Callable[[Job], Outcome]] = {"dense": dense}


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
