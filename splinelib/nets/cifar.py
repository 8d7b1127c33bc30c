"""The networks that the paper trains on small images: VGG-16 and PreResNet-101.

Both are made of Conv2d, BatchNorm2d, an activation, pooling and Linear, so each is piecewise affine
in evaluation mode. ``alpha`` exchanges the activation, ``width`` scales all channels.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from splinelib.nets.drawing import Generator, channels, counts, drawn
from splinelib.nets.small import activation

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # VGG-16: channels and convolutions


def vgg16(
    classes: int = 10,
    alpha: float = 0.0,
    *,
    width: float = 1.0,
    in_channels: int = 3,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Build VGG-16 with BatchNorm for images of 32 x 32 pixels.

    Thirteen times (3 x 3 convolution without bias, BatchNorm, activation), with four max-poolings
    by 2 between them, the mean over the pixels, and one Linear.

    Parameters
    ----------
    classes : int
        Number of logits.
    alpha : float, in [-1, 1]
        Leakiness of every activation, see :func:`splinelib.nets.activation`.
    width : float, above 0
        Scales all channels (rounded, at least 1); 1 is the network of the paper.
    in_channels : int
        Channels of an image.
    generator : torch.Generator, optional
        Source of the weights; the network lives on its device. Default: a fresh one with seed 0.
    dtype : torch.dtype
        Type of the weights.

    Returns
    -------
    nn.Sequential
        ``features`` and ``classifier``: maps ``(B, in_channels, H, W)``, H and W at least 16, to
        ``(B, classes)``. In training mode.

    Raises
    ------
    ValueError
        A size that is no positive whole number, a bad ``alpha`` or ``width``.

    Notes
    -----
    Sec. 4.1 of the paper; 313.20 M multiply-adds and 14.72 M parameters. As in its public code,
    convolutions are Kaiming-normal by fan-out, BatchNorms start at gamma 0.5 and beta 0, the Linear
    is normal with deviation 0.01. Trained in *Drawing the ticket*.

    Examples
    --------
    >>> net = vgg16(width=0.125)
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    counts(classes=classes, in_channels=in_channels)

    def make() -> nn.Sequential:
        features, last = nn.Sequential(), in_channels
        for number, (count, convolutions) in enumerate(STAGES):
            features.extend([nn.MaxPool2d(2)] if number else [])
            for _ in range(convolutions):
                before, last = last, channels(count, width)
                features.append(nn.Conv2d(before, last, 3, padding=1, bias=False))
                features.extend([nn.BatchNorm2d(last), activation(alpha)])
        features.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(last, classes)))

    return drawn(make, generator=generator, dtype=dtype, alpha=alpha, gamma=0.5, std=0.01)


class Bottleneck(nn.Module):
    """A pre-activation block, ``shortcut(x) + conv3(conv2(conv1(x)))``.

    Each convolution comes after its own BatchNorm and activation. The block reads ``read``
    channels, has ``inner`` and ``inner`` channels inside, and writes ``write`` channels; where the
    two differ (or the stride is 2), the shortcut is a 1 x 1 convolution of the block's input.
    """

    def __init__(self, read: int, inner: int, write: int, stride: int, alpha: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(read)
        self.act1 = activation(alpha)
        self.conv1 = nn.Conv2d(read, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.act2 = activation(alpha)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner)
        self.act3 = activation(alpha)
        self.conv3 = nn.Conv2d(inner, write, 1, bias=False)
        same = read == write and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(read, write, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(B, read, H, W)`` to ``(B, write, H / stride, W / stride)``."""
        z = self.conv1(self.act1(self.bn1(x)))
        z = self.conv2(self.act2(self.bn2(z)))
        z = self.conv3(self.act3(self.bn3(z)))
        return self.shortcut(x) + z


def preresnet(
    depth: int = 101,
    classes: int = 10,
    alpha: float = 0.0,
    *,
    width: float = 1.0,
    in_channels: int = 3,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Build a pre-activation residual network of bottlenecks for images of 32 x 32 pixels.

    A 3 x 3 convolution (``stem``), three stages of n :class:`Bottleneck` blocks, BatchNorm,
    activation, the mean over the pixels, and one Linear. The second and third stage begin with
    stride 2. Inside, the blocks of the stages have 16, 32 and 64 channels, and they write four
    times as many.

    Parameters
    ----------
    depth : int
        ``9 n + 2``: 101 is the network of the paper (n = 11).
    classes, alpha, width, in_channels, generator, dtype
        As in :func:`vgg16`.

    Returns
    -------
    nn.Sequential
        ``stem``, ``stage1`` to ``stage3``, ``bn``, ``act``, ``pool``, ``flatten``, ``classifier``:
        maps ``(B, in_channels, H, W)`` to ``(B, classes)``. In training mode.

    Raises
    ------
    ValueError
        A depth that is not ``9 n + 2``, and as :func:`vgg16`.

    Notes
    -----
    Sec. 4.1 of the paper; at depth 101, 154.06 M multiply-adds, 1.054 M parameters, and 100
    BatchNorms of 7408 channels, 4944 of them on the stream. Convolutions and BatchNorms start as in
    :func:`vgg16`, the Linear uniform in +-1/sqrt(fan in). Trained in *Drawing the ticket*.

    Examples
    --------
    >>> net = preresnet(20)
    >>> len(net.stage1), net(torch.zeros(2, 3, 32, 32)).shape
    (2, torch.Size([2, 10]))
    """
    counts(depth=depth, classes=classes, in_channels=in_channels)
    blocks = _blocks(depth)

    def make() -> nn.Sequential:
        stream = channels(16, width)
        parts = {"stem": nn.Conv2d(in_channels, stream, 3, padding=1, bias=False)}
        for number, (count, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
            inner, stage = channels(count, width), nn.Sequential()
            for block in range(blocks):
                stage.append(Bottleneck(stream, inner, 4 * inner, 1 if block else stride, alpha))
                stream = 4 * inner
            parts[f"stage{number}"] = stage
        parts |= {"bn": nn.BatchNorm2d(stream), "act": activation(alpha)}
        parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        parts |= {"classifier": nn.Linear(stream, classes)}
        return nn.Sequential(OrderedDict(parts))

    return drawn(make, generator=generator, dtype=dtype, alpha=alpha, gamma=0.5)


def _blocks(depth: int) -> int:
    """Blocks a stage of a pre-activation network: each has 3 convolutions, beside 2 layers more."""
    blocks, rest = divmod(depth - 2, 9)
    if blocks < 1 or rest:
        below = 9 * max(1, blocks) + 2
        raise ValueError(
            f"depth is {depth}, but three stages of n blocks of 3 convolutions make 9 n + 2: "
            f"use {below} or {below + 9}"
        )
    return blocks
