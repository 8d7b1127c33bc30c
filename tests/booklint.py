"""What every chapter must keep to: each lint takes a notebook and returns a list of complaints.

The one place for these rules: ``test_book.py`` runs them on the book, ``test_lints_bite.py`` on
notebooks broken on purpose. A notebook that ``_toc.yml`` names outside its numbered parts is a
reference page: the lints in ``CHAPTERS_ONLY`` do not apply to it, all others do. The masters of
assignments have rules of their own, in ``test_assignments.py``, beside most of these.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml
from bookfiles import ROOT, first_cell, masters, page, toc_entries
from nbformat import NotebookNode

VISIBLE_LINES, MEDIAN_LINES, WIDTH = 20, 6, 78
PNG_BYTES, HTML_BYTES, NOTEBOOK_BYTES = 300_000, 900_000, 3_000_000
ALT_LETTERS = 20
EXERCISES = range(3, 6)
QUICK_CHECKS = range(2, 4)
LAST_PARTS = ["Summary", "Exercises", "References"]
OPENING = ["Question", "You will be able to", "Prerequisites", "Runs in", "Follows"]
CHAPTERS_ONLY = {"lint_slider", "lint_opening", "lint_parts", "lint_exercises"}
CHAPTERS_ONLY |= {"lint_quick_checks"}
# What a student's copy does not show of a master.
TAKEN_AWAY = re.compile(r" *### BEGIN (SOLUTION|HIDDEN TESTS)\n.*?### END \1\n?", re.DOTALL)
# Assignments: the whole text of a question is one cell, and checks are as long as they must be.
NOT_FOR_ASSIGNMENTS = CHAPTERS_ONLY | {"lint_median", "lint_references"}

Lint = Callable[[NotebookNode], list[str]]


# --- parts of a notebook ------------------------------------------------------------------------


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    """The code cells that hold something."""
    return [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]


def prose(nb: NotebookNode) -> str:
    """All Markdown of the notebook, one text."""
    return "\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown")


def outputs(nb: NotebookNode) -> Iterator[tuple[NotebookNode, NotebookNode]]:
    """Pairs (cell, output)."""
    for cell in code_cells(nb):
        for output in cell.outputs:
            yield cell, output


def output_text(output: NotebookNode) -> str:
    """What a reader sees of an output as text; pictures are left out."""
    if output.output_type == "stream":
        return output.text
    data = output.get("data", {})
    return "\n".join(v for k, v in data.items() if k.startswith("text/") and isinstance(v, str))


def start(cell: NotebookNode) -> str:
    """The first line of a cell, to name it in a complaint."""
    return f"cell '{cell.source.strip().splitlines()[0][:60]}'"


def is_hidden(cell: NotebookNode) -> bool:
    """Whether the page folds this code away, or never shows it, as checks kept from students."""
    if "### BEGIN HIDDEN TESTS" in cell.source:
        return True
    return bool({"hide-input", "hide-cell", "remove-input"} & set(cell.metadata.get("tags", [])))


# --- lints: execution ---------------------------------------------------------------------------


def lint_executed(nb: NotebookNode) -> list[str]:
    """Code cells ran once, from top to bottom, in a fresh kernel."""
    counts = [c.execution_count for c in code_cells(nb)]
    if counts == list(range(1, len(counts) + 1)):
        return []
    return [f"execution counts are {counts}, not 1, 2, 3, ...: run `make notebooks`"]


def lint_outputs(nb: NotebookNode) -> list[str]:
    """No error and nothing on stderr was stored."""
    wrong = []
    for cell, output in outputs(nb):
        if output.output_type == "error":
            wrong.append(f"{start(cell)} stored the error {output.ename}: {output.evalue}")
        if output.output_type == "stream" and output.name == "stderr":
            wrong.append(f"{start(cell)} wrote to stderr; remove the cause: {output.text[:80]!r}")
    return wrong


def lint_something_to_compare(nb: NotebookNode) -> list[str]:
    """Strict nbval compares stored outputs; a notebook without text outputs would always pass."""
    if any(output_text(o).strip() for _, o in outputs(nb)):
        return []
    return ["no cell stores a text output, so the tests compare nothing: print a checked number"]


UNSTABLE = {
    "a path of one machine": re.compile(r"(?:/(?:home|root|tmp|Users|work|content)/\w|[A-Z]:\\\w)"),
    "an object's address": re.compile(r"\b0x[0-9a-f]{6,}"),
    "a date or time of day": re.compile(r"\b\d{4}-\d\d-\d\d\b|\b\d\d?:\d\d:\d\d\b"),
}
BASE64 = re.compile(r"iVBORw0KGgo[A-Za-z0-9+/=\\]+")


def lint_stable(nb: NotebookNode) -> list[str]:
    """Outputs hold nothing that another run or another machine would change."""
    wrong = []
    for cell, output in outputs(nb):
        text = BASE64.sub("", output_text(output))
        for what, pattern in UNSTABLE.items():
            if found := pattern.search(text):
                wrong.append(f"{start(cell)} stores {what}: {found[0]!r}")
    return wrong


def lint_metadata(nb: NotebookNode) -> list[str]:
    """Metadata holds only what the book reads; ids are there and differ."""
    allowed = {"tags", "mystnb", "nbgrader"}
    extra = {k for c in nb.cells for k in c.metadata} - allowed
    extra |= set(nb.metadata) - {"kernelspec", "language_info"}
    wrong = [f"metadata {sorted(extra)} is not the author's: run `make notebooks`"] if extra else []
    ids = [c.get("id") for c in nb.cells]
    if None in ids or len(set(ids)) < len(ids):
        wrong.append("cell ids are missing or repeated: run `make notebooks`")
    kernel = (nb.metadata.get("kernelspec", {}).get("name"), dict(nb.metadata.language_info))
    if kernel != ("python3", {"name": "python"}):
        wrong.append(f"kernel {kernel} is not the plain python3: run `make notebooks`")
    return wrong


# --- lints: figures -----------------------------------------------------------------------------


def lint_figures(nb: NotebookNode) -> list[str]:
    """Each picture has alt text that says what is seen, a caption, and a name to point at."""
    wrong = []
    for cell, output in outputs(nb):
        if "image/png" not in output.get("data", {}):
            continue
        mystnb = cell.metadata.get("mystnb", {})
        alt, figure = mystnb.get("image", {}).get("alt", ""), mystnb.get("figure", {})
        if len(alt) < ALT_LETTERS or " " not in alt:
            wrong.append(f"{start(cell)}: metadata mystnb.image.alt must say what is seen: {alt!r}")
        if not figure.get("caption", "").startswith("**"):
            wrong.append(f"{start(cell)}: mystnb.figure.caption must begin with its **message**")
        if not figure.get("name", "").startswith("fig-"):
            wrong.append(f"{start(cell)}: mystnb.figure.name must be fig-<chapter>-<name>")
    names = [c.metadata.get("mystnb", {}).get("figure", {}).get("name") for c in code_cells(nb)]
    named = [n for n in names if n]
    return wrong + [f"figure name {n} is used twice" for n in set(named) if named.count(n) > 1]


IMG = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
ALT = re.compile(r"""\balt=(?:"[^"]+"|'[^']+')""", re.IGNORECASE)
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)")


def lint_html_images(nb: NotebookNode) -> list[str]:
    """Each <img> of an HTML output has alt text."""
    found = ((c, tag) for c, o in outputs(nb) for tag in IMG.findall(output_text(o)))
    return [
        f"{start(c)}: an <img> without alt text: {t[:60]}" for c, t in found if not ALT.search(t)
    ]


def markdown_images(text: str) -> list[str]:
    """Complaints about the images of a Markdown text: alt text, no hot links."""
    wrong = []
    for alt, source in MARKDOWN_IMAGE.findall(text):
        if len(alt) < ALT_LETTERS:
            wrong.append(f"image {source}: alt text must say what is seen, not {alt!r}")
        if source.startswith(("http:", "https:", "//")):
            wrong.append(f"image {source} comes from the network; keep it in book/_static")
    tags = [t for t in IMG.findall(text) if not ALT.search(t)]
    return wrong + [f"an <img> without alt text: {t[:60]}" for t in tags]


def lint_markdown_images(nb: NotebookNode) -> list[str]:
    """Images in Markdown have alt text and are local."""
    return markdown_images(prose(nb))


def lint_slider(nb: NotebookNode) -> list[str]:
    """At least one figure moves."""
    if any('type="range"' in output_text(o) for _, o in outputs(nb)):
        return []
    return ["no slider: a chapter has at least one, see splinelib.explore.frames"]


def lint_sizes(nb: NotebookNode) -> list[str]:
    """Pictures and pages stay light."""
    wrong = []
    for cell, output in outputs(nb):
        data = output.get("data", {})
        png, html = len(data.get("image/png", "")) * 3 // 4, len(data.get("text/html", ""))
        if png > PNG_BYTES:
            wrong.append(f"{start(cell)}: a PNG of {png} bytes, at most {PNG_BYTES}: lower its dpi")
        if html > HTML_BYTES:
            wrong.append(f"{start(cell)}: {html} bytes of HTML, at most {HTML_BYTES}: fewer frames")
    size = len(nbformat.writes(nb).encode())
    if size > NOTEBOOK_BYTES:
        wrong.append(f"the notebook has {size} bytes, at most {NOTEBOOK_BYTES}")
    return wrong


# --- lints: code --------------------------------------------------------------------------------


def lint_first_cell(nb: NotebookNode) -> list[str]:
    """The first code cell is the same everywhere."""
    if code_cells(nb) and code_cells(nb)[0].source == first_cell():
        return []
    return [f"the first code cell must read (`make notebooks` writes it):\n{first_cell()}"]


def lint_cell_length(nb: NotebookNode) -> list[str]:
    """One idea a cell: short at the median, none long unless it is folded away."""
    seen = [c for c in code_cells(nb) if not is_hidden(c)]
    lengths = [len(TAKEN_AWAY.sub("", c.source).strip().splitlines()) for c in seen]
    wrong = [
        f"{start(c)} shows {n} lines, at most {VISIBLE_LINES}: use splinelib, or tag hide-input"
        for c, n in zip(seen, lengths, strict=True)
        if n > VISIBLE_LINES
    ]
    wrong += [
        f"{start(c)} has a line of more than {WIDTH} characters, which the page cuts off"
        for c in seen
        if max(map(len, c.source.splitlines()), default=0) > WIDTH
    ]
    return wrong


def lint_median(nb: NotebookNode) -> list[str]:
    """Half of the visible cells are very short."""
    lengths = [len(c.source.strip().splitlines()) for c in code_cells(nb) if not is_hidden(c)]
    if not lengths or statistics.median(lengths) <= MEDIAN_LINES:
        return []
    return [f"median {statistics.median(lengths)} lines a cell, at most {MEDIAN_LINES}"]


FORBIDDEN = {
    "a trailing ';' (nbval does not honour it; write `_ = ...`)": re.compile(r";\s*\Z"),
    "myst_nb (Colab has no such package)": re.compile(r"\bmyst_nb\b"),
    "a hard-coded device": re.compile(r"\.cuda\(\)"),
    "an installation": re.compile(r"^\s*[!%]\s*(?:pip|conda|apt|wget|curl)\b", re.MULTILINE),
    "the global random generator": re.compile(r"\b(?:torch\.manual_seed|np\.random\.seed)\b"),
    "a live widget (it hangs the execution)": re.compile(r"\b(?:interact|interactive)\("),
}


def lint_code(nb: NotebookNode) -> list[str]:
    """Nothing that would break elsewhere."""
    return [
        f"{start(cell)} holds {what}"
        for cell in code_cells(nb)[1:]
        for what, pattern in FORBIDDEN.items()
        if pattern.search(cell.source)
    ]


# --- lints: text --------------------------------------------------------------------------------


def first_text(nb: NotebookNode) -> str:
    """The first cell, if it is Markdown."""
    return nb.cells[0].source if nb.cells and nb.cells[0].cell_type == "markdown" else ""


def lint_title(nb: NotebookNode) -> list[str]:
    """The first cell begins with the title, and there is no second one."""
    wrong = []
    if not first_text(nb).startswith("# "):
        wrong.append("the first cell must begin with the title, '# ...'")
    if len(re.findall(r"^# ", prose(nb), re.MULTILINE)) != 1:
        wrong.append("a page has exactly one title ('# ...')")
    return wrong


def lint_opening(nb: NotebookNode) -> list[str]:
    """The first cell says what the chapter asks, gives, needs and costs."""
    first, wrong = first_text(nb), []
    if ":::{admonition} In this chapter" not in first:
        wrong.append("the first cell must hold ':::{admonition} In this chapter'")
    lines = [line for line in first.splitlines() if line.startswith("- **")]
    missing = [o for o in OPENING if not any(line.startswith(f"- **{o}") for line in lines)]
    return wrong + [f"the opening block lacks the line '- **{o}** ...'" for o in missing]


def lint_parts(nb: NotebookNode) -> list[str]:
    """The chapter ends with Summary, Exercises, References, in this order."""
    headings = re.findall(r"^## (.+?)\s*$", prose(nb), re.MULTILINE)
    if headings[-3:] == LAST_PARTS:
        return []
    return [f"the last three '##' headings must be {LAST_PARTS}, not {headings[-3:]}"]


def lint_exercises(nb: NotebookNode) -> list[str]:
    """Three to five exercises, each followed by one solution, at least one of them executed."""
    events = re.findall(
        r"^:::+\{(exercise|solution|solution-start)\}(.*)\n((?::\w+:.*\n)*)",
        prose(nb),
        re.MULTILINE,
    )
    asked, wrong = [], []
    for kind, argument, options in events:
        label = re.search(r":label: (\S+)", options)
        if kind == "exercise":
            asked.append(label[1] if label else f"(no label){argument}")
        elif not asked or argument.strip() != asked[-1]:
            wrong.append(f"the solution of {argument.strip()} must follow its exercise")
        elif "dropdown" not in options:
            wrong.append(f"the solution of {argument.strip()} needs ':class: dropdown'")
    solved = [argument.strip() for kind, argument, _ in events if kind != "exercise"]
    wrong += [
        f"exercise {name} has {solved.count(name)} solutions"
        for name in asked
        if solved.count(name) != 1
    ]
    if len(asked) not in EXERCISES:
        wrong.append(f"{len(asked)} exercises; a chapter has {EXERCISES[0]} to {EXERCISES[-1]}")
    if not executed_solutions(nb):
        wrong.append(
            "no solution runs code: put code cells between solution-start and solution-end"
        )
    return wrong


def lint_quick_checks(nb: NotebookNode) -> list[str]:
    """Two or three quick checks, whose answers open without a kernel: on the page and on Colab."""
    block = r"^:::\{admonition\} Quick check\n:class: hint\n(.*?)^:::$"
    answer = re.compile(
        r".\n\n<details><summary>Answer</summary>\n\n.+\n\n</details>\n\Z", re.DOTALL
    )
    found = re.findall(block, prose(nb), re.MULTILINE | re.DOTALL)
    wrong = [
        f"the quick check '{text.strip()[:40]}' needs its answer inside <details>, with empty lines"
        for text in found
        if not answer.search(text)
    ]
    if len(found) not in QUICK_CHECKS:
        wrong.append(
            f"{len(found)} quick checks (':::{{admonition}} Quick check', ':class: hint'); "
            f"a chapter has {QUICK_CHECKS[0]} to {QUICK_CHECKS[-1]}"
        )
    return wrong


def executed_solutions(nb: NotebookNode) -> int:
    """How many code cells lie between ``solution-start`` and ``solution-end``."""
    inside, count = False, 0
    for cell in nb.cells:
        if cell.cell_type == "code":
            count += inside
        elif marks := re.findall(r"\{solution-(start|end)\}", cell.source):
            inside = marks[-1] == "start"
    return count


def lint_references(nb: NotebookNode) -> list[str]:
    """The page cites, and lists what it cites."""
    text, wrong = prose(nb), []
    if not re.search(r"\{cite:[pt]\}`", text):
        wrong.append("nothing is cited: {cite:t}`you2022spline` at least")
    if not re.search(r":::\{bibliography\}\n:filter: docname in docnames\n:::", text):
        wrong.append(
            "## References must hold ':::{bibliography}' with ':filter: docname in docnames'"
        )
    return wrong


def all_lints() -> dict[str, Lint]:
    """Every lint of a chapter, by name."""
    return {name: f for name, f in globals().items() if name.startswith("lint_")}


def files_of(node: Any) -> set[str]:
    """Every ``file`` in a branch of ``_toc.yml``."""
    if isinstance(node, list):
        return {file for item in node for file in files_of(item)}
    own = {node["file"]} if "file" in node else set()
    return own | files_of(node.get("chapters", [])) | files_of(node.get("sections", []))


def is_reference(path: Path, root: Path = ROOT) -> bool:
    """Whether ``_toc.yml`` names the page, but in none of its numbered parts."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    numbered = files_of([part for part in toc.get("parts", []) if part.get("numbered")])
    return path in {page(entry, root) for entry in set(toc_entries(root)) - numbered}


def lints_of(path: Path, root: Path = ROOT) -> dict[str, Lint]:
    """The lints that apply to a notebook: all, or those that a reference page must keep, too."""
    skipped = CHAPTERS_ONLY if is_reference(path, root) else set()
    skipped = NOT_FOR_ASSIGNMENTS if path in masters(root) else skipped
    return {name: lint for name, lint in all_lints().items() if name not in skipped}
