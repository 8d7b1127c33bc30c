"""All named experiments."""

from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain

from splinelib.experiments import catalogue, large, small
from splinelib.experiments.config import Experiment
from splinelib.experiments.sources import STAND_INS

MAKERS = (
    catalogue.dense,
    catalogue.universal,
    catalogue.layerwise,
    catalogue.everywhere,
    catalogue.variants,
    catalogue.leaky,
    catalogue.minimal,
    large.imagenet,
    small.speed,
    small.small,
)


@cache
def registry() -> dict[str, Experiment]:
    """All experiments by name, the most important first.

    Returns
    -------
    dict of str to Experiment

    Examples
    --------
    >>> next(iter(registry()))
    'vgg16/cifar10/dense'
    """
    found: dict[str, Experiment] = {}
    for new in chain.from_iterable(make() for make in MAKERS):
        old = found.get(new.name)
        if old is not None and old.key != new.key:
            raise ValueError(f"two configs are called {new.name!r}")
        cells = (*(old.cells if old else ()), *new.cells)
        found[new.name] = replace(new, cells=tuple(dict.fromkeys(cells)))
    return dict(sorted(found.items(), key=lambda item: -item[1].importance))


def get(name: str) -> Experiment:
    """The experiment of a name; also on a stand-in, "vgg16/cifar10-jpeg75/dense".

    Parameters
    ----------
    name : str

    Returns
    -------
    Experiment

    Raises
    ------
    ValueError
        No such name; near ones are told.

    Examples
    --------
    >>> get("vgg16/cifar10-jpeg75/dense").data
    'cifar10-jpeg75'
    """
    known = registry()
    if name in known:
        return known[name]
    for stand_in, data in STAND_INS.items():
        parts = [data if part == stand_in else part for part in name.split("/")]
        if "/".join(parts) in known and parts != name.split("/"):
            return known["/".join(parts)].on(stand_in)
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "see `list`"
    raise ValueError(f"no experiment is called {name!r}; {hint}")


def matching(pattern: str = "*", stand_ins: dict[str, str] | None = None) -> list[Experiment]:
    """Experiments whose name matches a pattern, the most important first.

    Parameters
    ----------
    pattern : str
        ``*`` stands for anything. A plain name is looked up by :func:`get`.
    stand_ins : dict, optional
        Data sets to take for others: ``{"cifar10": "cifar10-jpeg75"}``. The pattern may fit the
        old names or the new.

    Returns
    -------
    list of Experiment

    Raises
    ------
    ValueError
        Nothing matches.

    Examples
    --------
    >>> [e.name for e in matching("vgg16/cifar10/spline-?0", {"cifar10": "cifar10-jpeg75"})][:1]
    ['vgg16/cifar10-jpeg75/spline-30']
    """
    stand_ins = stand_ins or {}

    def chosen(e: Experiment) -> Experiment:
        return e.on(stand_ins[e.data]) if e.data in stand_ins else e

    if not any(sign in pattern for sign in "*?["):
        return [chosen(get(pattern))]
    pairs = ((e, chosen(e)) for e in registry().values())
    found = [new for old, new in pairs if any(fnmatchcase(e.name, pattern) for e in (old, new))]
    if not found:
        raise ValueError(f"no experiment matches {pattern!r}; see `list`")
    return found
