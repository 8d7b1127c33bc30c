"""Probe sets: the inputs whose codes are watched."""

import torch
from torch import Tensor

from splinelib.data.images import ImageSet, channel_numbers

KINDS = ("cone", "plane")


def held_out(
    images: ImageSet, n: int = 512, generator: torch.Generator | None = None
) -> tuple[Tensor, ImageSet]:
    """Draw training images for probing, and give back the others for training.

    Parameters
    ----------
    images : ImageSet
        The training images.
    n : int
        How many to draw, without replacement.
    generator : torch.Generator, optional
        On the CPU. Default: a fresh one with seed 0.

    Returns
    -------
    (Tensor (n, C, H, W), ImageSet)
        Normalised inputs, not augmented, on the device of the images; and the other images, in
        their order.

    Raises
    ------
    ValueError
        Unless at least one image is drawn and one is left.

    Notes
    -----
    The probe that we recommend: it has the distribution of the training images, and tells nothing
    of the test images. The paper says "a large collection of data points". Taught in *Drawing the
    ticket*.

    Examples
    --------
    >>> from splinelib import data
    >>> probe, rest = held_out(data.load("digits")[0], n=100)
    >>> len(probe)
    100
    """
    if not 0 < n < len(images):
        raise ValueError(f"n is {n}, but of {len(images)} images at least 1 must go and 1 stay.")
    generator = generator or torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator, device="cpu")
    drawn, rest = order[:n].sort().values, order[n:].sort().values
    return images.inputs(drawn), images.subset(rest)


def random_inputs(like: ImageSet, n: int = 512, generator: torch.Generator | None = None) -> Tensor:
    """Draw images of independent uniform pixels, normalised as a data set is.

    Parameters
    ----------
    like : ImageSet
        Gives shape, normalisation and device.
    n : int
        How many.
    generator : torch.Generator, optional
        On the CPU. Default: a fresh one with seed 0.

    Returns
    -------
    Tensor (n, C, H, W), float32

    Raises
    ------
    ValueError
        If n is no positive number.

    Notes
    -----
    Pixels are uniform in [0, 1] before the normalisation, so all lie in the cube that images lie
    in. The paper does not say what the random samples of its Fig. 13 are. Taught in *Drawing
    the ticket*.

    Examples
    --------
    >>> from splinelib import data
    >>> random_inputs(data.load("digits")[0], n=3).shape
    torch.Size([3, 1, 8, 8])
    """
    if n < 1:
        raise ValueError(f"n is {n}, but must be at least 1.")
    generator = generator or torch.Generator().manual_seed(0)
    pixels = torch.rand(n, *like.shape, generator=generator, device="cpu")
    mean, std = (numbers.to(pixels) for numbers in channel_numbers(like))
    return ((pixels - mean) / std).to(like.device)


def canvas(
    x0: Tensor, x1: Tensor, side: int = 100, kind: str = "cone", *, x2: Tensor | None = None
) -> Tensor:
    """Lay a grid of inputs over the part of a plane that two or three inputs span.

    Parameters
    ----------
    x0, x1 : Tensor (...)
        Inputs, each without a batch axis, of one shape.
    side : int, at least 2
        Points a side.
    kind : "cone" or "plane"
        "cone": ``a x0 + b x1``, which has the origin as a corner and ``x0 + x1`` as the opposite
        one: the canvas of the public code. "plane": ``x0 + a (x1 - x0) + b (x2 - x0)``, the
        parallelogram with the corners x0, x1, x2 in the plane through them.
    x2 : Tensor (...), optional
        The third input of a "plane": two inputs alone have no plane but that with the origin.

    Returns
    -------
    Tensor (side * side, ...)
        For a and b on a grid over [0, 1], b running first.

    Raises
    ------
    ValueError
        Inputs of several shapes or of integers, a plane without x2, an unknown kind, a side
        below 2.

    Notes
    -----
    The public code takes x0 and x1 from the test images, normalised, so the origin is the mean
    colour. Most of its cone is not between images. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> x0, x1 = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> canvas(x0, x1, side=2).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> canvas(x0, x1, side=2, kind="plane", x2=torch.zeros(2)).tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [-1.0, 1.0]]
    """
    given = [x0, x1] if x2 is None else [x0, x1, x2]
    if kind not in KINDS or side < 2 or (kind == "plane") == (x2 is None):
        raise ValueError(
            f"kind={kind!r}, side={side}, {len(given)} inputs: a 'cone' takes x0 and x1, a 'plane' "
            "x0, x1 and x2, and the side is at least 2."
        )
    if any(x.shape != x0.shape or not x.is_floating_point() for x in given):
        raise ValueError(
            f"the inputs have shapes {[tuple(x.shape) for x in given]} and types "
            f"{[x.dtype for x in given]}: need one shape, and floating-point numbers."
        )
    line = torch.linspace(0, 1, side, dtype=x0.dtype, device=x0.device)
    a, b = (v.reshape(-1, *[1] * x0.ndim) for v in torch.meshgrid(line, line, indexing="ij"))
    return a * x0 + b * x1 if x2 is None else x0 + a * (x1 - x0) + b * (x2 - x0)
