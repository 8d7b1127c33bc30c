"""What pages do on a GPU alone: their full form, narrow and short, on a CPU."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import booklint
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from bookfiles import ROOT, read

from splinelib import cost, data, experiments

CIFAR = {  # what makes the full form small; each must be there
    "FULL = torch.cuda.is_available()": "FULL = True",
    "EPOCHS, slimming = (40, 1e-4)": "EPOCHS, slimming = (5, 1e-4)",
    "experiments.get(": "narrow(",
    '[4, 24, 40, 61, 80, 120, 160], label="E", start=2': '[40], label="E"',
    "[0.1, 0.3, 0.5, 0.7, 0.9], label": "[0.5], label",
    'start=2, uid="cifar-widths"': 'start=0, uid="cifar-widths"',
    "RHOS = (0.01, 0.05, 0.1, 0.3, 0.4)": "RHOS = (0.01, 0.05)",
}

IMAGENET = {
    "FULL = torch.cuda.is_available()": "FULL = True",
    'torch.device("cuda" if FULL else "cpu")': 'torch.device("cpu")',
    "(96, 64)": "(40, 32)",
    "EPOCHS = 3": "EPOCHS = 2",
    "COUNT = 640": "COUNT = 320",
    # Worker processes would outlive the test, and hold the pipe open by which a browser is ended.
    "workers = None if FULL else 0": "workers = 0",
    "torch.cuda.get_device_properties(0)": "small_card",
}
COST = {"if torch.cuda.is_available():": "if True:", 'vgg.to("cuda")': "vgg"}
# Where the cells begin that a GPU changes, and those that they need; what the others do is the same
# everywhere, and other tests run it.
CHANGED = {
    "imagenet": (
        "import copy", "FULL = ", "def write_shapes", "SIDE, BATCH", "def stream", "recipe = ",
        'print("full:"', "REDUCE = ", "images = next(testing", "after = fit", "IMAGES = ",
        "if FULL:",
    ),
    "cost": ("import matplotlib", "vgg, pre = ", "if torch.cuda"),
}  # fmt: skip


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


def source(page: str, smaller: dict[str, str]) -> list[str]:
    """The page's code, or of it what a GPU changes, with the replacements made."""
    cells = booklint.code_cells(read(ROOT / "book" / f"{page}.ipynb"))
    code = [cell.source for cell in cells if "google.colab" not in cell.source]
    code = changed(code, CHANGED[page]) if page in CHANGED else code
    for old, new in smaller.items():
        assert any(old in text for text in code), f"{page}.ipynb no longer has {old!r}"
        code = [text.replace(old, new) for text in code]
    return code


def changed(code: list[str], begin: tuple[str, ...]) -> list[str]:
    """The cells that begin so, among which is every one that asks for a GPU."""
    assert all(sum(map(str.startswith, code, [b] * len(code))) == 1 for b in begin), begin
    left = [text for text in code if not text.startswith(begin)]
    asking = [text for text in left if "FULL" in text or "torch.cuda" in text]
    assert not asking, f"these cells ask for a GPU, too:\n{asking}"
    return [text for text in code if text.startswith(begin)]


def execute(code: list[str], names: dict) -> dict:
    """Run cells one after another; gives the names that they made."""
    names |= {"__name__": "page"}
    for text in code:
        exec(compile(ast.parse(text), text[:60], "exec"), names)
        plt.close("all")
    return names


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
    names = execute(source("cifar", CIFAR), {"narrow": narrow})
    told = capsys.readouterr().out
    assert names["cell"].data == names["chosen"].data == "cifar10"
    assert "vgg16/cifar10/eb-spline-50 seed 0 on cifar10" in told
    assert len(names["found"]) == 6
    assert all(run.log for run in names["found"].values())


@pytest.fixture
def paced(monkeypatch):
    """Networks are paced by two images at once; what was asked for, and what was found."""
    real, asked = cost.throughput, []

    def throughput(net, shape, batch=256, **options):
        found = real(net, shape, 2, steps=1, rounds=1)
        asked.append((batch, found))
        return found

    monkeypatch.setattr(cost, "throughput", throughput)
    return asked


def test_imagenet_runs_in_full(here: Path, paced: list, capsys):
    *code, last = source("imagenet", IMAGENET)
    names = execute(code, {"small_card": SimpleNamespace(name="Tesla T4", total_memory=16e9)})
    told, shown = capsys.readouterr()
    assert (names["REDUCE"], names["SIDE"], names["training"].images) == ("pca", 40, 320)
    assert "multiply-adds left, less than 90 %: True" in told
    assert "cut equals masked, to 1e-4: True" in told
    assert "epochs in all: 2  accuracy at least chance: True" in told
    assert "epoch 2 of 2: 100%" in shown
    names["temporary"].cleanup()
    execute([last], names | {"PRICE": {"T4": 2.0}})
    lines = capsys.readouterr().out.splitlines()
    assert [batch for batch, _ in paced] == [128, 64]  # half as many on a card of 16 GB
    for depth, line, (_, fast) in zip((18, 50), lines, paced, strict=True):
        hours = 1_281_167 * 90 / fast / 3600
        assert line.startswith(f"ResNet-{depth}: {fast:.0f} images/s, dense {hours:.1f} h, ")
        assert line.endswith(f"price {2 * hours:.2f}")


def test_cost_measures_the_card(here: Path, paced: list, capsys):
    execute(source("cost", COST), {})
    (batch, fast), minutes = (
        *paced,
        re.findall(r"measured: ([\d.]+) minutes, dense", capsys.readouterr().out),
    )
    assert batch == 256
    assert minutes == [f"{50_000 * 160 / fast / 60:.1f}"]
