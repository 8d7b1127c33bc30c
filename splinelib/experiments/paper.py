"""What the paper prints: every cell of its Tables 1 to 12, and what each figure needs."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Printed:
    """One number of a table of the paper.

    Attributes
    ----------
    table : int
        1 to 12.
    network, dataset : str
        "PreResNet-101", "VGG-16", "ResNet-18", "ResNet-50"; "CIFAR-10", "CIFAR-100", "ImageNet".
    method : str
        The row's label as printed; "Unpruned" for dense networks. In Table 12, the layer.
    ratio : float or None
        Pruning ratio p in [0, 1); None where a number is over all ratios.
    quantity : str
        "accuracy" and "top5" (%), "flops_p" (10^15), "energy_kj", "energy_mj", "emerge_epoch",
        "distance_epoch_40"; "..._gain", "..._factor" in rows of improvements, ``_low`` and
        ``_high`` where a range is printed.
    value : float or None
        None where the table has a dash.
    sd : float or None
        Behind the ±; over five runs in Tables 1 and 2, three in Table 4, unsaid elsewhere.
    note : str
        What to know about this number.

    Examples
    --------
    >>> paper_values(table=1, method="Unpruned", network="VGG-16")[0]
    Printed(table=1, network='VGG-16', dataset='CIFAR-10', method='Unpruned', ratio=0.0, \
quantity='accuracy', value=92.71, sd=0.07, note="printed in each method's column")
    """

    table: int
    network: str
    dataset: str
    method: str
    ratio: float | None
    quantity: str
    value: float | None
    sd: float | None
    note: str

    @property
    def cell(self) -> str:
        """The row and ratio that this number belongs to, see :func:`cell`."""
        return cell(self.table, self.network, self.dataset, self.method, self.ratio)

    def __str__(self) -> str:
        """The number as it is printed: ``92.71 ± 0.07``."""
        if self.value is None:
            return "not printed"
        return f"{self.value:g}" if self.sd is None else f"{self.value:.2f} ± {self.sd:.2f}"


def cell(table: int, network: str, dataset: str, method: str, ratio: float | None = None) -> str:
    """Name a row of a table at one pruning ratio.

    >>> cell(2, "VGG-16", "CIFAR-10", "EB Spline", 0.5)
    'Table 2 | VGG-16 | CIFAR-10 | EB Spline | 50%'
    """
    share = "" if ratio is None else f"{100 * ratio:g}%"
    return f"Table {table} | {network} | {dataset} | {method} | {share}".removesuffix(" | ")


def paper_values(**wanted: object) -> list[Printed]:
    """Look up numbers that the paper prints.

    Parameters
    ----------
    **wanted
        Attributes of :class:`Printed` and the values they must have: ``table=2``,
        ``network="VGG-16"``, ``ratio=0.5``, or ``cell=...``.

    Returns
    -------
    list of Printed
        In the order of the tables; empty if nothing matches.

    Raises
    ------
    ValueError
        An attribute that :class:`Printed` does not have.

    Notes
    -----
    The file ``paper.csv`` keeps the digits as printed. Used in *Drawing the ticket*.

    Examples
    --------
    >>> found = paper_values(table=6, quantity="emerge_epoch", method="EB (SGD)")
    >>> [(v.network, v.value) for v in found]
    [('PreResNet-101', 61.0), ('VGG-16', 24.0)]
    """
    known = {*Printed.__dataclass_fields__, "cell"}
    if strange := sorted({*wanted} - known):
        raise ValueError(
            f"{', '.join(strange)}: the paper's numbers have {', '.join(sorted(known))}"
        )
    return [v for v in _all() if all(getattr(v, name) == value for name, value in wanted.items())]


@cache
def _all() -> tuple[Printed, ...]:
    """All numbers, read once."""
    text = files("splinelib.experiments").joinpath("paper.csv").read_text(encoding="utf-8")

    def number(value: str) -> float | None:
        return float(value) if value else None

    return tuple(
        Printed(
            **{
                **row,
                "table": int(row["table"]),
                **{name: number(row[name]) for name in ("ratio", "value", "sd")},
            }
        )
        for row in csv.DictReader(text.splitlines())
    )
