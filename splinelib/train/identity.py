"""What makes a run this run and no other, so that a checkpoint of another one is told apart."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict

import torch
from torch import Tensor, nn


def identity(net, source, recipe, test, watchers, first_epoch) -> dict[str, object]:
    """What makes a training this one: a flat dict of numbers and texts."""
    return {
        **{f"recipe.{name}": value for name, value in asdict(recipe).items()},
        **of_images(source),
        "test.fingerprint": test.fingerprint if test is not None else None,
        **of_network(net),
        "watchers": watchers.names,
        "until": watchers.ending,
        "first_epoch": first_epoch,
    }


def of_images(source: object) -> dict[str, object]:
    """What makes the batches of a source these: its images, and how they are drawn."""
    names = ("fingerprint", "batch", "augment", "pad", "size", "seed", "shuffle")
    images = getattr(source, "set", source)
    return {
        **{f"images.{name}": getattr(source, name, None) for name in names},
        **{f"images.{name}": str(getattr(images, name, None)) for name in ("mean", "std")},
    }


def of_network(net: nn.Module) -> dict[str, object]:
    """What makes a network this one: its layers, its numbers, and how many of them are trained."""
    return {
        "network.parameters": sum(p.numel() for p in net.parameters()),
        "network.trained": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "network.layers": hashlib.sha256(repr(net).encode()).hexdigest()[:16],
        "network.start": digest(net.state_dict().items()),
    }


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A text that differs for tensors that differ in a name, a shape, a type or a number.

    >>> digest([("a", torch.zeros(2))]) == digest([("a", torch.zeros(2, 1))])
    False
    """
    found = hashlib.sha256()
    for name, tensor in tensors:
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:16]
