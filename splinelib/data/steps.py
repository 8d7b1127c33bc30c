"""Entering an epoch anywhere: order, steps and shares as functions of seed and epoch."""

import hashlib

import torch
from torch import Tensor


def mixed_seed(*numbers: int) -> int:
    """Mix whole numbers into one seed: equal numbers give equal seeds, on every machine.

    >>> mixed_seed(0, 1) == mixed_seed(0, 1), mixed_seed(0, 1) == mixed_seed(1, 0)
    (True, False)
    """
    text = "/".join(str(int(number)) for number in numbers)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def ordered(n: int, shuffle: bool, generator: torch.Generator) -> Tensor:
    """Rows 0 to n - 1 in the order of one epoch (n,).

    >>> ordered(3, False, torch.Generator())
    tensor([0, 1, 2])
    """
    return torch.randperm(n, generator=generator) if shuffle else torch.arange(n)


def shares(rows: Tensor, batch: int, start: int, rank: int, world: int) -> list[Tensor]:
    """Cut an epoch's rows (..., n) into steps, and keep one process's part of each from a start on.

    >>> [part.tolist() for part in shares(torch.arange(10), 4, start=1, rank=1, world=2)]
    [[6, 7], [9]]
    """
    steps = rows.split(batch, dim=-1)[start:]
    return [step.tensor_split(world, dim=-1)[rank] for step in steps]


def check_place(steps: int, epoch: int, start: int, rank: int, world: int) -> None:
    """Raise unless an epoch of ``steps`` steps can be entered there by that process."""
    if epoch < 0 or not 0 <= start <= steps:
        raise ValueError(
            f"epoch is {epoch} and start {start}: need epoch >= 0 and start from 0 to {steps}, "
            "the number of steps"
        )
    if not 0 <= rank < world:
        raise ValueError(f"rank is {rank} of world {world}: need 0 <= rank < world")


def check_batch(batch: int, dtype: torch.dtype) -> None:
    """Raise unless inputs of that type can be cut into batches of that size."""
    if batch < 1 or not dtype.is_floating_point:
        raise ValueError(
            f"batch is {batch} and dtype {dtype}: need a batch of at least 1 and a floating-point "
            "type"
        )
