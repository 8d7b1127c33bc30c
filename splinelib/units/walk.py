"""The operations of a network, followed from each layer to whatever reads it."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from splinelib.ops import SCALINGS, SUMS, Op, trace
from splinelib.units.order import LAYERS, NORMS, POOLING, SHAPING, is_a, positions

PASSING = (  # what keeps the units apart
    *NORMS, *SHAPING, *POOLING, *SCALINGS, nn.Identity, nn.Dropout, nn.Dropout2d, nn.ZeroPad2d,
)  # fmt: skip
OUTPUT = "it is the output of the network"
SHARED = "its weights are used in several places"


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


def units(net: nn.Module) -> dict[str, Units]:
    """Find the units of every Linear and Conv2d of a network.

    Parameters
    ----------
    net : nn.Module
        Built of the operations listed in ``splinelib.ops``, in training or evaluation mode. The
        inputs of a Linear are taken to be ``(B, features)``, those of a Conv2d ``(B, C, H, W)``: a
        trace shows no shapes.

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
    refuse_bare(net)
    return Walk(evaluating(net)).units()


def find(net: nn.Module, layer: str) -> Units:
    """The units of one layer; a ``ValueError`` that lists all layers if there is none such."""
    found = units(net)
    return found[known(found, [layer])[0]]


def known(found: Mapping[str, Units], layers: Iterable[str]) -> list[str]:
    """The paths that are given; a ``ValueError`` if one of them is none of the layers found."""
    if isinstance(layers, str):
        raise ValueError(f"layers is the text {layers!r}; give a list of paths: [{layers!r}].")
    layers = list(layers)
    for layer in layers:
        if layer not in found:
            raise ValueError(f"the network has no layer {layer!r}; its layers: {', '.join(found)}.")
    return layers


def refuse_bare(net: nn.Module) -> None:
    """Raise a ``ValueError`` for a bare layer, which has no path."""
    if isinstance(net, (*LAYERS, *NORMS)):
        raise ValueError(
            f"the network is a bare {type(net).__name__}; wrap it: nn.Sequential(...)."
        )


def evaluating(net: nn.Module) -> nn.Module:
    """The network in evaluation mode: itself, or a copy that shares all its tensors."""
    if not any(module.training for module in net.modules()):
        return net
    tensors = [*net.parameters(), *net.buffers()]
    tensors += [t for m in net.modules() for t in vars(m).values() if isinstance(t, Tensor)]
    return copy.deepcopy(net, {id(t): t for t in tensors}).eval()


def call(op: Op) -> str:
    """What an operation is called: the path of its module, or its function."""
    return op.label or op.function


class Walk:
    """The operations of a network in evaluation mode, who uses each, and how often each tensor."""

    def __init__(self, net: nn.Module) -> None:
        self.ops = trace(net)
        self.users: dict[str, list[Op]] = {op.name: [] for op in self.ops}
        for op in self.ops:
            for name in op.inputs:
                self.users[name].append(op)
        self.uses = Counter(number for op in self.ops for number in _tensors(op))

    def units(self) -> dict[str, Units]:
        """The units of each layer, by its path; a layer used twice counts where it is first."""
        layers = {}
        for op in self.ops:
            if is_a(op, LAYERS):
                layers.setdefault(op.label, op)
        return {label: self._units(op) for label, op in layers.items()}

    def shared(self, op: Op) -> bool:
        """Whether a weight, bias or statistic of an operation is used anywhere else."""
        return any(self.uses[number] > 1 for number in _tensors(op))

    def _units(self, op: Op) -> Units:
        """The units of the layer that an operation stands for: what is behind, who reads them."""
        width = len(op.apply.weight)
        norm = self._norm(op, width)
        paths = list(self._paths(norm or op))
        ends = [self._end(op, through, end, width) for through, end in paths]
        reasons = [end for end in ends if isinstance(end, str)]
        if self.shared(op) or (norm and self.shared(norm)):
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

    def ends(self, op: Op, width: int) -> list[Reader | str]:
        """Who reads the channels of a layer's or a BatchNorm's result; or why nobody does."""
        return [self._end(op, through, end, width) for through, end in self._paths(op)]

    def _norm(self, op: Op, width: int) -> Op | None:
        """The BatchNorm directly behind a layer, if nothing else takes the layer's result."""
        if len(self.users[op.name]) != 1 or op is self.ops[-1]:
            return None
        (user,) = self.users[op.name]
        kind = nn.BatchNorm2d if is_a(op, (nn.Conv2d,)) else nn.BatchNorm1d
        return user if is_a(user, (kind,)) and user.apply.num_features == width else None

    def _paths(self, op: Op, through: tuple[Op, ...] = ()) -> Iterator[tuple]:
        """All ways from a value to an operation that mixes units; to None at the output."""
        if op is self.ops[-1]:
            yield through, None
        for user in self.users[op.name]:
            if user.kind in ("sign", "max") or is_a(user, PASSING):
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
        if self.shared(end):
            return f"'{end.label}', which reads it, is used in several places"
        if getattr(end.apply, "groups", 1) > 1:
            return f"it is read by the grouped convolution '{end.label}'"
        count = positions(op.apply, through, end.apply, width)
        if not count:
            return f"'{end.label}' does not read it unit by unit"
        return Reader(end.label, count, through)


def _tensors(op: Op) -> list[int]:
    """Identities of all parameters and buffers of an operation; twice what it uses twice."""
    if not isinstance(op.apply, nn.Module):
        return []
    kinds = (op.apply.named_parameters, op.apply.named_buffers)
    return [id(tensor) for named in kinds for _, tensor in named(remove_duplicate=False)]
