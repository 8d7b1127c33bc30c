"""Tables that a reader sorts without a kernel."""

from __future__ import annotations

import math
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from splinelib.tables import Link, Table, plus_minus, table

ROWS = [
    ["dense", "98.1 ± 0.3", 12_345, None],
    ["Random", "9.5 ± 1.2", 800, -0.25],
    ["l1", "97.0 ± 10.0", 7_000, 2.5],
    ["lost", None, None, float("nan")],
]
HEADS = ["network", "accuracy (%)", "weights", "change"]


def made(rows=ROWS, **changes) -> Table:
    words = {"columns": HEADS, "caption": "**Four networks.** A & B <small>."}
    return table(rows, **(words | changes))


def names(page: str) -> list[str]:
    """First cell of each row of the body, in the order of the page."""
    return [unescape(t) for t in re.findall(r'<th scope="row"[^>]*>(.*?)</th>', page)]


def test_cells_read_well():
    t = made()
    assert t.cells[0] == ("dense", "98.1 ± 0.3", "12,345", "–")
    assert t.cells[1][3] == "−0.25"
    assert t.cells[3][1:] == ("–", "–", "–")
    assert t.numeric == (False, True, True, True)
    assert len(t) == 4


@pytest.mark.parametrize(
    ("text", "key"),
    [("97.1 ± 0.4", 97.1), ("−3", -3), ("-3", -3), ("1,234", 1234), ("1,234,567.5", 1234567.5),
     ("12 %", 12), ("3.5×", 3.5), ("1.5e−07", 1.5e-7), (7, 7), (0.1 + 0.2, 0.3),
     (np.float32(0.5), 0.5), (np.int64(1200), 1200), ("1e3 ± 2", 1000)],
)  # fmt: skip
def test_numbers_are_read_with_their_spread(text, key):
    t = table([["x", text]], columns=["a", "b"], caption="One.")
    assert t.numeric == (False, True)
    assert math.isclose(t.keys[0][1], key)


@pytest.mark.parametrize("text", ["7.81/15.6", "16, 16, 32", "1,23", "3 to 5", "v2", "Prop. 2"])
def test_what_only_begins_with_a_number_is_text(text):
    t = table([["x", text], ["y", 2]], columns=["a", "b"], caption="One.")
    assert t.numeric == (False, False)
    assert t.keys[0][1] == text.casefold()


def test_rows_are_sorted_by_numbers_and_missing_values_come_last():
    page = made(sort="accuracy (%)")._repr_html_()
    assert names(page) == ["Random", "l1", "dense", "lost"]
    page = made(sort="accuracy (%)", descending=True)._repr_html_()
    assert names(page) == ["dense", "l1", "Random", "lost"]
    assert re.findall(r'<th scope="col" aria-sort="(\w+)"', page) == [
        "none",
        "descending",
        "none",
        "none",
    ]
    assert names(made(sort="network")._repr_html_()) == ["dense", "l1", "lost", "Random"]
    assert names(made()._repr_html_()) == [row[0] for row in ROWS]


@pytest.mark.parametrize("descending", [False, True])
def test_equal_values_stay_in_the_order_given(descending):
    rows = [["c", 1], ["a", 1], ["b", 1]]
    t = table(rows, columns=["x", "n"], caption="Ties.", sort="n", descending=descending)
    assert t.order == (0, 1, 2)


def test_own_words_are_escaped():
    bad = '</table><script>"&'
    t = table([[bad, 1]], columns=[bad, "<b>"], caption=f"**{bad}** 1 < 2")
    page = t._repr_html_()
    assert page.count("<script>") == page.count("</script>") == 1
    assert page.count("</table>") == 1
    assert names(page) == [bad]
    assert unescape(re.search(r'data-key="([^"]*)"', page)[1]) == bad.casefold()
    assert "<b>" not in page


def test_the_page_stands_alone_and_is_the_same_each_time():
    page = made()._repr_html_()
    assert page == made()._repr_html_()
    assert not re.search(r"https?:|src=|href|@import|url\(", page)
    assert "$" not in page
    assert "<strong>Four networks.</strong> A &amp; B &lt;small&gt;." in page
    assert page.count("<tr") == 1 + len(ROWS)


def test_plain_text():
    t = made(sort="weights")
    assert repr(t) == (
        "Table(Four networks. A & B <small>. 4 rows: network, accuracy (%), weights, change)"
    )
    assert str(t).splitlines() == [
        "network  accuracy (%)  weights  change",
        "Random      9.5 ± 1.2      800   −0.25",
        "l1        97.0 ± 10.0    7,000     2.5",
        "dense      98.1 ± 0.3   12,345       –",
        "lost                –        –       –",
    ]


def test_an_empty_table_is_a_table():
    t = table([], columns=["a"], caption="Nothing was run here.")
    assert len(t) == 0
    assert names(t._repr_html_()) == []
    assert table([[None], [None]], columns=["a"], caption="Missing.").numeric == (False,)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"columns": []}, r"columns must be one head or more, all different; got \[\]"),
        ({"columns": ["a", "a", "b", "c"]}, "all different"),
        ({"columns": ["a", "b", "c"]}, "row 0 has 4 cells for 3 columns"),
        ({"caption": " "}, "caption is empty"),
        ({"sort": "speed"}, "sort is 'speed', but must be a head: one of"),
        ({"uid": "a b"}, "uid must be letters, digits and hyphens"),
    ],
)
def test_bad_arguments_are_named(changes, match):
    with pytest.raises(ValueError, match=match):
        made(**changes)


def test_plus_minus():
    values = [0.95, 0.97, 0.99]
    assert plus_minus(values, factor=100) == f"97.0 ± {100 * np.std(values, ddof=1):.1f}"
    assert plus_minus([-2.0], 2) == "−2.00"
    assert plus_minus([10_000, 12_000], 0) == "11,000 ± 1,414"
    assert plus_minus([]) is None


# --- in a browser ---


@pytest.fixture
def open_page(browser, tmp_path: Path):
    """Open a page with a table and its twin; errors of the page, and requests, fail the test."""
    contexts, trouble = [], []

    def opened(body: str = "", style: str = "", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: r.url.startswith("file:") or trouble.append(r.url))
        twin = made()._repr_html_()
        viewport = '<meta name="viewport" content="width=device-width">'
        text = f"<!doctype html><meta charset=utf-8>{viewport}<style>{style}</style>"
        file = tmp_path / "page.html"
        file.write_text(text + (body or twin + twin), encoding="utf-8")
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


def shown(page, which: int = 0) -> list[str]:
    rows = page.locator(".spline-table").nth(which).locator("tbody th")
    return [row.inner_text() for row in rows.all()]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_key_on_a_head_sorts_up_then_down_then_as_given(open_page, key):
    page = open_page()
    button = page.get_by_role("button", name="accuracy (%)").first
    head = page.locator("thead th").nth(1)
    seen = []
    for _ in range(3):
        button.press(key)
        seen.append((head.get_attribute("aria-sort"), shown(page)))
    assert seen == [
        ("ascending", ["Random", "l1", "dense", "lost"]),
        ("descending", ["dense", "l1", "Random", "lost"]),
        ("none", [row[0] for row in ROWS]),
    ]
    assert shown(page, 1) == [row[0] for row in ROWS]
    assert button.evaluate("b => b === document.activeElement"), "the focus is lost"


@pytest.mark.parametrize("column", range(4))
def test_the_page_sorts_as_python_does(open_page, column):
    page = open_page()
    button = page.locator(".spline-table").first.locator("thead button").nth(column)
    for descending in (False, True):
        button.click()
        t = made(sort=HEADS[column], descending=descending)
        assert shown(page) == [t.cells[i][0] for i in t.order]
    states = page.locator(".spline-table").first.locator("thead th[aria-sort=descending]")
    assert states.count() == 1


def test_a_sorted_table_goes_on_from_there(open_page):
    page = open_page(made(sort="weights")._repr_html_())
    assert shown(page) == ["Random", "l1", "dense", "lost"]
    button = page.get_by_role("button", name="weights")
    button.click()
    assert shown(page) == ["dense", "l1", "Random", "lost"]
    button.click()
    assert shown(page) == [row[0] for row in ROWS]


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_the_table_scrolls_in_its_box_and_names_stay(open_page, width):
    wide = table([row * 2 for row in ROWS], columns=[h + e for e in " 2" for h in HEADS],
                 caption="Wide.")._repr_html_()  # fmt: skip
    page = open_page(wide, viewport={"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    scroll = page.locator(".spline-scroll").first
    assert scroll.evaluate("e => e.scrollWidth > e.clientWidth")
    name = page.locator("tbody th").first
    before = name.bounding_box()["x"]
    scroll.evaluate("e => { e.scrollLeft = 1000; }")
    assert scroll.evaluate("e => e.scrollLeft") > 0
    assert name.bounding_box()["x"] == before
    assert page.locator("thead button").first.bounding_box()["height"] >= 24


DARK = ("rgb(20, 24, 30)", "rgb(206, 214, 221)")


@pytest.mark.parametrize(("paper", "ink"), [("rgb(255, 255, 255)", "rgb(0, 0, 0)"), DARK])
def test_it_takes_the_colours_of_the_page(open_page, paper, ink):
    style = (
        f":root {{--pst-color-background: {paper};}} body {{background: {paper}; color: {ink};}}"
    )
    page = open_page(style=style)
    get = "e => getComputedStyle(e)."
    for name in ("td", "tbody th", "thead button", ".spline-words"):
        assert page.locator(name).first.evaluate(get + "color") == ink
    assert page.locator("tbody th").first.evaluate(get + "backgroundColor") == paper


def test_without_javascript_it_can_be_read(open_page):
    page = open_page(java_script_enabled=False)
    assert shown(page) == [row[0] for row in ROWS]
    assert page.locator("thead th").nth(1).inner_text() == "accuracy (%)"
    assert page.get_by_role("button").count() == 0
    assert "Turn on JavaScript to sort" in page.locator("noscript").first.inner_text()


def test_a_link_is_a_cell_with_an_address():
    t = made([["dense", Link("3 files", "https://x.org/?a=1&b=2"), 1, None]])
    assert t.cells[0][1] == "3 files"
    assert '<a href="https://x.org/?a=1&amp;b=2">3 files</a>' in t._repr_html_()
    assert "<a " not in made()._repr_html_()


def test_menus_stand_only_where_they_are_asked_for():
    assert "[0, 2].map(menu)" in made(choose=["network", "weights"])._repr_html_()
    assert "select" not in made()._repr_html_()
    with pytest.raises(ValueError, match="choose is 'colour', but must be a head"):
        made(choose=["colour"])


def test_menus_leave_the_rows_that_all_of_them_ask_for(open_page):
    rows = [[name, net, by] for name, net, by in zip("abcd", "vvrr", "opop", strict=True)]
    t = table(rows, columns=["row", "net", "by"], caption="Four rows.", choose=["net", "by"])
    page = open_page(t._repr_html_())
    net, by = page.locator(".spline-choose select").all()
    seen = []
    for menu, value in ((net, ""), (net, "v"), (by, "p"), (net, ""), (net, "r"), (by, "")):
        menu.select_option(value)
        names = [row.inner_text() for row in page.locator("tbody th").all() if row.is_visible()]
        seen.append(("".join(names), page.locator("output").inner_text()))
    counts = ("abcd", "ab", "b", "bd", "d", "cd")
    assert seen == [(names, f"{len(names)} of 4 rows") for names in counts]
    assert net.locator("option").all_inner_texts() == ["all", "v", "r"]
    assert by.evaluate("s => s.labels[0].firstChild.textContent") == "by"
    page.get_by_role("button", name="row").dblclick()
    assert shown(page) == ["d", "c", "b", "a"]  # sorted are all, seen are those that were
    assert page.locator("tbody tr:visible").count() == 2
