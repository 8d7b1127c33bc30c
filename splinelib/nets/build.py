"""Networks by name, for configs that are written as text."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import nn

from splinelib.nets.alexnet import alexnet
from splinelib.nets.cifar import preresnet, vgg16
from splinelib.nets.imagenet import resnet
from splinelib.nets.small import convnet, mlp


def build(name: str, classes: int, **options) -> nn.Module:
    """Build a network by its name.

    Parameters
    ----------
    name : str
        One of ``NAMES``: "vgg16", "preresnet101", "preresnet20", "alexnet", "resnet18",
        "resnet50", "convnet", "mlp".
    classes : int
        Number of logits.
    **options
        What the builder of that name takes: ``alpha``, ``generator`` and ``dtype`` for all,
        ``width`` and ``in_channels`` for those of small images, ``small`` for the ResNets. All are
        float32 unless ``dtype`` says otherwise. "convnet" takes what
        :func:`splinelib.nets.convnet` takes; "mlp" takes ``in_shape``, the shape of one input, and
        ``hidden``, the hidden widths, and begins with a Flatten.

    Returns
    -------
    nn.Module
        The network, in training mode.

    Raises
    ------
    ValueError
        An unknown name, an option that the network does not have, and what its builder raises.

    Notes
    -----
    The networks of Sec. 4.1 and Fig. 3 to 5 of the paper. Used in *Drawing the ticket*.

    Examples
    --------
    >>> net = build("vgg16", 100, width=0.125)
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 100])
    """
    if name not in NAMES:
        raise ValueError(f"no network is called {name!r}; known names: {', '.join(NAMES)}")
    try:
        return NAMES[name](classes=classes, **options)
    except TypeError as error:
        raise ValueError(f"{name!r} cannot be built with {sorted(options)}: {error}") from error


def _mlp(
    classes: int, in_shape: Sequence[int], hidden: Sequence[int], alpha: float = 0.0, **options
) -> nn.Sequential:
    """A fully connected network of inputs of any shape."""
    features = torch.Size(in_shape).numel()
    return nn.Sequential(nn.Flatten(), *mlp([features, *hidden, classes], alpha, **options))


NAMES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "vgg16": vgg16,
        "preresnet101": partial(preresnet, 101),
        "preresnet20": partial(preresnet, 20),
        "alexnet": alexnet,
        "resnet18": partial(resnet, 18),
        "resnet50": partial(resnet, 50),
        "convnet": partial(convnet, dtype=torch.float32),
        "mlp": partial(_mlp, dtype=torch.float32),
    }
)
