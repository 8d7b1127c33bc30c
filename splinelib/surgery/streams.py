"""Channels that go together: inside the branches of a network, on its streams, at its gates."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from splinelib.ops import Op
from splinelib.surgery.flow import Flow
from splinelib.units.order import inputs
from splinelib.units.walk import Reader


class Found(NamedTuple):
    """What a ``Group`` is made of, in its order."""

    name: str
    width: int
    writers: tuple[str, ...]
    norms: tuple[str, ...]
    readers: tuple[Reader, ...]
    gate: bool = False


def inner(flow: Flow) -> dict[str, Found]:
    """Groups of channels that go into no sum: closed units, chains of depthwise convolutions."""
    closed = {path for path, at in flow.walk.units().items() if not at.closed}
    streams = joint(flow, {})
    chained = {n for n, at in streams.items() if len(at.writers) > 1 and _is_chain(flow, at)}
    alone = {n for n, at in streams.items() if n in closed and at.writers == (n,)}
    return {name: at for name, at in streams.items() if name in chained | alone}


def joint(flow: Flow, found: Mapping[str, Found]) -> dict[str, Found]:
    """All groups of channels that can go from a network together, but for those found already."""
    spaces = _Spaces(flow)
    made = (spaces.found(first) for first in spaces.whole)
    return {at.name: at for at in made if at.writers and at.name not in found}


def gates(flow: Flow, found: Mapping[str, Found]) -> dict[str, Found]:
    """Each BatchNorm that reads a residual stream, and is read channel by channel."""
    inside, gated = {path for at in found.values() for path in at.norms}, {}
    for op in flow.ops:
        if flow.roles[op.name] == "norm" and op.label not in inside and _reads_stream(flow, op):
            width = inputs(op.apply)
            readers = flow.walk.ends(op, width)
            if all(isinstance(reader, Reader) for reader in readers):
                writers = _upstream(flow, op)
                gated[op.label] = Found(op.label, width, writers, (op.label,), tuple(readers), True)
    return gated


class _Spaces:
    """Channels by the spaces in which they go together, BatchNorms included."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.space = flow, flow.spaces(norms=True)
        self.orders: dict[int, np.ndarray] = {}  # by the first of its spaces, those of a value
        self.at: dict[str, int] = {}
        spoilt = set(self.space[flow.pinned()].tolist())
        for op in flow.ops:
            if flow.values[op.name] is not None:
                spoilt |= self._enter(op)
        owners = np.bincount(np.concatenate([np.zeros(0, int), *self.orders.values()]))
        self.whole = [
            first
            for first, order in self.orders.items()
            if (owners[order] == 1).all() and spoilt.isdisjoint(order.tolist())
        ]

    def _enter(self, op: Op) -> set[int]:
        """Note the channels of a value; those that cannot be taken one by one are returned."""
        order = self.space[self.flow.values[op.name].ids]
        first = self.at[op.name] = int(order[0])
        known = self.orders.setdefault(first, order)
        selected = self.flow.sources(op) if self.flow.roles[op.name] == "select" else []
        spoilt = {number for value in selected for number in self.space[value.ids].tolist()}
        if not np.array_equal(known, order) or selected:
            spoilt |= {*known.tolist(), *order.tolist()}
        return spoilt

    def found(self, first: int) -> Found:
        """The group of a space."""
        flow = self.flow
        inside = [op for op in flow.ops if self.at.get(op.name) == first]
        writers = [op.label for op in inside if flow.roles[op.name] in ("layer", "depthwise")]
        norms = [op.label for op in inside if flow.roles[op.name] == "norm"]
        readers = [
            Reader(op.label, flow.per[op.name], flow.sources(op)[0].through)
            for op in flow.ops
            if flow.roles[op.name] == "layer" and self.at.get(op.inputs[0]) == first
        ]
        name, width = next(iter(writers), ""), len(self.orders[first])
        return Found(name, width, tuple(writers), tuple(norms), tuple(readers))


def _is_chain(flow: Flow, at: Found) -> bool:
    """Whether all writers but the first are depthwise, and nothing branches off between them."""
    first, *others = (op for op in flow.ops if op.label in at.writers)
    if any(flow.roles[op.name] != "depthwise" for op in others):
        return False
    between = [first, *_between(flow, first)]
    return all(
        flow.roles[op.name] != "sum" and (len(flow.walk.users[op.name]) == 1 or _all_read(flow, op))
        for op in between
    )


def _between(flow: Flow, first: Op) -> list[Op]:
    """What stands between a layer and the layers that read it."""
    found, front = {}, [first]
    while front:
        for user in flow.walk.users[front.pop().name]:
            if user.name not in found and flow.roles[user.name] not in ("layer", "opaque"):
                found[user.name] = user
                front.append(user)
    return list(found.values())


def _all_read(flow: Flow, op: Op) -> bool:
    """Whether all that take a value are layers that make new channels of it."""
    return all(flow.roles[user.name] == "layer" for user in flow.walk.users[op.name])


def _reads_stream(flow: Flow, norm: Op) -> bool:
    """Whether a BatchNorm reads a sum, or a value that others read, too."""
    by_name = {op.name: op for op in flow.ops}
    read = by_name[norm.inputs[0]]
    while True:
        if len(flow.walk.users[read.name]) > 1 or flow.roles[read.name] == "sum":
            return True
        if flow.roles[read.name] not in ("pass_on", "select"):
            return False
        read = by_name[read.inputs[0]]


def _upstream(flow: Flow, norm: Op) -> tuple[str, ...]:
    """The layers whose outputs a BatchNorm reads, summed up; none behind a selection."""
    by_name, seen, front = {op.name: op for op in flow.ops}, {}, list(norm.inputs)
    while front:
        op = by_name[front.pop()]
        role = flow.roles[op.name]
        if op.name in seen:
            continue
        seen[op.name] = role
        if role in ("select", "cat", "opaque"):
            return ()
        front += op.inputs if role in ("sum", "pass_on", "norm") else ()
    return tuple(op.label for op in flow.ops if seen.get(op.name) in ("layer", "depthwise"))
