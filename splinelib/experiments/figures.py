"""Where the book redraws the figures of the paper."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from splinelib.experiments.registry import registry
from splinelib.experiments.scoreboard import below, files_link, recorded_runs
from splinelib.experiments.show import NOT_RUN
from splinelib.tables import Link, Table, table

EXACT = "redrawn exactly"
SMALL = "redrawn at small scale"
SCALE = "drawn from recorded runs"

CHAPTERS = {
    "cifar": "EB spline pruning on CIFAR",
    "early_birds": "Drawing the ticket",
    "masks": "What a mask does to a partition",
    "partition": "The partition, layer after layer",
    "pruning_lens": "Pruning under the lens",
    "redundancy": "Redundant units",
    "settles_early": "The partition settles early",
    "start_wide": "Why start wide",
}


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, and its place in the book.

    Attributes
    ----------
    number : int
        1 to 15.
    shows : str
        What is seen, in a few words.
    chapter : str
        Name of the notebook in ``book/``.
    label : str
        Name of our figure there.
    how : str
        ``EXACT``, ``SMALL`` or ``SCALE``; the networks are our own.
    data : str or None
        The data that our figure really uses; None if it needs none.
    """

    number: int
    shows: str
    chapter: str
    label: str
    how: str
    data: str | None = None

    @property
    def name(self) -> str:
        """As the paper calls it: ``Fig. 7``."""
        return f"Fig. {self.number}"


FIGURES = (
    Figure(1, "partition before and after masks", "masks", "fig-masks-paper", EXACT),
    Figure(2, "FCNet on an X, seven ratios", "pruning_lens", "fig-pruning_lens-fig2", EXACT, "X"),
    Figure(3, "slices of ConvNets", "pruning_lens", "fig-pruning_lens-slice", EXACT, "digits"),
    Figure(
        4, "partition through training", "settles_early", "fig-settles_early-trajectory", EXACT, "X"
    ),
    Figure(5, "distance matrices", "early_birds", "fig-early_birds-matrices", SMALL, "digits"),
    Figure(6, "pruning a small network", "redundancy", "fig-redundancy-six", EXACT),
    Figure(7, "accuracy against ρ", "cifar", "fig-cifar-rho", SCALE, "recorded runs"),
    Figure(8, "subdivision layer after layer", "partition", "fig-partition-surface", EXACT),
    Figure(
        9, "three starts against their cost", "start_wide", "fig-start_wide-macs", SMALL, "digits"
    ),
    Figure(
        10, "k-means from a wide start", "start_wide", "fig-start_wide-tickets", SMALL, "mixtures"
    ),
    Figure(11, "regression of a sawtooth", "start_wide", "fig-start_wide-sweep", SMALL, "sawtooth"),
    Figure(12, "a unit on a grid of points", "partition", "fig-partition-points", EXACT),
    Figure(
        13, "distance matrices by probe", "early_birds", "fig-early_birds-probes", SMALL, "digits"
    ),
    Figure(14, "Fig. 4 with leaky ReLU", "settles_early", "fig-settles_early-leaky", EXACT, "X"),
    Figure(
        15, "Fig. 5 with leaky ReLU", "early_birds", "fig-early_birds-matrices", SMALL, "digits"
    ),
)


def figure_table(folder: str | os.PathLike | None = None) -> Table:
    """Show the figures of the paper: where the book redraws them, on what, and what is missing.

    Parameters
    ----------
    folder : path, optional
        Where results are; default: see :func:`splinelib.experiments.results_folder`.

    Returns
    -------
    Table
    """
    recorded = recorded_runs(folder)
    return table(
        [_figure(figure, recorded) for figure in FIGURES],
        columns=["figure", "shows", "in the book", "drawn on", "status", "run on, files"],
        caption="**The paper's figures.** Drawn on: data of our own figure; a dash: it needs none. "
        "Status, and files: of runs with the paper's networks and data, if it takes any.",
        uid="scoreboard-figures",
        choose=["status"],
    )


def figure_statuses(folder: str | os.PathLike | None = None) -> list[str]:
    """The status of each figure: how it is redrawn, or how many of the paper's runs are there.

    Parameters
    ----------
    folder : path, optional
        As for :func:`figure_table`.

    Returns
    -------
    list of str

    Examples
    --------
    >>> figure_statuses("no/such/folder")[5:7]
    ['redrawn exactly', 'not run here']
    """
    recorded = recorded_runs(folder)
    return [_status(figure, recorded)[0] for figure in FIGURES]


def _figure(figure: Figure, recorded: Mapping[str, list[dict]]) -> list[str | Link | None]:
    """One line of the table of figures."""
    status, runs = _status(figure, recorded)
    link = Link(CHAPTERS[figure.chapter], f"{figure.chapter}.html#{figure.label.replace('_', '-')}")
    data = ", ".join(sorted({run["data"]["name"] for run in runs})) or None
    files = files_link(data, [below(run) for run in runs])
    return [figure.name, figure.shows, link, figure.data, status, files]


def _status(figure: Figure, recorded: Mapping[str, list[dict]]) -> tuple[str, list[dict]]:
    """How it stands with a figure, and the runs on the paper's own networks and data."""
    wanted = [e for e in registry().values() if any(_names(figure, cell) for cell in e.cells)]
    runs = [[r for r in recorded.get(e.name, ()) if r["data"]["name"] == e.data] for e in wanted]
    if not wanted:
        return figure.how, []
    done = sum(map(bool, runs))
    told = f"{done} of {len(wanted)} experiments" if done else NOT_RUN
    return told, [run for some in runs for run in some]


def _names(figure: Figure, cell: str) -> bool:
    """Whether a cell of an experiment is of a figure: "Fig. 5a" and "Fig. 7 | ..." are."""
    return cell.partition(" | ")[0].rstrip("abc") == figure.name
