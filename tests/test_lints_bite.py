"""A lint that cannot fail is no lint: each is shown a notebook broken on purpose."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import bookfiles
import booklint
import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

GOOD = bookfiles.read(bookfiles.TEMPLATE)
PNG = {"image/png": "iVBORw0KGgo="}


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def add(
    source: str = "f()", *outs: NotebookNode, **metadata: object
) -> Callable[[NotebookNode], None]:
    """A change that appends one executed code cell."""

    def change(nb: NotebookNode) -> None:
        count = len(booklint.code_cells(nb)) + 1
        nb.cells.append(
            new_code_cell(source, outputs=list(outs), execution_count=count, metadata=metadata)
        )

    return change


def replace(old: str, new: str) -> Callable[[NotebookNode], None]:
    """A change of the Markdown text; the old text must be there."""

    def change(nb: NotebookNode) -> None:
        hits = [c for c in nb.cells if c.cell_type == "markdown" and old in c.source]
        assert hits, f"the template no longer holds {old!r}"
        for cell in hits:
            cell.source = cell.source.replace(old, new)

    return change


def display(data: dict[str, str]) -> NotebookNode:
    return new_output("display_data", data=data)


def figure(caption: str, name: str, alt: str) -> dict[str, object]:
    return {"mystnb": {"figure": {"caption": caption, "name": name}, "image": {"alt": alt}}}


def forget_a_run(nb: NotebookNode) -> None:
    booklint.code_cells(nb)[1].execution_count = None


def swap_runs(nb: NotebookNode) -> None:
    one, two = booklint.code_cells(nb)[:2]
    one.execution_count, two.execution_count = two.execution_count, one.execution_count


def strip_outputs(nb: NotebookNode) -> None:
    for cell in booklint.code_cells(nb):
        cell.outputs = []


def repeat_an_id(nb: NotebookNode) -> None:
    nb.cells[1].id = nb.cells[0].id


def stamp_time(nb: NotebookNode) -> None:
    nb.cells[0].metadata["execution"] = {"iopub.status.busy": "2026-01-01"}


def other_kernel(nb: NotebookNode) -> None:
    nb.metadata.language_info["version"] = "3.11.0"


def pin_torch(nb: NotebookNode) -> None:
    booklint.code_cells(nb)[0].source += "\n%pip install torch==2.0"


def only_long_cells(nb: NotebookNode) -> None:
    for cell in booklint.code_cells(nb):
        cell.source = "\n".join("x = 1" for _ in range(7))


def drop_solution_code(nb: NotebookNode) -> None:
    start = next(i for i, c in enumerate(nb.cells) if "{solution-start}" in c.source)
    nb.cells = [c for i, c in enumerate(nb.cells) if i < start or c.cell_type == "markdown"]


def second_title(nb: NotebookNode) -> None:
    nb.cells.append(new_markdown_cell("# Another title"))


HTML_SLIDER = '<input type="range">'
A_FIGURE = figure("**Message.** Words.", "fig-a-b", "A line that rises after zero.")
CASES = [
    ("lint_executed", forget_a_run),
    ("lint_executed", swap_runs),
    ("lint_outputs", add("f()", new_output("error", ename="E", evalue="v", traceback=[]))),
    ("lint_outputs", add("f()", stream("UserWarning: old", "stderr"))),
    ("lint_something_to_compare", strip_outputs),
    ("lint_stable", add("f()", stream("see /home/ada/book.py"))),
    ("lint_stable", add("f()", stream("<object at 0x7f30c2b4d0a0>"))),
    ("lint_stable", add("f()", stream("2026-11-24 done"))),
    ("lint_stable", add("f()", display({"text/html": "took 10:02:33"}))),
    ("lint_metadata", repeat_an_id),
    ("lint_metadata", stamp_time),
    ("lint_metadata", other_kernel),
    ("lint_figures", add("f()", display(PNG))),
    ("lint_figures", add("f()", display(PNG), **figure("**M.** w", "fig-a", "fig_one"))),
    (
        "lint_figures",
        add("f()", display(PNG), **figure("No message", "fig-a", "A line that rises.")),
    ),
    (
        "lint_figures",
        add("f()", display(PNG), **figure("**M.** w", "line", "A line that rises up.")),
    ),
    ("lint_html_images", add("f()", display({"text/html": '<img src="data:,">'}))),
    ("lint_html_images", add("f()", display({"text/html": '<img alt="" src="data:,">'}))),
    ("lint_markdown_images", replace("## Summary", "![x](../a.png)\n\n## Summary")),
    (
        "lint_markdown_images",
        replace("## Summary", "![A line that rises](https://a.b/c.png)\n## Summary"),
    ),
    ("lint_slider", strip_outputs),
    ("lint_sizes", add("f()", display({"image/png": "A" * 500_000}), **A_FIGURE)),
    ("lint_sizes", add("f()", display({"text/html": HTML_SLIDER + "A" * 900_000}))),
    ("lint_sizes", add("f()", stream("A" * 3_000_000))),
    ("lint_first_cell", pin_torch),
    ("lint_cell_length", add("\n".join("x = 1" for _ in range(21)))),
    ("lint_median", only_long_cells),
    ("lint_cell_length", add("x = " + " + ".join(["1"] * 30))),
    ("lint_code", add("ax.plot(x);")),
    ("lint_code", add("from myst_nb import glue")),
    ("lint_code", add("%pip install splinecam")),
    ("lint_code", add("net.cuda()")),
    ("lint_code", add("torch.manual_seed(0)")),
    ("lint_code", add("interact(f, x=1)")),
    ("lint_title", second_title),
    ("lint_title", replace("# ", "")),
    ("lint_opening", replace("- **Runs in**", "- **Takes**")),
    ("lint_opening", replace(":::{admonition} In this chapter", ":::{note}")),
    ("lint_parts", replace("## Summary", "## Ends")),
    ("lint_exercises", replace(":::{exercise}", ":::{note}")),
    ("lint_exercises", replace(":class: dropdown", "")),
    ("lint_exercises", replace("{solution-start} ex-template-1", "{solution-start} ex-template-2")),
    ("lint_exercises", drop_solution_code),
    ("lint_quick_checks", replace("Quick check", "Question")),
    ("lint_quick_checks", replace("<details><summary>Answer</summary>\n\n", "Answer: ")),
    ("lint_references", replace(":filter: docname in docnames", "")),
    ("lint_references", replace("{cite:t}", "")),
]


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_lint_bites(number: int) -> None:
    name, change = CASES[number]
    broken = copy.deepcopy(GOOD)
    change(broken)
    lint = booklint.all_lints()[name]
    assert lint(broken), f"{name} did not notice"
    assert not lint(GOOD), f"{name} complains about the template"


def test_every_lint_is_shown_something_broken() -> None:
    assert {name for name, _ in CASES} == set(booklint.all_lints())


def test_hidden_cells_may_be_long() -> None:
    nb = copy.deepcopy(GOOD)
    add("\n".join("x = 1" for _ in range(30)), tags=["hide-input"])(nb)
    assert not booklint.lint_cell_length(nb)


def test_pictures_do_not_count_as_text() -> None:
    nb = copy.deepcopy(GOOD)
    add("f()", display({"text/html": "<p>data:image/png;base64,iVBORw0KGgo/tmp/a0x12345678</p>"}))(
        nb
    )
    assert not booklint.lint_stable(nb)


def test_reference_pages_keep_all_but_the_lints_of_chapters(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    chapter, reference, stray = (tmp_path / f"book/{name}.ipynb" for name in "abc")
    for path in (chapter, reference, stray):
        nbformat.write(GOOD, path)
    toc = "root: book/index\nparts:\n- numbered: true\n  chapters:\n  - file: book/a\n"
    (tmp_path / "_toc.yml").write_text(toc + "- chapters:\n  - file: book/b\n")
    every = booklint.all_lints()
    assert not booklint.CHAPTERS_ONLY - set(every), "a lint was renamed"
    assert booklint.lints_of(chapter, tmp_path) == booklint.lints_of(stray, tmp_path) == every
    assert set(booklint.lints_of(reference, tmp_path)) == set(every) - booklint.CHAPTERS_ONLY
    assert booklint.lints_of(bookfiles.TEMPLATE) == every, "the template is a chapter"


def test_reference_pages_may_lack_what_chapters_need() -> None:
    bare = copy.deepcopy(GOOD)
    strip_outputs(bare)
    replace(":::{admonition} In this chapter", ":::{note}")(bare)
    replace("## Summary", "## Ends")(bare)
    replace(":::{exercise}", ":::{note}")(bare)
    replace("Quick check", "Question")(bare)
    complaining = {name for name, lint in booklint.all_lints().items() if lint(bare)}
    assert complaining == booklint.CHAPTERS_ONLY | {"lint_something_to_compare"}


def test_toc_and_stray_pages(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    toc = "root: book/a\nparts:\n- chapters:\n  - file: book/b\n    sections:\n    - file: book/c\n"
    (tmp_path / "_toc.yml").write_text(toc)
    (tmp_path / "book/a.md").write_text("# a")
    nbformat.write(GOOD, tmp_path / "book/b.ipynb")
    assert bookfiles.toc_entries(tmp_path) == ["book/a", "book/b", "book/c"]
    assert bookfiles.page("book/b", tmp_path) == tmp_path / "book/b.ipynb"
    assert bookfiles.page("book/c", tmp_path) is None
    assert bookfiles.notebooks(tmp_path) == [tmp_path / "book/b.ipynb"]
