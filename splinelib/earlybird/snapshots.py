"""The codes of inputs at one moment of training: packed bits, of all entries or of some."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from splinelib.earlybird.bits import unpack


@dataclass(frozen=True, eq=False)
class Codes:
    """Which side of its hyperplane each of B inputs is on, for the units of every layer.

    Attributes
    ----------
    layers : tuple of str
        The name of each layer of nonlinearities, in order of evaluation.
    widths : tuple of int
        How many entries (units, or units times pixels) each layer has for one input.
    words : Tensor (B, W), int64
        The bits, a row an input: layer after layer, each filled up with zeros to whole words of 64.
        On the device of the inputs.
    features : int or None
        At most so many entries of each layer are held, a random subset; None: all.
    seed : int
        The seed of these subsets; 0 where all are held.

    Raises
    ------
    ValueError
        Sizes that do not match each other.

    Notes
    -----
    The binary code of Sec. 3.3 of the paper. One bit an entry: PreResNet-101 with 512 inputs takes
    125 MB with all entries, and 13 MB with 2048 a layer. Taught in *The partition settles early*.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.earlybird import codes
    >>> found = codes(nets.mlp([2, 12, 5, 1]), torch.ones(3, 2, dtype=torch.float64))
    >>> found
    Codes(3 inputs, 2 layers, 17 of 17 entries)
    >>> found.layers, found.widths, [tuple(p.shape) for p in found.packed]
    (('1', '3'), (12, 5), [(3, 2), (3, 1)])
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    words: Tensor
    features: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        need = sum(map(words_of, self.sizes))
        fits = self.words.dtype == torch.int64 and self.words.shape[1:] == (need,)
        if not fits or len(self.layers) != len(self.widths) or not self.words.numel():
            raise ValueError(
                f"{len(self.layers)} layers, {len(self.widths)} widths and words "
                f"{tuple(self.words.shape)} of {self.words.dtype} do not match: need one width for "
                f"each of at least one layer, and {need} words of int64 for each input."
            )

    @property
    def count(self) -> int:
        """Number of inputs, B."""
        return len(self.words)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many entries of each layer are held for one input: its width, or ``features``."""
        return tuple(kept(width, self.features) for width in self.widths)

    @property
    def packed(self) -> tuple[Tensor, ...]:
        """The bits of each layer, ``(B, ceil(size / 8))`` uint8: views, eight entries a byte."""
        parts = self.words.split(list(map(words_of, self.sizes)), dim=1)
        used = (math.ceil(size / 8) for size in self.sizes)
        return tuple(p.view(torch.uint8)[:, :n] for p, n in zip(parts, used, strict=True))

    @property
    def bits(self) -> tuple[Tensor, ...]:
        """The bits of each layer, ``(B, size)`` bool: True where the unit is active."""
        return tuple(unpack(p, n) for p, n in zip(self.packed, self.sizes, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes that the bits take."""
        return self.words.nbytes

    @property
    def device(self) -> torch.device:
        """Where the bits are."""
        return self.words.device

    @property
    def state(self) -> dict:
        """Plain values and one tensor, for a checkpoint; :meth:`from_state` reads them."""
        return {
            "layers": list(self.layers),
            "widths": list(self.widths),
            "words": self.words,
            "features": self.features,
            "seed": self.seed,
        }

    @classmethod
    def from_state(cls, state: dict) -> Codes:
        """Rebuild codes from their ``state``."""
        plain = {"layers": tuple(state["layers"]), "widths": tuple(state["widths"])}
        return cls(**{**state, **plain})

    def to(self, device: torch.device | str) -> Codes:
        """The same codes on a device; themselves if they are there."""
        words = self.words.to(device)
        return self if words is self.words else replace(self, words=words)

    def __repr__(self) -> str:
        plural = "s" if len(self.layers) > 1 else ""
        return (
            f"Codes({self.count} inputs, {len(self.layers)} layer{plural}, {sum(self.sizes)} of "
            f"{sum(self.widths)} entries)"
        )


class Sample:
    """Random subsets of the entries of layers, drawn once and kept.

    Parameters
    ----------
    features : int or None
        Entries of each layer; all of a layer that has no more, and of every layer for None.
    seed : int, in [0, 2^32)
        Other seeds give other subsets.

    Raises
    ------
    ValueError
        Settings out of range.

    Notes
    -----
    A subset depends on the seed, the number of the layer and its width and on nothing else, so
    snapshots that are epochs or machines apart look at the same entries: it is drawn by NumPy's
    ``RandomState``, whose streams are frozen. Every entry is as likely as every other.

    Examples
    --------
    >>> rows = Sample(features=3).rows(layer=0, width=10)
    >>> len(rows), rows.tolist() == sorted(set(rows.tolist()))
    (3, True)
    >>> Sample(features=3).rows(layer=0, width=3) is None  # all
    True
    """

    def __init__(self, features: int | None = None, seed: int = 0) -> None:
        if features is not None and not (int(features) == features and features >= 1):
            raise ValueError(
                f"features is {features}: give a whole number from 1, or None for all."
            )
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed is {seed}, but must lie in [0, 2**32).")
        self.features, self.seed = features, seed
        self._rows: dict[tuple, Tensor] = {}

    def rows(self, layer: int, width: int, device: torch.device | str = "cpu") -> Tensor | None:
        """Indices ``(features,)`` int64 of a layer's entries, in ascending order; None for all."""
        if self.features is None or width <= self.features:
            return None
        key = (layer, width, str(device))
        if key not in self._rows:
            random = np.random.RandomState([self.seed, layer, width])
            rows = np.sort(random.permutation(width)[: self.features])
            self._rows[key] = torch.from_numpy(rows).to(device)
        return self._rows[key]

    @property
    def nbytes(self) -> int:
        """Bytes that the indices take."""
        return sum(rows.nbytes for rows in self._rows.values())


def kept(width: int, features: int | None) -> int:
    """How many entries of a layer are held."""
    return width if features is None else min(width, features)


def words_of(size: int) -> int:
    """Words of 64 bits that the entries of a layer fill for one input."""
    return math.ceil(size / 64)


def check_alike(a: Codes, b: Codes) -> None:
    """Raise unless two codes speak of the same entries of the same number of inputs."""
    pairs = {
        "layers": (a.layers, b.layers),
        "widths": (a.widths, b.widths),
        "number of inputs": ([a.count], [b.count]),
        "features": ([a.features], [b.features]),
        "seed": ([a.seed], [b.seed]),
        "device": ([a.device], [b.device]),
    }
    for what, (first, second) in pairs.items():
        if first != second:
            first, second = next((x, y) for x, y in zip_longest(first, second) if x != y)
            raise ValueError(
                f"these codes differ in their {what}: {first} and {second}. Distances need codes "
                "of one architecture, one probe set and one choice of entries, on one device "
                "(codes.to(device) moves them)."
            )
