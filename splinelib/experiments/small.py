"""Configs that run on a CPU, for chapters and tests; and a short one that compares speeds."""

from collections.abc import Iterator
from dataclasses import replace

from splinelib.experiments.catalogue import SLIMMED, WATCHED, method_options
from splinelib.experiments.config import Experiment
from splinelib.train import CIFAR, Recipe

TOGETHER = 80  # epochs that every pruning on digits has in all, give or take one
EPOCHS = {  # of each training: some methods train once, most twice, some more often
    **dict.fromkeys(("sfp", "rigl", "snip", "grasp", "synflow", "eb-train", "eb-spline"), 80),
    **dict.fromkeys(("ns", "spline", "l1", "random", "thinet", "lt", "legr"), 40),
    **dict.fromkeys(("c-sgd", "metapruning", "minimal"), 40),
    "gal": 30,  # before and after 20 epochs of its own
    "gdp": 27,
    "ns-ip": 20,  # three rounds, and once more
}
SEEDS = 5  # of all that the chapter compares
SEARCHES = {  # at the size of a small network
    "legr": {"population": 16, "sample": 4, "generations": 64, "steps": 20},
    "metapruning": {"population": 16, "parents": 4, "iterations": 8},
}
SEVERAL = ("spline", "eb-spline", "ns", "l1", "random", "thinet", "snip")  # at three ratios
DIGITS = {
    "network": "convnet",
    "data": "digits",
    "network_options": {"channels": [16, 16, 32], "kernels": [3, 3, 3], "batch_norm": True},
    "augment": "crop",
    "pad": 1,
    "probe_images": 256,
    "probe_features": 512,
    "importance": 20,
}
RECIPE = Recipe(epochs=40, batch=64, drops=(20, 30))


def small() -> Iterator[Experiment]:
    """Small forms of the experiments, on data that need no download."""
    yield Experiment(
        "small/mlp/digits/brief",  # a run of a second, to try the command line
        "mlp",
        "digits",
        Recipe(epochs=4, batch=128, drops=(2,)),
        network_options={"hidden": [32, 32]},
        augment=None,
        probes=("held-out", "test", "random"),
        probe_images=128,
        seeds=1,
        importance=21,
    )
    yield digits("dense", probes=WATCHED)
    yield digits("dense-leaky", probes=WATCHED, leaky=True)
    yield digits("dense-constant", replace(RECIPE, drops=()), probes=WATCHED)
    yield digits("dense-slimming", replace(RECIPE, slimming=1e-3), probes=WATCHED)
    for optimizer in ("adam", "adagrad", "rmsprop"):
        recipe = replace(RECIPE, optimizer=optimizer, lr=None)
        yield digits(f"dense-{optimizer}", recipe, probes=WATCHED)
    start = {"start": "adversarial", "start_options": {"epochs": 120, "batch": 64, "lr": 0.1}}
    yield digits("dense-adversarial", probes=WATCHED, **start)
    yield digits(f"dense-{TOGETHER}", lasting(TOGETHER), seeds=SEEDS)
    yield from tour()
    yield from narrow()


def tour() -> Iterator[Experiment]:
    """Every method of pruning on digits, with the same number of epochs for all."""
    for method in [name for name in EPOCHS if name != "minimal"]:
        for ratio in (0.3, 0.5, 0.7) if method in SEVERAL else (0.5,):
            yield thinned(method, ratio)
    for tag, change in (
        ("invariant", {"criterion": "invariant"}),
        ("null", {"criterion": "invariant", "reduce": "null"}),
        ("layerwise", {"scope": "layerwise", "reduce": "none"}),
        ("rewind", {"weights": "rewind"}),
        ("reinit", {"weights": "reinit"}),
    ):
        yield thinned("spline", 0.5, tag, **change)
    # Its other two starts are spline-reinit and spline-rewind.
    pretraining = {"epochs": 10, "every": 4}  # of each of its four layers
    yield thinned("minimal", 0.5, "layerwise", weights="layerwise", pretraining=pretraining)


def thinned(method: str, ratio: float, tag: str = "", **changes) -> Experiment:
    """One method of pruning on digits."""
    recipe = lasting(EPOCHS[method])
    if method in SLIMMED:
        recipe = replace(recipe, slimming=1e-3)
    options = method_options(method, ratio) | SEARCHES.get(method, {}) | changes
    name = "-".join(part for part in (method, tag, f"{100 * ratio:g}") if part)
    seeds = SEEDS if ratio == 0.5 else 3
    return digits(name, recipe, method=method, method_options=options, seeds=seeds)


def lasting(epochs: int) -> Recipe:
    """The recipe of so many epochs, with its drops at a half and at three quarters."""
    return replace(RECIPE, epochs=epochs, drops=(epochs // 2, 3 * epochs // 4))


def digits(what: str, recipe: Recipe = RECIPE, leaky: bool = False, **changes) -> Experiment:
    """A config on scikit-learn's digits, 1,797 real images of 8 x 8 pixels."""
    settings = {**DIGITS, **changes}
    if leaky:
        settings["network_options"] = {**settings["network_options"], "alpha": 0.01}
    return Experiment(f"small/convnet/digits/{what}", recipe=recipe, **settings)


def narrow() -> Iterator[Experiment]:
    """Narrow forms of the paper's networks, on shapes in colour, digits, and a part of CIFAR-10."""
    watch = {"probes": WATCHED, "importance": 19, "probe_images": 256, "probe_features": 256}
    yield Experiment(
        "small/vgg16/colour/dense",
        "vgg16",
        "colour",
        Recipe(epochs=12, batch=64, drops=(6, 9)),
        network_options={"width": 0.125},
        images=2000,
        **watch,
    )
    yield Experiment(
        "small/preresnet20/digits/dense",
        "preresnet20",
        "digits",
        Recipe(epochs=20, batch=64, drops=(10, 15)),
        network_options={"width": 0.5},
        augment="crop",
        pad=1,
        **watch,
    )
    recipe = Recipe(epochs=40, drops=(20, 30))
    options = {"network_options": {"width": 0.25}, "images": 10_000, **watch}
    yield Experiment("small/vgg16/cifar10/dense", "vgg16", "cifar10", recipe, **options)


def speed() -> Iterator[Experiment]:
    """The same short recipe plainly and fast: does speed cost accuracy?"""
    recipe = replace(CIFAR, epochs=20, drops=(10, 15))
    plain = {"precision": "fp32", "compile": False, "channels_last": False, "fused": False}
    for tag, settings in (("short-plain", plain), ("short-fast", {})):
        name = f"vgg16/cifar10/{tag}"
        yield Experiment(name, "vgg16", "cifar10", recipe, speed=settings, importance=45)
