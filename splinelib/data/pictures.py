"""Images of a folder as its workers see them: listed, decoded, cut to size."""

import os
from copy import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from splinelib.data.decode import rgb
from splinelib.data.images import Rows
from splinelib.data.steps import mixed_seed


class Pictures(Dataset):
    """Decoded and augmented images; what is drawn depends on (seed, epoch, image) alone."""

    def __init__(self, samples: list, size: int, augment: bool, seed: int) -> None:
        # Arrays of bytes: a million Python objects would be copied into each worker bit by bit, as
        # their reference counts change.
        self.paths = np.array([os.fsencode(path) for path, _ in samples])
        self.labels = torch.tensor([label for _, label in samples])
        self.size, self.seed, self.transform = size, seed, transformed(size, augment)

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, rows: Rows, transform=None) -> Self:
        """Some of them, in the order of the rows; with another transform, if one is given."""
        rows = rows if isinstance(rows, slice) else torch.as_tensor(rows).cpu()
        some = copy(self)
        some.labels = self.labels[rows]
        some.paths = self.paths[rows if isinstance(rows, slice) else rows.numpy()]
        some.transform = transform or self.transform
        return some

    def __getitems__(self, keys: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """The images of one batch (b, 3, size, size) uint8 and their labels (b,)."""
        pixels = torch.empty((len(keys), 3, self.size, self.size), dtype=torch.uint8)
        for place, (epoch, index) in enumerate(keys):
            pixels[place] = self._one(epoch, index)
        return pixels, self.labels[[index for _, index in keys]]

    def _one(self, epoch: int, index: int) -> Tensor:
        """One image (3, size, size); the generator that torchvision draws from is put back."""
        path = os.fsdecode(self.paths[index])
        image = rgb(path, path)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: it would seed the GPU's generators too.
            torch.default_generator.manual_seed(mixed_seed(self.seed, epoch, index))
            return self.transform(image)


def transformed(size: int, augment: bool):
    """ImageNet's usual augmentation or evaluation, from a Pillow image to bytes (3, H, W)."""
    from torchvision.transforms import v2  # here, since it takes seconds

    if augment:
        steps = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    else:
        steps = [v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)]
    return v2.Compose([*steps, v2.PILToTensor()])
