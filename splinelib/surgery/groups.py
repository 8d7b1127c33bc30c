"""Which channels of a network stand or fall together, and the mask that removes some of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.masks.mask import shapes, zero_one
from splinelib.ops import unwrapped
from splinelib.surgery.flow import Flow
from splinelib.surgery.streams import gates, inner, joint
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
        Paths of the Linear and Conv2d layers whose output k is channel k, in order of evaluation.
    norms : tuple of str
        Paths of the BatchNorms on the way: scale and shift k belong to channel k. (Behind a
        Flatten, a BatchNorm has one entry for each pixel of a channel, side by side.)
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

    Parameters
    ----------
    net : nn.Module
        The network, see :func:`splinelib.units.units`, in either mode; it stays as it is.
    residual : "inner", "select" or "joint"
        What of a residual network is offered. "inner": channels inside its branches, which go into
        no sum. "select": these, and every BatchNorm that stands at the head of a branch (all
        ``bn1`` of :func:`splinelib.nets.preresnet`, and its last ``bn``), which may do without
        channels of the stream while the stream stays whole: a ``ChannelSelection`` is put in front
        of it. "joint": the inner channels, and each stream as one group, with all layers that write
        it, all BatchNorms on it, and all layers that read it.

    Returns
    -------
    dict of str to Group
        By the name of the group, in order of evaluation: the path of its first writer, or of the
        BatchNorm of a gate.

    Raises
    ------
    ValueError
        An unknown ``residual``, and as :func:`splinelib.units.units`.

    Notes
    -----
    Depthwise convolutions have one filter a channel and pass the channels on, so they are writers
    of the group that they read. What other grouped convolutions read and write is not listed, nor
    are the output, layers that are used in several places, channels that go into a concatenation,
    and those that go through a reshape with its numbers written out: write ``x.flatten(1)``. In a
    network that was cut before, a gate behind a ``ChannelSelection`` has no writers.

    A channel of the stream that no branch selects any more leaves the stream, too. "select" is the
    convention of network slimming (Liu et al. 2017), "inner" and "joint" are those of Torch-Pruning
    (Fang et al. 2023). Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.preresnet(20, width=0.25)
    >>> [len(groups(net, residual)) for residual in ("inner", "select", "joint")]
    [12, 19, 16]
    >>> group = groups(net, "joint")["stage3.0.conv3"]
    >>> group.writers
    ('stage3.0.conv3', 'stage3.0.shortcut', 'stage3.1.conv3')
    >>> group.norms, [reader.layer for reader in group.readers]
    (('stage3.1.bn1', 'bn'), ['stage3.1.conv1', 'classifier'])
    """
    if residual not in get_args(Residual):
        raise ValueError(f"residual is {residual!r}, but must be one of {get_args(Residual)}.")
    flow = Flow(unwrapped(net))
    found = inner(flow)
    if residual == "select":
        found = {**found, **gates(flow, found)}
    if residual == "joint":
        found = {**joint(flow, found), **found}
    order = {op.label: number for number, op in enumerate(flow.ops)}
    listed = sorted(found.values(), key=lambda at: order[at.name])
    return {at.name: Group(*at) for at in listed}


def none_found(net: nn.Module, residual: Residual) -> str:
    """Say why :func:`groups` finds nothing in a network, and what else may find something."""
    told = [f"{type(net).__name__} has no channels that can be removed with residual={residual!r}."]
    summed = [name for name, at in units(net).items() if "it enters a sum" in at.closed]
    if summed and residual != "joint":
        listed = ", ".join(repr(name) for name in summed[:4]) + ", ..." * (len(summed) > 4)
        told.append(f"a sum takes what is written by {listed}, and its channels stay here.")
    others = len(groups(net, "joint"))
    if others:
        told.append(f"But residual='joint' finds {others} group{'s' * (others > 1)}; give that.")
    told.append(
        "What a layer writes must be read by Linear or Conv2d layers alone, and go through no "
        "reshape with its numbers written out (write x.flatten(1)); splinelib.units.units(net) "
        "says, layer by layer, what else stands in the way."
    )
    return " ".join(told)


def group_mask(net: nn.Module, found: Mapping[str, Group], keep: Mapping[str, Tensor]) -> Mask:
    """Build the mask that removes channels of groups.

    Parameters
    ----------
    net : nn.Module
        The network.
    found : mapping of str to Group
        Its groups, as :func:`groups` finds them.
    keep : mapping of str to Tensor (n,)
        By the name of a group: 1 (True) for each of its n channels that is kept, else 0.

    Returns
    -------
    Mask
        Of weights and biases of the writers, and of scales and shifts of the BatchNorms, so that a
        removed channel is 0 all the way; of a gate, of its BatchNorm alone. The weights that read
        the channels are not masked.

    Raises
    ------
    ValueError
        A name that is no group's, a wrong shape, an entry other than 0 or 1, a group of which
        nothing would be kept, a BatchNorm without scale and shift, or a weight that is computed
        from others (a parametrization) or shared with a layer before.

    Notes
    -----
    Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 3, 1])
    >>> mask = group_mask(net, groups(net), {"0": torch.tensor([True, False, True])})
    >>> mask.counts()
    {'0.weight': (4, 6), '0.bias': (2, 3)}
    """
    net = unwrapped(net)
    fitting, entries = shapes(net), {}
    for name, kept in keep.items():
        group, kept = _known(found, name), zero_one(name, kept)
        _check(group, kept)
        for path in group.norms if group.gate else (*group.writers, *group.norms):
            for part in _parts(net, path, fitting, whole=bool(kept.all())):
                row = kept.repeat_interleave(fitting[part][0] // group.width)
                row = row.reshape(-1, *[1] * (len(fitting[part]) - 1)).expand(fitting[part])
                entries[part] = row & entries.get(part, torch.ones_like(row))
    return Mask(entries)


def _known(found: Mapping[str, Group], name: str) -> Group:
    """The group of a name."""
    if name not in found:
        raise ValueError(f"no group is called {name!r}; the groups: {', '.join(found)}.")
    return found[name]


def _check(group: Group, kept: Tensor) -> None:
    """Raise unless there is one entry a channel, and one channel is kept."""
    if kept.shape != (group.width,):
        raise ValueError(
            f"keep[{group.name!r}] has shape {tuple(kept.shape)}, but the group has {group.width} "
            f"channels: give {group.width} entries."
        )
    if not kept.any():
        raise ValueError(
            f"keep[{group.name!r}] keeps none of its {group.width} channels: keep at least one."
        )


def _parts(net: nn.Module, path: str, fitting: Mapping[str, torch.Size], whole: bool) -> list[str]:
    """Names of the parameters of a layer that hold entries for its channels."""
    module = net.get_submodule(path)
    names = {f"{path}.{part}": getattr(module, part) for part in ("weight", "bias")}
    for name, value in names.items():
        if name not in fitting and value is not None:
            raise ValueError(
                f"the channels of '{path}' cannot be masked: {name!r} is no parameter of its own, "
                "but computed from others or shared with a layer before; make it one first (of a "
                "parametrization: torch.nn.utils.parametrize.remove_parametrizations(layer, "
                f"{name.rpartition('.')[2]!r}))."
            )
    if names[f"{path}.weight"] is None and not whole:
        raise ValueError(
            f"the channels of '{path}' cannot be masked: it is a BatchNorm without scale and shift "
            "(affine=False), and puts out a constant where its channel is 0."
        )
    return [name for name in names if name in fitting]
