"""Cells of a table: what the reader sees of a value, and what it is sorted by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

MISSING = "–"
# A number alone, or with its spread or its unit: "97.1 ± 0.4", "−3", "1,234", "12 %", "1.5e-07"
NUMBER = re.compile(r"([+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+−-]?\d+)?)\s*(?:±.*|%|×)?")


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere: a text, and the address behind it.

    >>> print(Link("3 files", "https://example.org/results"))
    3 files
    """

    text: str
    address: str

    def __str__(self) -> str:
        return self.text


def as_text(value: Any) -> str:
    """A cell as the reader sees it."""
    if value is None or (isinstance(value, Real) and value != value):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    text = f"{int(value):,}" if isinstance(value, Integral) else f"{float(value):.4g}"
    return text.replace("-", "−")


def as_number(text: str) -> float | None:
    """The number that a text begins with, if it is one number and no more than its spread."""
    found = NUMBER.fullmatch(text.strip())
    return float(found[1].replace(",", "").replace("−", "-")) if found else None


def as_key(text: str) -> str | None:
    """What a text is sorted by; None for a missing value."""
    return None if text == MISSING else text.casefold()
