"""AlexNet with BatchNorm for small images."""

from collections import OrderedDict

import torch
from torch import nn

from splinelib.nets.drawing import Generator, channels, counts, drawn
from splinelib.nets.small import activation

ALEXNET = (  # channels, kernel, stride, padding, groups
    (96, 11, 4, 0, 1), (256, 5, 1, 2, 2), (384, 3, 1, 1, 1), (384, 3, 1, 1, 2), (256, 3, 1, 1, 2),
)  # fmt: skip


def alexnet(
    classes: int = 10,
    alpha: float = 0.0,
    *,
    width: float = 1.0,
    in_channels: int = 3,
    size: int = 32,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Build AlexNet with BatchNorm for small images.

    Five convolutions (11 x 11 with stride 4, 5 x 5, three 3 x 3; the second, fourth and fifth in
    two groups), each with BatchNorm and activation, one max-pooling after the first, and three
    Linear.

    Parameters
    ----------
    classes, alpha, width, in_channels, generator, dtype
        As in :func:`splinelib.nets.vgg16`; channels are rounded to even numbers, for the groups.
    size : int
        Height and width of an image in pixels, at least 19.

    Returns
    -------
    nn.Sequential
        ``features`` and ``classifier``: maps ``(B, in_channels, size, size)`` to ``(B, classes)``.
        In training mode.

    Raises
    ------
    ValueError
        As :func:`splinelib.nets.vgg16`; an image that is too small.

    Notes
    -----
    Fig. 5a of the paper, in the shape of its public code, whose weights start uniform in
    +-1/sqrt(fan in), too. Trained in *Drawing the ticket*.

    Examples
    --------
    >>> alexnet(width=0.125)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    counts(classes=classes, in_channels=in_channels, size=size)
    side = ((size - 11) // 4 + 1 - 3) // 2 + 1
    if side < 1:
        raise ValueError(
            f"size is {size}, but an 11 x 11 convolution with stride 4 and a 3 x 3 pooling need 19 "
            "pixels: use larger images"
        )

    def make() -> nn.Sequential:
        features, last = nn.Sequential(), in_channels
        for number, (count, kernel, stride, padding, groups) in enumerate(ALEXNET):
            before, last = last, channels(count, width, multiple=2)
            conv = nn.Conv2d(before, last, kernel, stride, padding, groups=groups)
            features.extend([conv, nn.BatchNorm2d(last), activation(alpha)])
            features.extend([] if number else [nn.MaxPool2d(3, stride=2)])
        features.append(nn.Flatten())
        wide = channels(4096, width, multiple=2)
        classifier = nn.Sequential(nn.Linear(last * side**2, wide), activation(alpha))
        classifier.extend([nn.Linear(wide, wide), activation(alpha), nn.Linear(wide, classes)])
        return nn.Sequential(OrderedDict(features=features, classifier=classifier))

    return drawn(make, generator=generator, dtype=dtype, fan_out=False)
