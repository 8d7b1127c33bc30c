"""Whether a layer reads the units of another one by one, and how many inputs a unit fills."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from splinelib.ops import Op

LAYERS = (nn.Linear, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
IMAGES = (nn.Conv2d, nn.BatchNorm2d)  # their results are feature maps
SHAPING = (nn.Flatten, nn.Unflatten, "flatten", "view", "reshape", "mean")
POOLING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, "avg_pool2d", "adaptive_avg_pool2d")
SPATIAL = (*POOLING, nn.ZeroPad2d, nn.BatchNorm2d)  # they take the second axis for channels


def is_a(op: Op, kinds: tuple) -> bool:
    """Whether an operation is a module of one of the types, or calls one of the functions."""
    types = tuple(kind for kind in kinds if isinstance(kind, type))
    return op.function in kinds or isinstance(op.apply, types)


def positions(layer: nn.Module, through: Sequence[Op], reader: nn.Module, width: int) -> int:
    """How many inputs of its reader a unit fills; 0 if the order is not unit by unit.

    What reshapes on the way is tried on ``width`` units that put out their own numbers.
    """
    return fills(isinstance(layer, IMAGES), through, reader, width)


def fills(image: bool, through: Sequence[Op], reader: nn.Module, width: int) -> int:
    """As ``positions``, for ``width`` channels of feature maps (``image``) or of a row."""
    return _filled(image, through, isinstance(reader, IMAGES), inputs(reader), width)


def narrows(image: bool, through: Sequence[Op], reader: nn.Module, width: int, per: int) -> bool:
    """Whether the reader also takes one channel less: no reshape has its numbers written out.

    Each channel is ``per`` of the ``width`` entries that are read.
    """
    count = fills(image, through, reader, width)
    less, features = width - per, inputs(reader) - per * count
    return not less or _filled(image, through, isinstance(reader, IMAGES), features, less) == count


def _filled(image: bool, through: Sequence[Op], into_image: bool, features: int, width: int) -> int:
    """How many of a reader's inputs one channel fills."""
    shaping = [op for op in through if is_a(op, SHAPING)]
    if _mixes(through, image) or any(
        op.apply.num_features % width for op in through if is_a(op, NORMS)
    ):
        return 0
    if into_image:
        fits = image and features == width
        return int(fits and all(_keeps_channels(shaping, width, height) for height in (4, 8)))
    count = features // width if image else 1
    if count * width != features:
        return 0
    pixels = [(count, 1), (2 * count, 1)] if image else [(), ()]
    laid, longer = (_shaped(shaping, _numbered(width, *size)) for size in pixels)
    fits = laid is not None and torch.equal(laid, _numbered(width).repeat_interleave(count, 1))
    # "view(-1, features)" makes more rows of larger images
    return count if fits and (longer is None or len(longer) == len(laid)) else 0


def inputs(reader: nn.Module) -> int:
    """Number of inputs (channels, features) of a Linear, Conv2d or BatchNorm."""
    names = ("in_features", "in_channels", "num_features")
    return next(getattr(reader, name) for name in names if hasattr(reader, name))


def settled(image: bool, through: Sequence[Op], width: int) -> bool:
    """Whether the channels are still one entry of the second axis each, maps or not as before."""
    shaping = [op for op in through if is_a(op, SHAPING)]
    if _mixes(through, image):
        return False
    if image:
        return all(_keeps_channels(shaping, width, height) for height in (4, 8))
    laid = _shaped(shaping, _numbered(width))
    return laid is not None and torch.equal(laid, _numbered(width))


def makes_rows(image: bool, through: Sequence[Op], features: int, width: int) -> bool:
    """Whether what has been made of the channels has two axes, as a Linear is taken to read it."""
    pixels = (max(1, features // width), 1) if image else ()
    laid = _shaped([op for op in through if is_a(op, SHAPING)], _numbered(width, *pixels))
    return laid is not None and laid.ndim == 2


def _mixes(through: Sequence[Op], image: bool) -> bool:
    """Whether something that works on feature maps comes where there are none."""
    for op in through:
        if not image and (op.kind == "max" or is_a(op, SPATIAL)):
            return True
        image = image and not is_a(op, SHAPING)
    return False


def _keeps_channels(shaping: Sequence[Op], width: int, height: int) -> bool:
    """Whether reshaping leaves each unit its channel, as the mean over its pixels does."""
    maps = _shaped(shaping, _numbered(width, height, 6))
    numbers = _numbered(width, 1, 1)
    if maps is None or maps.ndim != 4 or maps.shape[:2] != numbers.shape[:2]:
        return False
    return bool((maps == numbers).all())


def _numbered(width: int, *pixels: int) -> Tensor:
    """Outputs ``(2, width, *pixels)`` for two inputs: each unit puts out its number, all differ."""
    numbers = torch.arange(2 * width, dtype=torch.float64, device="cpu")
    numbers = numbers.reshape(2, width, *[1] * len(pixels))
    return numbers.expand(2, width, *pixels).contiguous()


def _shaped(shaping: Sequence[Op], z: Tensor) -> Tensor | None:
    """What reshaping makes of outputs; None if it cannot."""
    try:
        for op in shaping:
            z = op.apply(z)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None
    return z if z.ndim else None
