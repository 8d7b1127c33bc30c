"""Ours beside the paper's: one line for each number that the paper prints."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from splinelib.experiments.config import Experiment
from splinelib.experiments.methods import available
from splinelib.experiments.paper import Printed, paper_values
from splinelib.experiments.registry import registry
from splinelib.experiments.results import fired, layer_distances, mean_sd, results

NOT_RUN = "not run here"


def ours(result: Mapping, printed: Printed) -> float | None:
    """What a result says about a number of the paper, in the paper's unit; None if nothing.

    Parameters
    ----------
    result : dict
        From :func:`splinelib.experiments.results`.
    printed : Printed
        The paper's number.

    Returns
    -------
    float or None
    """
    if printed.quantity.startswith("distance_epoch_"):
        return _distance(result, int(printed.quantity.rsplit("_", 1)[1]), printed.method)
    if printed.quantity == "emerge_epoch":
        return _emerged(result)
    if printed.quantity not in _OURS:
        return None
    value, unit = _OURS[printed.quantity](result)
    return value * unit if isinstance(value, int | float) else None


# FLOPs in 10^15, energies in thousands and millions of joules.
_OURS: dict[str, Callable[[Mapping], tuple[object, float]]] = {
    "accuracy": lambda r: (r["accuracy"], 100),
    "top5": lambda r: (r.get("top5"), 100),
    "flops_p": lambda r: (r["flops"]["total"], 1e-15),
    "energy_kj": lambda r: (r["energy"], 1e-3),
    "energy_mj": lambda r: (r["energy"], 1e-6),
}


def _distance(result: Mapping, epoch: int, layer: str) -> float | None:
    """Table 12: the distance of the n-th layer between an epoch and the one before."""
    if "distances" not in result:
        return None
    _, moved = layer_distances(result)
    number = int(re.search(r"\((\d+)", layer)[1])
    inside = epoch <= moved.shape[0] and number <= moved.shape[1]
    return moved[epoch - 1, number - 1].item() if inside else None


def _emerged(result: Mapping) -> float | None:
    """Tables 6 and 7: when Algorithm 1 fired; of a method, the epoch that it tells."""
    told = result.get("outcome", {})
    if "ticket_epoch" in told or "distances" not in result:
        return told.get("ticket_epoch") if told.get("fired", True) else None
    return fired(result, "detector", "algorithm-1")


def show(pattern: str = "*", folder: str | os.PathLike | None = None) -> list[str]:
    """Lines of text: the paper's numbers, and ours over all seeds, set by set.

    Parameters
    ----------
    pattern : str
        Names of experiments; results on stand-ins are shown with the experiment that they stand
        for.
    folder : path, optional
        Default: see :func:`splinelib.experiments.results_folder`.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        No such experiment.

    Notes
    -----
    A damaged result is named in the first lines, and left out.
    """
    damaged: list[str] = []
    recorded = results("*", folder, again=True, damaged=damaged.append)
    known = {e.name: [] for e in registry().values()}
    for result in recorded:
        home = answers(Experiment.from_json(result["config"]))
        known.setdefault(home or result["name"], []).append(result)
    names = [
        name
        for name, found in known.items()
        if any(fnmatchcase(n, pattern) for n in (name, *(r["name"] for r in found)))
    ]
    if not names:
        raise ValueError(f"no experiment matches {pattern!r}; see `list`")
    return damaged + [line for name in names for line in _lines(name, known[name])]


def answers(ran: Experiment) -> str | None:
    """The name of the registered experiment that a config is, or stands in for; None if none."""
    if ran.name in registry():
        return ran.name if registry()[ran.name].key == ran.key else None
    for e in registry().values():
        if ran.on(e.data).name == e.name and ran.on(e.data).key == e.key:
            return e.name
    return None


def _lines(name: str, found: Sequence[Mapping]) -> list[str]:
    """One experiment: its name, then a line for each printed number and each data set."""
    e = registry().get(name)
    if e is None or (found and answers(Experiment.from_json(found[0]["config"])) is None):
        return [f"{name}  (config of another version)", *_plain(found)]
    by_data: dict[str, list] = {}
    for result in found:
        by_data.setdefault(result["data"]["name"], []).append(result)
    printed = [value for where in e.cells for value in paper_values(cell=where)]
    lines = [f"  {c}: a figure" for c in e.cells if c.startswith("Fig.")]
    for value in printed:
        told = [f"{_summary(runs, value)} on {data}" for data, runs in by_data.items()]
        lines.append(
            f"  {value.cell:<58} {value.quantity:<18} paper {value!s:<14} ours "
            f"{'; '.join(told) or NOT_RUN}"
        )
    state = "" if available(e) else "  (method not in splinelib yet)"
    return [f"{name}{state}", *lines, *(_plain(found) or ([] if printed else [f"  {NOT_RUN}"]))]


def _summary(runs: Sequence[Mapping], printed: Printed) -> str:
    """Mean ± standard deviation of what some runs say, one a seed, and how many they are."""
    runs = list({run["seed"]: run for run in reversed(runs)}.values())  # the first of each seed
    values = [value for run in runs if (value := ours(run, printed)) is not None]
    if not values:
        return "not measured"
    mean, sd = mean_sd(values)
    spread = "" if sd is None else f" ± {sd:.3g}"
    return f"{mean:.4g}{spread} ({len(values)} of {len(runs)} seeds)"


def _plain(found: Sequence[Mapping]) -> list[str]:
    """One line a result."""
    return [
        f"  {r['data']['name']}, seed {r['seed']}: accuracy {100 * r['accuracy']:.2f} %, "
        f"{r['flops']['total']:.4g} FLOPs, {r['seconds']:.0f} s on {r['device']['name']}{_early(r)}"
        for r in found
    ]


def _early(result: Mapping) -> str:
    """When an early bird was found, and what was done if none was."""
    told = result.get("outcome", {})
    if "fired" not in told:
        return ""
    if told["fired"]:
        return f", ticket after {told['ticket_epoch']} epochs"
    return f", no early bird: ticket after all epochs, schedule {told['schedule']}"
