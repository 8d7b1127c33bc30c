"""Where the units of a network stand: their layer, BatchNorm, activation, and who reads them."""

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from splinelib.ops import Op, trace

LAYERS = (nn.Linear, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
SHAPING = (nn.Flatten, nn.Unflatten, "flatten", "view", "reshape", "mean")
PASSING = (  # what keeps the units apart
    *NORMS, *SHAPING, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Dropout, nn.Dropout2d,
    nn.ZeroPad2d, "leaky_relu", "avg_pool2d", "adaptive_avg_pool2d", "mul", "truediv", "div", "neg",
)  # fmt: skip
OUTPUT = "it is the output of the network"
SHARED = "its weights are used in several places"
SUMS = ("add", "sub", "iadd", "isub")


@dataclass(frozen=True)
class Reader:
    """A Linear or Conv2d that takes the units of a layer as its inputs.

    Attributes
    ----------
    layer : str
        Its path, as in ``net.named_modules()``.
    positions : int
        How many inputs one unit fills: 1, or the pixels of a feature map laid flat in front of a
        Linear. Unit ``k``, from 0, fills inputs ``k * positions`` to ``(k + 1) * positions - 1``.
    through : tuple of Op
        What stands between the units (behind their BatchNorm) and the reader, in order.
    """

    layer: str
    positions: int
    through: tuple[Op, ...] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Units:
    """The units of one Linear or Conv2d: its outputs or output channels.

    Attributes
    ----------
    layer : str
        Path of the Linear or Conv2d, as in ``net.named_modules()``.
    width : int
        Number of units.
    norm : str or None
        Path of the BatchNorm directly behind the layer.
    alpha : float or None
        Leakiness of the activation behind; None if the units stay as they are up to the readers.
    readers : tuple of Reader
        The layers that take the units as inputs.
    closed : str
        Empty if all that leaves the units goes into the readers, unit by unit, and nothing is
        shared with another place of the network; else the reason in words.
    """

    layer: str
    width: int
    norm: str | None
    alpha: float | None
    readers: tuple[Reader, ...]
    closed: str


class Rows(NamedTuple):
    """Slopes ``W (n, d)`` and offsets ``b (n,)`` of the n units of a layer, float64."""

    W: Tensor
    b: Tensor


def units(net: nn.Module) -> dict[str, Units]:
    """Find the units of every Linear and Conv2d of a network.

    Parameters
    ----------
    net : nn.Module
        Built of the operations listed in ``splinelib.ops``, in training or evaluation mode.

    Returns
    -------
    dict of str to Units
        By the path of the layer, in order of evaluation. A layer that is used several times is
        listed once.

    Raises
    ------
    ValueError
        For a bare layer, an operation that is not supported, a network that cannot be traced.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> from splinelib import nets
    >>> found = units(nets.convnet(batch_norm=True))
    >>> list(found)
    ['0', '4', '9']
    >>> found["4"].width, found["4"].norm, found["4"].alpha, found["4"].readers
    (8, '5', 0.0, (Reader(layer='9', positions=4),))
    >>> found["9"].closed
    'it is the output of the network'
    >>> units(nets.residual_mlp(2, 8, blocks=1, out=1))["0"].closed
    'it enters a sum'
    """
    if isinstance(net, LAYERS):
        raise ValueError(f"the network is a bare {type(net).__name__}; wrap it: nn.Sequential(...)")
    return _Walk(evaluating(net)).units()


def rows(net: nn.Module, layer: str | Units, bias: str = "folded") -> Rows:
    """Read slope vector and offset of each unit of a layer.

    Parameters
    ----------
    net : nn.Module
        The network, see :func:`units`; BatchNorm counts with its running statistics in either mode.
    layer : str or Units
        Path of the layer, or its entry of ``units(net)`` (faster: the network is not traced anew).
    bias : "folded", "beta" or "none"
        "folded": BatchNorm is folded into both. "beta": the weights as they are, and for offset the
        shift of BatchNorm (the layer's own bias where there is no BatchNorm). "none": the weights
        as they are, offset 0.

    Returns
    -------
    Rows
        ``W (n, d)`` and ``b (n,)``, float64, on the network's device, without gradients. For a
        Conv2d, d counts the pixels of one patch, ``in_channels * height * width`` of the kernel; a
        grouped convolution has zeros at the channels that a unit does not see.

    Raises
    ------
    ValueError
        An unknown layer or ``bias``.

    Notes
    -----
    With BatchNorm, ``w = gamma / sqrt(var + eps) w'`` and ``b = beta + gamma (b' - mu) /
    sqrt(var + eps)`` (*From layer to CPA map*). The paper does not say what the offset of Eq. 6 is
    behind a BatchNorm: "beta" and "none" are the other readings. Taught in *Redundant units*.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1, eps=0.0))
    >>> _ = net[1].running_var.fill_(4.0)
    >>> bool((2 * rows(net, "0").W == rows(net, "0", bias="none").W).all())
    True
    """
    if bias not in ("folded", "beta", "none"):
        raise ValueError(f"bias is {bias!r}, but must be 'folded', 'beta' or 'none'")
    found = layer if isinstance(layer, Units) else find(net, layer)
    module = net.get_submodule(found.layer)
    W = _slopes(module)
    own = current(module, "bias")
    b = (
        torch.zeros_like(W[:, 0])
        if own is None or bias == "none"
        else own.to(torch.float64, copy=True)
    )
    if found.norm is None or bias == "none":
        return Rows(W, b)
    norm = net.get_submodule(found.norm)
    scale, shift = norm_map(norm)
    if bias == "folded":
        return Rows(scale[:, None] * W, scale * b + shift)
    beta = current(norm, "bias")
    return Rows(W, torch.zeros_like(b) if beta is None else beta.to(torch.float64, copy=True))


def find(net: nn.Module, layer: str) -> Units:
    """The units of one layer; a ``ValueError`` that lists all layers if there is none such."""
    found = units(net)
    if layer not in found:
        raise ValueError(f"the network has no layer {layer!r}; its layers: {', '.join(found)}")
    return found[layer]


def current(module: nn.Module, name: str) -> Tensor | None:
    """A weight as the next forward pass uses it, detached: times its mask, if torch prunes it."""
    if hasattr(module, f"{name}_orig"):
        value = getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask")
    else:
        value = getattr(module, name)
    return None if value is None else value.detach()


def norm_map(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale ``(n,)`` and shift ``(n,)`` of a BatchNorm in evaluation mode, float64."""
    gamma, beta = current(norm, "weight"), current(norm, "bias")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if gamma is None else gamma.double() * scale
    shift = -scale * norm.running_mean.double()
    return scale, shift if beta is None else beta.double() + shift


def evaluating(net: nn.Module) -> nn.Module:
    """The network in evaluation mode: itself, or a copy that shares all its tensors."""
    if not any(module.training for module in net.modules()):
        return net
    tensors = [*net.parameters(), *net.buffers()]
    tensors += [t for m in net.modules() for t in vars(m).values() if isinstance(t, Tensor)]
    return copy.deepcopy(net, {id(t): t for t in tensors}).eval()


def call(op: Op) -> str:
    """What an operation is called: the path of its module, or its function."""
    return op.label or op.name.rstrip("0123456789_")


def _slopes(module: nn.Module) -> Tensor:
    weight = current(module, "weight").to(torch.float64, copy=True)
    groups = getattr(module, "groups", 1)
    if groups == 1:
        return weight.flatten(1)
    n, seen = weight.shape[:2]
    wide = weight.new_zeros(groups, n // groups, groups, seen, *weight.shape[2:])
    group = torch.arange(groups, device=weight.device)
    wide[group, :, group] = weight.unflatten(0, (groups, n // groups))
    return wide.reshape(n, -1)


def is_a(op: Op, kinds: tuple) -> bool:
    """Whether an operation is a module of one of the types, or calls one of the functions."""
    if op.label:
        return isinstance(op.apply, tuple(kind for kind in kinds if isinstance(kind, type)))
    return call(op) in kinds


class _Walk:
    """The operations of a network, followed from each layer to whatever reads it."""

    def __init__(self, net: nn.Module) -> None:
        self.ops = trace(net)
        self.users: dict[str, list[Op]] = {op.name: [] for op in self.ops}
        for op in self.ops:
            for name in op.inputs:
                self.users[name].append(op)
        self.uses = Counter(self._identity(op) for op in self.ops)

    def units(self) -> dict[str, Units]:
        layers = {}
        for op in self.ops:
            if is_a(op, LAYERS):
                layers.setdefault(op.label, op)
        return {label: self._units(op) for label, op in layers.items()}

    def _identity(self, op: Op) -> int:
        """Equal for two operations that use the same weights."""
        weight = getattr(op.apply, "weight", None)
        return id(op.apply if weight is None else weight)

    def _shared(self, op: Op) -> bool:
        return self.uses[self._identity(op)] > 1

    def _units(self, op: Op) -> Units:
        width = len(op.apply.weight)
        norm = self._norm(op, width)
        paths = list(self._paths(norm or op))
        ends = [self._end(op, through, end, width) for through, end in paths]
        reasons = [end for end in ends if isinstance(end, str)]
        if self._shared(op) or (norm and self._shared(norm)):
            reasons.append(SHARED)
        bends = [[step.alpha for step in through if step.kind == "sign"] for through, _ in paths]
        if not reasons and any(len(bend) > 1 or bend != bends[0] for bend in bends):
            reasons.append("it goes through different activations")
        return Units(
            layer=op.label,
            width=width,
            norm=norm.label if norm else None,
            alpha=next((bend[0] for bend in bends if bend), None),
            readers=tuple(end for end in ends if isinstance(end, Reader)),
            closed="; ".join(dict.fromkeys(reasons)),
        )

    def _norm(self, op: Op, width: int) -> Op | None:
        """The BatchNorm directly behind a layer, if nothing else takes the layer's result."""
        if len(self.users[op.name]) != 1 or op is self.ops[-1]:
            return None
        (user,) = self.users[op.name]
        return user if is_a(user, NORMS) and user.apply.num_features == width else None

    def _paths(self, op: Op, through: tuple[Op, ...] = ()) -> Iterator[tuple]:
        """All ways from a value to an operation that mixes units; to None at the output."""
        if op is self.ops[-1]:
            yield through, None
        for user in self.users[op.name]:
            slope_one = user.label and not isinstance(user.apply, nn.Module)  # a LeakyReLU
            if user.kind in ("sign", "max") or slope_one or is_a(user, PASSING):
                yield from self._paths(user, (*through, user))
            else:
                yield through, user

    def _end(self, op: Op, through: tuple[Op, ...], end: Op | None, width: int) -> Reader | str:
        """What stands at the end of a path: a reader, or the reason why there is none."""
        if end is None:
            return OUTPUT
        if is_a(end, SUMS):
            return "it enters a sum"
        if not is_a(end, LAYERS):
            return f"it goes through '{call(end)}'"
        if self._shared(end):
            return f"'{end.label}', which reads it, is used in several places"
        if getattr(end.apply, "groups", 1) > 1:
            return f"it is read by the grouped convolution '{end.label}'"
        positions = self._positions(op.apply, through, end.apply, width)
        if not positions:
            return f"'{end.label}' does not read it unit by unit"
        return Reader(end.label, positions, through)

    def _positions(self, layer, through, reader, width: int) -> int:
        """How many inputs of its reader a unit fills; 0 if the order is not unit by unit."""
        image = isinstance(layer, nn.Conv2d)
        shaping = [op for op in through if is_a(op, SHAPING)]
        if any(op.apply.num_features % width for op in through if is_a(op, NORMS)):
            return 0
        if isinstance(reader, nn.Conv2d):
            return int(image and not shaping and reader.in_channels == width)
        count = reader.in_features // width if image else 1
        if count * width != reader.in_features or (image and not shaping):
            return 0
        numbers = torch.arange(width, dtype=torch.float64)
        z = numbers.reshape(1, width, 1, 1).expand(1, width, count, 1) if image else numbers[None]
        try:
            for op in shaping:
                z = op.apply(z)
        except (RuntimeError, ValueError, IndexError):
            return 0
        return count if torch.equal(z, numbers.repeat_interleave(count)[None]) else 0
