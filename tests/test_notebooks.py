"""How chapters are compared with their stored outputs: what fails, and what is overlooked.

The chapters themselves are collected from ``book/`` by nbval (see ``pyproject.toml``).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
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


CASES = {
    "same": (stored("print(1 + 1)", out("2\n")), "PASSED"),
    "other_number": (stored("print(1 + 1)", out("3\n")), "FAILED"),
    "error": (stored("print(1 + 1)\n1 / 0", out("2\n")), "FAILED"),
    "other_picture": (stored(HTML, page(HTML.split("'")[1].replace("NEW", "OLD+/="))), "PASSED"),
    "other_page": (stored(HTML, page(HTML.split("'")[1].replace("<img", "<img alt"))), "FAILED"),
}


def test_nbval_fails_on_what_it_should_and_on_nothing_else(tmp_path: Path) -> None:
    for name, (notebook, _) in CASES.items():
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    found = {name: re.search(rf"(PASSED|FAILED) \S*{name}\.ipynb", text) for name in CASES}
    assert {name: hit and hit[1] for name, hit in found.items()} == {
        name: expected for name, (_, expected) in CASES.items()
    }, text
