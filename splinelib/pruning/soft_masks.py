"""Soft masks: one number a channel, by which the channel is multiplied while a network trains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from splinelib.surgery.groups import Group

Groups = Mapping[str, Group]
Masks = dict[str, Tensor]


def ones(net: nn.Module, found: Groups) -> Masks:
    """Soft masks of all channels, 1 each: ``(n,)`` by the name of a group, to be trained."""
    like = next(net.parameters())
    options = {"dtype": like.dtype, "device": like.device, "requires_grad": True}
    return {name: torch.ones(group.width, **options) for name, group in found.items()}


@contextmanager
def masked(net: nn.Module, found: Groups, masks: Masks) -> Iterator[None]:
    """Multiply channels by their soft masks while the context is open.

    A mask stands at the end of its group, behind the BatchNorms, which would undo it.
    """
    handles = []
    for name, group in found.items():

        def scaled(module, inputs, z, mask=masks[name]):
            return z * _shaped(mask, z.shape[1], z.ndim - 2)

        handles += [net.get_submodule(p).register_forward_hook(scaled) for p in _places(group)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def fold(net: nn.Module, found: Groups, masks: Masks) -> None:
    """Multiply the soft masks into the weights, in place: the network does what it did with them.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.surgery import groups
    >>> net = nets.by_hand(([[3, 4], [1, 0]], [5, 6]), ([[1, 1]], [0]))
    >>> fold(net, groups(net), {"0": torch.tensor([1.0, 0.5])})
    >>> net[0].weight.tolist(), net[0].bias.tolist()
    ([[3.0, 4.0], [0.5, 0.0]], [5.0, 3.0])
    """
    for name, group in found.items():
        for path in _places(group):
            module = net.get_submodule(path)
            for weight in (module.weight, module.bias):
                if weight is not None:
                    weight *= _shaped(masks[name], len(weight), weight.ndim - 1)


def _places(group: Group) -> tuple[str, ...]:
    """Modules whose output k is channel k, at the end of its group."""
    return group.norms or group.writers


def _shaped(mask: Tensor, entries: int, dims: int) -> Tensor:
    """One number an entry, of which a channel may have several side by side, with more axes."""
    return mask.repeat_interleave(entries // len(mask)).reshape(-1, *[1] * dims)
