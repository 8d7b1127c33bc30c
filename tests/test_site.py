"""The built site in a real browser: nothing fails, nothing leaves the machine, sliders move."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bookfiles import ROOT, toc_entries
from browsers import find_browser
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

SITE = ROOT / "_build" / "html"
PAGES = toc_entries()
VIEWS = {
    "desktop-light": ("light", 1280, 900),
    "desktop-dark": ("dark", 1280, 900),
    "phone-light": ("light", 390, 844),
    "phone-dark": ("dark", 390, 844),
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and keeps no log."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the site; `make test` has just built it, and a bare pytest builds it here."""
    if not (SITE / "index.html").is_file():
        tool = Path(sys.executable).with_name("jupyter-book")
        subprocess.run([tool, "build", ROOT, "-W", "-n", "--keep-going", "-q"], check=True)
    return SITE


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@dataclass
class Visit:
    """An open page, and all that went wrong on it."""

    page: Page
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.trouble.append(f"page error: {error}"))
        self.page.on("console", self.console)
        self.page.on("requestfailed", lambda r: self.trouble.append(f"failed: {r.url[:120]}"))
        self.page.on("request", self.request)
        self.page.on("response", self.response)

    def console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.trouble.append(f"console: {message.text}")

    def request(self, request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:")):
            self.trouble.append(f"leaves this machine: {request.url}")

    def response(self, response: Response) -> None:
        if response.status >= 400:
            self.trouble.append(f"status {response.status}: {response.url}")

    def open(self, url: str) -> None:
        self.page.goto(url, wait_until="load")
        self.page.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise")


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    scheme, width, height = VIEWS[getattr(request, "param", "desktop-light")]
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, reduced_motion="reduce"
    )
    yield Visit(context.new_page())
    context.close()


@pytest.mark.parametrize("visit", VIEWS, indirect=True)
@pytest.mark.parametrize("entry", PAGES)
def test_page(visit: Visit, address: str, entry: str, request: pytest.FixtureRequest) -> None:
    visit.open(f"{address}/{entry}.html")
    page, (scheme, width, _) = visit.page, VIEWS[request.node.callspec.params["visit"]]
    assert not visit.trouble
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.documentElement.scrollWidth") <= width, (
        "the page scrolls sideways"
    )
    assert page.evaluate(IMAGES_WITHOUT_ALT) == []
    assert page.evaluate(BROKEN_IMAGES) == []
    assert page.evaluate(BROKEN_MATH) == []


IMAGES_WITHOUT_ALT = """[...document.querySelectorAll('.bd-article img')]
    .filter(i => !(i.alt || '').trim()).map(i => i.src.slice(0, 80))"""
BROKEN_IMAGES = """[...document.querySelectorAll('.bd-article img')]
    .filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(0, 80))"""
# Mathematics that MathJax left alone, or could not read.
BROKEN_MATH = r"""[...document.querySelectorAll('.bd-article .math')]
    .filter(e => !e.querySelector('mjx-container') || e.querySelector('mjx-merror'))
    .map(e => e.textContent.slice(0, 80))"""

OPEN_ALL = """document.querySelectorAll('.toggle-hidden > .admonition-title')
    .forEach(title => title.click())"""
PICTURES = """r => [...(r.closest('figure, .output, .cell_output') || document)
    .querySelectorAll('img')].filter(i => i.offsetParent).map(i => i.src).join('|')"""


TABLES = [
    p for p in PAGES if (f := ROOT / f"{p}.ipynb").is_file() and "spline-table" in f.read_text()
]


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
@pytest.mark.parametrize("entry", TABLES)
def test_tables_are_sorted_by_keyboard(visit: Visit, address: str, entry: str) -> None:
    visit.open(f"{address}/{entry}.html")
    for table in visit.page.locator(".spline-table").all():
        head = table.locator("thead th").first
        rows = table.locator("tbody th")
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        shown = [row.lower() for row in rows.all_inner_texts()]
        assert shown == sorted(shown)
        paper = "e => getComputedStyle(e).backgroundColor"
        assert rows.first.evaluate(paper) == visit.page.locator("body").evaluate(paper)
    assert not visit.trouble


MENUS = [p for p in TABLES if "spline-choose" in (ROOT / f"{p}.ipynb").read_text()]
CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
SEEN = "rows => rows.filter(row => row.offsetParent)" + CELLS.removeprefix("rows => rows")


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
@pytest.mark.parametrize("entry", MENUS)
def test_menus_pick_the_rows_that_have_all_that_is_chosen(
    visit: Visit, address: str, entry: str
) -> None:
    visit.open(f"{address}/{entry}.html")
    visit.page.evaluate(OPEN_ALL)
    tables = visit.page.locator(".spline-table[data-menus]").all()
    assert tables
    for table in tables:
        heads = table.locator("thead th").evaluate_all("ths => ths.map(th => th.textContent)")
        rows = table.locator("tbody tr")
        left = every = rows.evaluate_all(CELLS)
        menus = table.locator("select").all()
        for menu in menus:
            column = heads.index(menu.evaluate("s => s.labels[0].firstChild.textContent"))
            value = left[len(left) // 2][column]  # of a row that the other menus leave
            menu.select_option(value)
            left = [row for row in left if row[column] == value]
            assert rows.evaluate_all(SEEN) == left
            told = f"{len(left)} of {len(every)} rows"
            assert table.locator("output").inner_text() == told
        assert 0 < len(left) < len(every)
        for menu in menus:
            menu.select_option("")
        assert rows.evaluate_all(SEEN) == every
    assert not visit.trouble


@pytest.mark.parametrize("visit", ["desktop-light", "phone-dark"], indirect=True)
@pytest.mark.parametrize("entry", PAGES)
def test_sliders_change_their_picture_by_keyboard(visit: Visit, address: str, entry: str) -> None:
    visit.open(f"{address}/{entry}.html")
    visit.page.evaluate(OPEN_ALL)  # a reader opens a solution before moving the slider in it
    for slider in visit.page.locator("input[type=range]").all():
        assert slider.is_visible(), "a slider stays folded away"
        before = slider.evaluate(PICTURES)
        at_end = slider.evaluate("r => r.value === r.max")
        slider.press("ArrowLeft" if at_end else "ArrowRight")
        assert slider.evaluate(PICTURES) != before, "the key changed nothing"
        slider.press("ArrowRight" if at_end else "ArrowLeft")
        assert slider.evaluate(PICTURES) == before, "the way back shows another picture"
        assert slider.evaluate("r => r.labels.length || !!r.ariaLabel"), "the slider has no label"
    assert not visit.trouble


def test_the_site_opens_from_disk(visit: Visit, site: Path) -> None:
    """What `make book` prints is a file, opened with no server and no network."""
    # index.html only sends on to the first page
    visit.page.goto((site / "index.html").as_uri(), wait_until="commit")
    visit.page.wait_for_url(f"**/{PAGES[0]}.html")
    visit.page.wait_for_load_state("networkidle")  # a page left early aborts its own requests
    chapter = next(p for p in PAGES if (ROOT / f"{p}.ipynb").is_file())
    visit.open((site / f"{chapter}.html").as_uri())
    assert visit.page.locator("mjx-container").count() > 0
    assert visit.page.evaluate(BROKEN_MATH) == []
    assert not visit.trouble


def test_a_missing_browser_fails_in_ci_and_skips_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.fail.Exception, match="install Debian's package chromium"):
        find_browser(in_ci=True)
    with pytest.raises(pytest.skip.Exception, match="install Debian's package chromium"):
        find_browser(in_ci=False)
