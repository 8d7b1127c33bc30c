"""Whether a number of ours and one of the paper's may be the same, seeds aside."""

import math
from collections.abc import Sequence
from fractions import Fraction

from scipy.special import stdtrit

from splinelib.cost.paper import petaflops
from splinelib.cost.published import SETTING
from splinelib.experiments.paper import Printed
from splinelib.experiments.results import mean_sd

SHARE = 0.95  # of all repetitions in which equal means are found to agree
RUNS = {1: 5, 2: 5}  # behind a printed deviation; the paper says five here, elsewhere little
UNSAID = 3
ROUNDED = {"accuracy": 0.005, "top5": 0.005, "emerge_epoch": 0.5}  # half of the last digit printed
DISTANCE = 0.0005
EXACT = 0.02  # of operations, which scatter little
PASS = Fraction("0.005")  # GFLOPs: half of the last digit of the paper's forward passes


def agrees(values: Sequence[float], printed: Printed) -> bool | None:
    """Tell whether runs of ours agree with a number of the paper within noise.

    Parameters
    ----------
    values : sequence of float
        Ours, one a seed, in the paper's unit.
    printed : Printed
        The paper's number.

    Returns
    -------
    bool or None
        None if it cannot be said: fewer than two seeds.

    Raises
    ------
    ValueError
        A value that is no finite number.

    Notes
    -----
    Operations (``flops_p``) agree, from the first seed on, within 2 % and what the paper's rounding
    of a forward pass to 0.01 GFLOPs makes in one training. Any other number agrees if the 95 %
    interval of a difference of means holds zero: Welch's, from both standard deviations, where the
    paper prints one; else that of one more run of ours, from our deviation alone. Half of the last
    digit printed is added. Taught in *Scoreboard*.

    Examples
    --------
    >>> from splinelib.experiments import paper_values
    >>> dense = paper_values(table=1, network="VGG-16", dataset="CIFAR-10", method="Unpruned")[0]
    >>> dense.value, agrees([92.6, 92.8, 93.0], dense), agrees([93.5, 93.6, 93.7], dense)
    (92.71, True, False)
    """
    if printed.value is None or not values:
        return None
    if not all(map(math.isfinite, values)):
        raise ValueError(
            f"values are {list(values)}, but must be finite numbers, one a seed: leave out runs "
            "that gave none"
        )
    mean, sd = mean_sd(values)
    gap = abs(mean - printed.value)
    if printed.quantity == "flops_p":
        return gap <= EXACT * printed.value + _rounding(printed.network)
    if sd is None:
        return None
    return gap <= _reach(sd, len(values), printed) + ROUNDED.get(printed.quantity, DISTANCE)


def _rounding(network: str) -> float:
    """Petaoperations of a whole training if each forward pass is off by half of 0.01 GFLOPs."""
    _, epochs, images = SETTING[network]
    return float(petaflops([(epochs, PASS)], images))


def _reach(sd: float, seeds: int, printed: Printed) -> float:
    """Half of the interval of a difference that noise alone would make."""
    own = sd**2 / seeds
    if printed.sd is None:
        return _quantile(seeds - 1) * math.sqrt(sd**2 + own)
    runs = RUNS.get(printed.table, UNSAID)
    theirs = printed.sd**2 / runs
    if own + theirs == 0:
        return 0.0
    freedom = (own + theirs) ** 2 / (own**2 / (seeds - 1) + theirs**2 / (runs - 1))
    return _quantile(freedom) * math.sqrt(own + theirs)


def _quantile(freedom: float) -> float:
    """Of Student's distribution, with half of the rest on each side."""
    return float(stdtrit(freedom, 0.5 + SHARE / 2))
