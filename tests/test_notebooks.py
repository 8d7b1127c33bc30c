"""How chapters are compared with their stored outputs: what fails, and what is overlooked.

The chapters themselves are collected from ``book/`` by nbval (see ``pyproject.toml``).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bookfiles import ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output

HTML = "import IPython.display as d\nd.HTML('<img src=\"data:image/png;base64,iVBORw0KGgoNEW\">')"


def stored(source: str, output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook of one executed cell."""
    return new_notebook(cells=[new_code_cell(source, outputs=[output], execution_count=1)])


def page(html: str) -> nbformat.NotebookNode:
    data = {"text/html": html, "text/plain": "<IPython.core.display.HTML object>"}
    return new_output("execute_result", data=data, execution_count=1)


def out(text: str) -> nbformat.NotebookNode:
    return new_output("stream", name="stdout", text=text)


@pytest.mark.parametrize(
    ("notebook", "passes"),
    [
        (stored("print(1 + 1)", out("2\n")), True),
        (stored("print(1 + 1)", out("3\n")), False),
        (stored("print(1 + 1)\n1 / 0", out("2\n")), False),
        (stored(HTML, page('<img src="data:image/png;base64,iVBORw0KGgoOLD+/=">')), True),
        (stored(HTML, page('<img alt="" src="data:image/png;base64,iVBORw0KGgoOLD">')), False),
    ],
    ids=["same", "other number", "error", "other picture", "other page"],
)
def test_nbval(notebook: nbformat.NotebookNode, passes: bool, tmp_path: Path) -> None:
    nbformat.write(notebook, tmp_path / "one.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    run = subprocess.run(
        [*command, str(tmp_path / "one.ipynb")], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == (0 if passes else 1), run.stdout[-2000:] + run.stderr[-2000:]
