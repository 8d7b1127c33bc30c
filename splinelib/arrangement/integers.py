"""Hyperplanes as rows of integers: nothing is rounded, and equal ones are equal rows."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import ArrayLike

Row = tuple[int, ...]  # slopes, then the offset: (w_1, ..., w_d, b)


def integer_rows(W: ArrayLike, b: ArrayLike) -> list[Row]:
    """The rows ``(w_k, b_k)`` of a layer, each times a positive number that makes it integer."""
    slopes, offsets = nested(W), nested(b)
    if not all(isinstance(v, list) for v in (slopes, offsets)) or any(
        not isinstance(row, list) for row in slopes
    ):
        raise ValueError("W must have two axes, (n, d), one row for each unit, and b one, (n,).")
    widths = sorted({len(row) for row in slopes})
    if len(slopes) != len(offsets) or len(widths) > 1:
        raise ValueError(
            f"W must be (n, d) and b (n,); got {len(slopes)} rows of length "
            f"{' or '.join(map(str, widths))}, and {len(offsets)} offsets."
        )
    return [_integers([*row, offset]) for row, offset in zip(slopes, offsets, strict=True)]


def nested(values: Any) -> Any:
    """An array, a tensor or nested sequences as nested lists of numbers; a number as it is."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    if hasattr(values, "tolist"):
        return values.tolist()
    return [nested(v) for v in values] if isinstance(values, list | tuple) else values


def _integers(values: Sequence) -> Row:
    """The smallest integers in the proportions of some rational numbers."""
    ratios = [_ratio(v) for v in values]
    scale = math.lcm(*(q for _, q in ratios))
    return divided([p * (scale // q) for p, q in ratios])


def _ratio(value: Any) -> tuple[int, int]:
    """A finite number as numerator and denominator, exactly."""
    try:
        return value.as_integer_ratio()
    except (AttributeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"W (n, d) and b (n,) must hold finite real numbers; one of them is {value!r}."
        ) from error


def divided(row: Iterable[int]) -> Row:
    """Integers divided by their greatest common factor."""
    row = tuple(row)
    factor = math.gcd(*row)
    return tuple(v // factor for v in row) if factor > 1 else row


def different(rows: Iterable[Row]) -> list[Row]:
    """The different hyperplanes among some rows, each as its row with a positive first slope."""
    planes: dict[Row, None] = {}
    for row in rows:
        sign = next((v for v in row[:-1] if v), 0)
        if sign:
            planes[divided(row if sign > 0 else [-v for v in row])] = None
    return list(planes)


def restriction(rows: list[Row], h: Row) -> list[Row]:
    """What hyperplanes draw on another one, in the coordinates of R^d but one."""
    j = next(j for j, v in enumerate(h) if v)  # eliminate x_j
    rest = [i for i in range(len(h)) if i != j]
    return different([tuple(row[i] * h[j] - h[i] * row[j] for i in rest) for row in rows])
