"""Entering an epoch anywhere: order, steps and shares as functions of seed and epoch."""

import hashlib
import operator
from numbers import Integral

import torch
from torch import Tensor


def mixed_seed(*numbers: int) -> int:
    """Mix whole numbers into one seed: equal numbers give equal seeds, on every machine.

    >>> mixed_seed(0, 1) == mixed_seed(0, 1), mixed_seed(0, 1) == mixed_seed(1, 0)
    (True, False)
    """
    text = "/".join(str(operator.index(number)) for number in numbers)
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
    check_whole(0, epoch=epoch, start=start, rank=rank, world=world)
    if start > steps:
        raise ValueError(
            f"epoch is {epoch} and start {start}: need start from 0 to {steps}, the number of steps"
        )
    if rank >= world:
        raise ValueError(f"rank is {rank} of world {world}: need 0 <= rank < world")


def check_batch(batch: int, seed: int, dtype: torch.dtype) -> None:
    """Raise unless inputs of that type can be cut into batches of that size."""
    check_whole(1, batch=batch)
    check_whole(0, seed=seed)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype is {dtype!r}: need a floating-point type, as torch.float32")


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number, no bool, of at least ``least``.

    >>> is_whole(2, 1), is_whole(2.0, 1), is_whole(True, 1)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def check_whole(least: int, **named: int) -> None:
    """Raise unless each named number is whole and at least ``least``."""
    for name, value in named.items():
        if not is_whole(value, least):
            raise ValueError(f"{name} is {value!r}, but must be a whole number, at least {least}")
