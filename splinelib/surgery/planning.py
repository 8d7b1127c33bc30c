"""From a mask to a plan: what is zero for every input, or read by nobody, can go."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from splinelib.masks import Mask
from splinelib.ops import Op, unwrapped
from splinelib.selection import ChannelSelection
from splinelib.surgery.flow import MAKING, Flow, Value
from splinelib.surgery.plan import Plan
from splinelib.surgery.zeros import Kept, dead_channels, unread_channels
from splinelib.units.order import LAYERS, NORMS, inputs, is_a


def plan(net: nn.Module, mask: Mask) -> Plan:
    """Find out which channels of a network a mask makes superfluous.

    Parameters
    ----------
    net : nn.Module
        The network, see :func:`splinelib.units.units`, in either mode; it stays as it is.
    mask : Mask
        Of units, of BatchNorms alone, of single weights: any. Masks of ``torch.nn.utils.prune``
        that the network holds count, too.

    Returns
    -------
    Plan
        What each layer keeps. It depends on the mask and on how the layers are connected, and not
        on the values of the weights: the plan that a trained network's mask makes fits the network
        as it was at the start.

    Raises
    ------
    ValueError
        A mask of another network, a bare layer, an operation that is not supported, a forward hook.

    Notes
    -----
    A channel is *dead* if it is 0 for every input: its row of weights and its bias are masked, or
    scale and shift of its BatchNorm are, and activations, pooling and sums of dead channels make 0
    of it. It is *unread* if every weight that reads it is masked, or belongs to an output that is
    itself unread; a BatchNorm whose scale is masked does not read. A channel goes if it is dead or
    unread in every value that shares it. Where a BatchNorm puts out fewer channels than the stream
    that it reads still has, a ``ChannelSelection`` goes in front. A layer keeps its first channel
    where none would be left (``plan.emptied``). What is constant but not zero stays:
    :func:`splinelib.folding.fold_constants` moves it into the readers.

    Weights that happen to be 0 are no reason to go, as they may be trained on (a BatchNorm that
    starts at 0 at the end of a branch): to cut what is 0, give ``nonzero_mask(net)``. Grouped
    convolutions other than depthwise ones, layers that are used in several places, the input, the
    output, what a layer reads whose result is not used, and what goes through a reshape with its
    numbers written out, ``x.view(-1, 400)`` for ``x.flatten(1)``, stay whole. The network is read
    in evaluation mode: a head that works in training alone is not seen, and no longer fits where
    what it reads is cut; take it out before. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.masks import unit_mask
    >>> net = nets.mlp([2, 3, 1])
    >>> made = plan(net, unit_mask(net, {"0": torch.tensor([True, False, True])}))
    >>> made.kept["0"].tolist(), made.read["2"].tolist()
    ([0, 2], [0, 2])
    """
    net = unwrapped(net)
    check_mask(net, mask)
    refuse_hooks(net)
    return _Planning(Flow(net), Kept(net, mask)).plan()


def check_mask(net: nn.Module, mask: Mask) -> None:
    """Raise unless a mask is one, and of this network."""
    if not isinstance(mask, Mask):
        raise ValueError(
            f"mask is a {type(mask).__name__}, but must be a splinelib.masks.Mask: "
            "masks.unit_mask(net, {layer: keep}) makes one of units, masks.Mask({parameter: kept}) "
            "of weights."
        )
    mask.check(net)


def refuse_hooks(net: nn.Module) -> None:
    """Raise if something may change results on the way; torch's own masks are read elsewhere."""
    for path, module in net.named_modules():
        before = module._forward_pre_hooks.values()
        own = [hook for hook in before if not isinstance(hook, prune.BasePruningMethod)]
        if own or module._forward_hooks:
            raise ValueError(
                f"'{path}' ({type(module).__name__}) has a forward hook, which may change what it "
                "puts out and is no part of the trace: remove it before the cut; of the old "
                "weight_norm and spectral_norm, make it permanent by remove_weight_norm(layer) and "
                "remove_spectral_norm(layer)."
            )


class _Planning:
    """The channels of a network that go, space by space."""

    def __init__(self, flow: Flow, kept: Kept) -> None:
        self.flow, self.space = flow, flow.spaces()
        self.goes = np.ones(self.space.max(initial=-1) + 1, bool)
        dead, unread = dead_channels(flow, kept), unread_channels(flow, kept)
        for name, flags in dead.items():
            self._keep(flow.values[name].ids[~(flags | unread[name])])
        self._keep(flow.pinned())
        self._carry()
        self.emptied = [op.label for op in flow.ops if self._is_emptied(op)]
        for op in reversed(flow.ops):
            if flow.roles[op.name] in MAKING and self._gone(value := flow.values[op.name]).all():
                self._keep(value.ids[:1])
                self._carry()

    def _keep(self, ids: np.ndarray) -> None:
        self.goes[self.space[ids]] = False

    def _gone(self, value: Value) -> np.ndarray:
        """Whether each channel of a value goes."""
        return self.goes[self.space[value.ids]]

    def _carry(self) -> None:
        """Keep what a BatchNorm or a selection needs for the channels that it puts out."""
        before = -1
        while before != (before := int(self.goes.sum())):
            for op in reversed(self.flow.ops):
                if self.flow.roles[op.name] in ("norm", "select"):
                    needed = _taken(op, self.flow.sources(op)[0].ids)
                    self._keep(needed[~self._gone(self.flow.values[op.name])])

    def _is_emptied(self, op: Op) -> bool:
        """Whether nothing is left of a layer, or of what a BatchNorm lets through."""
        role = self.flow.roles[op.name]
        if role not in MAKING or not self._gone(self.flow.values[op.name]).all():
            return False
        return role in ("layer", "depthwise") or not self._gone(self.flow.sources(op)[0]).all()

    def plan(self) -> Plan:
        """The numbers that each layer keeps."""
        kept, read, sizes = {}, {}, {}
        for op in self.flow.ops:
            if is_a(op, (*LAYERS, *NORMS, ChannelSelection)):
                sizes[op.label] = self._size(op)
                kept[op.label], read[op.label] = self._numbers(op, *sizes[op.label])
        return Plan(kept, read, sizes, self.emptied)

    def _size(self, op: Op) -> tuple[int, int]:
        """How many outputs and inputs a layer has."""
        if is_a(op, NORMS):
            return (op.apply.num_features,) * 2
        if is_a(op, LAYERS):
            return len(op.apply.weight), inputs(op.apply)
        source, index = self.flow.sources(op)[0], op.apply.index
        known = self.flow.roles[op.name] == "select"
        return len(index), len(source.ids) if known else 1 + int(index.max())

    def _numbers(self, op: Op, out: int, into: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs and inputs that a layer keeps; all, where channels are not known."""
        role, source = self.flow.roles[op.name], self.flow.sources(op)[0]
        if role not in MAKING:
            return _stay(np.zeros(out, bool)), _stay(np.zeros(into, bool))
        per = self.flow.per.get(op.name, 1)  # entries of a channel, side by side
        kept = _stay(self._gone(self.flow.values[op.name]), per if role == "norm" else 1)
        return kept, _stay(self._gone(source), per) if per else _stay(np.zeros(into, bool))


def _stay(gone: np.ndarray, per: int = 1) -> torch.Tensor:
    """The numbers of the entries that stay, of channels that fill some entries each."""
    return torch.from_numpy((~gone).repeat(per).nonzero()[0])


def _taken(op: Op, ids: np.ndarray) -> np.ndarray:
    """The channel that each output of a BatchNorm or a selection is made of."""
    return ids[op.apply.index.numpy(force=True)] if is_a(op, (ChannelSelection,)) else ids
