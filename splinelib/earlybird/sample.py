"""Which entries of a wide layer are looked at: a fixed random subset."""

import numpy as np
import torch
from torch import Tensor


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
