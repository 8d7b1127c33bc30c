"""Recorded results as plain values, for chapters and tables."""

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from splinelib.experiments.config import Experiment
from splinelib.experiments.packing import unpack, unpack_pairs
from splinelib.experiments.places import folders
from splinelib.experiments.record import read_all
from splinelib.experiments.registry import registry


def results(
    pattern: str = "*",
    folder: str | os.PathLike | None = None,
    *,
    again: bool = False,
    damaged: Callable[[str], object] | None = None,
) -> list[dict]:
    """Read recorded results.

    Parameters
    ----------
    pattern : str
        Name of an experiment, in which ``*`` stands for anything: ``"vgg16/*/dense"``.
    folder : path, optional
        Default: that of your own runs, and :func:`splinelib.experiments.results_folder`.
    again : bool
        Return all files of a seed that was run several times. Default: one for each seed, the
        first whose config is the registered one, else the first; so the length of the list counts
        seeds.
    damaged : callable, optional
        Gets a line of text for each file that is damaged, which is then left out. Default: an
        error.

    Returns
    -------
    list of dict
        As ``result.schema.json`` says, with "file"; sorted by name and seed. Empty where nothing
        was recorded: say "not run here" then.

    Raises
    ------
    ValueError
        A file that is damaged or breaks the schema, unless ``damaged`` is given.

    Notes
    -----
    Used in *The partition settles early* and *Drawing the ticket*.

    Examples
    --------
    >>> results("no/such/experiment")
    []
    """
    files = [path for place in folders(folder) for path in _files(pattern, place)]
    found = sorted(read_all(files, damaged), key=_place)
    if again:
        return found
    seeds = groupby(found, key=lambda result: _place(result)[:2])
    return [min(files, key=_of_another_version) for _, files in seeds]


def _place(result: Mapping) -> tuple[str, int, int, str]:
    """Name and seed, then the number of the file: seed0.json, seed0-2.json, ..., seed0-10.json."""
    number = Path(result["file"]).stem.partition("-")[2]
    return result["name"], result["seed"], int(number or 1), result["file"]


def _of_another_version(result: Mapping) -> bool:
    """Whether the registry has another config under this name, or none."""
    known = registry().get(result["name"])
    return known is None or Experiment.from_json(result["config"]).key != known.key


def _files(pattern: str, folder: Path) -> list[Path]:
    """The files of experiments whose name matches."""
    found = folder.rglob("seed*.json") if folder.is_dir() else ()
    inside = ((path, path.parent.relative_to(folder)) for path in found)
    return [
        path
        for path, name in inside
        if fnmatchcase(name.as_posix(), pattern) and not any(p[0] == "." for p in name.parts)
    ]


def column(result: Mapping, name: str, run: int | None = None) -> Tensor:
    """A column of the log, one number an epoch; NaN where an epoch has none.

    Parameters
    ----------
    result : dict
        From :func:`results`.
    name : str
        "loss", "accuracy", "test_accuracy", "lr", "seconds", "distance held-out", ....
    run : int, optional
        Of several trainings the one of this number, from 0, or from -1 backwards. Default: all, one
        after another.

    Returns
    -------
    Tensor (epochs,), float64

    Raises
    ------
    ValueError
        No such column.
    """
    known = sorted({key for row in result["log"] for key in row})
    if name not in known:
        raise ValueError(f"{_called(result)} has no column {name!r}; there are {', '.join(known)}")
    rows = result["log"]
    if run is not None:
        runs = sorted({row.get("run", 0) for row in rows})
        rows = [row for row in rows if row.get("run", 0) == runs[run]]
    values = (row.get(name) for row in rows)
    numbers = [float("nan") if v is None else float(v) for v in values]
    return torch.tensor(numbers, dtype=torch.float64)


def distance_matrix(result: Mapping, probe: str = "held-out") -> Tensor:
    """Distances between the codes of all pairs of epochs.

    Parameters
    ----------
    result : dict
        From :func:`results`.
    probe : str
        "held-out", "test", "random", "canvas", "mask-50".

    Returns
    -------
    Tensor (T, T), float64, in [0, 1]
        Row t is the network after t epochs, row 0 the untrained one; the mean over layers (for
        masks, over channels), to four decimals.

    Raises
    ------
    ValueError
        The run did not watch this probe.
    """
    about = _probe(result, probe, "matrix")
    return unpack_pairs(about["matrix"], about["rows"])


def layer_distances(result: Mapping) -> tuple[tuple[str, ...], Tensor]:
    """Distances of consecutive epochs, layer by layer, as the detector saw them.

    Parameters
    ----------
    result : dict
        From :func:`results`.

    Returns
    -------
    layers : tuple of str
        Paths of the L activations.
    distances : Tensor (T - 1, L), float64, in [0, 1]
        Row t is between t and t + 1 epochs of training.

    Raises
    ------
    ValueError
        The run had no detector.
    """
    about = _probe(result, "detector", "consecutive")
    layers = tuple(about["layers"])
    return layers, unpack(about["consecutive"], (about["rows"] - 1, len(layers)))


def fired(result: Mapping, probe: str, rule: str, weight: str = "layer") -> int | None:
    """The epochs that were trained when a rule would have fired first; None if it never did.

    Parameters
    ----------
    result : dict
        From :func:`results`.
    probe : str
        "detector", or as in :func:`distance_matrix`.
    rule : "algorithm-1", "public-code" or "mask-distance"
    weight : "layer" or "element"

    Raises
    ------
    ValueError
        This combination was not recorded.
    """
    rows = result.get("distances", {}).get("fired", ())
    for row in rows:
        if (row["probe"], row["rule"], row["weight"]) == (probe, rule, weight):
            return row["epoch"]
    known = ", ".join(f"({r['probe']}, {r['rule']}, {r['weight']})" for r in rows) or "none"
    raise ValueError(f"{_called(result)} does not say when {(probe, rule, weight)} fired: {known}")


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation over seeds; None instead of the latter for fewer than two.

    >>> mean_sd([1.0, 3.0]), mean_sd([2.0])
    ((2.0, 1.4142135623730951), (2.0, None))
    """
    values = torch.tensor([float(v) for v in values], dtype=torch.float64)
    return values.mean().item(), values.std().item() if len(values) > 1 else None


def _probe(result: Mapping, probe: str, what: str) -> Mapping:
    """What was recorded of a probe."""
    probes = result.get("distances", {}).get("probes", {})
    if what not in probes.get(probe, ()):
        known = ", ".join(name for name, about in probes.items() if what in about) or "none"
        raise ValueError(f"{_called(result)} recorded no {what} of {probe!r}; there is {known}")
    return probes[probe]


def _called(result: Mapping) -> str:
    return f"{result['name']}, seed {result['seed']},"
