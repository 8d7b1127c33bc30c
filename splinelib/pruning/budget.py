"""Exact multiply-adds of a pruned network from the widths of its groups, without building it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from torch import nn

from splinelib.cost import layer_macs
from splinelib.surgery.groups import Group

Budget = Literal["units", "macs"]
Widths = Mapping[str, int]


def macs_by_width(
    net: nn.Module, found: Mapping[str, Group], shape: Sequence[int]
) -> Callable[[Widths], int]:
    """Tell what a network costs when only so many channels of each group are left.

    Parameters
    ----------
    net : nn.Module
        The whole network.
    found : mapping of str to Group
        Its groups, see ``surgery.groups``; "inner" or "joint" ones.
    shape : sequence of int
        Shape of one input, without the batch dimension.

    Returns
    -------
    callable
        From the number of channels kept, by name of the group (a group that is left out counts
        whole), to the multiply-adds of the network that surgery would leave, for one input.

    Raises
    ------
    ValueError
        Groups that are selections in front of a BatchNorm: what they save hangs on which channels
        they leave, since one that no selection reads need not be written. When called: a width that
        is not between 1 and that of its group.

    Notes
    -----
    The multiply-adds of a layer are ``pixels * kernel * inputs * outputs``. Each group scales the
    outputs of its writers and the inputs of its readers, so one count of the whole network is
    enough for all candidates of a search, and the numbers stay whole. Taught in *A tour of pruning
    methods*.

    Examples
    --------
    >>> from splinelib import cost, nets
    >>> from splinelib.surgery.groups import groups
    >>> net = nets.mlp([4, 8, 2])
    >>> count = macs_by_width(net, groups(net), (4,))
    >>> count({}), count({"0": 3}), cost.macs(nets.mlp([4, 3, 2]), (4,))
    (48, 18, 18)
    """
    if gates := [name for name, group in found.items() if group.gate]:
        raise ValueError(
            f"{gates[0]!r} is a selection of channels, whose cost is no matter of widths alone: "
            'use residual="inner" or "joint", or budget="units".'
        )
    whole = {name: group.width for name, group in found.items()}
    touched = {name: _touched(group) for name, group in found.items()}
    layers = layer_macs(net, shape)
    scaled = {path: [name for name in found if path in touched[name]] for path in layers}
    parts = {
        path: (macs // math.prod(whole[name] for name in scaled[path]), scaled[path])
        for path, macs in layers.items()
    }

    def count(widths: Widths) -> int:
        _check(widths, whole)
        width = {**whole, **widths}
        return sum(
            unit * math.prod(width[name] for name in names) for unit, names in parts.values()
        )

    return count


def allowed(ratio: float, total: int) -> int:
    """How much of a total may stay when a share goes: ``total - floor(ratio total + 1/2)``."""
    return total - math.floor(ratio * total + 0.5)


def check_budget(budget: str) -> None:
    """Raise a ``ValueError`` unless a budget is known."""
    if budget not in get_args(Budget):
        raise ValueError(f"budget is {budget!r}, but must be one of {get_args(Budget)}.")


def _touched(group: Group) -> set[str]:
    """The layers whose cost depends on the width of a group."""
    return {*group.writers, *(reader.layer for reader in group.readers)}


def _check(widths: Widths, whole: Widths) -> None:
    """Raise unless each width is one that its group can have."""
    for name, width in widths.items():
        if name not in whole or not 1 <= width <= whole[name]:
            raise ValueError(
                f"width {width} of {name!r}: the groups and their widths are {dict(whole)}, and "
                "at least one channel of each stays."
            )
