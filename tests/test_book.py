"""The book keeps its rules (``booklint.py``), chapter by chapter."""

from __future__ import annotations

import re
from pathlib import Path

import booklint
import pytest
from bookfiles import (
    ROOT,
    TEMPLATE,
    config,
    masters,
    notebooks,
    page,
    read,
    release_of,
    toc_entries,
)

TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md")])
CHECKS = [(path, lint) for path in notebooks() for lint in booklint.lints_of(path).values()]


def name_of(path: Path) -> str:
    return path.stem


def test_every_toc_entry_has_one_source() -> None:
    missing = [entry for entry in toc_entries() if page(entry) is None]
    assert not missing, f"_toc.yml names pages that do not exist: {missing}"
    assert len(set(toc_entries())) == len(toc_entries()), "_toc.yml names a page twice"


def test_every_page_is_in_the_toc() -> None:
    pages = [*notebooks(), *map(release_of, masters()), *(ROOT / "book").rglob("*.md")]
    named = {page(entry) for entry in toc_entries()} | {TEMPLATE, *masters()}
    stray = [p.relative_to(ROOT).as_posix() for p in pages if p not in named]
    assert not stray, f"pages that no reader can reach; add them to _toc.yml: {stray}"


@pytest.mark.parametrize(
    ("path", "lint"), CHECKS, ids=[f"{p.stem}-{f.__name__}" for p, f in CHECKS]
)
def test_page(path: Path, lint: booklint.Lint) -> None:
    complaints = lint(read(path))
    assert not complaints, f"{path.name}:\n- " + "\n- ".join(complaints)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_images_of_a_text(path: Path) -> None:
    complaints = booklint.markdown_images(path.read_text(encoding="utf-8"))
    assert not complaints, f"{path.name}: {complaints}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=name_of)
def test_local_links_of_a_text(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    missing = [link for link in local if not (ROOT / link).exists()]
    assert not missing, f"{path.name} links to files that do not exist: {missing}"


def test_labels_are_used_once_in_the_whole_book() -> None:
    pattern = re.compile(r"^:label: (\S+)|^\$\$ \((\S+)\)|\(([\w-]+)\)=$", re.MULTILINE)
    texts = [booklint.prose(read(p)) for p in notebooks()]
    texts += [p.read_text(encoding="utf-8") for p in TEXTS if p.parent.name == "book"]
    labels = [next(filter(None, found)) for text in texts for found in pattern.findall(text)]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    assert not twice, f"labels used more than once: {twice}"


def test_bibliography_is_sorted_and_has_no_double() -> None:
    keys = re.findall(r"^@\w+\{(\w+),", (ROOT / "book/references.bib").read_text(), re.MULTILINE)
    assert keys == sorted(set(keys)), "keep references.bib in the order of its keys, each once"


def test_repository_address_is_the_same_everywhere() -> None:
    address = config()["repository"]["url"]
    owner_and_name = address.removeprefix("https://github.com/")
    for name in ("pyproject.toml", "CITATION.cff", "README.md", "book/howto.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        found = set(re.findall(r"github(?:\.com)?/([\w.-]+/spline-pruning-book)", text))
        assert found == {owner_and_name}, f"{name} names {found}, but _config.yml says {address}"


def test_no_page_or_module_names_a_folder_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.:/])/(?:home|root|Users|work)/\w+")
    files = [p for p in ROOT.glob("*") if p.is_file()]
    files += [p for d in ("book", "splinelib", "data") for p in (ROOT / d).rglob("*.*")]
    texts = {".py", ".md", ".ipynb", ".yml", ".toml", ".txt", ".cff", ".json", ".bib"}
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in files
        if path.suffix in texts
        if (found := pattern.search(path.read_text(encoding="utf-8")))
    ]
    assert not wrong, wrong
