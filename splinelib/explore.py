"""Figures that move: sliders that work in a static page, and explorers for a running kernel.

``frames`` draws one picture for each value beforehand and packs them into a piece of HTML that
needs nothing else: no kernel, no network, no library.  ``live`` redraws on demand, in a kernel.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from string import Template
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageChops

LIMIT = 600_000  # bytes of HTML that one slider may weigh

PAGE = Template(Path(__file__).with_name("slider.html").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Frames:
    """A slider over pictures drawn beforehand; the last line of a cell shows it.

    Made by ``frames``.  It renders as HTML that carries its pictures with it.

    Attributes
    ----------
    label : str
        What the slider changes.
    texts : tuple of str
        The values as the reader sees them.
    images : tuple of bytes
        One PNG a value.
    alts : tuple of str
        One description a picture, for readers who do not see it.
    start : int
        Which picture is shown first.
    uid : str
        Name of this slider in its page.
    width : int
        Greatest width of the picture on the screen, in CSS pixels.
    """

    label: str
    texts: tuple[str, ...]
    images: tuple[bytes, ...] = field(repr=False)
    alts: tuple[str, ...] = field(repr=False)
    start: int
    uid: str
    width: int = field(repr=False)

    def __repr__(self) -> str:
        shown = self.texts[self.start]
        return f"Frames({self.label}: {len(self.texts)} pictures, {shown} shown first)"

    def __len__(self) -> int:
        return len(self.texts)

    def _repr_html_(self) -> str:
        images = [f"data:image/png;base64,{base64.b64encode(i).decode()}" for i in self.images]
        others = [None if i == self.start else image for i, image in enumerate(images)]
        data = json.dumps({"texts": self.texts, "alts": self.alts, "images": others})
        return PAGE.substitute(
            uid=self.uid, width=self.width, image=images[self.start],
            title=html.escape(f"Figure with a slider: {self.label}"),
            label=html.escape(self.label), alt=html.escape(self.alts[self.start]),
            text=html.escape(self.texts[self.start]), start=self.start, last=len(self) - 1,
            digits=max(map(len, self.texts)), data=data.replace("<", "\\u003c"),
        )  # fmt: skip


def frames(
    draw: Callable[[Any], Figure | Axes], values: Sequence[Any], *, label: str, alt: str,
    start: int = 0, uid: str | None = None, text: Callable[[Any], str] | None = None,
    dpi: float = 144, colors: int = 96, limit: int = LIMIT,
) -> Frames:  # fmt: skip
    """Draw a picture for each value and put a slider under them.

    Parameters
    ----------
    draw : callable
        ``draw(value)`` returns a Figure or Axes; all must have the same size in inches.  Figures
        are closed after use.
    values : sequence
        What the slider goes through, in order.
    label : str
        What the slider changes, in plain text: "leakiness α".
    alt : str
        What is seen, for readers who do not see it.  It is followed by the label and the value; or
        it holds ``{}`` where the value belongs.
    start : int
        Index of the value shown first (and in a page without JavaScript).
    uid : str, optional
        Name of the slider in its page, letters, digits and hyphens; by default made of the label.
        Two sliders with one name work, too.
    text : callable, optional
        ``text(value)`` is what the reader sees; by default numbers have at most four digits.
    dpi : float
        Pixels per inch of the pictures.
    colors : int
        Colours of each picture, 8 to 256: fewer weigh less.
    limit : int
        Greatest weight in bytes.

    Returns
    -------
    Frames

    Raises
    ------
    ValueError
        If there is nothing to draw, an argument is out of range, or the result weighs too much.

    Notes
    -----
    The HTML is the same each time for the same pictures.  Used by every chapter.

    Examples
    --------
    >>> def line(slope):
    ...     fig, ax = plt.subplots(figsize=(2, 2))
    ...     return ax.axline((0, 0), slope=slope).axes
    >>> frames(line, [-1, 0, 1], label="slope", alt="A line through the origin.", start=1)
    Frames(slope: 3 pictures, 0 shown first)
    """
    values = list(values)
    _check(values, start, label, alt)
    uid = uid or "frames-" + (re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "value")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", uid):
        raise ValueError(f"uid must be letters, digits and hyphens, a letter first; got {uid!r}.")
    texts = tuple((text or _plain)(value) for value in values)
    pictures = [_picture(draw(value), dpi) for value in values]
    images = tuple(_png(picture, colors) for picture in _trim(pictures))
    alts = tuple(alt.replace("{}", t) if "{}" in alt else f"{alt} {label}: {t}." for t in texts)
    width = round(pictures[0].width * 144 / dpi)
    made = Frames(label, texts, images, alts, start, uid, width)
    weight = len(made._repr_html_())
    if weight > limit:
        raise ValueError(
            f"The slider weighs {weight:,} bytes, {limit:,} are allowed ({len(values)} pictures at "
            f"{dpi:g} dpi in {colors} colors); give fewer values, or lower dpi or colors."
        )
    return made


def _check(values: list[Any], start: int, label: str, alt: str) -> None:
    if not values:
        raise ValueError("values is empty; give at least one value to draw.")
    if not 0 <= start < len(values):
        raise ValueError(f"start must be an index from 0 to {len(values) - 1}; got {start}.")
    for name, words in (("label", label), ("alt", alt)):
        if not words.strip():
            raise ValueError(f"{name} is empty; say in words what is changed and what is seen.")


def _plain(value: Any) -> str:
    """A value as a reader wants to see it: ``-0.5`` becomes −0.5, with a real minus sign."""
    if isinstance(value, Real) and not isinstance(value, Integral):
        value = f"{round(float(value), 10) + 0.0:.4g}"  # 0.0 turns -0 into 0
    elif not isinstance(value, Integral):
        return str(value)
    return str(value).replace("-", "−")


def _figure(drawn: Figure | Axes) -> Figure:
    figure = drawn if isinstance(drawn, Figure) else getattr(drawn, "figure", None)
    if not isinstance(figure, Figure):
        raise ValueError(f"draw must return a Figure or Axes; got {type(drawn).__name__}.")
    return figure


def _picture(drawn: Figure | Axes, dpi: float) -> Image.Image:
    """Render a figure on white and close it."""
    figure, buffer = _figure(drawn), io.BytesIO()
    try:
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", bbox_inches=None)
    finally:
        plt.close(figure)
    return Image.open(buffer).convert("RGB")


def _trim(pictures: list[Image.Image]) -> list[Image.Image]:
    """Cut off the white border that all pictures share."""
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        raise ValueError(f"pictures of sizes {sizes} in one slider; use one figsize in draw.")
    white = Image.new("RGB", sizes[0], "white")
    boxes = [ImageChops.difference(picture, white).getbbox() for picture in pictures]
    boxes = [box for box in boxes if box] or [(0, 0, *sizes[0])]
    left, top, right, bottom = zip(*boxes, strict=True)
    crop = (
        max(min(left) - 4, 0), max(min(top) - 4, 0),
        min(max(right) + 4, white.width), min(max(bottom) + 4, white.height),
    )  # fmt: skip
    return [picture.crop(crop) for picture in pictures]


def _png(picture: Image.Image, colors: int) -> bytes:
    """A PNG with a palette of its own, in which plain areas keep their exact colours."""
    if not 8 <= colors <= 256:
        raise ValueError(f"colors must be 8 to 256; got {colors}.")
    pixels = np.asarray(picture, dtype=np.int64) @ [1 << 16, 1 << 8, 1]
    found, place, count = np.unique(pixels.ravel(), return_inverse=True, return_counts=True)
    found = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.float32)
    palette, nearest, error = [], np.zeros(len(found), np.uint8), np.full(len(found), 1e6)
    for i in range(min(colors, len(found))):
        # add the colour that is worst missed, by the pixels that have it and by how far off it is
        palette.append(found[(count * error).argmax()])
        distance = ((found - palette[i]) ** 2).sum(axis=1)
        nearest[distance < error] = i
        error = np.minimum(error, distance)
    image, buffer = Image.fromarray(nearest[place].reshape(pixels.shape)), io.BytesIO()
    image.putpalette(np.array(palette, np.uint8).tobytes())
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def live(draw: Callable[..., Figure | Axes], *, dpi: float = 110, **controls: Any) -> Any:
    """Redraw a figure whenever a control is moved; needs a running kernel.

    Parameters
    ----------
    draw : callable
        ``draw(**values)`` returns a Figure or Axes, with one keyword for each control.
    dpi : float
        Pixels per inch.
    **controls
        One for each argument of ``draw``: ``(low, high)`` or ``(low, high, step)`` for a slider (of
        whole numbers if all are), a bool for a box to tick, a list for a choice, or any ipywidgets
        widget with a ``value``.

    Returns
    -------
    ipywidgets.VBox
        The controls, the picture and, if ``draw`` fails, the error.

    Raises
    ------
    ImportError
        If ipywidgets is missing.
    ValueError
        If a control is none of the above.

    Notes
    -----
    Works with ipywidgets 7.7 (Colab) and 8.  A static page cannot redraw: use ``frames`` there.

    Examples
    --------
    >>> def line(slope):
    ...     return plt.figure(figsize=(2, 2)).add_subplot().axline((0, 0), slope=slope).axes
    >>> explorer = live(line, slope=(-1.0, 1.0))
    >>> len(explorer.children)
    3
    """
    try:
        import ipywidgets
    except ImportError as missing:
        raise ImportError("live needs ipywidgets: pip install ipywidgets") from missing
    made = {name: _control(ipywidgets, name, spec) for name, spec in controls.items()}
    image, message = ipywidgets.Image(format="png"), ipywidgets.HTML()
    image.layout.max_width = "100%"

    def redraw(_: Any = None) -> None:
        try:
            picture = _picture(draw(**{name: c.value for name, c in made.items()}), dpi)
        except Exception as error:  # a callback has no caller: the reader must see what went wrong
            words = html.escape(f"{type(error).__name__}: {error}")
            message.value = f'<pre role="alert">{words}</pre>'
        else:
            message.value, image.value = "", _png(picture, 256)

    for control in made.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([ipywidgets.VBox(list(made.values())), image, message])


def _control(ipywidgets: Any, name: str, spec: Any) -> Any:
    """The widget that a short form stands for."""
    if isinstance(spec, ipywidgets.Widget) and hasattr(spec, "value"):
        return spec
    look = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, **look)
    if isinstance(spec, list) and spec:
        return ipywidgets.Dropdown(options=spec, **look)
    numbers = isinstance(spec, tuple) and all(type(v) in (int, float) for v in spec)
    if not numbers or len(spec) not in (2, 3) or spec[0] >= spec[1] or spec[2:] == (0,):
        raise ValueError(
            f"control {name!r} must be (low, high), (low, high, step), a bool, a list or a widget; "
            f"got {spec!r}."
        )
    whole = all(isinstance(v, int) for v in spec)
    step = spec[2] if len(spec) == 3 else 1 if whole else (spec[1] - spec[0]) / 20
    slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    middle = spec[0] + step * round((spec[1] - spec[0]) / 2 / step)
    return slider(
        min=spec[0], max=spec[1], step=step, value=middle, continuous_update=False, **look
    )
