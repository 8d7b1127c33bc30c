"""How long a training takes on a card by its data sheet, and what holds it up: a roofline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from splinelib.cost.cards import CARDS, Card
from splinelib.cost.ledger import count
from splinelib.cost.work import Operation, Step, training_step

LAUNCH = 5e-6  # seconds to start one operation from Python; an assumption, not a measurement
COMPUTE, MEMORY, STARTING = "compute", "memory", "launch"


@dataclass(frozen=True)
class Estimate:
    """What a training costs on one card, computed from data sheets; nothing of it is measured.

    Attributes
    ----------
    card : Card
    flops : int
        Floating-point operations of the run.
    floor : float
        Seconds if each product takes the longer of its operations at the card's peak and its inputs
        and outputs at full bandwidth, and all else is free. What a cache keeps from one operation
        to the next can let a run go under it.
    plain : float
        Seconds if operations run one after another, each at the peak, at full bandwidth, or as fast
        as it can be started: the run without ``torch.compile``, on a card that wastes nothing.
    causes : mapping of str to float
        The seconds of ``plain`` by what holds up each operation: "compute", "memory", "launch".
    memory : int
        Bytes needed at least. Workspaces, gradients of activations and the images come on top.

    Notes
    -----
    Taught in *What it costs*.
    """

    card: Card
    flops: int
    floor: float
    plain: float
    causes: Mapping[str, float]
    memory: int

    @property
    def binds(self) -> str:
        """What takes most of ``plain``: "compute", "memory" or "launch"."""
        return max(self.causes, key=self.causes.__getitem__)

    @property
    def fits(self) -> bool:
        """Whether the memory needed at least is there."""
        return self.memory <= self.card.memory

    def __add__(self, then: "Estimate") -> "Estimate":
        """One training after the other on the same card: a dense one, then a pruned one."""
        if not isinstance(then, Estimate):
            return NotImplemented
        if then.card != self.card:
            raise ValueError(f"{self.card.name} and {then.card.name} are two cards; take one")
        causes = {name: self.causes[name] + then.causes[name] for name in self.causes}
        sums = (getattr(self, n) + getattr(then, n) for n in ("flops", "floor", "plain"))
        return Estimate(self.card, *sums, causes, max(self.memory, then.memory))


def estimate(
    net: nn.Module,
    shape: Sequence[int],
    *,
    images: int,
    epochs: int,
    batch: int = 256,
    card: str | Card = "T4",
    launch: float = LAUNCH,
) -> Estimate:
    """Estimate the seconds and the memory of a training on a card, from its data sheet.

    Parameters
    ----------
    net : nn.Module
        The network that is trained; one that is pruned on the way is the sum of two estimates.
    shape : sequence of int
        Shape of one image, ``(C, H, W)``.
    images, epochs, batch : int
        Images of an epoch, epochs, images of a step.
    card : str or Card
        One of ``CARDS`` ("T4", "L4", "A100", "H100", "H200"), or a card of your own.
    launch : float
        Seconds to start an operation; CUDA graphs make it all but 0.

    Returns
    -------
    Estimate
        ``floor`` counts the products alone; ``plain`` is what operations take one after another.
        The true time is measured by :func:`splinelib.cost.throughput` on the card itself.

    Raises
    ------
    ValueError
        An unknown card, a number that is not whole or negative, and as :func:`training_step`.

    Notes
    -----
    Sec. 4.1 of the paper reports operations and joules, no seconds. Taught in *What it costs*.

    Examples
    --------
    >>> from splinelib import nets
    >>> found = estimate(nets.vgg16(), (3, 32, 32), images=50_000, epochs=160, card="H100")
    >>> 15 < found.floor < found.plain < 150, found.fits
    (True, True)
    """
    return bound(training_step(net, shape, batch), images, epochs, card, launch=launch)


def bound(
    step: Step, images: int, epochs: int, card: str | Card = "T4", *, launch: float = LAUNCH
) -> Estimate:
    """Estimate a training from one of its steps, as :func:`estimate` does.

    Parameters
    ----------
    step : Step
        From :func:`training_step`.
    images, epochs, card, launch
        As for :func:`estimate`.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        As :func:`estimate`.

    Examples
    --------
    >>> step = training_step(nn.Linear(4, 2), (4,), batch=10)
    >>> bound(step, images=100, epochs=3).flops == 30 * step.flops
    True
    """
    card = find(card)
    if not (math.isfinite(launch) and launch >= 0):
        raise ValueError(f"launch is {launch}; give seconds, as 5e-6, or 0")
    passes = count("images", images) * count("epochs", epochs) / step.images
    causes = dict.fromkeys((COMPUTE, MEMORY, STARTING), 0.0)
    for operation in step.operations:
        cause, seconds = held_up(operation, card, launch)
        causes[cause] += passes * seconds
    floor = passes * sum(held_up(o, card)[1] for o in step.products)
    flops = step.flops * images * epochs // step.images
    return Estimate(card, flops, floor, sum(causes.values()), causes, step.memory)


def held_up(operation: Operation, card: Card, launch: float = 0.0) -> tuple[str, float]:
    """What holds an operation up, and its seconds: the largest of the three times.

    >>> held_up(Operation("", "mm", flops=65 * 10**12, moved=32 * 10**9), CARDS["T4"])
    ('compute', 1.0)
    """
    times = {
        COMPUTE: operation.flops / card.flops,
        MEMORY: operation.moved / card.bandwidth,
        STARTING: launch,
    }
    cause = max(times, key=times.__getitem__)
    return cause, times[cause]


def seconds_by_layer(step: Step, card: str | Card, *, launch: float = LAUNCH) -> dict[str, float]:
    """Seconds of one step by layer, operations one after another, in order of evaluation.

    Parameters
    ----------
    step, card, launch
        As for :func:`bound`.

    Returns
    -------
    dict of str to float
        Their sum is ``plain`` of one step.

    Examples
    --------
    >>> step = training_step(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), (4,), 16)
    >>> list(seconds_by_layer(step, "T4"))
    ['0', '1', '2', '']
    """
    card = find(card)
    sums: dict[str, float] = {}
    for o in step.operations:
        sums[o.layer] = sums.get(o.layer, 0.0) + held_up(o, card, launch)[1]
    return sums


def find(card: str | Card) -> Card:
    """The card of a name, or the card that is given."""
    if isinstance(card, Card):
        return card
    if card not in CARDS:
        raise ValueError(f"card is {card!r}; there are {', '.join(CARDS)}, or give a cost.Card")
    return CARDS[card]
