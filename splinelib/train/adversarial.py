"""Images to start badly from: spoiled copies with random labels."""

from dataclasses import replace

import torch
from torch import Tensor

from splinelib.data.images import ImageSet
from splinelib.train.recipe import whole

ROWS = 1024  # images whose random numbers are drawn at once


def corrupted(
    images: ImageSet,
    copies: int = 1,
    zeroed: float = 0.1,
    generator: torch.Generator | None = None,
) -> ImageSet:
    """Copy each image several times, set some of its values to 0, and draw its label anew.

    Parameters
    ----------
    images : ImageSet
        The training images, n of them.
    copies : int
        R, copies of each image, at least 1.
    zeroed : float, in [0, 1]
        Share of the C * H * W values of each copy that become 0, rounded down: single channels of
        pixels, as in the source's code, not whole pixels.
    generator : torch.Generator, optional
        On the device of the images. Default: a fresh one with seed 0.

    Returns
    -------
    ImageSet
        R * n images, the copies of each next to each other, with labels drawn uniformly.

    Raises
    ------
    ValueError
        ``copies`` or ``zeroed`` out of its range.

    Notes
    -----
    The adversarial initialization of Liu et al. (2019a), "Bad global minima exist and SGD can reach
    them", used in Table 7: a network is trained on these images until it fits them, and its weights
    are where the training proper starts. The source trains with plain SGD, no momentum, weight
    decay or augmentation, batch 128, lr 0.1 divided by 10 at epochs 150 and 250 of 350, and stops
    when 99.99 % of the labels are learnt; its R goes up to 10. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> from splinelib import data
    >>> from splinelib.train import Recipe
    >>> digits, _ = data.load("digits")
    >>> bad = corrupted(digits, copies=2)
    >>> len(bad) == 2 * len(digits)
    True
    >>> recipe = Recipe(epochs=350, batch=128, momentum=0, weight_decay=0, drops=(150, 250))
    """
    if not whole(copies, 1) or not 0 <= zeroed <= 1:
        raise ValueError(
            f"copies={copies}, zeroed={zeroed}: need a whole number >= 1 and a share in [0, 1]"
        )
    device = images.images.device
    generator = generator or torch.Generator(device).manual_seed(0)
    pixels = images.images.repeat_interleave(copies, dim=0).contiguous()
    count = int(zeroed * pixels[0].numel())
    for part in pixels.split(ROWS):
        _zero(part, count, generator)
    labels = torch.randint(len(images.classes), (len(pixels),), generator=generator, device=device)
    name = f"{images.name}-corrupted{copies}"
    return replace(images, name=name, images=pixels, labels=labels)


def _zero(pixels: Tensor, count: int, generator: torch.Generator) -> None:
    """Set ``count`` values of each image to 0, in place; all choices are alike."""
    values = pixels.flatten(1)
    order = torch.rand(values.shape, generator=generator, device=values.device).argsort(1)
    values.scatter_(1, order[:, :count], 0)
