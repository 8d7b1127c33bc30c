"""Batches of a set that lives on its device, with crop and flip done there."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from splinelib.data.images import ImageSet, channel_numbers, normalise
from splinelib.data.steps import check_batch, check_place, is_whole, mixed_seed, ordered, shares

AUGMENTATIONS = (None, "crop", "crop-flip")
BLOCK = 2**25  # bytes of normalised inputs that are made at once, 10 batches of CIFAR


class Batches:
    """Epochs of batches from an :class:`ImageSet`, made on the device that holds it.

    Parameters
    ----------
    images : ImageSet
        The set. Where it lies, the batches are made.
    batch : int
        Images a step, of all processes together, at least 1. A smaller last batch is kept.
    augment : None, "crop" or "crop-flip"
        "crop" moves each image by up to ``pad`` pixels along each axis, all ``(2 pad + 1)^2``
        moves alike, and fills what comes in with black; "crop-flip" mirrors half of them too.
    pad : int
        How far a crop moves, at least 0.
    seed : int
        With ``epoch`` it fixes order, moves and flips.
    dtype : torch.dtype
        Floating-point type of the inputs.
    channels_last : bool
        Give the inputs in ``torch.channels_last`` memory format.
    shuffle : bool
        Draw a new order for each epoch. With False the set's own order is kept; an accuracy does
        not depend on it.

    Attributes
    ----------
    steps : int
        Batches an epoch.
    images : int
        Images an epoch.
    set, batch, name, shape, classes, fingerprint
        The set, the size of a batch, and what the set says of itself.

    Raises
    ------
    ValueError
        An empty set, or a setting out of range.

    Notes
    -----
    The distribution is that of torchvision's ``RandomCrop(H, padding=pad)`` and
    ``RandomHorizontalFlip()``, before normalisation: the recipe of the paper's public code. All
    that an epoch draws comes from one CPU generator, seeded by (seed, epoch) alone: an epoch can be
    entered at any step, every device sees the same batches, and only the drawn numbers travel, once
    an epoch. Used in *Drawing the ticket*.

    Examples
    --------
    >>> from splinelib import data
    >>> train, test = data.load("digits")
    >>> batches = Batches(train, batch=500)
    >>> batches.steps, [len(y) for x, y in batches.epoch(0)]
    (3, [500, 500, 442])
    >>> x, y = next(batches.epoch(0, start=2))
    >>> x.shape, x.dtype
    (torch.Size([442, 1, 8, 8]), torch.float32)
    """

    def __init__(
        self,
        images: ImageSet,
        batch: int = 256,
        *,
        augment: str | None = None,
        pad: int = 4,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        shuffle: bool = True,
    ) -> None:
        check_batch(batch, seed, dtype)
        _check_settings(images, augment, pad)
        self.set, self.batch, self.augment, self.pad = images, batch, augment, pad
        self.seed, self.dtype, self.channels_last = seed, dtype, channels_last
        self.shuffle = shuffle
        self.images, self.steps = len(images), -(-len(images) // batch)
        self._mean, self._std = channel_numbers(images)

    @property
    def name(self) -> str:
        """The set's name."""
        return self.set.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one input, (C, H, W)."""
        return self.set.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return self.set.classes

    @property
    def fingerprint(self) -> str:
        """The set's fingerprint."""
        return self.set.fingerprint

    def epoch(
        self, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch, or this process's share of each.

        Parameters
        ----------
        epoch : int
            Which epoch, from 0.
        start : int
            First step to yield: exactly what the whole epoch yields from there on.
        rank, world : int
            Which process of how many. Each gets one contiguous part of every global batch
            (``torch.tensor_split``), so that all parts together are the batch of one process,
            augmentation included. The last parts of a batch smaller than ``world`` are empty.

        Yields
        ------
        x : Tensor (b, C, H, W)
            Normalised inputs.
        y : Tensor (b,) int64
            Labels.

        Raises
        ------
        ValueError
            An epoch, step or rank out of range.
        """
        check_place(self.steps, epoch, start, rank, world)
        return self._blocks(epoch, start, rank, world)

    def _blocks(self, epoch: int, start: int, rank: int, world: int) -> Iterator:
        """Make the inputs of several steps at once, since a GPU pays for each call."""
        parts = shares(self._draws(epoch), self.batch, start, rank, world)
        block = max(1, BLOCK // (4 * self.set.images[0].numel() * self.batch))
        for first in range(0, len(parts), block):
            block_parts = parts[first : first + block]
            sizes = [part.shape[1] for part in block_parts]
            rows, *moves = torch.cat(block_parts, dim=1)
            x, y = self._inputs(rows, *moves), self.set.labels[rows]
            yield from zip(x.split(sizes), y.split(sizes), strict=True)

    def _draws(self, epoch: int) -> Tensor:
        """Rows in order (1, n), and where they are augmented (4, n): with top, left, flip."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        n = self.images
        draws = [ordered(n, self.shuffle, generator)]
        if self.augment:
            corners = torch.randint(2 * self.pad + 1, (2, n), generator=generator)
            flips = torch.randint(2, (n,), generator=generator)
            draws += [*corners, flips if self.augment == "crop-flip" else torch.zeros_like(flips)]
        drawn = torch.stack(draws)
        if self.set.device.type != "cuda":
            return drawn.to(self.set.device)
        return drawn.pin_memory().to(self.set.device, non_blocking=True)

    def _inputs(self, rows: Tensor, *moves: Tensor) -> Tensor:
        """Gather, augment and normalise some rows."""
        pixels = self.set.images[rows]
        if moves:
            pixels = cropped(pixels, self.pad, *moves)
        x = normalise(pixels, self._mean, self._std, self.dtype)
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        return x.contiguous(memory_format=form)


def cropped(images: Tensor, pad: int, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Pad with zeros, cut a window of the old size out of each image, and mirror some of them.

    Parameters
    ----------
    images : Tensor (b, C, H, W)
    pad : int
        Zeros on each side.
    top, left : Tensor (b,) int64, in 0, ..., 2 pad
        Corner of each window in the padded image.
    flip : Tensor (b,), 0 or 1
        Whether a window is mirrored, left to right.

    Returns
    -------
    Tensor (b, C, H, W)
        In ``torch.channels_last`` memory format.

    Notes
    -----
    What torchvision does one image at a time, ``pad``, ``crop``, ``hflip``, without a loop.

    Examples
    --------
    >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
    >>> zero, one = torch.tensor([0]), torch.tensor([1])
    >>> cropped(image, 1, top=one, left=zero, flip=zero)[0, 0].tolist()
    [[0, 1], [0, 3]]
    >>> cropped(image, 1, top=one, left=zero, flip=one)[0, 0].tolist()
    [[1, 0], [3, 0]]
    """
    b, _, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad))
    lines = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(b, width)
    columns = torch.where(flip.bool()[:, None], width - 1 - columns, columns)
    y = (top[:, None] + lines)[:, :, None]
    x = (left[:, None] + columns)[:, None, :]
    image = torch.arange(b, device=images.device)[:, None, None]
    return padded[image, :, y, x].permute(0, 3, 1, 2)  # indexed axes come first: (b, H, W, C)


def _check_settings(images: ImageSet, augment: str | None, pad: int) -> None:
    """Raise unless batches can be made of the set."""
    if len(images) == 0:
        raise ValueError(f"{images.name!r} holds no image; batches need at least one")
    if augment not in AUGMENTATIONS or not is_whole(pad, 0):
        raise ValueError(
            f"augment is {augment!r} and pad {pad}, but augment must be None, 'crop' or "
            "'crop-flip', and pad a whole number, at least 0"
        )
