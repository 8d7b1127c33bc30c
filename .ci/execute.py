"""Run chapters in a fresh kernel and store them so that only a real change makes a difference.

    python .ci/execute.py                       every notebook below book/ but the students' copies
    python .ci/execute.py book/partition.ipynb  this one

The stored file has no time stamps, one fixed kernelspec, ids that stay, and no metadata that an
editor left behind. The first cell is rewritten from ``tests/bookfiles.py``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from bookfiles import first_cell, notebooks  # noqa: E402 (found through the line above)

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
KEPT = ("tags", "mystnb", "nbgrader")  # the cell metadata that the book and its graders read
SECONDS = 180  # the longest that one cell may run


def tidy(nb: NotebookNode) -> None:
    """Reduce ``nb`` to what an author wrote: fixed kernel, plain metadata, an id for each cell."""
    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    for number, cell in enumerate(nb.cells):
        cell.metadata = NotebookNode({k: cell.metadata[k] for k in KEPT if k in cell.metadata})
        cell.setdefault("id", f"cell-{number:02d}")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def refresh_first_cell(nb: NotebookNode) -> None:
    """Write the canonical Colab cell into the first code cell, if that is a Colab cell."""
    first = next((c for c in nb.cells if c.cell_type == "code"), None)
    if first is not None and "google.colab" in first.source:
        first.source = first_cell()


def execute(path: Path) -> float:
    """Execute the notebook in place, as seen from its own folder; return the seconds it took."""
    nb = nbformat.read(path, as_version=4)
    tidy(nb)
    refresh_first_cell(nb)
    start = time.perf_counter()
    NotebookClient(
        nb,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no word about TCP on this machine
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    seconds = time.perf_counter() - start
    nb.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    nbformat.validate(nb)
    nbformat.write(nb, path)
    return seconds


def main(names: list[str]) -> None:
    """Execute the named notebooks, or all of them, one after another."""
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # as in the tests: the same sums in the same order
    for path in [Path(n).resolve() for n in names] or notebooks():
        print(f"{path.name} ...", end=" ", flush=True)
        print(f"{execute(path):.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
