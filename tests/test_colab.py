"""Chapters run on Colab: its versions, an empty folder, the first cell fetching the repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import colab
import nbformat
import pytest
from bookfiles import ROOT, notebooks, read
from nbclient import NotebookClient

# The assignments, and some of each part, Part IV above all: each installs the repository anew, as
# on Colab. With COLAB=all every notebook runs: forty minutes of one core.
CHOSEN = {"affine_map", "masks", "early_birds", "cifar", "imagenet", "cost", "scoreboard"}
ALL = os.environ.get("COLAB") == "all"
CHAPTERS = [p for p in notebooks() if ALL or p.stem in CHOSEN or "assignments" in p.parts]


@pytest.fixture(scope="module")
def on_colab(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables; splinelib is not installed before a first cell has run."""
    place = colab.environment()
    colab.pip(place, "uninstall", "--yes", "splinelib")
    clone = colab.repository(tmp_path_factory.mktemp("clone"))
    return colab.settings(place, clone, tmp_path_factory.mktemp("jupyter"))


def says(on_colab: dict[str, str], code: str) -> str:
    """What a Python of Colab's environment prints."""
    command = [str(colab.python(colab.environment())), "-c", code]
    done = subprocess.run(command, env=on_colab, capture_output=True, text=True, cwd="/")
    return done.stdout.strip() or done.stderr


def test_the_environment_is_colabs_and_not_that_of_the_tests(on_colab: dict[str, str]) -> None:
    pins = dict(line.split("==") for line in colab.PINS.read_text().splitlines() if "==" in line)
    for name in ("numpy", "matplotlib", "ipywidgets", "scikit-learn"):
        found = says(on_colab, f"from importlib import metadata as m; print(m.version({name!r}))")
        assert found == pins[name]
    assert "ModuleNotFoundError" in says(on_colab, "import jupyter_book")
    assert says(on_colab, "import sys; print('google.colab' in sys.modules)") == "True"


@pytest.mark.parametrize("path", CHAPTERS, ids=[p.stem for p in CHAPTERS])
def test_a_chapter_runs_alone_in_an_empty_folder(
    path: Path, on_colab: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ.keys() - on_colab.keys():
        monkeypatch.delenv(name)
    for name, value in on_colab.items():
        monkeypatch.setenv(name, value)
    book = read(path)
    book.cells.append(nbformat.v4.new_code_cell("import splinelib; print(splinelib.__file__)"))
    NotebookClient(
        book, timeout=600, kernel_name=colab.KERNEL, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    where = book.cells[-1].outputs[0].text
    assert str(colab.environment()) in where  # the installed one, not that of this tree
    assert str(ROOT / "splinelib") not in where
