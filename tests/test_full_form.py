"""The page that trains at full scale on a GPU: its full form, narrow and short, on a CPU."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import booklint
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from bookfiles import ROOT, read

from splinelib import data, experiments

PAGE = ROOT / "book" / "cifar.ipynb"
SMALLER = {  # what makes the full form small; each must be there
    "FULL = torch.cuda.is_available()": "FULL = True",
    "EPOCHS, slimming = (40, 1e-4)": "EPOCHS, slimming = (5, 1e-4)",
    "experiments.get(": "narrow(",
    '[4, 24, 40, 61, 80, 120, 160], label="E", start=2': '[40], label="E"',
    "[0.1, 0.3, 0.5, 0.7, 0.9], label": "[0.5], label",
    'start=2, uid="cifar-widths"': 'start=0, uid="cifar-widths"',
    "RHOS = (0.01, 0.05, 0.1, 0.3, 0.4)": "RHOS = (0.01, 0.05)",
}


def made_up(count: int) -> data.ImageSet:
    """Images in the form of CIFAR-10: a picture for each class, and noise."""
    seed = torch.Generator().manual_seed(0)
    pictures = torch.randint(160, (10, 3, 32, 32), generator=seed)
    labels = torch.arange(count) % 10
    images = pictures[labels] + torch.randint(96, (count, 3, 32, 32), generator=seed)
    spread = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return data.ImageSet("cifar10", images.to(torch.uint8), labels, tuple("abcdefghij"), *spread)


def narrow(name: str) -> experiments.Experiment:
    """An experiment with an eighth of the channels, three epochs, and few images held out."""
    e = experiments.get(name)
    assert e.network == "vgg16", f"in full, the page runs {name}"
    recipe = replace(e.recipe, epochs=3, drops=(1, 2))
    options = {**e.network_options, "width": 0.125}
    return replace(e, network_options=options, recipe=recipe)


def source(cells: list) -> list[str]:
    """The page's code, with the replacements made."""
    code = [cell.source for cell in cells if "google.colab" not in cell.source]
    for old, new in SMALLER.items():
        assert any(old in text for text in code), f"cifar.ipynb no longer has {old!r}"
        code = [text.replace(old, new) for text in code]
    return code


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, made-up images for CIFAR-10, and figures that nobody sees."""
    real = data.load

    def load(name, *args, **options):
        return (made_up(640), made_up(200)) if name == "cifar10" else real(name, *args, **options)

    monkeypatch.setattr(data, "load", load)
    monkeypatch.chdir(tmp_path)
    with mpl.rc_context({"backend": "agg"}):
        yield tmp_path
    plt.close("all")


def test_cifar_runs_in_full(here: Path, capsys):
    names = {"__name__": "page", "narrow": narrow}
    for text in source(booklint.code_cells(read(PAGE))):
        exec(compile(ast.parse(text), text[:60], "exec"), names)
        plt.close("all")
    told = capsys.readouterr().out
    assert names["cell"].data == names["chosen"].data == "cifar10"
    assert "vgg16/cifar10/eb-spline-50 seed 0 on cifar10" in told
    assert len(names["found"]) == 6
    assert all(run.log for run in names["found"].values())
