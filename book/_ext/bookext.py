"""Sphinx extension of the book.

It finds splinelib in this checkout, and brings MathJax along so that no page needs the network.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "django-static-mathjax"  # a PyPI package that carries MathJax's own files
SOURCE = "mathjax/static/mathjax/es5"
NEEDED = ("tex-chtml-full.js", "output/chtml/fonts/woff-v2/")


class AuthorYearLabels(BaseLabelStyle):
    """Labels of a list of references that look as the citations in the text do."""

    def format_labels(self, entries: list) -> Iterator[str]:
        """One label an entry: "Hanin and Rolnick, 2019a"."""
        for entry in entries:
            authors = [
                person.rich_prelast_names + person.rich_last_names
                for person in entry.persons["author"]
            ]
            names = [" ".join(part.render_as("text") for part in parts) for parts in authors]
            who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
            yield f"{who}, {entry.fields['year']}"


class AuthorYear(Style):
    """Pybtex's plain style with these labels."""

    default_label_style = AuthorYearLabels


register_plugin("pybtex.style.formatting", "author_year", AuthorYear)


def mathjax_files() -> dict[str, Path]:
    """Files of MathJax that a page loads: path below ``_static/mathjax`` -> installed file."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    start = SOURCE + "/"
    below = {f.as_posix().removeprefix(start): f for f in files if f.as_posix().startswith(start)}
    found = {name: Path(f.locate()) for name, f in below.items() if name.startswith(NEEDED)}
    if "tex-chtml-full.js" not in found:
        raise ExtensionError(
            f"MathJax is missing: the package {PACKAGE} (see requirements.txt) is not installed "
            "in this environment. Run `make env`, then build again."
        )
    return found


def copy_mathjax(app: Sphinx) -> None:
    """Copy MathJax into the built site (never into the sources)."""
    if app.builder.format != "html":
        return
    for name, source in mathjax_files().items():
        target = Path(app.outdir) / "_static" / "mathjax" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def drop_thebe(
    app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Drop the scripts of sphinx-thebe, which Jupyter Book loads unasked, and twice: an error."""
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if "thebe" not in describe(s).lower()]


def describe(script: object) -> str:
    """File name and body of a script."""
    return f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', '')}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Let autodoc import splinelib from this checkout; copy MathJax before pages are written."""
    sys.path.insert(0, str(ROOT))
    app.connect("builder-inited", copy_mathjax)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
