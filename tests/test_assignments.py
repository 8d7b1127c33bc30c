"""The assignments: masters pass in full, stubs lose all, wrong answers lose what they should.

Each master in ``book/assignments/source`` is run in this process (``assignments.py``); the last
test sends a small class through nbgrader itself.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import assignments
import pytest
from assignments import MASTERS, Wrong, edited, execute, grade, graded, mark, solutions, stubs
from bookfiles import first_cell, read, release_of
from booklint import code_cells, is_hidden, lint_cell_length, prose

NAMES = [path.parent.name for path in MASTERS]
WRONG = [
    (path, wrong)
    for path in MASTERS
    for wrong in importlib.import_module(f"wrong_answers.{path.parent.name}").WRONG
]
FOR_EXAMPLES = {"a3-q2"}  # asks for units that fool an earlier question's function
each_master = pytest.mark.parametrize("master", MASTERS, ids=NAMES)


def question_of(grade_id: str) -> str:
    """The question that a cell belongs to: ``a1-q2`` of ``a1-q2-hidden-1``."""
    return re.match(r"a\d-q\d+", grade_id)[0]


@each_master
def test_a_master_gets_all_points(master: Path) -> None:
    outcome = execute(read(master))
    assert outcome.errors == {}
    assert outcome.got == outcome.possible


@each_master
def test_a_students_copy_fails_in_every_graded_cell_by_the_stub_alone(master: Path) -> None:
    outcome = execute(read(master), stubs(master))
    assert outcome.lost() == outcome.possible, "points for nothing"
    kinds = {name: error for name, error in outcome.errors.items() if not says_stub(error)}
    assert kinds == {}, "a student who has not begun meets NotImplementedError and nothing else"
    plain = execute(read(release_of(master)))
    assert all(says_stub(error) for error in plain.errors.values())
    assert plain.errors, "the visible checks of a fresh copy fail"


def says_stub(error: BaseException) -> bool:
    """Whether an error is the stub's own, with its message."""
    return isinstance(error, NotImplementedError) and len(str(error)) > 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("master", "wrong"),
    WRONG,
    ids=[f"{w.cell}-{w.what}".replace(" ", "_").replace("'", "") for _, w in WRONG],
)
def test_a_wrong_answer_loses_what_it_should(master: Path, wrong: Wrong) -> None:
    outcome = grade(read(master), wrong)
    messages = {name: str(outcome.errors[name])[:200] for name in outcome.lost()}
    assert outcome.lost() == wrong.loses, messages


@each_master
def test_every_question_has_three_wrong_answers_that_lose_different_cells(master: Path) -> None:
    mine = [wrong for path, wrong in WRONG if path == master]
    nb = read(master)
    for cell in solutions(nb):
        of_cell = [wrong for wrong in mine if wrong.cell == cell]
        assert len(of_cell) >= 3, f"{cell} has {len(of_cell)} wrong answers, three are wanted"
        assert all(edited(nb, wrong) != {cell: solutions(nb)[cell].source} for wrong in of_cell)
    silent = set(graded(nb)) - {name for wrong in mine for name in wrong.loses}
    assert not silent, f"no wrong answer loses points in {silent}: do these checks check anything?"


@each_master
def test_every_question_has_its_parts(master: Path) -> None:
    nb = read(master)
    parts: dict[str, list[str]] = {}
    for cell in nb.cells:
        if re.match(r"a\d-q\d+-", name := assignments.name_of(cell)):
            parts.setdefault(question_of(name), []).append(part_of(cell))
    manual = [q for q, kinds in parts.items() if "open" in kinds]
    assert len(manual) == 1, f"one open question, not {manual}"
    for question, kinds in parts.items():
        if question not in manual:
            wanted = {"spec", "solution", "check", "hidden", "picture"}
            missing = wanted - set(kinds) - ({"spec"} if question in FOR_EXAMPLES else set())
            assert not missing, f"{question} lacks {missing}"
            assert kinds.index("solution") < kinds.index("check") < kinds.index("hidden")
            assert kinds.count("check") + kinds.count("hidden") >= 3, "several graded cells"
    assert 4 <= len(parts) - 1 <= 6, (
        f"{len(parts) - 1} questions, 4 to 6 and an open one are wanted"
    )


def part_of(cell: object) -> str:
    """Which part of a question a cell is."""
    known, name = mark(cell), assignments.name_of(cell)
    if known.get("solution"):
        return "open" if known.grade else "solution"
    if known.get("grade"):
        return "hidden" if is_hidden(cell) else "check"
    if known.get("locked") and "-spec" in name:
        return "spec"
    return "picture" if cell.metadata.get("mystnb") else name


@each_master
def test_hidden_checks_ask_whose_work_it_is(master: Path) -> None:
    hidden = {n: c.source for n, c in graded(read(master)).items() if is_hidden(c)}
    for question in {question_of(name) for name in hidden}:
        text = "".join(source for name, source in hidden.items() if question_of(name) == question)
        assert re.search(r"\bown\(\w", text), f"{question}: its hidden checks never call own"
        assert "_spec(" not in text, f"{question}: a student's cell can overwrite a specification"
        assert "within(" in text, f"{question}: no hidden check at a size for which loops are slow"


@each_master
def test_points_and_minutes_are_what_the_text_says(master: Path) -> None:
    nb = read(master)
    text, points = prose(nb), {}
    for cell in nb.cells:
        if "points" in mark(cell):
            question = question_of(mark(cell).grade_id)
            points[question] = points.get(question, 0) + mark(cell).points
    heading = r"^## Question (\d+): .*\((\d+) points, (\d+) minutes\)$"
    said = re.findall(heading, text, re.MULTILINE)
    assert {f"{NAMES[MASTERS.index(master)]}-q{n}": int(p) for n, p, _ in said} == points
    assert f"- **Points.** {sum(points.values())}" in text
    minutes = sum(int(m) for *_, m in said)
    assert f"- **Minutes.** About {minutes}" in text
    assert 75 <= minutes <= 100
    for name, cell in graded(nb).items():
        if not is_hidden(cell):
            unit = "point" if mark(cell).points == 1 else "points"
            assert cell.source.startswith(f"# {mark(cell).points} {unit}: "), (
                f"{name} says its points"
            )


@each_master
def test_the_opening_block_says_what_an_assignment_must(master: Path) -> None:
    first = read(master).cells[0].source
    assert ":::{admonition} In this assignment" in first
    for line in ("Question", "You will", "Prerequisites", "Points", "Minutes"):
        assert f"- **{line}" in first, f"the opening block lacks '- **{line}**'"


@each_master
def test_names_in_nbgrader_are_the_ids_of_cells(master: Path) -> None:
    for cell in read(master).cells:
        if "grade_id" in mark(cell):
            assert mark(cell).grade_id == cell.id


@each_master
def test_an_open_question_has_a_rubric_that_adds_up_and_is_on_the_instructors_page(
    master: Path,
) -> None:
    nb = read(master)
    (cell,) = [c for c in nb.cells if mark(c).get("grade") and mark(c).get("solution")]
    rubric = re.findall(r"^- (\d+): (.+?)\s*(?=^- |^###)", cell.source, re.MULTILINE | re.DOTALL)
    assert sum(int(points) for points, _ in rubric) == mark(cell).points
    page = " ".join((master.parents[3] / "classroom.md").read_text(encoding="utf-8").split())
    lines = [f"- {points}: {' '.join(text.split())}" for points, text in rubric]
    missing = [line for line in lines if line not in page]
    assert not missing, f"book/classroom.md lacks these lines of the rubric: {missing}"


@each_master
def test_what_a_student_reads_fits_the_page_and_gives_nothing_away(master: Path) -> None:
    nb = read(release_of(master))
    text = "\n".join(cell.source for cell in nb.cells)
    for secret in ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "ubric", "own("):
        assert secret not in text, f"the students' copy holds {secret!r}"
    assert code_cells(nb)[0].source == first_cell()
    assert not any(cell.get("outputs") for cell in nb.cells)
    assert lint_cell_length(nb) == []
    for stub in stubs(master).values():
        assert stub.count("raise NotImplementedError(") >= 1


@each_master
def test_students_need_torch_numpy_and_splinelib_alone(master: Path) -> None:
    imports = re.findall(r"^\s*(?:from|import) (\w+)", everything(master), re.MULTILINE)
    assert set(imports) <= {
        "math",
        "sys",
        "torch",
        "numpy",
        "matplotlib",
        "splinelib",
        "itertools",
        "collections",
        "fractions",
    }


def everything(master: Path) -> str:
    """All code of a master."""
    return "\n".join(cell.source for cell in code_cells(read(master)))
