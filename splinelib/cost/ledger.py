"""An exact account of the floating-point operations of a run."""

import operator
from collections.abc import Mapping

STEP = 3  # a training step costs three forward passes: forward, gradients of inputs and weights
TRAINING = "training"


class Ledger:
    """A sum of floating-point operations in whole numbers, by label and purpose.

    Book each step with the multiply-adds that the network has at that step: a network that is
    pruned on the way gets cheaper, and the total follows.

    Parameters
    ----------
    label : str
        What the run is doing now, such as "dense" or "retrain"; set ``ledger.label`` when that
        changes.

    Raises
    ------
    ValueError
        A label that is no text; a cost that is no whole number, or negative.

    Notes
    -----
    What the paper leaves out counts here, too: the detector's forward passes, scores. Its own
    rounding is in ``splinelib.cost.paper``. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> ledger = Ledger()
    >>> ledger.train(macs=100, images=50)
    >>> ledger.forward(macs=100, images=8)
    >>> ledger.label = "retrain"
    >>> ledger.train(macs=60, images=50)
    >>> ledger.total, ledger.subtotal("dense")
    (49600, 31600)
    >>> ledger.rows[1]
    {'label': 'dense', 'what': 'detector', 'flops': 1600}
    """

    def __init__(self, label: str = "dense") -> None:
        self.label = label
        self._flops: dict[tuple[str, str], int] = {}

    def train(self, macs: int, images: int) -> None:
        """Book training on ``images`` images (over all steps) of a network of ``macs``."""
        self._book(TRAINING, STEP * 2 * count("macs", macs) * count("images", images))

    def forward(self, macs: int, images: int, what: str = "detector") -> None:
        """Book forward passes of ``images`` images, for the detector unless ``what`` says."""
        self._book(what, 2 * count("macs", macs) * count("images", images))

    def other(self, what: str, flops: int) -> None:
        """Book floating-point operations that are neither, such as the scores of all units."""
        self._book(what, count("flops", flops))

    @property
    def total(self) -> int:
        """All floating-point operations."""
        return sum(self._flops.values())

    @property
    def rows(self) -> list[dict[str, str | int]]:
        """One ``{"label", "what", "flops"}`` for each label and purpose, in order of booking."""
        return [
            {"label": label, "what": what, "flops": flops}
            for (label, what), flops in self._flops.items()
        ]

    def subtotal(self, label: str) -> int:
        """Floating-point operations under one label; 0 if nothing was booked."""
        return sum(flops for (named, _), flops in self._flops.items() if named == label)

    def to_dict(self) -> dict:
        """Return the ledger as a value of JSON: ``{"label", "rows", "total"}``, whole numbers."""
        return {"label": self.label, "rows": self.rows, "total": self.total}

    @classmethod
    def from_dict(cls, state: Mapping) -> "Ledger":
        """Make the ledger that :meth:`to_dict` wrote; a ``ValueError`` if its sums disagree."""
        try:
            ledger, total = cls(), state["total"]
            for row in state["rows"]:
                ledger.label = row["label"]
                ledger._book(row["what"], count("flops", row["flops"]))
            ledger.label = state["label"]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{state!r} is no ledger ({error!r}); give what Ledger.to_dict returned."
            ) from error
        if ledger.total != total:
            raise ValueError(
                f"the rows of the ledger sum to {ledger.total}, but its total says {total}: one of "
                "them was changed by hand."
            )
        return ledger

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ledger):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None

    def __repr__(self) -> str:
        return f"Ledger({self.label!r}, total={self.total:.4g} FLOPs)"

    def _book(self, what: str, flops: int) -> None:
        if not (isinstance(self.label, str) and isinstance(what, str)):
            raise ValueError(f"label is {self.label!r} and what {what!r}; give text, as 'dense'.")
        key = (self.label, what)
        self._flops[key] = self._flops.get(key, 0) + flops


def count(name: str, value: int) -> int:
    """Return a whole number that is not negative; anything else is refused: sums are exact."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} is {value!r}, but only whole numbers count here.") from error
    if number < 0:
        raise ValueError(f"{name} is {number}, but no cost is negative.")
    return number
