"""Graphics cards as their makers describe them: what bounds the seconds of a run."""

from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True)
class Card:
    """What a card can do at most.

    Attributes
    ----------
    name : str
    flops : float
        Floating-point operations a second of matrix products, with 16-bit inputs, without sparsity.
    bandwidth : float
        Bytes a second between its memory and its cores.
    memory : float
        Bytes.
    source : str
        Where the numbers are from.

    Raises
    ------
    ValueError
        A number that is not above 0.

    Notes
    -----
    Data sheets print peaks, which no training reaches. Their GB are 10^9 bytes. Taught in *What it
    costs*.

    Examples
    --------
    >>> round(CARDS["T4"].ridge), round(CARDS["H100"].ridge)  # operations a byte
    (203, 295)
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    source: str = "given by the reader"

    def __post_init__(self) -> None:
        for name in ("flops", "bandwidth", "memory"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} of {self.name} is {getattr(self, name)}; give what it does a second "
                    "(flops, bandwidth) or holds (memory), above 0"
                )

    @property
    def ridge(self) -> float:
        """Operations a byte from which on products, not memory, bind."""
        return self.flops / self.bandwidth


def _sheet(name: str, tera: float, gigabytes: float, memory: int, sheet: str) -> tuple[str, Card]:
    """A line of the table below: TFLOP/s, GB/s, GB."""
    source = f"NVIDIA's data sheet of the {sheet}"
    return name, Card(name, tera * 1e12, gigabytes * GB, memory * GB, source)


CARDS = dict(
    (
        _sheet("T4", 65, 320, 16, "T4"),
        _sheet("L4", 121, 300, 24, "L4 (which prints 242 with sparsity)"),
        _sheet("A100", 312, 1555, 40, "A100, 40 GB"),
        _sheet("H100", 989, 3350, 80, "H100 SXM"),
        _sheet("H200", 989, 4800, 141, "H200 SXM"),
    )
)
"""Cards by name, the smallest first."""
