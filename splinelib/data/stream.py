"""Batches of a folder that fits into no memory: decoded by worker processes, ready on a device."""

import hashlib
import os
from collections.abc import Iterator
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from splinelib.data.archives import stem
from splinelib.data.images import Rows, channel_numbers, normalise
from splinelib.data.pictures import Pictures, transformed
from splinelib.data.steps import check_batch, check_place, check_whole, mixed_seed, ordered, shares
from splinelib.data.tree import tree

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as everybody takes them


class Stream:
    """Epochs of batches from ``root/split/<class>/*``, decoded while the network trains.

    Parameters
    ----------
    root : path
        Folder with one folder a split, such as ImageNet's ``train`` and ``val``;
        ``torchvision.datasets.ImageNet`` makes them from the official archives and tests their
        checksums.
    split : str
        Which of them.
    batch : int
        Images a step, of all processes together, at least 1. A smaller last batch is kept.
    size : int
        Side of the square inputs.
    augment : bool
        ImageNet's training augmentation, ``RandomResizedCrop(size)`` and ``RandomHorizontalFlip()``
        of torchvision; else its evaluation, ``Resize(size * 256 / 224)`` and ``CenterCrop(size)``.
    seed : int
        With epoch and image it fixes order, crop and flip.
    workers : int, optional
        Processes that decode, kept from epoch to epoch; 0 decodes in this one. Default: this
        process's share of the cores, at most 16. The batches do not depend on it.
    device : torch.device or str
        Where the batches end. Bytes travel, from pinned memory without a wait; they are normalised
        there (ImageNet's mean and standard deviation).
    dtype, channels_last, shuffle
        As in :class:`splinelib.data.Batches`.
    name : str, optional
        Default: the name of ``root``.

    Attributes
    ----------
    steps, images : int
        Batches and images an epoch.
    batch, name, shape, classes
        As in :class:`splinelib.data.Batches`.
    mean, std : tuple of float
        ImageNet's, what the inputs are normalised with.

    Raises
    ------
    ValueError
        A missing folder, one without classes or with an empty class, classes that differ from those
        of ``root/train``, or a setting out of range. While it runs: a file that is no image.

    Notes
    -----
    Only one epoch of a stream runs at a time. Used in *Drawing the ticket*.

    Examples
    --------
    >>> Stream("nowhere", "train")
    Traceback (most recent call last):
    ValueError: nowhere/train is no folder; need one with a folder of images for each class
    """

    def __init__(
        self,
        root: str | os.PathLike,
        split: str = "train",
        batch: int = 256,
        *,
        size: int = 224,
        augment: bool = True,
        seed: int = 0,
        workers: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        shuffle: bool = True,
        name: str | None = None,
    ) -> None:
        check_batch(batch, seed, dtype)
        check_whole(1, size=size)
        check_whole(0, workers=0 if workers is None else workers)
        self._folder = Path(root) / split
        listed = tree(Path(root), split)
        self.name, self.classes = name or stem(root), tuple(listed.classes)
        self.batch, self.shape, self.seed = batch, (3, size, size), seed
        self.augment, self.shuffle, self._workers = augment, shuffle, workers
        self.device, self.dtype, self.channels_last = torch.device(device), dtype, channels_last
        self.mean, self.std = MEAN, STD
        self._mean, self._std = channel_numbers(self)
        self._over(Pictures(listed.samples, size, augment, seed))

    def _over(self, pictures: Pictures) -> None:
        """Go through these pictures, with workers of its own."""
        self._pictures, self._plan, self._turn = pictures, _Plan(), 0
        self.images, self.steps = len(pictures), -(-len(pictures) // self.batch)
        self._loader = _loader(pictures, self._plan, self._workers, self.device)

    def __len__(self) -> int:
        return self.images

    @property
    def labels(self) -> Tensor:
        """Rows of ``classes``, in the order of the folder, on the device of the batches."""
        return self._pictures.labels.to(self.device)

    def subset(self, rows: Rows, name: str | None = None) -> Self:
        """Stream some of the images alone; as :meth:`splinelib.data.ImageSet.subset`."""
        part = copy(self)
        vars(part).pop("fingerprint", None)
        part._over(self._pictures.part(rows))
        part.name = f"{self.name}-{len(part)}of{len(self)}" if name is None else name
        return part

    def inputs(self, rows: Rows = slice(None)) -> Tensor:
        """Inputs of a network, not augmented; as :meth:`splinelib.data.ImageSet.inputs`."""
        part = copy(self)
        part.shuffle = False
        part._over(self._pictures.part(rows, transformed(self.shape[1], augment=False)))
        x = torch.empty(len(part), *self.shape, dtype=self.dtype, device=self.device)
        for number, (batch, _) in enumerate(part.epoch(0)):
            x[number * self.batch :][: len(batch)] = batch
        return x

    @cached_property
    def fingerprint(self) -> str:
        """``"names+sizes:"`` and the SHA-256 of all files' names and sizes in bytes.

        Not of their content, which would have to be read whole: a file that was changed but kept
        its size goes unnoticed.
        """
        digest = hashlib.sha256()
        for path in self._pictures.paths:
            path = Path(os.fsdecode(path))
            relative = path.relative_to(self._folder).as_posix()
            digest.update(f"{relative}\0{path.stat().st_size}\n".encode(errors="surrogateescape"))
        return f"names+sizes:{digest.hexdigest()}"

    def epoch(
        self, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch, or this process's share of each.

        Parameters, yields and errors are those of :meth:`splinelib.data.Batches.epoch`; steps
        before ``start`` are not decoded.
        """
        check_place(self.steps, epoch, start, rank, world)
        return self._run(epoch, start, rank, world)

    def _run(self, epoch: int, start: int, rank: int, world: int) -> Iterator:
        """Decode, send and normalise one epoch's batches."""
        self._turn = turn = self._turn + 1
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        order = ordered(self.images, self.shuffle, generator)
        self._plan.epoch = epoch
        self._plan.parts = shares(order, self.batch, start, rank, world)
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        for pixels, labels in self._loader:
            self._check_turn(turn)
            pixels = pixels.to(self.device, non_blocking=True)
            x = normalise(pixels, self._mean, self._std, self.dtype)
            yield x.contiguous(memory_format=form), labels.to(self.device, non_blocking=True)
        self._check_turn(turn)

    def _check_turn(self, turn: int) -> None:
        """Raise where another epoch has taken the workers: this one would miss its batches."""
        if turn != self._turn:
            raise ValueError("another epoch of this stream has begun; make a stream for each")


class _Plan:
    """What the loader asks its workers for: the rows of each batch to come, in one epoch."""

    def __init__(self) -> None:
        self.epoch, self.parts = 0, []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for rows in self.parts:
            yield [(self.epoch, row) for row in rows.tolist()]

    def __len__(self) -> int:
        return len(self.parts)


def _as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Batches are put together where they are decoded."""
    return batch


def _loader(pictures: Pictures, plan: _Plan, workers: int | None, device) -> DataLoader:
    """Torch's loader of a plan, with a generator of its own: it would draw from the global one."""
    if workers is None:
        has_share = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if has_share else os.cpu_count() or 1
        workers = min(16, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return DataLoader(
        pictures,
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )
