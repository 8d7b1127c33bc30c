"""Soft masks: one number a channel, by which the channel is multiplied while a network trains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from splinelib.ops import Op, unwrapped
from splinelib.surgery.flow import Flow
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

    A mask stands at the end of its group on every path, behind the BatchNorms, which would undo it.
    """
    handles = []
    for name, paths in places(net, found).items():

        def scaled(module, inputs, z, mask=masks[name]):
            return z * _shaped(mask, z.shape[1], z.ndim - 2)

        handles += [net.get_submodule(path).register_forward_hook(scaled) for path in paths]
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
    for name, paths in places(net, found).items():
        for path in paths:
            module = net.get_submodule(path)
            for weight in (module.weight, module.bias):
                if weight is not None:
                    weight *= _shaped(masks[name], len(weight), weight.ndim - 1)


def places(net: nn.Module, found: Groups) -> dict[str, list[str]]:
    """Modules behind which the mask of each group stands, by the name of the group.

    They are the layers and BatchNorms of the group that something outside of it reads, with no
    other one of the group in between: all that leaves the group passes one of them. A channel that
    is read raw and through a BatchNorm has a mask at either place. Raises a ``ValueError`` if one
    of them has no weight to hold a mask.
    """
    net = unwrapped(net)
    flow, placed = Flow(net), {}
    for name, group in found.items():
        inside = {*group.norms} if group.gate else {*group.norms, *group.writers}
        ends = [op.label for op in flow.ops if op.label in inside and _leaves(flow, op, inside)]
        for path in ends:
            if getattr(net.get_submodule(path), "weight", None) is None:
                raise ValueError(
                    f"'{path}' has no weight that could hold the soft masks of {name!r}: take a "
                    "BatchNorm with scale and shift (affine=True)."
                )
        placed[name] = ends
    return placed


def _leaves(flow: Flow, op: Op, inside: set[str]) -> bool:
    """Whether a reader outside takes what an operation puts out, past no other one inside."""
    passing = ("pass_on", "sum", "cat")
    return any(
        _leaves(flow, user, inside) if flow.roles[user.name] in passing else True
        for user in flow.walk.users[op.name]
        if user.label not in inside
    )


def _shaped(mask: Tensor, entries: int, dims: int) -> Tensor:
    """One number an entry, of which a channel may have several side by side, with more axes."""
    return mask.repeat_interleave(entries // len(mask)).reshape(-1, *[1] * dims)
