"""Every number that the paper prints as a row: theirs, ours, and how the two compare."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from posixpath import commonpath

from splinelib.experiments.config import Experiment
from splinelib.experiments.noise import agrees
from splinelib.experiments.paper import Printed, paper_values
from splinelib.experiments.registry import registry
from splinelib.experiments.results import results
from splinelib.experiments.show import NOT_RUN, answers, ours
from splinelib.tables import Link, Table, plus_minus, table

AGREES = "reproduced within noise"
DIFFERS = "differs"
FEW = "one seed only"
STAND_IN = "on a stand-in"
ELSEWHERE = "measured on another device"
FOLLOWS = "derived from other rows"
NO_ANSWER = "run, not measured"

QUANTITIES = {  # what it is called, and digits behind the point
    "accuracy": ("accuracy (%)", 2),
    "top5": ("top-5 accuracy (%)", 2),
    "flops_p": ("operations (10¹⁵)", 2),
    "energy_kj": ("energy (kJ)", 1),
    "energy_mj": ("energy (MJ)", 2),
    "emerge_epoch": ("emergence epoch", 1),
}


@dataclass(frozen=True)
class Row:
    """One number that the paper prints, beside ours.

    Attributes
    ----------
    printed : Printed
        The paper's.
    values : tuple of float
        Ours, one a seed, in the paper's unit; empty if there is none.
    data : str or None
        The data set that was really used, such as "cifar10-jpeg75"; None if nothing was run.
    status : str
        How the two compare, one of the words above.
    files : tuple of str
        The results, as paths below the folder of results.
    """

    printed: Printed
    values: tuple[float, ...] = ()
    data: str | None = None
    status: str = NOT_RUN
    files: tuple[str, ...] = ()

    @property
    def quantity(self) -> str:
        """What the number is, in words."""
        name = self.printed.quantity
        return QUANTITIES[name][0] if name in QUANTITIES else name.replace("_", " ")

    @property
    def ours(self) -> str | None:
        """Mean ± standard deviation, and the number of seeds: ``92.70 ± 0.20 (3)``."""
        digits = QUANTITIES.get(self.printed.quantity, ("", 3))[1]
        text = plus_minus(self.values, digits)
        return text and f"{text} ({len(self.values)})"


def scoreboard(folder: str | os.PathLike | None = None) -> list[Row]:
    """Make a row for each number in the tables of the paper.

    Parameters
    ----------
    folder : path, optional
        Where results are; default: see :func:`splinelib.experiments.results_folder`.

    Returns
    -------
    list of Row
        In the paper's order; dashes are left out.

    Raises
    ------
    ValueError
        A result that is damaged.

    Notes
    -----
    A run counts if its config is, but for the data set, the one that is registered now. Where runs
    on the data set itself and on a stand-in are recorded, the former alone are taken. Taught in
    *Scoreboard*.

    Examples
    --------
    >>> rows = scoreboard("no/such/folder")
    >>> len(rows), rows[0].status
    (784, 'not run here')
    """
    recorded = recorded_runs(folder)
    experiments = {cell: e for e in registry().values() for cell in e.cells}
    return [
        _row(printed, experiments.get(printed.cell), recorded)
        for printed in paper_values()
        if printed.value is not None
    ]


def recorded_runs(folder: str | os.PathLike | None = None) -> dict[str, list[dict]]:
    """All results that answer a registered experiment, under its name."""
    found: dict[str, list[dict]] = {}
    for result in results(folder=folder):
        if (home := answers(Experiment.from_json(result["config"]))) is not None:
            found.setdefault(home, []).append(result)
    return found


def _row(printed: Printed, e: Experiment | None, recorded: Mapping[str, list[dict]]) -> Row:
    """One number of the paper, with the runs of its experiment."""
    if printed.quantity.endswith(("_gain", "_factor", "_low", "_high")):
        return Row(printed, status=FOLLOWS)
    runs = recorded.get(e.name, []) if e else []
    if not runs:
        return Row(printed)
    own = [run for run in runs if run["data"]["name"] == e.data]
    data = e.data if own else runs[0]["data"]["name"]
    runs = [run for run in runs if run["data"]["name"] == data]
    told = [(value, run) for run in runs if (value := ours(run, printed)) is not None]
    if not told:
        return Row(printed, data=data, status=NO_ANSWER)
    values = tuple(value for value, _ in told)
    files = tuple(below(run) for _, run in told)
    return Row(printed, values, data, _status(values, printed, bool(own)), files)


def _status(values: Sequence[float], printed: Printed, own: bool) -> str:
    """How numbers of ours compare with the paper's."""
    if not own:
        return STAND_IN
    if printed.quantity.startswith("energy"):
        return ELSEWHERE
    return {True: AGREES, False: DIFFERS, None: FEW}[agrees(values, printed)]


def below(result: Mapping) -> str:
    """The path of a result below the folder of results."""
    return f"{result['name']}/{Path(result['file']).name}"


def counts(rows: Iterable[Row]) -> Counter[str]:
    """How many rows there are of each status."""
    return Counter(row.status for row in rows)


def headline(rows: Sequence[Row], figures: Sequence[str] = ()) -> str:
    """Say how much is not run here, then how many numbers are of each other status.

    Parameters
    ----------
    rows : sequence of Row
    figures : sequence of str
        Statuses, from :func:`splinelib.experiments.figures.figure_statuses`.

    Returns
    -------
    str
        A part for each status, in the order of the page; "not run here" comes first.

    Examples
    --------
    >>> headline(scoreboard("no/such/folder"))
    'not run here: 651 of 784 numbers in 12 tables; derived from other rows: 133'
    """
    found = counts(rows)
    first = f"{NOT_RUN}: {found[NOT_RUN]} of {len(rows)} numbers in "
    first += f"{len({row.printed.table for row in rows})} tables"
    if figures:
        first += f", {list(figures).count(NOT_RUN)} of {len(figures)} figures"
    order = (AGREES, DIFFERS, FEW, STAND_IN, ELSEWHERE, NO_ANSWER, FOLLOWS)
    return "; ".join([first, *(f"{name}: {found[name]}" for name in order if found[name])])


def as_table(rows: Iterable[Row], caption: str, uid: str = "scoreboard", **options) -> Table:
    """Show rows as a table that the reader sorts, with a menu for table, network, and status.

    Parameters
    ----------
    rows : iterable of Row
    caption, uid, **options
        As for :func:`splinelib.tables.table`.

    Returns
    -------
    Table
    """
    heads = [
        "method",
        "network",
        "number",
        "paper",
        "ours (seeds)",
        "status",
        "run on, files",
        "in",
    ]
    options.setdefault("choose", ["in", "network", "number", "status"])
    return table(
        [_cells(row) for row in rows],
        columns=heads,
        caption=caption,
        uid=uid,
        **options,
    )


def _cells(row: Row) -> list[str | Link | None]:
    """One line of the table."""
    p = row.printed
    share = f" {100 * p.ratio:g}\N{NO-BREAK SPACE}%" if p.ratio else ""
    both = [str(p).replace("-", "−"), row.ours, row.status]
    what = [f"{p.method}{share}", f"{p.network}, {p.dataset}", row.quantity]
    return [*what, *both, files_link(row.data, row.files), f"Table {p.table}"]


def files_link(data: str | None, files: Sequence[str]) -> str | Link | None:
    """A cell with the data set that was used and a link to the results: ``cifar10, 3 files``."""
    if not files:
        return data
    count = f"{len(files)} file" + "s" * (len(files) > 1)
    return _link(f"{data}, {count}", commonpath(file.rpartition("/")[0] for file in files))


def _link(text: str, name: str) -> str | Link:
    """A link to a folder of results in the repository."""
    address = repository()
    return Link(text, f"{address}/tree/main/data/results/{name}") if address else text


def repository() -> str | None:
    """The address of the repository, which the package's metadata hold; None without them."""
    try:
        found = metadata("splinelib").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    known = dict(entry.split(", ", 1) for entry in found)
    return known.get("Repository")
