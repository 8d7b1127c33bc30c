"""A labelled set of images as a value: bytes, labels, names, and what normalises them."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

Rows = slice | Tensor | Sequence[int]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A set of images with one label each, small enough to stay on one device.

    Attributes
    ----------
    name : str
        What a result calls it: "cifar10", "digits", ....
    images : Tensor (n, C, H, W) uint8
        Values 0 to 255. One byte each keeps all of CIFAR-10 in 184 MB of a GPU's memory.
    labels : Tensor (n,) int64
        Rows of ``classes``, on the device of the images.
    classes : tuple of str
        The classes' names; a class may have no image here.
    mean, std : tuple of float
        One number a channel, of values in [0, 1] (bytes over 255): what :meth:`inputs` normalises
        with. Train and test set share the training set's numbers.

    Raises
    ------
    ValueError
        Tensors of other types or shapes, a label without a class, two classes of one name, another
        number of means or deviations than of channels, a mean that is not finite, or a deviation
        that is not positive.

    Notes
    -----
    Used in *The partition settles early* and *Drawing the ticket*.

    Examples
    --------
    >>> images = torch.tensor([[[[0, 255]]], [[[51, 102]]]], dtype=torch.uint8)
    >>> two = ImageSet("two", images, torch.tensor([1, 0]), ("a", "b"), (0.5,), (0.5,))
    >>> len(two), two.shape, two.inputs([0]).tolist()
    (2, (1, 1, 2), [[[[-1.0, 1.0]]]])
    >>> two.subset([1]).name
    'two-1of2'
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))  # one fingerprint
        _check_tensors(self)
        _check_numbers(self)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        sizes = "x".join(map(str, self.shape))
        return f"ImageSet({self.name!r}, {len(self)} of {sizes}, {len(self.classes)} classes)"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        return tuple(self.images.shape[1:])

    @property
    def device(self) -> torch.device:
        """The device that holds images and labels."""
        return self.images.device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of sizes, classes, labels and pixels, in hexadecimal.

        It is the same on every device, and names nothing else: neither the name of the set nor the
        numbers that normalise it.
        """
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        digest.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        for part in self.images.split(4096):  # no second copy of the whole set
            digest.update(part.contiguous().cpu().numpy())
        return digest.hexdigest()

    def subset(self, rows: Rows, name: str | None = None) -> Self:
        """Keep some images, in the order of ``rows``.

        Parameters
        ----------
        rows : slice, list of int, or Tensor of int or bool
            What to keep, as in ``images[rows]``.
        name : str, optional
            Default: the name with how many are kept, such as "cifar10-512of50000", so that no
            result of a part passes for one of the whole.
        """
        rows = self._on_device(rows)
        images = self.images[rows]
        name = f"{self.name}-{len(images)}of{len(self)}" if name is None else name
        return replace(self, name=name, images=images, labels=self.labels[rows])

    def to(self, device: torch.device | str) -> Self:
        """Copy images and labels to a device; the set itself where they are there already."""
        images, labels = self.images.to(device), self.labels.to(device)
        if images is self.images:
            return self
        moved = replace(self, images=images, labels=labels)
        if "fingerprint" in vars(self):  # what was hashed once stays valid
            vars(moved)["fingerprint"] = self.fingerprint
        return moved

    def inputs(self, rows: Rows = slice(None), dtype: torch.dtype = torch.float32) -> Tensor:
        """Inputs of a network: ``(value / 255 - mean) / std``.

        Parameters
        ----------
        rows : slice, list of int, or Tensor of int or bool
            Which images; default: all.
        dtype : torch.dtype
            Floating-point type of the result.

        Returns
        -------
        Tensor (b, C, H, W)
            On the device of the images.
        """
        mean, std = channel_numbers(self)
        return normalise(self.images[self._on_device(rows)], mean, std, dtype)

    def _on_device(self, rows: Rows) -> slice | Tensor:
        """Rows as something that indexes tensors of this device along their first axis."""
        if isinstance(rows, slice):
            return rows
        rows = torch.as_tensor(rows, device=self.device)
        rows = rows if rows.numel() else rows.long()  # an empty list has no type of its own
        if rows.ndim != 1 or rows.is_floating_point():
            raise ValueError(
                f"rows has shape {tuple(rows.shape)} and type {rows.dtype}; give a slice, a list "
                "of row numbers or a mask of one bool an image"
            )
        return rows


def normalise(pixels: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn bytes into a network's inputs, ``(pixels / 255 - mean) / std``.

    Parameters
    ----------
    pixels : Tensor (..., C, H, W) uint8
    mean, std : Tensor (C, 1, 1)
        Of values in [0, 1], on the device of the pixels.
    dtype : torch.dtype
        Floating-point type of the result. Half precision is rounded once, at the end.

    Returns
    -------
    Tensor (..., C, H, W)

    Notes
    -----
    The same operations in the same order as torchvision's ``ToTensor`` and ``Normalize``, so that
    float32 results on a CPU agree to the last bit.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}, but inputs need a floating-point type")
    work = torch.float64 if dtype == torch.float64 else torch.float32
    values = pixels.to(work).div_(255).sub_(mean.to(work)).div_(std.to(work))
    return values.to(dtype)


def channel_numbers(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a set as tensors (C, 1, 1) float64 on its device."""
    numbers = torch.tensor([images.mean, images.std], dtype=torch.float64)
    mean, std = numbers[:, :, None, None].to(images.device)
    return mean, std


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, of values in [0, 1].

    Parameters
    ----------
    images : Tensor (n, C, H, W) uint8

    Returns
    -------
    mean, std : tuple of C floats
        Rounded to 4 decimals, as they are printed everywhere. A constant channel has std 1, so that
        dividing by it changes nothing.

    Examples
    --------
    >>> statistics(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    ((0.5,), (0.5,))
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        # Counting the 256 values is exact and needs no floating-point copy of the images.
        share = torch.bincount(channel.flatten(), minlength=256).cpu().double() / channel.numel()
        mean = (share * values).sum()
        means.append(round(mean.item(), 4))
        stds.append(round((share * (values - mean) ** 2).sum().sqrt().item(), 4) or 1.0)
    return tuple(means), tuple(stds)


def _check_tensors(images: ImageSet) -> None:
    """Raise unless images and labels belong together."""
    x, y = images.images, images.labels
    if x.dtype != torch.uint8 or x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(
            f"images are {x.dtype} of shape {tuple(x.shape)}; give uint8 of shape (n, C, H, W)"
        )
    if y.dtype != torch.int64 or y.shape != x.shape[:1] or y.device != x.device:
        raise ValueError(
            f"labels are {y.dtype} of shape {tuple(y.shape)} on {y.device}, for {len(x)} images on "
            f"{x.device}; give int64, one an image, on the same device"
        )
    if len(y) and not (y.min() >= 0 and y.max() < len(images.classes)):
        raise ValueError(
            f"labels run from {y.min()} to {y.max()}, but there are {len(images.classes)} classes: "
            "a label is a row of classes, from 0"
        )
    if len(set(images.classes)) < len(images.classes):
        raise ValueError(f"classes are {images.classes}, two of one name: give each its own")


def _check_numbers(images: ImageSet) -> None:
    """Raise unless there is one mean and one positive deviation a channel."""
    channels = images.images.shape[1]
    sizes_fit = len(images.mean) == len(images.std) == channels
    finite = all(map(math.isfinite, (*images.mean, *images.std)))
    if not (sizes_fit and finite and min(images.std) > 0):
        raise ValueError(
            f"mean is {images.mean} and std {images.std}; give {channels} numbers each, one a "
            "channel, finite, and std above 0"
        )
