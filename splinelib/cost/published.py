"""The paper's printed totals that can be computed again, and those that cannot."""

from collections.abc import Iterator
from fractions import Fraction

from splinelib.cost.paper import IMAGES, Row, petaflops

SETTING = {  # printed GFLOPs of the dense network, epochs, images of an epoch
    "VGG-16": ("0.63", 160, IMAGES["CIFAR"]),
    "PreResNet-101": ("0.31", 160, IMAGES["CIFAR"]),
    "ResNet-18": ("3.64", 90, IMAGES["ImageNet"]),
    "ResNet-50": ("8.21", 90, IMAGES["ImageNet"]),
}
Case = tuple[int | None, str, str]  # percent pruned, GFLOPs of the pruned network, printed total


def _phases(
    table: str,
    network: str,
    method: str,
    *cases: Case,
    dense: int | None = None,
    pruned: int | None = None,
    decoded: bool = True,
    note: str = "the pruned network's GFLOPs are decoded",
) -> Iterator[Row]:
    """Rows of ``dense`` epochs, then ``pruned`` epochs of the pruned network; as many as usual."""
    gflops, epochs, images = SETTING[network]
    lengths = [epochs if given is None else given for given in (dense, pruned)]
    for percent, smaller, published in cases:
        phases = [(e, g) for e, g in zip(lengths, (gflops, smaller), strict=True) if e]
        formula = f"3 x {images:,} x ({' + '.join(f'{e} x {g} G' for e, g in phases)})"
        exact = petaflops(phases, images)
        yield Row(table, network, method, percent, published, exact, formula, decoded, note)


def _dense(table: str, network: str, published: str) -> Iterator[Row]:
    """The row of one training without pruning."""
    case = (None, SETTING[network][0], published)
    return _phases(table, network, "unpruned", case, pruned=0, decoded=False, note="")


def _share(
    table: str,
    network: str,
    method: str,
    percent: int | None,
    published: str,
    *shares: str,
    decoded: bool = True,
    note: str = "the share of a dense training is decoded",
) -> Row:
    """A row that is a multiple of one dense training, whose total is rounded to 0.01 P."""
    gflops, epochs, images = SETTING[network]
    dense = round(petaflops([(epochs, gflops)], images), 2)
    factor = shares[0] if len(shares) == 1 else f"({' + '.join(shares)})"
    exact, formula = dense * sum(map(Fraction, shares)), f"{factor} x {float(dense):.2f} P"
    return Row(table, network, method, percent, published, exact, formula, decoded, note)


_KNOWN = {"decoded": False, "note": "unstructured, so as dear as dense; printed to 0.05 P"}

ROWS: tuple[Row, ...] = (
    *_dense("3", "ResNet-18", "1259.13"),
    *_phases("3", "ResNet-18", "NS", (10, "3.37", "2424.86"), (30, "2.63", "2168.89")),
    _share("3", "ResNet-18", "SFP", 30, "1991.94", "1", "0.582", decoded=False,
           note="SFP reports a cut of 41.8 %"),
    *_phases("3", "ResNet-18", "EB Spline", (10, "3.12", "1101.24"), (30, "2.23", "831.00"),
             dense=11, pruned=79, note="E and the GFLOPs are decoded; no other E fits both rows"),
    *_phases("3 of You et al. 2020", "ResNet-18", "EB Train",
             (10, "3.37", "1177.15"), (30, "2.63", "952.46"),
             dense=11, pruned=79, note="E is decoded; the pruned networks are those of NS"),
    *_dense("3", "ResNet-50", "2839.96"),
    *_phases("3", "ResNet-50", "ThiNet", (30, "4.39", "4358.53"), (50, "2.92", "3850.03")),
    *_phases("3", "ResNet-50", "SFP", (30, "4.31", "4330.86")),
    _share("3", "ResNet-50", "LeGR", 50, "4174.74", "1", "0.47"),
    _share("3", "ResNet-50", "GAL-0.5", 40, "4458.74", "1", "0.57"),
    _share("3", "ResNet-50", "GDP", 40, "4487.14", "1", "0.58"),
    _share("3", "ResNet-50", "C-SGD-50", 50, "4117.94", "1", "0.45"),
    _share("3", "ResNet-50", "Meta Pruning", 50, "3532.63", "1", "10/41", decoded=False,
           note="its authors report 1.0 of 4.1 G"),
    _share("2", "VGG-16", "LT (one-shot)", None, "30.3", "2", **_KNOWN),
    _share("2", "VGG-16", "SNIP", None, "15.1", "1", **_KNOWN),
    _share("2", "PreResNet-101", "LT (one-shot)", None, "14.9", "2", **_KNOWN),
    _share("2", "PreResNet-101", "SNIP", None, "7.40", "1", **_KNOWN),
    *_phases("2, CIFAR-10", "PreResNet-101", "NS",
             (30, "0.27", "13.9"), (50, "0.22", "12.7"), (70, "0.15", "11.0")),
    *_phases("2, CIFAR-100", "PreResNet-101", "NS",
             (30, "0.26", "13.7"), (50, "0.21", "12.5"), (70, "0.12", "10.3")),
    *_phases("2, CIFAR-10", "VGG-16", "NS",
             (30, "0.51", "27.4"), (50, "0.44", "25.7"), (70, "0.36", "23.8")),
    *_phases("2, CIFAR-100", "VGG-16", "NS",
             (10, "0.59", "29.3"), (30, "0.50", "27.1"), (50, "0.37", "24.0")),
    *_phases("2", "VGG-16", "ThiNet", (10, "0.51", "27.4"), (30, "0.31", "22.6"),
             (50, "0.16", "19.0"), (70, "0.06", "16.6"),
             decoded=False, note="the same share of channels is pruned in every layer"),
    *_phases("2", "PreResNet-101", "ThiNet",
             (30, "0.24", "13.2"), (50, "0.13", "10.6"), (70, "0.05", "8.65")),
    _share("4", "PreResNet-101", "RigL", None, "7.81", "1.05"),
    _share("4", "VGG-16", "RigL", None, "15.6", "1.03"),
    _share("4", "PreResNet-101", "GraSP, SynFlow", None, "7.5", "1.01"),
    _share("4", "VGG-16", "GraSP, SynFlow", None, "15.3", "1.01"),
)  # fmt: skip
"""Printed totals that a sum gives; ``agrees`` tells whether to the last digit."""

NOT_REPRODUCED: tuple[tuple[str, str], ...] = (
    ("Table 3, ResNet-50, EB Spline (2434.09, 1636.02)",
     "the epoch E and the pruned network's cost are both unknown: 17 pairs of whole epochs and "
     "0.01 G fit the first (as 10 and 6.89 G), two the second (8 and 4.39 G, 49 and 0.57 G), and "
     "no E fits both"),
    ("Table 2, Spline on both networks and data sets",
     "a dense training and a pruned one, whose cost depends on masks that are not published"),
    ("Table 2, PreResNet-101, EB Spline",
     "the masks, E and the length of retraining are unknown; with E = 61 (Table 6) the dense "
     "epochs alone would cost 2.84 P, more than the 2.74 P that p = 70 % is said to cost in all"),
    ("Table 2, VGG-16, EB Spline",
     "the masks and E are unknown; if they cost what Spline's do and 160 epochs of retraining "
     "follow, E is 74 to 80 on CIFAR-100, not 10 to 20"),
    ("Table 11, NS-IP", "the number of rounds of pruning is not given"),
    ("Table 9 (LeakyReLU)",
     "repeats the totals of Table 2 to the digit, though the masks must differ"),
)  # fmt: skip
"""Printed totals that no published facts give, each with the reason."""
