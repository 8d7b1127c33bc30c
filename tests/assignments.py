"""The assignments run in this process: what nbgrader would give, cell by cell, without a kernel.

A graded cell gives its points if it ends without an error; cells after an error run on, as in
nbgrader. Solutions can be replaced by others: by the stubs of the students' copy, or by wrong ones.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bookfiles import masters, read, release_of
from nbformat import NotebookNode

MASTERS = masters()


class Wrong(NamedTuple):
    """A wrong answer: in the solution cell ``cell`` the text ``old`` becomes ``new``.

    ``old`` stands in the master's cell exactly once; where it is empty, ``new`` is the whole cell.
    ``loses`` holds the points lost in each graded cell; all other graded cells keep theirs.
    """

    what: str
    cell: str
    old: str
    new: str
    loses: dict[str, float]


class Outcome(NamedTuple):
    """What a run gave: points got and points possible in each graded cell; errors by cell."""

    got: dict[str, float]
    possible: dict[str, float]
    errors: dict[str, BaseException]

    def lost(self) -> dict[str, float]:
        """Points lost, of the cells that lost any."""
        return {k: p - self.got[k] for k, p in self.possible.items() if p != self.got[k]}


def mark(cell: NotebookNode) -> NotebookNode:
    """What nbgrader knows about a cell; empty for a cell that it leaves alone."""
    return cell.metadata.get("nbgrader", NotebookNode())


def name_of(cell: NotebookNode) -> str:
    """The name that nbgrader knows a cell by, or else its id."""
    return mark(cell).get("grade_id", cell.id)


def solutions(nb: NotebookNode) -> dict[str, NotebookNode]:
    """The code cells that students fill in."""
    cells = [c for c in nb.cells if c.cell_type == "code" and mark(c).get("solution")]
    return {name_of(c): c for c in cells}


def graded(nb: NotebookNode) -> dict[str, NotebookNode]:
    """The code cells that give points by running."""
    found = [c for c in nb.cells if mark(c).get("grade") and not mark(c).get("solution")]
    return {name_of(c): c for c in found if c.cell_type == "code"}


def stubs(master: Path) -> dict[str, str]:
    """The text of every solution cell in the students' copy."""
    return {name: cell.source for name, cell in solutions(read(release_of(master))).items()}


def edited(nb: NotebookNode, wrong: Wrong) -> dict[str, str]:
    """The solution cell of a wrong answer."""
    source = solutions(nb)[wrong.cell].source
    if not wrong.old:
        return {wrong.cell: wrong.new}
    assert source.count(wrong.old) == 1, f"{wrong.cell} holds {wrong.old!r} not exactly once"
    return {wrong.cell: source.replace(wrong.old, wrong.new)}


def is_scratch(cell: NotebookNode) -> bool:
    """Whether this is a graded cell or a picture: what it does stays inside one function."""
    return bool(mark(cell).get("grade") or cell.metadata.get("mystnb"))


def touched(nb: NotebookNode, changed: str) -> set[str]:
    """Cells that a change of the solution cell ``changed`` can reach, by the names they mention."""
    names, found = set(_defined(solutions(nb)[changed])), {changed}
    for cell in (c for c in nb.cells if c.cell_type == "code"):
        if any(re.search(rf"\b{name}\b", cell.source) for name in names):
            found.add(name_of(cell))
            names |= set() if is_scratch(cell) else _defined(cell)
    return found


def _defined(cell: NotebookNode) -> set[str]:
    """Names that a cell defines at its left margin."""
    return set(re.findall(r"^(?:def |class )?(\w+)(?=\(| =|:)", cell.source, re.MULTILINE))


def execute(
    nb: NotebookNode, replaced: dict[str, str] | None = None, only: set[str] | None = None
) -> Outcome:
    """Run the notebook from top to bottom in one namespace.

    ``replaced`` holds the text of solution cells.  Of the graded cells and pictures, those in
    ``only`` are run, or all.
    """
    with _restored():
        errors = _errors(nb, replaced or {}, only)
    possible = {n: mark(c).points for n, c in graded(nb).items() if only is None or n in only}
    return Outcome({k: p * (k not in errors) for k, p in possible.items()}, possible, errors)


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Put back the settings of torch and matplotlib that a notebook changes."""
    import matplotlib
    import torch

    dtype = torch.get_default_dtype()
    with matplotlib.rc_context():
        yield
    torch.set_default_dtype(dtype)


def _errors(
    nb: NotebookNode, replaced: dict[str, str], only: set[str] | None
) -> dict[str, BaseException]:
    """Run the cells; the errors of those that failed, by name."""
    space: dict[str, object] = {"__name__": "__main__"}
    errors: dict[str, BaseException] = {}
    for cell in (c for c in nb.cells if c.cell_type == "code"):
        name = name_of(cell)
        if is_scratch(cell) and only is not None and name not in only:
            continue
        try:
            _run(replaced.get(name, cell.source), name, space)
        except (Exception, SystemExit) as error:
            errors[name] = error
    return errors


def _run(source: str, name: str, space: dict[str, object]) -> None:
    """Run one cell; what it prints and draws goes nowhere."""
    import matplotlib.pyplot as plt

    code = compile(_python(source), f"<{name}>", "exec")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
        exec(code, space)
    plt.close("all")


def grade(nb: NotebookNode, wrong: Wrong) -> Outcome:
    """What a wrong answer gives, in the cells that it can reach; all others stay as they are."""
    return execute(nb, edited(nb, wrong), touched(nb, wrong.cell))


def _python(source: str) -> str:
    """The cell without its magic lines (``%pip`` runs on Colab only)."""
    return re.sub(r"^(\s*)%.*$", r"\1pass", source, flags=re.MULTILINE)


def main(names: list[str]) -> None:
    """Show what a master gives: ``python tests/assignments.py a1 [wrong]``."""
    from importlib import import_module

    master = next(m for m in MASTERS if m.parent.name == names[0])
    nb = read(master)
    full = execute(nb)
    print(f"{master.name}: {sum(full.got.values())} of {sum(full.possible.values())}", full.errors)
    for wrong in import_module(f"wrong_answers.{names[0]}").WRONG if names[1:] else []:
        outcome = grade(nb, wrong)
        right = "as it should" if outcome.lost() == wrong.loses else f"SHOULD LOSE {wrong.loses}"
        print(f"{wrong.cell}, {wrong.what}: loses {outcome.lost()}, {right}")
        for name in outcome.lost():
            print(f"    {name}: {outcome.errors[name]!r:.300}")


if __name__ == "__main__":
    main(sys.argv[1:])
