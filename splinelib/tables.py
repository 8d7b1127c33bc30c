"""Tables that the reader sorts, in a static page: no kernel, no network, no library."""

from __future__ import annotations

import html
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from splinelib.cells import MISSING, Link, as_key, as_number, as_text

PAGE = Template(Path(__file__).with_name("table.html").read_text(encoding="utf-8"))
MENUS = Template(Path(__file__).with_name("table_menus.html").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Table:
    """A table that is sorted by its heads; the last line of a cell shows it.

    Made by ``table``.  It renders as HTML; ``print`` gives plain text.

    Attributes
    ----------
    caption : str
        What the table shows.
    columns : tuple of str
        Heads.
    cells : tuple of tuple of str
        Texts, row by row in the order given.
    keys : tuple of tuple
        What each cell is sorted by: a number, a text, or None for a missing value.
    numeric : tuple of bool
        Which columns hold numbers.
    order : tuple of int
        In which order the rows are shown at first.
    start : tuple of (int, str), or None
        Column and direction of that order.
    uid : str
        Name of this table in its page.
    links : tuple of tuple of (str or None)
        Address behind each cell, if there is one.
    chosen : tuple of int
        Columns by which the reader picks rows.
    """

    caption: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...] = field(repr=False)
    keys: tuple[tuple[float | str | None, ...], ...] = field(repr=False)
    numeric: tuple[bool, ...] = field(repr=False)
    order: tuple[int, ...] = field(repr=False)
    start: tuple[int, str] | None = field(repr=False)
    uid: str = field(repr=False)
    links: tuple[tuple[str | None, ...], ...] = field(repr=False)
    chosen: tuple[int, ...] = field(repr=False, default=())

    def __repr__(self) -> str:
        words = self.caption.replace("*", "")
        return f"Table({words} {len(self.cells)} rows: {', '.join(self.columns)})"

    def __str__(self) -> str:
        """Plain text, one line a row, in the order shown at first."""
        lines = [self.columns, *(self.cells[i] for i in self.order)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                text.rjust(width) if number else text.ljust(width)
                for text, width, number in zip(line, widths, self.numeric, strict=True)
            ).rstrip()
            for line in lines
        )

    def __len__(self) -> int:
        return len(self.cells)

    def _repr_html_(self) -> str:
        words = html.escape(self.caption)
        page = PAGE.substitute(
            uid=self.uid,
            title=words.replace("*", ""),
            caption=re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", words),
            heads="\n".join(map(self._head, range(len(self.columns)))),
            body="\n".join(map(self._row, self.order)),
        )
        menus = MENUS.substitute(uid=self.uid, chosen=", ".join(map(str, self.chosen)))
        return page + menus if self.chosen else page

    def _head(self, column: int) -> str:
        way = self.start[1] if self.start and self.start[0] == column else "none"
        look = ' class="spline-number"' if self.numeric[column] else ""
        text = html.escape(self.columns[column])
        return f'<th scope="col" aria-sort="{way}"{look}>{text}</th>'

    def _row(self, place: int) -> str:
        made = []
        cells = zip(self.cells[place], self.keys[place], self.links[place], strict=True)
        for i, (text, key, address) in enumerate(cells):
            name = "td" if i else 'th scope="row"'
            look = ' class="spline-number"' if self.numeric[i] else ""
            data = "" if key is None else f' data-key="{html.escape(str(key))}"'
            text = html.escape(text)
            shown = text if address is None else f'<a href="{html.escape(address)}">{text}</a>'
            made.append(f"<{name}{look}{data}>{shown}</{name[:2]}>")
        return f'<tr data-place="{place}">' + "".join(made) + "</tr>"


def table(
    rows: Iterable[Sequence[Any]], *, columns: Sequence[str], caption: str,
    sort: str | None = None, descending: bool = False, uid: str | None = None,
    choose: Sequence[str] = (),
) -> Table:  # fmt: skip
    """Make a table that the reader sorts by clicking, or pressing Enter, on a head.

    Parameters
    ----------
    rows : iterable of sequences
        One cell a column.  A cell is a text, a number, a ``Link``, or None where a value is
        missing.  Whole numbers get commas, other numbers four digits; a text is shown as it is.
    columns : sequence of str
        Heads, all different.  The first column names the row and stays in sight on a narrow screen.
    caption : str
        What the table shows, in plain text; words between ``**`` are bold.
    sort : str, optional
        Head of the column by which rows are sorted at first; by default they stay as given.
    descending : bool
        Whether that order begins with the largest.
    uid : str, optional
        Name of the table in its page, letters, digits and hyphens; by default made of the caption.
    choose : sequence of str
        Heads of columns of few values: above the table stands a menu for each, which leaves the
        rows of one value, and the table scrolls in a window of its own.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        If there is no column, a row has another length, a head is repeated, or a name is unknown.

    Notes
    -----
    A column in which every value reads as a number ("97.1 ± 0.4", "1,234", "12 %") is sorted by
    these numbers, any other by its texts, without regard to capitals.  Missing values come last in
    both directions, and equal ones stay in the order given.  A head goes through ascending,
    descending, and the order given.  Without JavaScript the table stands as it is.  Used by
    *A tour of pruning methods*.

    Examples
    --------
    >>> made = table([["dense", "98.1 ± 0.3"], ["pruned", "97.5 ± 0.9"], ["lost", None]],
    ...              columns=["network", "accuracy"], caption="Two networks.", sort="accuracy")
    >>> made
    Table(Two networks. 3 rows: network, accuracy)
    >>> print(made)
    network    accuracy
    pruned   97.5 ± 0.9
    dense    98.1 ± 0.3
    lost              –
    """
    heads, rows = tuple(columns), [list(row) for row in rows]
    _check(rows, heads, caption, [("sort", sort), *(("choose", name) for name in choose)])
    uid = uid or "table-" + (re.sub(r"[^a-z0-9]+", "-", caption.lower())[:40].strip("-") or "own")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", uid):
        raise ValueError(f"uid must be letters, digits and hyphens, a letter first; got {uid!r}.")
    cells = tuple(tuple(map(as_text, row)) for row in rows)
    numbers = [[as_number(text) for text in row] for row in cells]
    numeric = tuple(
        any(row[i] != MISSING for row in cells)
        and all(
            row[i] == MISSING or n[i] is not None for row, n in zip(cells, numbers, strict=True)
        )
        for i in range(len(heads))
    )
    keys = tuple(
        tuple(n if is_number else as_key(text)
              for text, n, is_number in zip(row, line, numeric, strict=True))
        for row, line in zip(cells, numbers, strict=True)
    )  # fmt: skip
    start = None if sort is None else heads.index(sort)
    order = _order(keys, start, descending)
    way = None if start is None else (start, "descending" if descending else "ascending")
    links = tuple(
        tuple(cell.address if isinstance(cell, Link) else None for cell in row) for row in rows
    )
    chosen = tuple(map(heads.index, choose))
    return Table(caption, heads, cells, keys, numeric, order, way, uid, links, chosen)


def plus_minus(values: Sequence[float], digits: int = 1, factor: float = 1.0) -> str | None:
    """Write mean and standard deviation of several runs, as a cell of a table.

    Parameters
    ----------
    values : sequence of float
        One value a run.
    digits : int
        Digits behind the point.
    factor : float
        What each value is multiplied by: 100 for per cent.

    Returns
    -------
    str or None
        "97.1 ± 0.4", with the deviation of a sample (divisor n − 1); the value alone if there is
        one; None if there is none.

    Examples
    --------
    >>> plus_minus([0.96, 0.98], factor=100)
    '97.0 ± 1.4'
    >>> plus_minus([3], digits=0), plus_minus([])
    ('3', None)
    """
    numbers = [factor * float(v) for v in values]
    if not numbers:
        return None
    text = f"{statistics.fmean(numbers):,.{digits}f}"
    if len(numbers) > 1:
        text += f" ± {statistics.stdev(numbers):,.{digits}f}"
    return text.replace("-", "−")


def _check(
    rows: list[list[Any]],
    heads: tuple[str, ...],
    caption: str,
    named: Sequence[tuple[str, str | None]],
) -> None:
    if not heads or len(set(heads)) < len(heads):
        raise ValueError(f"columns must be one head or more, all different; got {list(heads)}.")
    if not caption.strip():
        raise ValueError("caption is empty; say in words what the table shows.")
    for i, row in enumerate(rows):
        if len(row) != len(heads):
            raise ValueError(f"row {i} has {len(row)} cells for {len(heads)} columns: {row}.")
    for name, value in named:
        if value is not None and value not in heads:
            raise ValueError(f"{name} is {value!r}, but must be a head: one of {list(heads)}.")


def _order(keys: Sequence[Sequence[Any]], column: int | None, descending: bool) -> tuple[int, ...]:
    """Places of the rows, sorted: missing values last, equal ones as given."""
    places = list(range(len(keys)))
    if column is None:
        return tuple(places)
    there = [i for i in places if keys[i][column] is not None]
    there.sort(key=lambda i: keys[i][column], reverse=descending)  # stable in both directions
    return tuple(there + [i for i in places if keys[i][column] is None])
