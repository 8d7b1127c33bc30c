"""Where the book redraws the figures of the paper."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from splinelib.experiments.registry import registry
from splinelib.experiments.scoreboard import recorded_runs
from splinelib.experiments.show import NOT_RUN
from splinelib.tables import Link, Table, table

EXACT = "redrawn exactly, with our own networks"
SMALL = "redrawn at small scale, with our own networks"
SCALE = "drawn where runs are recorded"

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
        ``EXACT``, ``SMALL`` or ``SCALE``.
    """

    number: int
    shows: str
    chapter: str
    label: str
    how: str

    @property
    def name(self) -> str:
        """As the paper calls it: ``Fig. 7``."""
        return f"Fig. {self.number}"


FIGURES = (
    Figure(1, "partition before and after masks", "masks", "fig-masks-paper", EXACT),
    Figure(2, "FCNet on an X, seven ratios", "pruning_lens", "fig-pruning_lens-fig2", EXACT),
    Figure(3, "slices of ConvNets", "pruning_lens", "fig-pruning_lens-slice", EXACT),
    Figure(4, "partition through training", "settles_early", "fig-settles_early-trajectory", EXACT),
    Figure(5, "distance matrices", "early_birds", "fig-early_birds-matrices", SMALL),
    Figure(6, "pruning a small network", "redundancy", "fig-redundancy-six", EXACT),
    Figure(7, "accuracy against ρ", "cifar", "fig-cifar-rho", SCALE),
    Figure(8, "subdivision layer after layer", "partition", "fig-partition-surface", EXACT),
    Figure(9, "three starts against their cost", "start_wide", "fig-start_wide-macs", SMALL),
    Figure(10, "k-means from a wide start", "start_wide", "fig-start_wide-tickets", SMALL),
    Figure(11, "regression of a sawtooth", "start_wide", "fig-start_wide-sweep", SMALL),
    Figure(12, "a unit on a grid of points", "partition", "fig-partition-points", EXACT),
    Figure(13, "distance matrices by probe", "early_birds", "fig-early_birds-probes", SMALL),
    Figure(14, "Fig. 4 with leaky ReLU", "settles_early", "fig-settles_early-leaky", EXACT),
    Figure(15, "Fig. 5 with leaky ReLU", "early_birds", "fig-early_birds-matrices", SMALL),
)  # fmt: skip


def figure_table(folder: str | os.PathLike | None = None) -> Table:
    """Show the figures of the paper: where the book redraws them, and which runs are recorded.

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
        columns=["figure", "shows", "in the book", "how", "runs at the paper's scale"],
        caption="**The paper's figures.** Last column: runs with the paper's own networks and "
        "data; a dash: the figure needs none.",
        uid="scoreboard-figures",
    )


def _figure(figure: Figure, recorded: Mapping[str, list[dict]]) -> list[str | Link | None]:
    """One line of the table of figures."""
    wanted = [e for e in registry().values() if any(_names(figure, cell) for cell in e.cells)]
    run = sum(any(r["data"]["name"] == e.data for r in recorded.get(e.name, ())) for e in wanted)
    told = f"{run} of {len(wanted)}" if run else NOT_RUN
    link = Link(CHAPTERS[figure.chapter], f"{figure.chapter}.html#{figure.label.replace('_', '-')}")
    return [figure.name, figure.shows, link, figure.how, told if wanted else None]


def _names(figure: Figure, cell: str) -> bool:
    """Whether a cell of an experiment is of a figure: "Fig. 5a" and "Fig. 7 | ..." are."""
    return cell.partition(" | ")[0].rstrip("abc") == figure.name
