"""Small colour images made by formula: five shapes in two palettes, before clutter and noise."""

import torch
from torch import Tensor

from splinelib.data.images import ImageSet, statistics
from splinelib.data.steps import check_whole, is_whole

SHAPES = ("disc", "diamond", "plus", "ring", "square")  # each its own mirror image
CLASSES = tuple(f"{palette} {shape}" for palette in ("cool", "warm") for shape in SHAPES)
NOISE = 36  # half the width of each of the four uniform numbers that are summed
PALETTE = 18  # how much warmer or cooler than grey a shape is, of 255


def colour(n: int = 4000, size: int = 32, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Make noisy colour images of simple shapes, a stand-in where no data set is at hand.

    Parameters
    ----------
    n : int
        Number of training images, at least 10. The test set has a quarter as many.
    size : int
        Height and width, at least 8.
    seed : int
        Seed of the generator.

    Returns
    -------
    train, test : ImageSet
        Images (n, 3, size, size), ten classes that differ by at most one in size: a disc, diamond,
        plus, ring or square, a little warmer or cooler than grey. Place, size, brightness and
        background vary, and noise covers all.

    Raises
    ------
    ValueError
        If ``n``, ``size`` or ``seed`` is no whole number or out of range.

    Notes
    -----
    Mirroring an image or moving it by a few pixels keeps its class. All is computed in whole
    numbers, so every machine makes the same bytes. Used in *The partition settles early*.

    Examples
    --------
    >>> train, test = colour(100, size=16)
    >>> train
    ImageSet('colour', 100 of 3x16x16, 10 classes)
    >>> len(test), train.classes[:2]
    (25, ('cool disc', 'cool diamond'))
    """
    check_whole(0, seed=seed)
    if not (is_whole(n, 10) and is_whole(size, 8)):
        raise ValueError(f"n is {n} and size {size}: need whole numbers, n >= 10 and size >= 8")
    generator = torch.Generator().manual_seed(seed)
    (x, y), (test_x, test_y) = (_draw(m, size, generator) for m in (n, max(n // 4, 1)))
    numbers = statistics(x)
    train, test = (ImageSet("colour", *p, CLASSES, *numbers) for p in ((x, y), (test_x, test_y)))
    return train, test


def _draw(n: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw n images (n, 3, size, size) uint8 and their labels, all classes alike."""

    def whole(low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from low to high, both included."""
        return torch.randint(low, high + 1, (n, *shape), generator=generator, dtype=torch.int32)

    labels = torch.arange(n)[torch.randperm(n, generator=generator)] % len(CLASSES)
    palette, shape = labels // len(SHAPES), labels % len(SHAPES)
    inside = _inside(shape, size, whole(6 * size, 10 * size, 2), whole(4 * size, 6 * size))
    ground = whole(60, 150, 3)  # any dull colour
    lightness = ground.sum(1) // 3 + whole(30, 70) * (2 * whole(0, 1) - 1)
    tint = PALETTE * (2 * palette - 1)
    paint = lightness[:, None] + tint[:, None] * torch.tensor([1, 0, -1])
    flat = (colours[..., None, None].short() for colours in (paint, ground))  # 2 bytes a number
    picture = torch.where(inside[:, None], *flat)
    for _ in range(4):  # four uniform numbers make a bell, in whole numbers
        picture += whole(-NOISE, NOISE, 3, size, size)
    return picture.clamp_(0, 255).to(torch.uint8), labels


def _inside(shape: Tensor, size: int, center: Tensor, radius: Tensor) -> Tensor:
    """Which pixels (n, size, size) lie in each shape; lengths in sixteenths of a pixel."""
    grid = 16 * torch.arange(size, dtype=torch.int32) + 8
    v = (grid - center[:, :1]).abs()[:, :, None]
    u = (grid - center[:, 1:]).abs()[:, None, :]
    r = radius[:, None, None]
    near, far, square = torch.minimum(u, v), torch.maximum(u, v), u * u + v * v
    masks = (
        square <= r * r,
        8 * (u + v) <= 10 * r,
        (far <= r) & (3 * near <= r),
        (square <= r * r) & (9 * square >= 4 * r * r),
        8 * far <= 7 * r,
    )
    return torch.stack(masks)[shape, torch.arange(len(shape))]
