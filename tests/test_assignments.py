"""The assignments: masters pass in full, stubs lose all, wrong answers lose what they should.

Each master in ``book/assignments/source`` is run in this process (``assignments.py``); the last
test sends a small class through nbgrader itself.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from pathlib import Path

import assignments
import pytest
from assignments import MASTERS, Wrong, edited, execute, grade, graded, mark, solutions, stubs
from bookfiles import first_cell, read, release_of
from booklint import code_cells, is_hidden, lint_cell_length, prose
from wrong_answers.typed import typed_again

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
def test_checks_and_pictures_overwrite_nothing_of_a_students(master: Path) -> None:
    for cell in filter(assignments.is_scratch, code_cells(read(master))):
        name = "check" if mark(cell).get("grade") else "picture"
        outside = [ast.unparse(part) for part in body_of(cell) if not is_function(part)]
        functions = [part.name for part in body_of(cell) if is_function(part)]
        assert functions == [name], f"{cell.id} defines {functions}, {name} alone is wanted"
        assert outside == [f"{name}()"], f"{cell.id} does more than calling {name}: {outside}"
        assert not any(isinstance(part, ast.Global) for part in ast.walk(body_of(cell)[0]))


@each_master
def test_every_check_asks_first_whose_work_it_is(master: Path) -> None:
    nb = read(master)
    asked = {q: names_of_functions(text) for q, text in by_question(stubs(master)).items()}
    refused: dict[str, set[str]] = {}
    for name, cell in graded(nb).items():
        question, calls = question_of(name), first_calls_of_own(cell)
        owned = {ast.unparse(call.args[0]) for call in calls}
        mentioned = {part.id for part in ast.walk(body_of(cell)[0]) if isinstance(part, ast.Name)}
        assert owned, f"{name}: own(f) is not the first thing that check() does"
        assert owned == mentioned & asked[question], f"{name} asks about {owned}"
        rest = (" ".join(map(ast.unparse, call.args[1:])) for call in calls)
        refused.setdefault(question, set()).update(rest)
    assert all(len(names) == 1 for names in refused.values()), f"unlike in one question: {refused}"


def body_of(cell: object) -> list[ast.stmt]:
    """The statements of a cell."""
    return ast.parse(cell.source).body


def is_function(part: ast.AST) -> bool:
    """Whether a statement defines a function."""
    return isinstance(part, ast.FunctionDef)


def names_of_functions(text: str) -> set[str]:
    """The functions that a cell defines at its left margin."""
    return {part.name for part in ast.parse(text).body if is_function(part)}


def first_calls_of_own(cell: object) -> list[ast.Call]:
    """The calls of ``own`` that stand before everything else in the function of a check."""
    (function,) = filter(is_function, body_of(cell))
    return list(
        itertools.takewhile(is_own, (getattr(part, "value", None) for part in function.body))
    )


def is_own(part: ast.AST | None) -> bool:
    """Whether this is a call of ``own``."""
    return isinstance(part, ast.Call) and ast.unparse(part.func) == "own"


def by_question(cells: dict[str, str]) -> dict[str, str]:
    """Texts of cells, one for each question."""
    return {question_of(name): text for name, text in cells.items()}


def points_of(nb: object) -> dict[str, dict[str, float]]:
    """The points of the cells that code grades, by question."""
    found: dict[str, dict[str, float]] = {}
    for name, cell in graded(nb).items():
        found.setdefault(question_of(name), {})[name] = mark(cell).points
    return found


@each_master
def test_what_students_see_is_worth_half_of_a_question_at_most(master: Path) -> None:
    nb = read(master)
    for question, points in points_of(nb).items():
        seen = sum(p for name, p in points.items() if not is_hidden(graded(nb)[name]))
        assert seen <= sum(points.values()) / 2, f"{question}: visible checks give {seen}"


@each_master
def test_a_specification_typed_again_loses_a_third_of_its_question(master: Path) -> None:
    nb = read(master)
    parts = {question_of(c.id) for c in code_cells(nb) if re.match(r"a\d-q\d+-spec", c.id)}
    for question, points in points_of(nb).items():
        if question in parts:
            assignment, number = question.split("-q")
            text = typed_again(assignment, int(number))
            mine = [w for _, w in WRONG if question_of(w.cell) == question and text in w.new]
            assert mine, f"{question}: plant its specification under the student's name"
            lost = [sum(p for name, p in w.loses.items() if name in points) for w in mine]
            assert 3 * min(lost) >= sum(points.values()), f"{question}: loses only {lost}"


@each_master
def test_hidden_checks_compare_with_no_specification_and_ask_for_speed(master: Path) -> None:
    hidden = {n: c.source for n, c in graded(read(master)).items() if is_hidden(c)}
    for question in {question_of(name) for name in hidden}:
        text = "".join(source for name, source in hidden.items() if question_of(name) == question)
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
    assert "- **Minutes.** About 90" in text
    assert 85 <= minutes <= 100
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
    for secret in ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "ubric"):
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
