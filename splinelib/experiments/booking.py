"""Exact operations of what is not plain training: frozen layers, hyper-networks, scores."""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from splinelib import cost
from splinelib.cost.macs import weightless


class Parts(NamedTuple):
    """Multiply-adds of a forward pass, and which of them training does three times.

    Those of layers that are ``trained`` and that stand ``still`` are for one image; those of a
    ``batch`` are done once, however many images it has.
    """

    trained: int
    still: int
    batch: int


def parts(net: nn.Module, shape: Sequence[int]) -> Parts:
    """Tell what a training of a network costs.

    Parameters
    ----------
    net : nn.Module
    shape : sequence of int
        Of one input, ``(C, H, W)``.

    Returns
    -------
    Parts
        Layers stand still if they come before the first one that is trained: nothing has to go
        back through them. What a batch costs is what a hyper-network makes: weights.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = net[0].requires_grad_(False)
    >>> parts(net, (4,))
    Parts(trained=16, still=32, batch=0)
    """
    layers = cost.layer_macs(net, shape)
    batch = 2 * sum(layers.values()) - _macs(net, shape, 2)
    frozen = {path for path, module in net.named_modules() if _frozen(module)}
    still = sum(macs for _, macs in takewhile(lambda at: at[0] in frozen, layers.items()))
    return Parts(sum(layers.values()) - still - batch, still, batch)


def _frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of its own, and none is trained."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def _macs(net: nn.Module, shape: Sequence[int], images: int) -> int:
    """Multiply-adds of one forward pass of several images."""
    kind = next(net.parameters()).dtype
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        weightless(net)(torch.empty(images, *shape, dtype=kind, device="meta"))
    return counter.get_total_flops() // 2


class Counting(TorchDispatchMode):
    """Add up the operations of all convolutions and matrix products inside, forward and backward.

    The formulas are those of torch's own counter, without the bookkeeping by module, which takes
    longer than the small networks that are counted here.

    Examples
    --------
    >>> with Counting() as counted:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> counted.flops
    48
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func._overloadpacket not in flop_registry:
            with self:  # there, an operation comes whole, and what it consists of has to be asked
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.flops += int(flop_registry[func._overloadpacket](*args, **kwargs, out_val=out))
        return out
