"""Which channels of a network stand or fall together, and the mask that removes some of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.masks.mask import shapes, zero_one
from splinelib.units.walk import Reader, units

Residual = Literal["inner", "select", "joint"]


@dataclass(frozen=True)
class Group:
    """Channels of which the k-th ones are removed together.

    Attributes
    ----------
    name : str
        Path of the layer, or of the BatchNorm, that the group is called after.
    width : int
        Number of channels.
    writers : tuple of str
        Paths of the Linear and Conv2d layers whose output k is channel k.
    norms : tuple of str
        Paths of the BatchNorms on the way, one entry of scale and shift a channel.
    readers : tuple of Reader
        The layers that take the channels as inputs, see :class:`splinelib.units.Reader`.
    gate : bool
        Whether the group is a selection in front of one BatchNorm: then the stream behind it stays
        whole for all others, nothing is masked but the BatchNorm, and ``writers`` only tells who
        wrote what is selected from.
    """

    name: str
    width: int
    writers: tuple[str, ...]
    norms: tuple[str, ...]
    readers: tuple[Reader, ...]
    gate: bool = False


def groups(net: nn.Module, residual: Residual = "inner") -> dict[str, Group]:
    """Find the groups of channels that can be removed from a network.

    (first form by the lead: "inner" alone; "select" and "joint" to come)
    """
    if residual not in get_args(Residual):
        raise ValueError(f"residual is {residual!r}, but must be one of {get_args(Residual)}.")
    return {
        layer: Group(layer, at.width, (layer,), (at.norm,) if at.norm else (), at.readers)
        for layer, at in units(net).items()
        if not at.closed
    }


def group_mask(net: nn.Module, found: Mapping[str, Group], keep: Mapping[str, Tensor]) -> Mask:
    """Build the mask that removes channels of groups.

    ``keep`` has, by the name of a group, ``(n,)`` entries, True for each channel that is kept.
    """
    fitting, entries = shapes(net), {}
    for name, kept in keep.items():
        group, kept = found[name], zero_one(name, kept)
        paths = group.norms if group.gate else (*group.writers, *group.norms)
        for path in paths:
            for part in (f"{path}.weight", f"{path}.bias"):
                if part in fitting:
                    ones = [1] * (len(fitting[part]) - 1)
                    row = kept.reshape(-1, *ones).expand(fitting[part])
                    entries[part] = row & entries.get(part, torch.ones_like(row))
    return Mask(entries)
