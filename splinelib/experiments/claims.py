"""Which seed a run takes: the lowest that has no result and that nobody is working on."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from splinelib.experiments.config import Experiment
from splinelib.experiments.places import folders
from splinelib.experiments.record import read_all
from splinelib.train.lock import held


def done(
    experiment: Experiment, out: Path, damaged: Callable[[str], object] | None = None
) -> list[int]:
    """The seeds of an experiment that have a result with this very config.

    Parameters
    ----------
    experiment : Experiment
    out : Path
        The folder of all results.
    damaged : callable, optional
        Gets a line of text for each damaged result, which does not count. Default: an error.

    Returns
    -------
    list of int
        Sorted; results of another config under the same name do not count.

    Raises
    ------
    ValueError
        A result that is damaged, unless ``damaged`` is given.
    """
    found = read_all(_files(experiment, out), damaged)
    return sorted(
        {r["seed"] for r in found if Experiment.from_json(r["config"]).key == experiment.key}
    )


def taken(experiment: Experiment, out: Path) -> set[int]:
    """The seeds that have a file, of whatever config."""
    names = (re.fullmatch(r"seed(\d+)(-\d+)?\.json", p.name) for p in _files(experiment, out))
    return {int(name[1]) for name in names if name}


def _files(experiment: Experiment, out: Path) -> list[Path]:
    """The results of an experiment: made here, or brought by an installed package."""
    places = (folder.joinpath(*experiment.name.split("/")) for folder in folders(out))
    return [path for place in places for path in place.glob("seed*.json")]


@contextmanager
def claim(experiment: Experiment, out: Path, work: Path, seed: int | None = None) -> Iterator[int]:
    """Hold a seed for the time of a run, so that no other process takes it.

    Parameters
    ----------
    experiment : Experiment
    out, work : Path
        Folders of results and of the work of runs.
    seed : int, optional
        Default: the lowest without a result that is not held.

    Yields
    ------
    int
        The seed.

    Raises
    ------
    ValueError
        The given seed is being run now.
    OSError
        The file system of ``work`` has no locks; give it a folder on a local disk.
    """
    place = work.joinpath(*experiment.name.split("/"))
    for number in count() if seed is None else [seed]:
        if seed is None and number in taken(experiment, out):
            continue
        with held(place / f"seed{number}.lock") as free:
            if not free:
                continue
            # Someone may have finished this seed between the look and the lock.
            if seed is None and number in taken(experiment, out):
                continue
            yield number
            return
    raise ValueError(
        f"{experiment.name}, seed {seed}, is being run now: wait, or take another seed"
    )
