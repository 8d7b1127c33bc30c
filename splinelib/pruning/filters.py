"""The parameters in which each channel of a group has its own row."""

from collections.abc import Iterable

from torch import nn

from splinelib.surgery.groups import Group


def filters(net: nn.Module, group: Group) -> dict[str, nn.Parameter]:
    """Find all parameters that a mask of a group's channels removes rows of.

    Parameters
    ----------
    net : nn.Module
        A network.
    group : Group
        One of its groups, see ``splinelib.surgery.groups``.

    Returns
    -------
    dict of str to nn.Parameter
        By name, weights and biases of the writers, scales and shifts of the BatchNorms; of a gate,
        those of its BatchNorm alone. ``p.reshape(group.width, -1)`` has one row a channel, also
        for a BatchNorm behind a Flatten, which has several entries for each.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.surgery import groups
    >>> net = nets.mlp([2, 3, 1])
    >>> list(filters(net, groups(net)["0"]))
    ['0.weight', '0.bias']
    """
    paths = group.norms if group.gate else (*group.writers, *group.norms)
    found = {f"{p}.{part}": getattr(net.get_submodule(p), part)
             for p in paths for part in ("weight", "bias")}  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def need_trained(method: str, net: nn.Module, names: Iterable[str], way_out: str = "") -> None:
    """Raise a ``ValueError`` that names the first of some parameters that is frozen, if one is."""
    for name in names:
        if not net.get_parameter(name).requires_grad:
            raise ValueError(
                f"{name!r} is frozen (requires_grad=False), but {method} acts by training it: call "
                f"net.get_parameter({name!r}).requires_grad_(True) first{way_out}."
            )
