"""How the weights begin: at random, or from where another training led them."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from splinelib import data, train
from splinelib.experiments.job import Job
from splinelib.train import Recipe, Run
from splinelib.train.layerwise import layerwise as greedy

LEARNT = 0.9999


class Fitted:
    """Ends a training when almost all of its own labels are learnt.

    Parameters
    ----------
    source : data.Batches
        The images, not augmented.
    share : float
        Enough of them.
    """

    def __init__(self, source: data.Batches, share: float = LEARNT) -> None:
        self.source, self.share, self.found, self.looks = source, share, 0.0, 0

    def update(self, net: nn.Module) -> bool:
        """Whether the network has learnt enough."""
        self.found, self.looks = train.accuracy(net, self.source), self.looks + 1
        return self.found >= self.share

    @property
    def latest(self) -> dict:
        """The share that is learnt."""
        return {"learnt": self.found}

    def state_dict(self) -> dict:
        """What a checkpoint needs."""
        return {"found": self.found, "looks": self.looks}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state."""
        self.found, self.looks = state["found"], state["looks"]


def random(job: Job) -> tuple[nn.Module, list[Run]]:
    """The network as it is drawn."""
    return job.network(), []


def adversarial(job: Job) -> tuple[nn.Module, list[Run]]:
    """The network after it has learnt random labels of spoiled images.

    Notes
    -----
    Liu et al. (2019a), Table 7 of the paper: see :func:`splinelib.train.corrupted`. Settings:
    ``copies`` (default 1), ``epochs`` (350, with drops at 150 and 250 of them), ``batch`` (128),
    ``lr`` (0.1). Its cost is booked under "adversarial start".
    """
    options = job.experiment.start_options
    epochs = options.get("epochs", 350)
    recipe = Recipe(
        epochs=epochs,
        batch=options.get("batch", 128),
        lr=options.get("lr", 0.1),
        momentum=0,
        weight_decay=0,
        drops=(epochs * 150 // 350, epochs * 250 // 350),
    )
    generator = job.generator(7, job.images.train.device)
    bad = train.corrupted(job.images.train, options.get("copies", 1), generator=generator)
    source = job.batches(bad, recipe, augment=None)
    fitted = Fitted(job.batches(bad, replace(recipe, batch=1000), augment=None))
    run = job.train(job.network(), "adversarial start", recipe=recipe, source=source, until=fitted)
    job.ledger.forward(job.macs(run.net), fitted.looks * len(bad), what="is it learnt")
    return run.net, [run]


def layerwise(job: Job) -> tuple[nn.Module, list[Run]]:
    """The network after its layers were trained one after the other.

    Notes
    -----
    Belilovsky et al. (2019): see :func:`splinelib.train.layerwise.layerwise`, which takes
    ``start_options``. Table 8 begins a small network so: there it is an option of a method,
    ``weights="layerwise"``.
    """
    found = greedy(
        job.network(),
        job.batches(job.images.train),
        fit=job.train,
        generator=job.generator(6),
        **job.experiment.start_options,
    )
    return found.net, found.runs


STARTS: dict[str, Callable[[Job], tuple[nn.Module, list[Run]]]] = {
    "random": random,
    "adversarial": adversarial,
    "layerwise": layerwise,
}
