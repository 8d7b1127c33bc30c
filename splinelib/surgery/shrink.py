"""A smaller copy of a network, by a plan."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from splinelib.folding import working_copy
from splinelib.ops import unwrapped
from splinelib.selection import ChannelSelection
from splinelib.surgery.plan import Plan
from splinelib.units.order import LAYERS, NORMS, inputs


def shrink(net: nn.Module, plan: Plan) -> nn.Module:
    """Cut a copy of a network by a plan.

    Parameters
    ----------
    net : nn.Module
        A network of the shape that the plan was made for: the trained one, or the same one as it
        was at the start (rewinding), or drawn anew. It stays as it is.
    plan : Plan
        What each layer keeps.

    Returns
    -------
    nn.Module
        The smaller copy: weights, biases, running statistics and counters of what is kept, of the
        same type, on the same device, frozen where they were frozen, each module in its own mode.
        Layers that lose nothing are as they were. Where a BatchNorm keeps less than it is offered,
        ``Sequential(select=ChannelSelection, norm=BatchNorm)`` takes its place. Masks of
        ``torch.nn.utils.prune`` are made permanent.

    Raises
    ------
    ValueError
        A plan of another network, weights that are computed from others (a parametrization, a
        hook), NaN or infinity.

    Notes
    -----
    The outputs are those of ``net`` only if what goes is zero in it: :func:`cut` masks it first.
    Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets, surgery
    >>> from splinelib.masks import unit_mask
    >>> start = nets.mlp([2, 3, 1])
    >>> mask = unit_mask(start, {"0": torch.tensor([True, False, True])})
    >>> small = shrink(start, surgery.plan(start, mask))
    >>> small[0].weight.shape, torch.equal(small[0].weight, start[0].weight[[0, 2]])
    (torch.Size([2, 2]), True)
    """
    net = unwrapped(net)
    check_whole(net, plan)
    small, kept, read = working_copy(net), plan.kept, plan.read
    with torch.no_grad():
        for path, (out, into) in plan.sizes.items():
            if len(kept[path]) < out or len(read[path]) < into:
                _cut(small, path, kept[path], read[path])
    return small


def size_of(module: nn.Module) -> tuple[int, int | None] | None:
    """Numbers of outputs and inputs of a layer; None for inputs that it does not fix."""
    if isinstance(module, ChannelSelection):
        return len(module.index), None
    if isinstance(module, NORMS):
        return module.num_features, module.num_features
    return (len(module.weight), inputs(module)) if isinstance(module, LAYERS) else None


def check_whole(net: nn.Module, plan: Plan) -> None:
    """Raise unless a network has the sizes that a plan was made for."""
    for path, size in plan.sizes.items():
        _check(net, path, size)


def check_small(net: nn.Module, plan: Plan) -> None:
    """Raise unless a network has the sizes that a plan leaves."""
    for path, kept in plan.kept.items():
        read = len(plan.read[path])
        norm = len(kept) < read and f"{path}.norm" in dict(net.named_modules())
        _check(net, *((f"{path}.norm", (len(kept),) * 2) if norm else (path, (len(kept), read))))


def _check(net: nn.Module, path: str, size: tuple[int, int]) -> None:
    """Raise unless a plan fits a layer."""
    try:
        found = size_of(net.get_submodule(path))
    except AttributeError:
        found = None
    if found is None or found not in (size, (size[0], None)):
        told = f"has {found[0]} outputs and {found[1]} inputs" if found else "is no layer"
        raise ValueError(
            f"the plan is not of this network: '{path}' {told} in it, but {size[0]} and {size[1]} "
            "in the plan. Give a network of the shape that the plan was made for."
        )


def _cut(net: nn.Module, path: str, kept: Tensor, read: Tensor) -> None:
    """Cut one layer, in place."""
    module = net.get_submodule(path)
    if isinstance(module, ChannelSelection):
        index = module.index.cpu()[kept]
        module.index = torch.searchsorted(read, index).to(module.index.device)
    elif isinstance(module, NORMS):
        _cut_norm(module, kept)
        if len(kept) < len(read):
            _select(net, path, torch.searchsorted(read, kept))
    else:
        _cut_layer(module, kept, read)


def _cut_layer(module: nn.Linear | nn.Conv2d, kept: Tensor, read: Tensor) -> None:
    """Cut outputs and inputs of a Linear or Conv2d, in place; depthwise ones lose groups."""
    depthwise = getattr(module, "groups", 1) > 1
    weight = module.weight[kept.to(module.weight.device)]
    weight = weight if depthwise else weight[:, read.to(weight.device)]
    module.weight = _parameter(weight, module.weight)
    if module.bias is not None:
        module.bias = _parameter(module.bias[kept.to(module.bias.device)], module.bias)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = len(kept), len(read)
    else:
        module.out_channels, module.in_channels = len(kept), len(read)
        module.groups = len(kept) if depthwise else 1


def _cut_norm(module: nn.Module, kept: Tensor) -> None:
    """Cut the channels of a BatchNorm, in place."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, _parameter(parameter[kept.to(parameter.device)], parameter))
    for name in ("running_mean", "running_var"):
        value = getattr(module, name)
        setattr(module, name, value[kept.to(value.device)].clone())
    module.num_features = len(kept)


def _parameter(values: Tensor, old: nn.Parameter) -> nn.Parameter:
    """A parameter in place of another: with its layout in memory, trained if that one is."""
    last = old.ndim == 4 and old.is_contiguous(memory_format=torch.channels_last)
    both = last and not old.is_contiguous()
    values = values.contiguous(
        memory_format=torch.channels_last if both else torch.contiguous_format
    )
    return nn.Parameter(values.clone(), requires_grad=old.requires_grad)


def _select(net: nn.Module, path: str, index: Tensor) -> None:
    """Put a selection of channels in front of a BatchNorm, in place."""
    parent, _, name = path.rpartition(".")
    norm = net.get_submodule(path)
    select = ChannelSelection(index).to(next(iter(norm.buffers())).device)
    both = nn.Sequential(OrderedDict(select=select, norm=norm))
    for module in (both, select):  # not by train(), which would go into the BatchNorm
        module.training = norm.training
    setattr(net.get_submodule(parent), name, both)
