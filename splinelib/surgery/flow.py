"""The channels of every value of a network, and which of them are the same channel."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from splinelib.ops import SUMS, Op
from splinelib.selection import ChannelSelection
from splinelib.units.order import (
    IMAGES,
    LAYERS,
    NORMS,
    fills,
    inputs,
    is_a,
    makes_rows,
    narrows,
    settled,
)
from splinelib.units.walk import PASSING, Walk, evaluating, refuse_bare

MAKING = ("layer", "depthwise", "norm", "select")  # operations that are cut


@dataclass(frozen=True)
class Value:
    """The channels of one result in the network.

    Attributes
    ----------
    ids : array (n,)
        The number of each channel; two results with the same number have the same channel.
    image : bool
        Whether the result that ``through`` starts from has pixels.
    per : int
        How many entries of that result one channel fills, side by side.
    through : tuple of Op
        What has been done since, channel by channel.
    """

    ids: np.ndarray
    image: bool
    per: int = 1
    through: tuple[Op, ...] = ()


class Flow:
    """A network read as channels: who makes them, who passes them on, who takes them as inputs.

    Linear and Conv2d make new channels. A BatchNorm and a ChannelSelection do, too: what they put
    out may be removed while the stream that they read stays. Activations, pooling, reshapes and
    depthwise convolutions pass channels on; sums make the channels of both sides one, and
    concatenations lay them side by side. What an operation of any other kind reads, and the output
    of the network, is pinned: no such channel can go.

    ``values[name]`` is None for the input, and for results whose channels are not known.
    """

    def __init__(self, net: nn.Module) -> None:
        refuse_bare(net)
        self.walk = Walk(evaluating(net))
        self.ops = self.walk.ops
        self._refuse_conv1d()
        self.values: dict[str, Value | None] = {}
        self.roles: dict[str, str] = {}
        self.per: dict[str, int] = {}  # entries that a channel fills for a reader; 0: not known
        self.count = 0
        self._pinned: list[np.ndarray] = []
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for op in self.ops:
            self.roles[op.name] = self._role(op)
            self.values[op.name] = getattr(self, f"_{self.roles[op.name]}")(op, self.sources(op))
            if self.values[op.name] is None:
                self.roles[op.name] = "opaque"
                self._pin(*self.sources(op))
            if op.spied:
                self._pin(self.values[op.name])
        self._pin(self.values[self.ops[-1].name])

    def _refuse_conv1d(self) -> None:
        """Raise for a Conv1d, which is read as a piecewise affine map, and not cut."""
        for op in self.ops:
            if is_a(op, (nn.Conv1d,)):
                raise ValueError(
                    f"'{op.label}' is a Conv1d, whose channels are not followed; Linear and Conv2d "
                    "are: make it a Conv2d, with a kernel (1, k) on inputs (B, C, 1, L)."
                )

    def sources(self, op: Op) -> list[Value | None]:
        """The values that an operation takes."""
        return [self.values[name] for name in op.inputs]

    def spaces(self, norms: bool = False) -> np.ndarray:
        """The number of each channel's space ``(count,)``: channels of a space go together.

        With ``norms``, what a BatchNorm puts out is in the space of what it reads.
        """
        coupled = [op for op in self.ops if norms and self.roles[op.name] == "norm"]
        pairs = [(np.zeros(0, int),) * 2, *self._pairs]
        pairs += [(self.sources(op)[0].ids, self.values[op.name].ids) for op in coupled]
        a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
        graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(self.count, self.count))
        return connected_components(graph, directed=False)[1]

    def pinned(self) -> np.ndarray:
        """Numbers of the channels that cannot go."""
        return np.concatenate([np.zeros(0, int), *self._pinned])

    def _role(self, op: Op) -> str:
        """What an operation does to channels."""
        if op.kind == "input" or self.walk.shared(op):
            return "opaque"
        if is_a(op, LAYERS):
            groups = getattr(op.apply, "groups", 1)
            alone = groups == inputs(op.apply) == len(op.apply.weight)
            return "layer" if groups == 1 else "depthwise" if alone else "opaque"
        if op.kind in ("sign", "max"):
            return "pass_on"
        kinds = {"norm": NORMS, "select": (ChannelSelection,), "sum": SUMS, "cat": ("cat",)}
        kinds |= {"pass_on": PASSING}
        return next((role for role, kind in kinds.items() if is_a(op, kind)), "opaque")

    def _pin(self, *values: Value | None) -> None:
        self._pinned += [value.ids for value in values if value is not None]

    def _new(self, width: int, image: bool, per: int = 1) -> Value:
        """A value with channels of its own."""
        self.count += width
        return Value(np.arange(self.count - width, self.count), image, per)

    def _read(self, op: Op, value: Value | None) -> int:
        """How many of its inputs a channel fills for a reader; 0 if they do not lie that way."""
        if value is None or not len(value.ids):
            return 0
        read = (value.image, value.through, op.apply, len(value.ids) * value.per)
        return value.per * fills(*read) if narrows(*read, value.per) else 0

    def _opaque(self, _op: Op, _sources: list[Value | None]) -> None:
        """What is not known to keep channels apart."""

    def _pass_on(self, op: Op, sources: list[Value | None]) -> Value | None:
        value = sources[0] if len(sources) == 1 else None
        return value and replace(value, through=(*value.through, op))

    def _layer(self, op: Op, sources: list[Value | None]) -> Value | None:
        if not op.apply.weight.numel():
            raise ValueError(f"'{op.label}' has no weight at all; take layers without units out.")
        self.per[op.name] = self._read(op, sources[0])
        image, value = isinstance(op.apply, IMAGES), sources[0]
        if value is not None and not self.per[op.name]:  # its own channels are still its own
            self._pin(value)
            read = (value.image, value.through, inputs(op.apply), len(value.ids) * value.per)
            if not image and not makes_rows(*read):
                return None
        return self._new(len(op.apply.weight), image)

    def _depthwise(self, op: Op, sources: list[Value | None]) -> Value | None:
        fits = self._read(op, sources[0]) == 1
        return Value(sources[0].ids, True) if fits else None

    def _norm(self, op: Op, sources: list[Value | None]) -> Value | None:
        self.per[op.name] = per = self._read(op, sources[0])
        return self._new(len(sources[0].ids), isinstance(op.apply, IMAGES), per) if per else None

    def _select(self, op: Op, sources: list[Value | None]) -> Value | None:
        (value,), width = _plain(sources) or [None], len(op.apply.index)
        fits = value and value.per == 1 and int(op.apply.index.max()) < len(value.ids)
        return self._new(width, value.image) if fits else None

    def _sum(self, _op: Op, sources: list[Value | None]) -> Value | None:
        values = _plain(sources)
        if not values or len({(len(v.ids), v.image, v.per) for v in values}) > 1:
            return None
        self._pairs += [(values[0].ids, value.ids) for value in values[1:]]
        return values[0]

    def _cat(self, op: Op, sources: list[Value | None]) -> Value | None:
        values = _plain(sources)
        if not values or len({(v.image, v.per) for v in values} | {(values[0].image, 1)}) > 1:
            return None
        pixels = (3, 5) if values[0].image else ()
        laid = [torch.from_numpy(v.ids).reshape(1, -1, *[1] * len(pixels)) for v in values]
        try:  # the numbers themselves tell how they are laid side by side
            out = op.apply(*(ids.expand(2, -1, *pixels) for ids in laid))
        except (RuntimeError, IndexError):
            return None
        ids = out.flatten(2)[0, :, 0] if pixels else out[0]
        even = out.shape == (2, len(ids), *pixels)
        return Value(ids.numpy().copy(), values[0].image) if even else None


def _plain(values: list[Value | None]) -> list[Value] | None:
    """Values whose channels are one entry of the second axis each; None if one of them is not."""
    for v in values:
        if v is None or not all(
            settled(v.image, v.through, width * v.per)
            for width in (len(v.ids), max(1, len(v.ids) - 1))  # no reshape by fixed numbers
        ):
            return None
    return [replace(value, through=()) for value in values]
