"""When a ticket is drawn: rules that look at the last few distances."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

COMPARES = ("consecutive", "lookback")


@dataclass(frozen=True)
class Rule:
    """Fire when the last few distances between codes are all below a threshold.

    Attributes
    ----------
    compare : "consecutive" or "lookback"
        Distances between each epoch and the one before it, or between the current epoch and each
        of those before it.
    length : int, at least 1
        How many distances; all must be there, so nothing fires in the first ``length - 1`` epochs.
    eps : float, positive
        The threshold: the largest distance must be smaller.

    Raises
    ------
    ValueError
        Settings out of range.

    Notes
    -----
    Algorithm 1 of the paper, App. A, asks for ``Max(Q) < eps`` and does not ask for a full queue; a
    queue of one entry would fire at once. We ask for it, as Sec. 3.3 does in words ("three
    consecutive epochs ... the two associated distances"). Taught in *Drawing the ticket*.

    Examples
    --------
    >>> rule = Rule("consecutive", length=2, eps=0.15)
    >>> rule.fires([0.1]), rule.fires([0.2, 0.1]), rule.fires([0.2, 0.1, 0.1])
    (False, False, True)
    """

    compare: str
    length: int
    eps: float

    def __post_init__(self) -> None:
        if self.compare not in COMPARES or not isinstance(self.length, int) or self.length < 1:
            raise ValueError(
                f"compare={self.compare!r}, length={self.length}: need compare in {COMPARES} and a "
                "whole length >= 1."
            )
        if not self.eps > 0:
            raise ValueError(f"eps is {self.eps}, but must be positive: no distance is below 0.")

    def fires(self, values: Sequence[float]) -> bool:
        """Whether the last ``length`` of some distances are all there, and below ``eps``."""
        last = values[-self.length :]
        return len(last) == self.length and all(value < self.eps for value in last)  # NaN is not

    def compared(self, matrix: Tensor, t: int) -> list[float]:
        """The distances that count at row t of a matrix ``(T, T)``, as far as they are there."""
        back = range(max(0, t - self.length), t)
        if self.compare == "lookback":
            return [float(matrix[t, s]) for s in back]
        return [float(matrix[s + 1, s]) for s in back]


ALGORITHM_1 = Rule("consecutive", 2, 0.15)
PUBLIC_CODE = Rule("lookback", 3, 0.16)
MASK_DISTANCE = Rule("lookback", 4, 0.1)


def first_fire(matrix: Tensor | ArrayLike, rule: Rule, start: int = 0) -> int | None:
    """Tell from a recorded distance matrix when a rule would have fired.

    Parameters
    ----------
    matrix : Tensor or array (T, T), in [0, 1]
        Distances of all pairs of snapshots; row t is the network after t epochs, and row 0 the
        untrained one.
    rule : Rule
        The rule.
    start : int
        The first row that the rule may look at: a detector that started there.

    Returns
    -------
    int or None
        The row at which it fires first, counted from row 0 whatever ``start``; None if never.

    Raises
    ------
    ValueError
        A matrix that is not square or holds other numbers than distances; a row out of range.

    Notes
    -----
    Taught in *Drawing the ticket*.

    Examples
    --------
    >>> D = torch.tensor([[0.0, 0.3, 0.4, 0.4], [0.3, 0.0, 0.1, 0.2],
    ...                   [0.4, 0.1, 0.0, 0.1], [0.4, 0.2, 0.1, 0.0]])
    >>> first_fire(D, Rule("consecutive", 2, 0.15)), first_fire(D, Rule("lookback", 2, 0.15))
    (3, None)
    """
    values = torch.as_tensor(matrix, dtype=torch.float64).cpu()
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"the matrix has shape {tuple(values.shape)}, but must be square (T, T).")
    if not ((values >= 0) & (values <= 1)).all():  # NaN is neither
        raise ValueError(
            "the matrix holds NaN or numbers outside [0, 1]: distances lie in between."
        )
    if not 0 <= start <= len(values):
        raise ValueError(f"start is {start}, but the matrix has the rows 0 to {len(values) - 1}.")
    kept = values[start:, start:]
    rows = (t for t in range(len(kept)) if rule.fires(rule.compared(kept, t)))
    first = next(rows, None)
    return None if first is None else start + first
