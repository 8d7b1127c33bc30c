"""Style and colours of all figures."""

from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from splinelib.partition import Partition

Array = np.ndarray

BOUNDARY = "#0B3FA8"  # the decision boundary and nothing else
UNIT = "#C2530A"  # the hyperplane of one highlighted unit and nothing else
EDGE_NEW, EDGE_OLD = "#20242C", "#A3A8B3"  # lines of the newest layer, lines of earlier ones
CLASSES = (
    "#E6A100", "#6A3D9A", "#0F7B7B", "#20242C", "#56B4E9",
    "#D98CB3", "#8A6D1D", "#B5BAC4", "#D9622B", "#3C6E2F",
)  # fmt: skip
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p")
STYLE = Path(__file__).with_name("splinelib.mplstyle")
HUES, LEVELS = 17, 3  # the pastel palette


def style() -> AbstractContextManager[None]:
    """Context in which new figures take the book's look.

    >>> with style():
    ...     fig, ax = plt.subplots()
    >>> plt.close(fig)
    """
    return plt.style.context(STYLE)


def use_style() -> None:
    """Give every later figure of this session the book's look: call it once, after the imports.

    >>> with plt.rc_context():  # only so that this example leaves no trace
    ...     use_style()
    """
    plt.style.use(STYLE)


@lru_cache(maxsize=1)
def _palette() -> Array:
    """Pastel colours: even steps of hue, three clear steps of lightness.  (LEVELS, HUES, 3)"""
    light = np.array([0.965, 0.915, 0.86])[:, None] * np.ones(HUES)
    chroma = np.array([0.035, 0.065, 0.085])[:, None]
    angle = 2 * np.pi * np.arange(HUES) / HUES
    lab = np.stack([light, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1)
    # OKLab -> cone responses -> linear sRGB -> sRGB, with the constants of Ottosson (2020)
    to_cone = [[1, 1, 1], [0.39633778, -0.10556135, -0.08948418],
               [0.21580376, -0.06385417, -1.29148555]]  # fmt: skip
    to_linear = [[4.07674166, -1.26843800, -0.00419609], [-3.30771159, 2.60975740, -0.70341861],
                 [0.23096993, -0.34131940, 1.70761470]]  # fmt: skip
    linear = np.clip((lab @ to_cone) ** 3 @ to_linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def code_colors(codes: Array) -> Array:
    """Pastel colour of each code: a function of the code and of nothing else.

    Parameters
    ----------
    codes : array or Tensor (C, K) of int
        One row a cell, as ``Partition.codes`` gives them.

    Returns
    -------
    ndarray (C, 3)
        Red, green, blue in [0, 1].

    Raises
    ------
    ValueError
        If ``codes`` is not a table.

    Notes
    -----
    A cell keeps its colour for as long as its code stays, during training as after pruning.  Each
    unit turns the hue by a step h of 17 and the lightness by a step l of 3, where neither 2h nor 2l
    is a whole turn: two cells on either side of one unit's line differ in hue *and* in lightness,
    so colour vision is not needed to tell them apart.

    Examples
    --------
    >>> both = code_colors([[-1, 1, 1], [1, 1, 1]])
    >>> both.shape, bool(abs(both[0] - both[1]).max() > 0.02)
    ((2, 3), True)
    """
    codes = np.asarray(codes)
    if codes.ndim != 2:
        raise ValueError(f"codes must be (C, K), one row a cell; got shape {codes.shape}.")
    mixed = np.arange(1, codes.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    turns = np.array([2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15])[mixed % np.uint64(12)]
    steps = 1 + (mixed >> np.uint64(40)) % np.uint64(2)
    weights = np.stack([turns, steps], axis=1).astype(float)
    blocks = [codes[i : i + 65536] @ weights for i in range(0, len(codes), 65536)]
    hue, level = np.concatenate(blocks or [np.empty((0, 2))]).astype(np.int64).T
    return _palette()[level % LEVELS, hue % HUES]


def faces(p: Partition, color: str | Array) -> Array:
    """One colour a cell.  (C, 3)"""
    if not isinstance(color, str):
        colors = np.asarray(color)
        if len(colors) != p.num_cells:
            raise ValueError(f"{len(colors)} colours for {p.num_cells} cells; give one a cell.")
        return colors
    if color == "code":
        return code_colors(p.codes())
    if color == "parent":
        return code_colors(p.after(max(p.num_layers - 1, 0)).codes())[p.mesh.parent]
    if color == "none":
        return np.ones((p.num_cells, 3))
    raise ValueError(
        f"color must be 'code', 'parent', 'value', 'class', 'none' or one colour a cell; "
        f"got {color!r}."
    )
