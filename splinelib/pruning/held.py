"""Training a network whose masked weights stay at 0."""

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.train.hook import StepHook


class Held(StepHook):
    """Keep the masked weights of a network at exactly 0 while it is trained.

    Parameters
    ----------
    mask : Mask
        What is kept.

    Notes
    -----
    The gradients of removed weights are set to 0 before each step, so that momentum has nothing to
    gather, and the weights themselves after it, so that neither momentum nor weight decay revives
    one. The network stays plain: nothing is hooked into its layers, as ``Mask.apply(hold=True)``
    does, so that it compiles and copies like any other. For tickets without structure, which
    ``splinelib.surgery`` cannot make smaller (Frankle & Carbin, 2019, train theirs this way).
    Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 3, 1])
    >>> mask = Mask({"0.weight": torch.eye(3, 2)})
    >>> held, small = Held(mask), mask.apply(net)
    >>> held
    Held(2 of 6 entries, 86e31d44)
    >>> small[0].weight.data += 1.0
    >>> held.after_step(small, 0)
    >>> int((small[0].weight != 0).sum())
    2
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._gone: dict[str, Tensor] = {}  # on the network's device, once it is known

    def __repr__(self) -> str:
        mark = checksum(self._mask.entries)
        return f"Held({self._mask.kept} of {self._mask.total} entries, {mark})"

    def mask(self, net: nn.Module) -> Mask:
        """The mask that is held, the same throughout; a ``ValueError`` if it does not fit."""
        self._mask.check(net)
        return self._mask

    def begin(self, net: nn.Module, steps: int) -> None:
        """Set removed weights to 0, before the first batch sees them."""
        self._gone = {}  # the network may be another one, on another device
        clear(net, self._removed(net))

    def before_step(self, net: nn.Module, step: int) -> None:
        """Set the gradients of removed weights to 0."""
        still(net, self._removed(net))

    def after_step(self, net: nn.Module, step: int) -> None:
        """Set removed weights to 0."""
        clear(net, self._removed(net))

    def _removed(self, net: nn.Module) -> dict[str, Tensor]:
        """True at each weight that is removed, by parameter, on its device."""
        if not self._gone:
            kept = self.mask(net).entries.items()
            self._gone = {name: ~entry.to(net.get_parameter(name).device) for name, entry in kept}
        return self._gone


def checksum(named: Mapping[str, Tensor]) -> str:
    """A short text that tells named masks, or clusters, from others: the checkpoint of a hook."""
    mark = 0
    for name, values in named.items():
        mark = zlib.crc32(name.encode() + values.cpu().numpy().tobytes(), mark)
    return f"{mark:08x}"


@torch.no_grad()
def still(net: nn.Module, gone: Mapping[str, Tensor]) -> None:
    """Set some gradients to 0, in place: those where ``gone``, bool by parameter, is True."""
    for name, entries in gone.items():
        grad = net.get_parameter(name).grad
        if grad is not None:
            grad.masked_fill_(entries, 0)


@torch.no_grad()
def clear(net: nn.Module, gone: Mapping[str, Tensor]) -> None:
    """Set some weights to 0, in place: those where ``gone``, bool by parameter, is True."""
    for name, entries in gone.items():
        net.get_parameter(name).masked_fill_(entries, 0)
