"""Wrong answers to the assignments, and the points that each must lose: one file an assignment.

Each file holds ``WRONG``, a list of ``assignments.Wrong``, at least three for every question.
"""


def only(points: dict[str, float], *parts: str) -> dict[str, float]:
    """Some of the graded cells of a question."""
    return {name: lost for name, lost in points.items() if name.endswith(parts)}
