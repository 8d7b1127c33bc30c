"""The configs on ImageNet, and on Tiny-ImageNet for a single small GPU."""

from collections.abc import Iterator
from dataclasses import replace

from splinelib.experiments.catalogue import LABELS, SLIMMED, TINY, method_options
from splinelib.experiments.config import Experiment
from splinelib.experiments.paper import cell
from splinelib.train import IMAGENET

SEARCHED = {
    "legr": {"images": 20, "of_each": True, "held": 0.5},  # of each class some ten judge
}
TABLE_3 = {
    **LABELS,
    "dense": "Unpruned",
    "sfp": "SFP",
    "legr": "LeGR",
    "gal": "GAL-0.5",
    "gdp": "GDP",
    "c-sgd": "C-SGD-50",
    "metapruning": "Meta Pruning",
}


def imagenet() -> Iterator[Experiment]:
    """ResNet-18 and ResNet-50 on ImageNet, Table 3; ResNet-18 on Tiny-ImageNet for one GPU.

    On ImageNet 10,000 training images are held out, ten of each class on average: they judge what
    MetaPruning finds (its source takes 50,000), and the first 512 are the probe of EB Spline. LeGR
    looks at 20,000 of the others, half of which judge. As numbers, 10,000 images take 6 GB.
    """
    rows = {
        "resnet18": {"ns": (0.1, 0.3), "sfp": (0.3,), "eb-spline": (0.1, 0.3)},
        "resnet50": {
            "thinet": (0.3, 0.5),
            "sfp": (0.3,),
            "legr": (0.5,),
            "gal": (0.4,),
            "gdp": (0.4,),
            "c-sgd": (0.5,),
            "metapruning": (0.5,),
            "eb-spline": (0.3, 0.5),
        },
    }
    for network, methods in rows.items():
        net = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}[network]
        for method, shares in {"dense": (0.0,), **methods}.items():
            for ratio in shares:
                where = cell(3, net, "ImageNet", TABLE_3[method], ratio)
                yield _large(network, "imagenet", method, ratio, where, importance=10)
    for method, shares in {"dense": (0.0,), "ns": (0.1, 0.3), "eb-spline": (0.1, 0.3)}.items():
        for ratio in shares:
            yield _large("resnet18", "tiny-imagenet", method, ratio, importance=TINY)


def _large(network: str, data: str, method: str, ratio: float, *cells: str, importance: int):
    """One config on ImageNet or Tiny-ImageNet."""
    tiny = data == "tiny-imagenet"
    options = {} if method == "dense" else method_options(method, ratio, network)
    options |= SEARCHED.get(method, {})
    return Experiment(
        f"{network}/{data}/{method}" + (f"-{100 * ratio:g}" if ratio else ""),
        network,
        data,
        replace(IMAGENET, slimming=1e-5) if method in SLIMMED else IMAGENET,
        network_options={"small": True} if tiny else {},
        method=method,
        method_options=options,
        probe_images=512 if tiny else 10_000,
        probes=("held-out", "test", "random") if tiny and method == "dense" else (),
        seeds=3 if tiny else 1,
        importance=importance,
        cells=cells,
    )
