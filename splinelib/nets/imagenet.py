"""The networks that the paper trains on ImageNet: torchvision's ResNet-18 and ResNet-50."""

import torch
from torch import nn

from splinelib.nets.drawing import Generator, counts, drawn
from splinelib.nets.small import activation

DEPTHS = (18, 50)


def resnet(
    depth: int = 18,
    classes: int = 1000,
    alpha: float = 0.0,
    *,
    small: bool = False,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """Build torchvision's ResNet-18 or ResNet-50, freshly initialised; nothing is downloaded.

    Parameters
    ----------
    depth : 18 or 50
        18 has two convolutions a block, 50 bottlenecks of three.
    classes : int
        Number of logits.
    alpha : float, in [-1, 1]
        Leakiness, see :func:`splinelib.nets.activation`. With 0 the network is torchvision's own;
        otherwise each of its ReLU modules is exchanged (a block calls its one module more than
        once).
    small : bool
        For images of 32 or 64 pixels: the stem is a 3 x 3 convolution with stride 1 instead of a
        7 x 7 one with stride 2, and its max-pooling is left out. This is no network of the paper.
    generator : torch.Generator, optional
        Source of the weights; the network lives on its device. Default: a fresh one with seed 0.
    dtype : torch.dtype
        Type of the weights.

    Returns
    -------
    torchvision.models.ResNet
        Maps ``(B, 3, H, W)`` to ``(B, classes)``; ImageNet's images have 224 x 224 pixels. In
        training mode.

    Raises
    ------
    ValueError
        Another depth, a number of classes that is no positive whole number, a bad ``alpha``.

    Notes
    -----
    Sec. 4.1 of the paper; 1814.07 M and 4089.18 M multiply-adds. Convolutions are Kaiming-normal by
    fan-out, gamma is 1, the Linear is uniform in +-1/sqrt(fan in), as in torchvision.

    Examples
    --------
    >>> net = resnet(18, classes=200, small=True)
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 200])
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth is {depth!r}, but only ResNets of depth 18 and 50 are built here")
    counts(classes=classes)
    activation(alpha)  # a bad leakiness is refused before any work

    def make() -> nn.Module:
        from torchvision import models  # a heavy import that no other network needs

        net = getattr(models, f"resnet{depth}")(weights=None, num_classes=classes)
        if small:
            net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            net.maxpool = nn.Identity()
        return net if alpha == 0 else _exchange(net, alpha)

    return drawn(make, generator=generator, dtype=dtype, alpha=alpha)


def _exchange(net: nn.Module, alpha: float) -> nn.Module:
    """Put the activation with leakiness ``alpha`` in place of every ReLU module, in place."""
    for path, module in list(net.named_modules()):
        if isinstance(module, nn.ReLU):
            parent, _, name = path.rpartition(".")
            setattr(net.get_submodule(parent), name, activation(alpha))
    return net
