"""Greedy layerwise pretraining: each layer learns to classify before the next one is looked at."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from splinelib.chain import chain
from splinelib.ops import copied
from splinelib.train.loop import Run, train
from splinelib.train.recipe import Recipe, whole

LAYERS = (nn.Linear, nn.Conv2d)


class Layerwise(NamedTuple):
    """The pretrained network, and the training of each of its layers, in order."""

    net: nn.Module
    runs: list[Run]


def layerwise(
    net: nn.Module,
    source: object,
    *,
    epochs: int = 50,
    lr: float = 0.1,
    every: int = 15,
    factor: float = 0.2,
    weight_decay: float = 5e-4,
    side: int = 2,
    fit: Callable | None = None,
    generator: torch.Generator | None = None,
    **options,
) -> Layerwise:
    """Train the layers of a network one by one, each with a classifier of its own.

    Parameters
    ----------
    net : nn.Module
        A chain of layers, see ``splinelib.chain``: "mlp", "convnet" or "vgg16" of ``nets.build``,
        or an ``nn.Sequential`` like these. It stays as it is.
    source : data.Batches or data.Stream
        The training images.
    epochs, lr, every, factor, weight_decay
        For each layer: its epochs, the first learning rate, after how many epochs it is multiplied
        by ``factor``, and the L2 penalty.
    side : int
        Feature maps are averaged to ``side x side`` pixels in front of an auxiliary classifier.
    fit : callable, optional
        Trains a copy, as ``train.trainer`` does: it is called with ``recipe`` and ``source``, and
        the label "layer <path>". Default: ``train``.
    generator : torch.Generator, optional
        On the CPU; draws the auxiliary classifiers. Default: a fresh one with seed 0.
    **options
        For ``train``, such as ``test`` or ``speed``. With ``checkpoint``, each layer has a file of
        its own beside that path, "run-4.pt" for the layer "4" and the path "run.pt", and the same
        call goes on after an interruption.

    Returns
    -------
    Layerwise
        The network, in evaluation mode, and one ``Run`` a layer.

    Raises
    ------
    ValueError
        A network that is no chain or has one layer only, and as ``train``.

    Notes
    -----
    Layer k and a linear classifier on what it puts out are trained together, while the layers
    before it stand still, their BatchNorms too; then the classifier is thrown away. A layer takes
    its BatchNorm, activation and pooling along. The last Linear is a classifier already, and is
    trained like that.

    Belilovsky et al., "Greedy layerwise learning can scale to ImageNet" (ICML 2019); public code
    eugenium/layerCNN: 50 epochs a layer, SGD with momentum 0.9, lr 0.1 divided by 5 every 15
    epochs, weight decay 5e-4, batch 128; its auxiliary networks have up to two hidden layers, which
    raises its accuracies, and average to 2 x 2 pixels or so; here they are linear (its ``k = 1``).
    The paper, in Table 8 and Sec. 4.4, calls the method unsupervised: it uses the labels of all
    images. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> digits, _ = data.load("digits")
    >>> net = nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[16, 16])
    >>> pretrained = layerwise(net, data.Batches(digits, 128), epochs=2)
    >>> len(pretrained.runs), pretrained.net[1].weight.shape
    (3, torch.Size([16, 64]))
    """
    if not all(whole(value, 1) for value in (epochs, every, side)) or (fit and options):
        raise ValueError(
            f"epochs={epochs}, every={every}, side={side}, fit={fit!r}, and further settings "
            f"{sorted(options)}: need whole numbers, at least 1 (the rate falls every 1 or more "
            "epochs), and what trains by itself takes its own settings."
        )
    recipe = Recipe(
        epochs=epochs,
        batch=source.batch,
        lr=lr,
        weight_decay=weight_decay,
        drops=tuple(range(every, epochs, every)),
        factor=factor,
    )
    fit = fit or partial(_trained, options=options)
    generator = generator or torch.Generator().manual_seed(0)
    net, runs = copied(net).eval(), []
    parts = _parts(net)
    for number, (path, part) in enumerate(parts):
        head = nn.Identity()
        if number < len(parts) - 1:
            shown = _shown(net, parts[: number + 1], source.shape)
            head = _classifier(shown, len(source.classes), side, generator).to(shown)
        before = [module for _, earlier in parts[:number] for module in earlier]
        run = fit(Stage(before, part, head), f"layer {path}", recipe=recipe, source=source)
        for module, trained in zip(part, run.net.part, strict=True):
            module.load_state_dict(trained.state_dict())
        runs.append(run)
    return Layerwise(net, runs)


def _trained(stage: nn.Module, label: str, *, options: dict, **settings) -> Run:
    """Train one layer, with a checkpoint of its own."""
    if path := options.get("checkpoint"):
        path, layer = Path(path), label.removeprefix("layer ")
        options = {**options, "checkpoint": path.with_name(f"{path.stem}-{layer}{path.suffix}")}
    return train(stage, **settings, **options)


class Stage(nn.Module):
    """A part of a chain to be trained, behind layers that stand still, in front of a classifier."""

    def __init__(self, before: list[nn.Module], part: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.before = copied(nn.Sequential(*before)).eval().requires_grad_(False)
        self.part = copied(nn.Sequential(*part)).requires_grad_(True)
        self.head = head

    def train(self, mode: bool = True) -> "Stage":
        """Training or evaluation mode; the layers before stay in evaluation mode."""
        super().train(mode)
        self.before.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(b, C)`` for inputs ``(b, ...)``."""
        with torch.no_grad():
            x = self.before(x)
        return self.head(self.part(x))


def _parts(net: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """The chain, cut in front of each Linear and Conv2d but the first, with that layer's path."""
    parts: list[tuple[str, list[nn.Module]]] = []
    opening: list[nn.Module] = []
    for path, module in chain(net).items():
        if isinstance(module, LAYERS):
            parts.append((path, [*opening, module]))
            opening = []
        elif parts and not isinstance(module, nn.Flatten):
            parts[-1][1].append(module)
        else:
            opening.append(module)  # what flattens belongs to the Linear behind it
    if len(parts) < 2 or opening or not isinstance(parts[-1][1][-1], nn.Linear):
        raise ValueError(
            "layerwise training needs a chain of at least two layers that ends with a Linear; "
            f"this one has the layers {[path for path, _ in parts]} and ends with "
            f"{type(list(chain(net).values())[-1]).__name__}."
        )
    return parts


def _shown(net: nn.Module, parts, shape) -> Tensor:
    """What the first parts put out for one input of zeros."""
    weight = next(net.parameters())
    with torch.no_grad():
        z = weight.new_zeros(1, *shape)
        for module in (module for _, part in parts for module in part):
            z = module(z)
    return z


def _classifier(shown: Tensor, classes: int, side: int, generator) -> nn.Module:
    """A linear classifier of feature maps, averaged to few pixels, or of vectors."""
    layers, size = [], shown.shape[1]
    if shown.ndim == 4:
        side = min(side, *shown.shape[2:])
        layers, size = [nn.AdaptiveAvgPool2d(side), nn.Flatten()], size * side**2
    linear = nn.Linear(size, classes, device="meta").to_empty(device="cpu")
    for parameter in linear.parameters():
        nn.init.uniform_(parameter, -(size**-0.5), size**-0.5, generator=generator)
    return nn.Sequential(*layers, linear)
