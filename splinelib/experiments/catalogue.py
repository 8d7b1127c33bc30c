"""The configs of the paper: one for every row and ratio of its Tables 1 to 12, and for its curves.

Fixed by the paper: networks, data, recipe (Sec. 4.1), ratios, rho = 0.05, PCA for global and none
for layerwise spline pruning (Sec. 4.2, 4.3), the detector of Algorithm 1.

Taken from its numbers or from public code: PreResNet-101 is pruned as network slimming does it, by
channel selection (``residual="select"``), since the floating-point operations of Table 2 cannot be
reached otherwise; by ThiNet inside its blocks alone, as its source does it; the penalty on
BatchNorm's scales is 1e-4 for VGG-16 and 1e-5 for PreResNet-101 (network slimming), and no method
has it in retraining.

Ours, where the paper is silent: Eq. 6 as printed, with folded offsets (``criterion="paper"``);
slope 0.01 of the leaky ReLU; network slimming, spline pruning and ThiNet go on with the trained
weights and are trained by the whole recipe once more; early-bird tickets go on where the schedule
was, and one that is not found until the end is trained by the whole recipe once more, too; lottery
tickets are rewound to the start; three rounds for NS-IP; in Table 8, the small network is the
global spline ticket of a trained one, for all three starts, and its training is booked, too.
Torchvision's ResNets lose inner channels alone, the stream stays whole. All runs of a network on a
data set hold out the same number of training images, for detectors and for methods that search. The
rest is said where the methods are: ``splinelib.experiments.methods`` and ``splinelib.pruning``.
"""

from collections.abc import Iterator
from dataclasses import replace

from splinelib.experiments.config import Experiment
from splinelib.experiments.paper import cell
from splinelib.train import CIFAR

NETWORKS = {"vgg16": "VGG-16", "preresnet101": "PreResNet-101"}
DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
LABELS = {
    "lt": "LT (one-shot)",
    "snip": "SNIP",
    "ns": "NS",
    "thinet": "ThiNet",
    "spline": "Spline",
    "eb-spline": "EB Spline",
    "rigl": "RigL",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "ns-ip": "NS-IP",
}
OPTIMIZERS = {"adam": "EB (Adam)", "adagrad": "EB (Adagrad)", "rmsprop": "EB (RMSprop)"}
SLIMMED = ("ns", "ns-ip", "eb-train")  # methods that train with a penalty on BatchNorm's scales
SPLINES = ("spline", "eb-spline", "minimal")
SLIMMING = {"vgg16": 1e-4, "preresnet101": 1e-5}  # of network slimming's public code
WATCHED = ("held-out", "test", "random", "canvas", "mask-50")
HELD = {"preresnet101": 256}  # images; 512 of all others
# So that 161 snapshots of a probe take some 30 MB: VGG-16 has 13 layers, PreResNet-101 100.
FEATURES = {"vgg16": 128, "preresnet101": 64, "alexnet": 256}
PAIRS = [(network, data) for data in DATA for network in NETWORKS]
CORE = ("ns", "spline", "eb-spline")
# What is run first. The comparisons that the book is about come on CIFAR-10, one network with all
# its seeds before the other; then what each choice does; the same on CIFAR-100 comes later. Each
# line has one number a pair. Fig. 7 varies rho on CIFAR-100, around the spline pruning of Table 2.
FIRST = {
    "dense": (100, 96, 60, 59),
    "core": (98, 94, 58, 57),
    "others": (90, 89, 56, 55),
    "eb-train": (88, 87, 54, 53),
    "rho": (80, 80, 80, 80),
    "fa": (78, 78, 77, 77),
    "90 %": (76, 76, 75, 75),
    "layerwise": (52, 52, 51, 51),
}
LEAKY, TINY = 74, 70  # ResNet-18 on Tiny-ImageNet follows; large.py has it


def first(what: str, network: str, data: str) -> int:
    """The importance of a group of runs."""
    return FIRST[what][PAIRS.index((network, data))]


def ratios(network: str, data: str) -> tuple[float, ...]:
    """The ratios of Tables 2, 4, 5: lower ones for VGG-16 on CIFAR-100."""
    return (0.1, 0.3, 0.5) if (network, data) == ("vgg16", "cifar100") else (0.3, 0.5, 0.7)


def method_options(method: str, ratio: float, network: str = "") -> dict[str, object]:
    """What the paper, or the public code of a method, fixes of its settings."""
    options: dict[str, object] = {"ratio": ratio}
    if method in SPLINES:
        options |= {"scope": "global", "criterion": "paper", "reduce": "pca", "rho": 0.05}
    if method in SLIMMED:
        options |= {"scope": "global"}
    if method in (*SPLINES, *SLIMMED) and network.startswith("preresnet"):
        options |= {"residual": "select"}
    return options


def pruned(
    network: str, data: str, method: str, ratio: float, *cells: str, tag: str = "", **changes
) -> Experiment:
    """Make the config of one method at one ratio on CIFAR."""
    plain = network.removesuffix("-leaky")
    options = method_options(method, ratio, network) | changes.pop("options", {})
    recipe = changes.pop("recipe", CIFAR)
    if method in SLIMMED:
        recipe = replace(recipe, slimming=SLIMMING[plain])
    name = "-".join(part for part in (method, tag, f"{100 * ratio:g}") if part)
    return Experiment(
        f"{network}/{data}/{name}",
        plain,
        data,
        recipe,
        probe_images=HELD.get(plain, 512),
        method=method,
        method_options=options,
        cells=cells,
        **changes,
    )


def watched(network: str, data: str, tag: str = "", *cells: str, **changes) -> Experiment:
    """Make the config of a dense run whose codes are watched after every epoch."""
    plain = network.removesuffix("-leaky")
    return Experiment(
        f"{network}/{data}/{'-'.join(['dense', *([tag] if tag else [])])}",
        plain,
        data,
        cells=cells,
        probes=WATCHED,
        probe_images=HELD.get(plain, 512),
        probe_features=FEATURES[plain],
        **changes,
    )


def dense() -> Iterator[Experiment]:
    """Dense training with distances: Tables 1, 6, 7, 12 and Fig. 5, 13, 15."""
    layers = {
        "vgg16": ("Early (1st)", "Medium (8th)", "Late (16th)"),
        "preresnet101": ("Early (1st)", "Medium (16th)", "Late (32th)"),
    }
    for network, data in PAIRS:
        net, images = NETWORKS[network], DATA[data]
        cells = [cell(1, net, images, "Unpruned", 0)]
        if data == "cifar10":
            cells += [
                cell(6, net, images, "EB (SGD)", 0),
                cell(7, net, images, "EB (Random Init.)", 0),
            ]
        else:
            cells += [cell(12, net, images, layer, 0) for layer in layers[network]]
            cells += [f"Fig. {'5b' if network == 'vgg16' else '5c'}", f"Fig. 13 | {net}"]
        yield watched(network, data, "", *cells, importance=first("dense", network, data))
    yield watched("alexnet", "cifar10", "", "Fig. 5a", importance=49)
    for data, panel in zip(DATA, "ab", strict=True):
        leaky = {"network_options": {"alpha": 0.01}, "importance": LEAKY - 1}
        yield watched("preresnet101-leaky", data, "", f"Fig. 15{panel}", **leaky)


def universal() -> Iterator[Experiment]:
    """Other optimizers and the adversarial start: Tables 6 and 7."""
    for network, net in NETWORKS.items():
        for optimizer, label in OPTIMIZERS.items():
            recipe = replace(CIFAR, optimizer=optimizer, lr=None)
            where = cell(6, net, "CIFAR-10", label, 0)
            yield watched(network, "cifar10", optimizer, where, recipe=recipe, importance=50)
            for ratio in (0.3, 0.5):
                where = cell(6, net, "CIFAR-10", label, ratio)
                changes = {"tag": optimizer, "recipe": recipe, "importance": 48}
                yield pruned(network, "cifar10", "eb-spline", ratio, where, **changes)
        where, start = (7, net, "CIFAR-10", "EB (Adv. Init)"), {"start": "adversarial"}
        yield watched(network, "cifar10", "adversarial", cell(*where, 0), importance=47, **start)
        for ratio in (0.3, 0.5):
            changes = {"tag": "adversarial", "importance": 46, **start}
            yield pruned(network, "cifar10", "eb-spline", ratio, cell(*where, ratio), **changes)


def layerwise() -> Iterator[Experiment]:
    """The same ratio in every layer: Table 1."""
    for network, data in PAIRS:
        for ratio in (0.3, 0.5, 0.7) if data == "cifar10" else (0.1, 0.3, 0.5, 0.7):
            for method in ("ns", "spline", "eb-spline"):
                where = cell(1, NETWORKS[network], DATA[data], LABELS[method], ratio)
                scope = {"scope": "layerwise"} | ({"reduce": "none"} if method != "ns" else {})
                changes = {"tag": "layerwise", "options": scope}
                changes |= {"importance": first("layerwise", network, data)}
                yield pruned(network, data, method, ratio, where, **changes)


def everywhere() -> Iterator[Experiment]:
    """Global pruning on CIFAR: Tables 2 and 4, with the rows that Tables 5, 6, 7 and 11 repeat."""
    for network, data in PAIRS:
        for ratio in ratios(network, data):
            for method in [name for name in LABELS if name != "ns-ip"]:
                importance = first("core" if method in CORE else "others", network, data)
                if method in ("rigl", "grasp", "synflow"):
                    importance = 44
                if (method, data) == ("spline", "cifar100"):  # the middle of Fig. 7
                    importance = first("rho", network, data) + 1
                cells = _repeated(network, data, method, ratio)
                yield pruned(network, data, method, ratio, *cells, importance=importance)
            # Left out of the paper's tables, though its authors' own: You et al. (2020).
            importance = first("eb-train", network, data)
            yield pruned(network, data, "eb-train", ratio, importance=importance)
    for data in DATA:
        for ratio in (0.3, 0.5, 0.7):
            where = cell(11, "PreResNet-101", DATA[data], "NS-IP", ratio)
            yield pruned("preresnet101", data, "ns-ip", ratio, where, importance=40)


def _repeated(network: str, data: str, method: str, ratio: float) -> list[str]:
    """All rows of the paper that are this one run."""
    net, images = NETWORKS[network], DATA[data]
    tables = [4] if method in ("rigl", "grasp", "synflow") else [2]
    if method in ("spline", "eb-spline"):
        tables += [4] + [11] * (network == "preresnet101")
    cells = [cell(table, net, images, LABELS[method], ratio) for table in tables]
    if method == "spline":
        cells += [cell(5, net, images, "Spline (PCA)", ratio)]
        cells += [f"Fig. 7 | {net} | rho 0.05 | {100 * ratio:g}%"] * (data == "cifar100")
    if method == "eb-spline" and data == "cifar10" and ratio < 0.7:
        cells += [cell(6, net, images, "EB (SGD)", ratio)]
        cells += [cell(7, net, images, "EB (Random Init.)", ratio)]
    return cells


def variants() -> Iterator[Experiment]:
    """Factor analysis, 90 %, other rho: Tables 5 and 10, Fig. 7."""
    for network, data in PAIRS:
        net, images = NETWORKS[network], DATA[data]
        for ratio in ratios(network, data):
            where = cell(5, net, images, "Spline (FA)", ratio)
            changes = {"tag": "fa", "options": {"reduce": "fa"}}
            changes |= {"importance": first("fa", network, data)}
            yield pruned(network, data, "spline", ratio, where, **changes)
        for method in ("ns", "thinet", "spline", "eb-spline"):
            where = cell(10, net, images, LABELS[method], 0.9)
            importance = first("90 %", network, data)
            yield pruned(network, data, method, 0.9, where, importance=importance)
        for rho in (0.01, 0.1, 0.3, 0.4) if data == "cifar100" else ():
            for ratio in ratios(network, data):
                where = f"Fig. 7 | {net} | rho {rho:g} | {100 * ratio:g}%"
                changes = {"tag": f"rho{rho:g}", "options": {"rho": rho}}
                changes |= {"importance": first("rho", network, data)}
                yield pruned(network, data, "spline", ratio, where, **changes)


def leaky() -> Iterator[Experiment]:
    """Leaky ReLU, with PyTorch's slope 0.01 since the paper names none: Table 9."""
    for ratio in (0.3, 0.5, 0.7):
        for method in ("ns", "thinet", "spline", "eb-spline"):
            where = cell(9, "PreResNet-101", "CIFAR-10", LABELS[method], ratio)
            changes = {"network_options": {"alpha": 0.01}, "importance": LEAKY}
            yield pruned("preresnet101-leaky", "cifar10", method, ratio, where, **changes)


def minimal() -> Iterator[Experiment]:
    """A small network from three starts: Table 8 and Fig. 9."""
    labels = {"random": "Random Init.", "lottery": "Lottery Init.", "layerwise": "LW Pretrain"}
    starts = {"random": "reinit", "lottery": "rewind", "layerwise": "layerwise"}
    for data, shares in (("cifar10", (0.3, 0.5, 0.7, 0.9)), ("cifar100", (0.1, 0.3, 0.5, 0.7))):
        for ratio in shares:
            for weights, label in labels.items():
                cells = [cell(8, "VGG-16", DATA[data], label, ratio)]
                if weights != "random":
                    cells.append(f"Fig. 9 | {DATA[data]} | {label} | {100 * ratio:g}%")
                begin = {"weights": starts[weights]}
                changes = {"tag": weights, "options": begin, "importance": 42}
                yield pruned("vgg16", data, "minimal", ratio, *cells, **changes)
