"""Sliders that move without a kernel, explorers that move with one."""

from __future__ import annotations

import io
import json
import os
import re
from html import unescape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from splinelib import explore


def bar(height: float, size: tuple[float, float] = (2, 2)):
    """A blue bar on white, all of it away from the border of the figure."""
    ax = plt.figure(figsize=size, layout="none").add_axes((0.2, 0.2, 0.6, 0.6))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    ax.bar(0.5, height, width=1, color="#0B3FA8")
    return ax


def slider(**changes) -> explore.Frames:
    words = {"label": "height h", "alt": "A blue bar of height {}.", "start": 1}
    return explore.frames(bar, [0.25, 0.5, 1.0], **(words | changes))


def data_of(frames: explore.Frames) -> dict:
    page = frames._repr_html_()
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])


# --- frames ---


def test_one_picture_a_value():
    made = slider()
    assert repr(made) == "Frames(height h: 3 pictures, 0.5 shown first)"
    assert len(made) == len(made.images) == 3
    heights = []
    for png in made.images:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        heights.append((pixels == (0x0B, 0x3F, 0xA8)).all(axis=2).any(axis=1).sum())
    assert np.allclose(np.array(heights) / heights[-1], [0.25, 0.5, 1], atol=0.02)


def test_the_html_stands_alone_and_is_the_same_each_time():
    page = slider()._repr_html_()
    assert page == slider()._repr_html_()
    assert not re.search(r"https?:|//|src=\"(?!data:)|href", re.sub(r"base64,[^\"]*", "", page))
    assert page.count("<img ") == 1
    assert 'alt="A blue bar of height 0.5."' in page
    assert re.search(r'<input type="range" min="0" max="2" step="1" value="1"', page)


def test_all_pictures_but_the_one_shown_are_in_the_data():
    made = slider()
    data = data_of(made)
    assert data["texts"] == ["0.25", "0.5", "1"]
    assert data["alts"][2] == "A blue bar of height 1."
    assert [image is None for image in data["images"]] == [False, True, False]
    assert all(i.startswith("data:image/png;base64,iVBORw0KGgo") for i in data["images"] if i)


def test_nothing_depends_on_the_bytes_of_a_picture_but_the_picture():
    """Strict nbval blanks the pictures; the rest must not follow a machine's fonts."""
    blank = [re.sub(r"iVBORw0KGgo[A-Za-z0-9+/=]+", "PNG", slider(colors=c)._repr_html_())
             for c in (8, 96)]  # fmt: skip
    assert blank[0] == blank[1]


def test_alt_without_a_place_for_the_value_is_followed_by_it():
    assert slider(alt="A bar.").alts[0] == "A bar. height h: 0.25."


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.5, "−0.5"), (0.1 + 0.2, "0.3"), (-1e-17, "0"), (-3, "−3"), (12345, "12345"),
     (np.float32(0.25), "0.25"), (np.int64(7), "7"), ("two-layer", "two-layer"), (True, "True")],
)  # fmt: skip
def test_values_read_well(value, text):
    assert explore._plain(value) == text


def test_own_words_are_escaped():
    words = '</script><b>&"'
    made = slider(text=lambda v: words, label="<i>", alt='"<', uid="x")
    page = made._repr_html_()
    assert data_of(made)["texts"] == [words] * 3
    assert "<b>" not in page
    assert "<i>" not in page
    assert page.count("</script>") == 2
    assert unescape(re.search(r'alt="([^"]*)"', page)[1]) == made.alts[1]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"start": 3}, "index from 0 to 2; got 3"),
        ({"start": -1}, "index from 0 to 2; got -1"),
        ({"label": " "}, "label is empty"),
        ({"alt": ""}, "alt is empty"),
        ({"uid": "a b"}, "got 'a b'"),
        ({"uid": '"'}, "letters, digits and hyphens"),
        ({"colors": 2}, "8 to 256; got 2"),
        ({"limit": 1000}, r"weighs [\d,]+ bytes, 1,000 are allowed .* fewer values, or lower dpi"),
    ],
)
def test_bad_arguments_are_named(changes, match):
    with pytest.raises(ValueError, match=match):
        slider(**changes)


def test_bad_pictures_are_named():
    words = {"label": "h", "alt": "A bar."}
    with pytest.raises(ValueError, match="values is empty"):
        explore.frames(bar, [], **words)
    with pytest.raises(ValueError, match="Figure or Axes; got NoneType"):
        explore.frames(lambda v: None, [1], **words)
    with pytest.raises(ValueError, match=r"sizes \[\(288, 288\), \(432, 288\)\] in one slider"):
        explore.frames(lambda v: bar(1, (v, 2)), [2, 3], **words)


def test_figures_are_closed_and_may_be_figures():
    plt.close("all")
    made = explore.frames(lambda h: bar(h).figure, [0.5, 1], label="h", alt="A bar.")
    assert made.images == explore.frames(bar, [0.5, 1], label="h", alt="A bar.").images
    assert plt.get_fignums() == []


def test_the_white_border_that_all_share_is_cut():
    sizes = [Image.open(io.BytesIO(png)).size for png in slider().images]
    assert len(set(sizes)) == 1
    assert all(0.55 < side / 288 < 0.7 for side in sizes[0])
    empty = explore.frames(lambda v: plt.figure(figsize=(1, 1)), [0], label="v", alt="Nothing.")
    assert Image.open(io.BytesIO(empty.images[0])).size == (144, 144)


def test_plain_areas_keep_their_exact_colours():
    """The reserved colours survive, even in small marks beside a wide gradient."""
    pixels = np.full((200, 300, 3), 255, np.uint8)
    pixels[:150, :, 0] = np.linspace(0, 255, 300).astype(np.uint8)
    pixels[150:152] = (0x0B, 0x3F, 0xA8)
    pixels[160:165, :5] = (0xC2, 0x53, 0x0A)
    png = explore._png(Image.fromarray(pixels), 32)
    image = Image.open(io.BytesIO(png))
    assert image.mode == "P"
    back = np.asarray(image.convert("RGB")).astype(int)
    assert (back[150:] == pixels[150:]).all()
    assert abs(back - pixels).max() < 20
    few = Image.fromarray(pixels[150:])
    assert Image.open(io.BytesIO(explore._png(few, 8))).convert("RGB").tobytes() == few.tobytes()


# --- in a browser ---


@pytest.fixture
def open_page(browser, tmp_path: Path):
    """Open a page with two sliders; errors and requests of the page fail the test."""
    contexts, trouble = [], []

    def opened(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: None if is_local(r.url) else trouble.append(r.url))
        first, second = slider(), slider(label="size", alt="A bar again.", start=0)
        body = first._repr_html_() + second._repr_html_() + second._repr_html_()
        viewport = '<meta name="viewport" content="width=device-width">'
        file = tmp_path / "page.html"
        file.write_text(f"<!doctype html><meta charset=utf-8>{viewport}{body}", encoding="utf-8")
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


def is_local(url: str) -> bool:
    return url.startswith(("file:", "data:"))


def pictures(page) -> list[str]:
    return [i.get_attribute("src") for i in page.locator(".spline-frames img").all()]


def test_keys_change_one_picture_and_its_words(open_page):
    page = open_page()
    before = pictures(page)
    first = page.get_by_role("slider", name="height h")
    first.focus()
    page.keyboard.press("ArrowRight")
    after = pictures(page)
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    assert first.get_attribute("aria-valuetext") == "1"
    assert page.locator("output").first.inner_text() == "1"
    assert page.locator("img").first.get_attribute("alt") == "A blue bar of height 1."
    page.keyboard.press("ArrowLeft")
    assert pictures(page) == before


def test_sliders_of_one_name_move_each_for_itself(open_page):
    page = open_page()
    before = pictures(page)
    page.get_by_role("slider", name="size").nth(1).focus()
    page.keyboard.press("End")
    after = pictures(page)
    assert after[:2] == before[:2]
    assert after[2] != before[2]


def test_play_goes_to_the_end_and_stops(open_page):
    page = open_page()
    button = page.get_by_role("button").first
    button.click()
    assert button.inner_text() == "Pause"
    page.wait_for_function("document.querySelector('.spline-frames button').textContent == 'Play'")
    assert page.locator("output").first.inner_text() == "1"


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_the_screen(open_page, width):
    page = open_page(viewport={"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.get_by_role("slider").first.bounding_box()
    assert box["width"] > 100
    assert box["height"] >= 24


@pytest.mark.parametrize("scheme", ["#ffffff", "#14181e"])
def test_words_take_the_colour_of_the_page_and_pictures_stay_on_white(open_page, scheme):
    page = open_page()
    ink = "rgb(206, 214, 221)" if scheme == "#14181e" else "rgb(0, 0, 0)"
    page.evaluate(f"document.body.style.cssText = 'background:{scheme};color:{ink}'")
    style = "e => getComputedStyle(e)."
    for name in ("label", "output", "button"):
        assert page.locator(name).first.evaluate(style + "color") == ink
    white = page.locator(".spline-card").first.evaluate(style + "backgroundColor")
    assert white == "rgb(255, 255, 255)"


def test_without_javascript_the_first_picture_stands(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("img").first.is_visible()
    assert page.locator("input").first.is_disabled()
    assert not page.locator("button").first.is_visible()
    assert "Turn on JavaScript" in page.locator("noscript").first.inner_text()


# --- live ---


def test_moving_a_control_redraws():
    box = explore.live(bar, height=(0.25, 1.0))
    (control,), (image, message) = box.children[0].children, box.children[1:]
    before = bytes(image.value)
    control.value = 1.0
    assert bytes(image.value) != before
    assert Image.open(io.BytesIO(image.value)).format == "PNG"
    assert message.value == ""
    assert plt.get_fignums() == []


def test_errors_of_draw_are_shown_and_go_away():
    def draw(n):
        if n == 3:
            raise ValueError("n must not be <3>")
        return bar(n / 4)

    box = explore.live(draw, n=(1, 4))
    (control,), (image, message) = box.children[0].children, box.children[1:]
    assert "ValueError: n must not be &lt;3&gt;" in message.value
    control.value = 4
    assert message.value == ""
    assert image.value
    control.value = 3
    assert "&lt;3&gt;" in message.value


def test_each_short_form_has_its_control():
    import ipywidgets

    own = ipywidgets.IntText(value=5)
    forms = {"a": (1, 8), "b": (-1.0, 1.0), "c": (0, 10, 5), "d": True, "e": ["x", "y"], "f": own}
    seen = {}

    def draw(**values):
        seen.update(values)
        return bar(1)

    controls = explore.live(draw, **forms).children[0].children
    assert [type(c).__name__ for c in controls] == [
        "IntSlider", "FloatSlider", "IntSlider", "Checkbox", "Dropdown", "IntText",
    ]  # fmt: skip
    assert seen == {"a": 5, "b": 0.0, "c": 5, "d": True, "e": "x", "f": 5}
    assert (controls[1].step, controls[2].step) == (0.1, 5)
    controls[4].value = "y"
    controls[3].value = False
    assert (seen["e"], seen["d"]) == ("y", False)


@pytest.mark.parametrize("spec", [(1,), (2, 1), (1, "a"), [], 3, None, (1, 2, 3, 4), (1, 2, 0)])
def test_what_is_no_control_is_named(spec):
    with pytest.raises(ValueError, match="control 'width' must be"):
        explore.live(bar, width=spec)


def test_no_global_state_is_left_behind():
    before = dict(plt.rcParams), dict(os.environ)
    slider()
    explore.live(bar, height=(0.0, 1.0))
    assert (dict(plt.rcParams), dict(os.environ)) == before
