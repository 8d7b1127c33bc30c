"""Which channels do nothing under a mask: they are zero for every input, or nobody reads them."""

import numpy as np
import torch
from torch import nn

from splinelib.masks import Mask
from splinelib.masks.mask import shapes
from splinelib.ops import Op
from splinelib.surgery.flow import Flow, Value
from splinelib.units.order import NORMS

Flags = dict[str, np.ndarray]


def with_held(net: nn.Module, mask: Mask) -> Mask:
    """A mask together with the masks of torch's own pruning that a network holds."""
    buffers = dict(net.named_buffers())
    held = {name: buffers[f"{name}_mask"] for name in shapes(net) if f"{name}_mask" in buffers}
    return mask & Mask(held)


class Kept:
    """Which entries of a network's weights are 0, by its mask and by torch's own pruning."""

    def __init__(self, net: nn.Module, mask: Mask) -> None:
        self._entries = {n: e.numpy() for n, e in with_held(net, mask).entries.items()}

    def gone(self, op: Op, part: str) -> np.ndarray:
        """Whether each entry of a weight or bias is 0; a bias that a layer does not have, is."""
        if f"{op.label}.{part}" in self._entries:
            return ~self._entries[f"{op.label}.{part}"]
        value = getattr(op.apply, part)
        if value is not None:
            return np.zeros(tuple(value.shape), bool)
        width = op.apply.num_features if isinstance(op.apply, NORMS) else len(op.apply.weight)
        return np.full(width, part == "bias")

    def reads(self, op: Op, source: Value | None, per: int) -> np.ndarray:
        """Whether each output of a layer reads each channel: ``(out, n)``, n = 1 if not known."""
        there = ~self.gone(op, "weight")
        if source is None or not per:
            return there.reshape(len(there), 1, -1).any(2)
        return there.reshape(len(there), len(source.ids), -1).any(2)


def dead_channels(flow: Flow, kept: Kept) -> Flags:
    """Channels that are exactly 0 for every input, by the name of the operation: ``(n,)`` each."""
    dead: Flags = {}
    for op in flow.ops:
        value = flow.values[op.name]
        if value is not None:
            before = [dead.get(name) for name in op.inputs]
            dead[op.name] = _dead(flow, kept, op, value, before)
    return dead


def _dead(flow: Flow, kept: Kept, op: Op, value: Value, before: list) -> np.ndarray:
    """Which channels of one result are 0, from those of what it is computed from."""
    role, sources = flow.roles[op.name], flow.sources(op)
    if role in ("layer", "depthwise"):
        no_bias = kept.gone(op, "bias")
        if role == "depthwise":
            return no_bias & (kept.gone(op, "weight").all((1, 2, 3)) | before[0])
        known = before[0] is not None and flow.per[op.name]
        reads = kept.reads(op, sources[0], flow.per[op.name])
        return no_bias & ~(reads & ~before[0] if known else reads).any(1)
    if role == "norm":
        zero = kept.gone(op, "weight") & kept.gone(op, "bias")
        return zero.reshape(len(value.ids), -1).all(1)
    if role == "select":
        return before[0][op.apply.index.numpy(force=True)]
    if role == "cat":
        alive = [source.ids[~flags] for source, flags in zip(sources, before, strict=True)]
        return ~np.isin(value.ids, np.concatenate(alive))
    return np.logical_and.reduce(before) & _keeps_zero(op, len(sources))


def _keeps_zero(op: Op, count: int) -> bool:
    """Whether an operation makes 0 of 0: a sum with a number does not."""
    if op.function not in ("add", "sub"):
        return True
    zero = torch.zeros(1, 1, dtype=torch.float64)
    return not op.apply(*[zero] * count).any()


def unread_channels(flow: Flow, kept: Kept) -> Flags:
    """Channels that no output of the network depends on, by the name of the operation."""
    unread = {
        op.name: np.full(len(v.ids), op is not flow.ops[-1])
        for op in flow.ops
        if (v := flow.values[op.name]) is not None
    }
    for op in reversed(flow.ops):
        for name, value, flags in _readings(flow, kept, op, unread):
            if value is not None:
                unread[name] &= flags
    return unread


def _readings(flow: Flow, kept: Kept, op: Op, unread: Flags):
    """What an operation takes: name, value, and which channels of it do not matter to it."""
    role, sources, after = flow.roles[op.name], flow.sources(op), unread.get(op.name)
    for name, value in zip(op.inputs, sources, strict=True):
        if value is None or role == "opaque" or (role == "layer" and not flow.per[op.name]):
            yield name, value, np.zeros(1, bool)
        elif role == "layer":
            yield name, value, ~kept.reads(op, value, flow.per[op.name])[~after].any(0)
        elif role == "depthwise":
            yield name, value, kept.gone(op, "weight").all((1, 2, 3)) | after
        elif role == "norm":
            flat = kept.gone(op, "weight").reshape(len(value.ids), -1)
            yield name, value, flat.all(1) | after
        elif role == "select":
            flags = np.ones(len(value.ids), bool)
            np.logical_and.at(flags, op.apply.index.numpy(force=True), after)
            yield name, value, flags
        elif role == "cat":
            read = flow.values[op.name].ids[~after]
            yield name, value, ~np.isin(value.ids, read)
        else:
            yield name, value, after
