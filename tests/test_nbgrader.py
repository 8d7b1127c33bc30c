"""A class goes through nbgrader itself: copies are made, collected, graded, and get feedback."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from assignments import MASTERS, Wrong, edited, grade, graded, mark, solutions
from bookfiles import ROOT, read, release_of
from wrong_answers import a1

HOME = MASTERS[0].parents[2]
CLASS = int(os.environ.get("CLASS_SIZE", 30))  # students, at least 4
HALVES = ("*[02468]", "*[!02468]")  # of the class, by the ends of their names: one grader a core
TIMEOUT = 20  # seconds for a cell here; the course's own setting is longer
WRONG = next(wrong for wrong in a1.WRONG if "divided by the length" in wrong.what)
HANGS = "def wall_distance(G, h, x):\n    while True:\n        pass\n"


def nbgrader(course: Path, *words: str) -> str:
    """Run nbgrader in a course; the words it says."""
    tools = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    env["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [tools / "nbgrader", *words], cwd=course, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def worked() -> float:
    """Seconds of processor time of all programs that were started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def course_of(folder: Path, masters: list[Path]) -> Path:
    """A course with these masters, and their students' copies."""
    shutil.copy(HOME / "nbgrader_config.py", folder)
    for master in masters:
        shutil.copytree(master.parent, folder / "source" / master.parent.name)
        nbgrader(folder, "generate_assignment", master.parent.name, "--force")
    return folder


@pytest.mark.parametrize("master", MASTERS, ids=[m.parent.name for m in MASTERS])
def test_the_copy_in_the_tree_is_the_generated_one(master: Path, tmp_path: Path) -> None:
    made = course_of(tmp_path, [master]) / "release" / master.parent.name / master.name
    kept = release_of(master)
    assert made.read_text() == kept.read_text(), "the master has changed: run `make assignments`"


def hand_in(course: Path, student: str, replaced: dict[str, str]) -> None:
    """Put the students' copy of A1, with these solution cells, where nbgrader collects it."""
    nb = read(course / "release" / "a1" / MASTERS[0].name)
    for name, cell in solutions(nb).items():
        cell.source = replaced.get(name, cell.source)
    for cell in nb.cells:
        if mark(cell).get("grade") and mark(cell).get("solution"):
            cell.source = "The map is exact inside its cell."
    folder = course / "submitted" / student / "a1"
    folder.mkdir(parents=True)
    nbformat.write(nb, folder / MASTERS[0].name)


def scores(course: Path, student: str) -> dict[str, float]:
    """Points of each autograded cell, as the gradebook has them."""
    rows = """
        SELECT base_cell.name, grade.auto_score FROM grade
        JOIN base_cell ON base_cell.id = grade.cell_id
        JOIN submitted_notebook ON submitted_notebook.id = grade.notebook_id
        JOIN submitted_assignment ON submitted_assignment.id = submitted_notebook.assignment_id
        WHERE submitted_assignment.student_id = ?"""
    with sqlite3.connect(course / "gradebook.db") as book:
        found = dict(book.execute(rows, (student,)).fetchall())
    book.close()
    return {name: points for name, points in found.items() if points is not None}


def test_a_class_is_graded_and_one_endless_loop_costs_only_itself(tmp_path: Path) -> None:
    course = course_of(tmp_path, MASTERS[:1])
    nb = read(MASTERS[0])
    right = {name: cell.source for name, cell in solutions(nb).items()}
    class_of = {"full": right, "empty": {}, "partial": right | edited(nb, WRONG)}
    class_of["hangs"] = right | {WRONG.cell: HANGS}
    class_of |= {f"more-{n}": right for n in range(CLASS - 4)}
    for student, replaced in class_of.items():
        hand_in(course, student, replaced)
    words, before = ("autograde", "a1", f"--Execute.timeout={TIMEOUT}"), worked()
    with ThreadPoolExecutor() as graders:
        list(graders.map(lambda half: nbgrader(course, *words, f"--student={half}"), HALVES))
    seconds = (worked() - before) / len(HALVES)
    assert seconds < 600, f"{len(class_of)} copies kept each of two cores busy for {seconds:.0f} s"

    possible = {name: mark(cell).points for name, cell in graded(nb).items()}
    expected = dict.fromkeys(class_of, possible)
    expected["partial"] = possible | dict.fromkeys(WRONG.loses, 0)
    of_hang = Wrong("", WRONG.cell, "", "def wall_distance(G, h, x):\n    raise OSError\n", {})
    expected["hangs"] = possible | dict.fromkeys(grade(nb, of_hang).lost(), 0)
    expected["empty"] = dict.fromkeys(possible, 0)
    got = {student: scores(course, student) for student in class_of}
    assert {s: {k: got[s][k] for k in possible} for s in class_of} == expected

    nbgrader(course, "generate_feedback", "a1", "--student=partial")
    page = course / "feedback" / "partial" / "a1" / f"{MASTERS[0].stem}.html"
    assert "z is no distance" in page.read_text(), "the message teaches"
