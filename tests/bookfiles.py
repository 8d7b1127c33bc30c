"""Where the book's pages are: the table of contents, the settings, the notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "book" / "_template.ipynb"


def config() -> dict[str, Any]:
    """The settings in ``_config.yml``."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def toc_entries(root: Path = ROOT) -> list[str]:
    """All pages that ``_toc.yml`` names, in order, without their extension."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    found = [toc["root"]]

    def walk(node: Any) -> None:
        for item in node if isinstance(node, list) else [node]:
            found.extend([item["file"]] if "file" in item else [])
            for key in ("parts", "chapters", "sections"):
                walk(item.get(key, []))

    walk(toc.get("parts", []) + toc.get("chapters", []))
    return found


def page(entry: str, root: Path = ROOT) -> Path | None:
    """The source file of a table-of-contents entry, or None where there is no such file."""
    names = (root / f"{entry}{suffix}" for suffix in (".ipynb", ".md"))
    return next((path for path in names if path.is_file()), None)


def notebooks(root: Path = ROOT) -> list[Path]:
    """Every notebook of the book that runs: the template and the assignments' masters, too."""
    unrun = {".ipynb_checkpoints", "release", "submitted", "autograded", "feedback"}
    return [p for p in sorted((root / "book").rglob("*.ipynb")) if not unrun & set(p.parts)]


def masters(root: Path = ROOT) -> list[Path]:
    """The assignments with their solutions and hidden checks; no pages of the site."""
    return sorted((root / "book" / "assignments" / "source").glob("*/*.ipynb"))


def release_of(master: Path) -> Path:
    """The students' copy of a master: a page of the site, made by nbgrader."""
    return master.parents[2] / "release" / master.parent.name / master.name


def read(path: Path) -> NotebookNode:
    """The notebook at ``path``."""
    return nbformat.read(path, as_version=4)


def first_cell() -> str:
    """The first code cell of every chapter: on Colab, and only there, it installs splinelib."""
    url = config()["repository"]["url"]
    return f'import sys\n\nif "google.colab" in sys.modules:\n    %pip install -q git+{url}'
