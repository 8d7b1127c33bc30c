"""What a training run is: epochs, batch, optimizer and learning rates, as a value."""

import math
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import nn

RATES = {"sgd": 0.1, "adam": 1e-3, "adagrad": 1e-2, "rmsprop": 1e-2}
KINDS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}


@dataclass(frozen=True)
class Recipe:
    """How long, in which batches and at which rates a network is trained.

    Attributes
    ----------
    epochs : int
        Passes through the training images, at least 1. They are numbered from 0.
    batch : int
        Images a step, over all processes together; the source of the images must deliver this.
    optimizer : "sgd", "adam", "adagrad" or "rmsprop"
    lr : float, optional
        Learning rate of epoch 0. Default: 0.1 for SGD, and for the others the default of
        ``torch.optim``, 0.001 for Adam and 0.01 for Adagrad and RMSprop, since the paper is silent.
        ``dataclasses.replace(recipe, optimizer="adam")`` keeps the rate of ``recipe``: give
        ``lr=None`` as well to get Adam's.
    momentum : float, in [0, 1)
        Of SGD alone; the others have their published constants.
    weight_decay : float
        The L2 penalty's factor. It acts on all parameters, scales of BatchNorm included.
    drops : tuple of int
        Epochs at whose start the learning rate is multiplied by ``factor``.
    factor : float, in (0, 1]
    slimming : float
        Strength s of the L1 penalty on BatchNorm's scales: s * sign(scale) is added to their
        gradients. 0 trains without it.

    Raises
    ------
    ValueError
        A setting out of its range.

    Notes
    -----
    The defaults are the paper's recipe for CIFAR (Sec. 4.1); ``IMAGENET`` is the one for ImageNet.
    The public code of network slimming and of early-bird tickets takes s = 1e-4 for VGG-16, and
    network slimming 1e-5 for ResNets; the paper gives none. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> CIFAR.epochs, CIFAR.lr, IMAGENET.drops, Recipe(optimizer="adam").lr
    (160, 0.1, (30, 60), 0.001)
    """

    epochs: int = 160
    batch: int = 256
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    drops: tuple[int, ...] = (80, 120)
    factor: float = 0.1
    slimming: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in KINDS:
            raise ValueError(f"optimizer is {self.optimizer!r}; there are {', '.join(KINDS)}")
        rate = RATES[self.optimizer] if self.lr is None else self.lr
        object.__setattr__(self, "lr", rate)
        object.__setattr__(self, "drops", tuple(self.drops))
        for name, good, need in (
            ("epochs", whole(self.epochs, 1), "of whole epochs, at least 1"),
            ("batch", whole(self.batch, 1), "of images, at least 1"),
            ("drops", all(whole(drop, 0) for drop in self.drops), "or tuple of epochs from 0 on"),
            ("lr", 0 < self.lr < math.inf, "above 0"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("factor", 0 < self.factor <= 1, "in (0, 1]"),
            ("slimming", 0 <= self.slimming < math.inf, "at least 0"),
        ):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number {need}")


def whole(value: object, least: int) -> bool:
    """Whether a value is a whole number, and not less than another one."""
    return isinstance(value, Integral) and value >= least


CIFAR = Recipe()
IMAGENET = Recipe(epochs=90, drops=(30, 60))


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The learning rate of one epoch.

    Parameters
    ----------
    recipe : Recipe
    epoch : int
        Number of the epoch, from 0.

    Returns
    -------
    float
        ``lr * factor ** d``, where d counts the drops at or before this epoch. It depends on the
        epoch alone, so a run that is continued at any epoch has every drop behind it.

    Notes
    -----
    The public code multiplies the rate whenever it passes a drop: a run resumed behind one there
    trains on at the higher rate. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> [round(learning_rate(CIFAR, epoch), 4) for epoch in (0, 79, 80, 120)]
    [0.1, 0.1, 0.01, 0.001]
    """
    return recipe.lr * recipe.factor ** sum(epoch >= drop for drop in recipe.drops)


def make_optimizer(recipe: Recipe, net: nn.Module, *, fused: bool = False) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe for the parameters of a network.

    Parameters
    ----------
    recipe : Recipe
    net : nn.Module
        Parameters that need no gradient are left out.
    fused : bool
        Take torch's fused form, one kernel for many tensors, if there is one for this optimizer on
        the device of the network.

    Returns
    -------
    torch.optim.Optimizer
        ``optimizer.defaults["fused"]`` says which form it has.

    Raises
    ------
    ValueError
        No parameter needs a gradient.
    """
    weights = [p for p in net.parameters() if p.requires_grad]
    if not weights:
        raise ValueError(f"{type(net).__name__} has no parameter that needs a gradient")
    options = {"lr": learning_rate(recipe, 0), "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        options["momentum"] = recipe.momentum
    if fused and has_fused(recipe.optimizer, weights[0].device.type):
        options["fused"] = True
    optimizer = KINDS[recipe.optimizer](weights, **options)
    if options.get("momentum"):
        # Fused SGD leaves its buffers unset if a scaler skips the very first step; zeros are the
        # same start, and safe.
        for weight in weights:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Give an optimizer the state of another one, in the layout of its own parameters.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its settings stay; learning rate and fused form are those of this run.
    state : dict
        ``state_dict()["state"]`` of an optimizer of the same kind, for parameters of the same
        shapes, on any device and in any memory layout.
    """
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                # a fused kernel takes weight and state entry by entry, in the order of the memory
                values[name] = torch.empty_like(weight, requires_grad=False).copy_(value)


def has_fused(optimizer: str, device: str) -> bool:
    """Whether torch has a fused form of an optimizer on a type of device, "cuda" or "cpu"."""
    return (optimizer in ("sgd", "adam") and device in ("cuda", "cpu")) or (
        optimizer == "adagrad" and device == "cpu"
    )
