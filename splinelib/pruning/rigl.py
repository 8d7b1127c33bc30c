"""RigL: sparse from start to end; weak weights are dropped, others grow by their gradients."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.pruning.erk import erk
from splinelib.pruning.family import Ticket, check_ratio, need_fit, prunable
from splinelib.pruning.filters import need_trained
from splinelib.pruning.held import checksum, clear, still
from splinelib.train.hook import StepHook
from splinelib.train.recipe import whole
from splinelib.train.step import finite


class RigL(StepHook):
    """Drop and grow single weights while a sparse network is trained.

    Parameters
    ----------
    kept : mapping of str to Tensor
        By the name of a weight, True for each entry that is in use at the start.
    period : int
        Steps between two updates.
    alpha : float, in [0, 1]
        Share of the weights of a layer that the first update drops.
    stop : float, in (0, 1]
        Share of the training after which the share has fallen to 0, and updates end.

    Notes
    -----
    An update that is due waits for a step whose gradients are all finite. A layer that a step did
    not use, so that it has no gradient, keeps its weights.
    """

    def __init__(
        self,
        kept: Mapping[str, Tensor],
        *,
        period: int = 100,
        alpha: float = 0.3,
        stop: float = 0.75,
    ) -> None:
        if not whole(period, 1) or not 0 <= alpha <= 1 or not 0 < stop <= 1:
            raise ValueError(
                f"period={period}, alpha={alpha}, stop={stop}: need a whole period >= 1, alpha in "
                "[0, 1] and stop in (0, 1]."
            )
        self.start = dict(Mask(kept).entries)  # copies, bool
        self.counts = {name: int(entries.sum()) for name, entries in self.start.items()}
        self.period, self.alpha, self.stop = period, alpha, stop
        self.kept, self.last, self.end = dict(self.start), -period, 1

    def __repr__(self) -> str:
        total, settings = sum(self.counts.values()), f"{self.period}, {self.alpha}, {self.stop}"
        return f"RigL({total} weights, {checksum(self.start)}, {settings})"

    def mask(self, net: nn.Module) -> Mask:
        """The weights in use now."""
        return Mask(self.kept)

    def begin(self, net: nn.Module, steps: int) -> None:
        """Go back to the first mask, and learn from the length of the run when updates end."""
        Mask(self.start).check(net)
        way_out = ", or name its layer in dense, so that it stays whole"
        need_trained("rigl", net, self.start, way_out)
        device = next(net.parameters()).device
        self.kept = {name: entries.to(device) for name, entries in self.start.items()}
        self.last, self.end = -self.period, max(1, int(self.stop * steps))

    def share(self, step: int) -> float:
        """Share of the weights that is dropped at a step: half a cosine, from alpha to 0."""
        return self.alpha / 2 * (1 + math.cos(math.pi * min(step, self.end) / self.end))

    def before_step(self, net: nn.Module, step: int) -> None:
        """Update the mask if it is time, and then move nothing; else train the weights in use."""
        found = {name: net.get_parameter(name).grad for name in self.kept}
        grads = {name: grad for name, grad in found.items() if grad is not None}
        if step >= self.last + self.period and step < self.end and finite(grads.values()):
            self._update(net, grads, self.share(step))
            self.last = step
            for parameter in net.parameters():
                parameter.grad = None  # the optimizer passes over them, momentum included
        still(net, self._gone())

    def after_step(self, net: nn.Module, step: int) -> None:
        """Undo what momentum did to weights that are not in use."""
        clear(net, self._gone())

    def _update(self, net: nn.Module, grads: Mapping[str, Tensor], share: float) -> None:
        """Drop and grow in each layer; what is new starts at 0, where all unused weights are."""
        for name, grad in grads.items():
            weight, drop = net.get_parameter(name), int(share * self.counts[name])
            self.kept[name] = rewired(weight, grad, self.kept[name], drop)
        clear(net, self._gone())

    def _gone(self) -> dict[str, Tensor]:
        return {name: ~kept for name, kept in self.kept.items()}

    def state_dict(self) -> dict:
        """The weights in use, and when they were last updated."""
        return {"kept": dict(self.kept), "last": self.last}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there."""
        self.kept, self.last = dict(state["kept"]), state["last"]


def rigl(
    net: nn.Module,
    ratio: float,
    fit=None,
    *,
    period: int = 100,
    alpha: float = 0.3,
    stop: float = 0.75,
    dense: tuple[str, ...] = (),
    seed: int = 0,
) -> Ticket:
    """Train a network that is sparse from the first step on, and let its mask move.

    Parameters
    ----------
    net : nn.Module
        The network at its start, untrained; it stays as it is.
    ratio : float, in [0, 1)
        Share of the single weights of all Linear and Conv2d layers that goes. Biases and BatchNorm
        stay whole.
    fit : callable
        ``fit(net, label, *, hook) -> Run``, see ``splinelib.train.trainer``; it is called once.
    period : int
        Steps between two updates of the mask.
    alpha : float, in [0, 1]
        Share of the weights of a layer that the first update drops.
    stop : float, in (0, 1]
        Share of the training after which the mask stays.
    dense : tuple of str
        Paths of layers that stay whole and do not count.
    seed : int
        Of the random weights that are in use at the start.

    Returns
    -------
    Ticket
        The trained network, whose removed weights are 0, and the mask: an exact number of weights,
        the same in each layer from start to end.

    Raises
    ------
    ValueError
        A setting out of its range, no ``fit``, an unknown layer in ``dense``, a frozen layer that
        is not in it.

    Notes
    -----
    Idea: most weights of a dense network are never needed at once; a sparse one can look for its
    own by moving. Every ``period`` steps each layer drops the share ``alpha / 2 (1 + cos(pi t /
    T_end))`` of its weights with the smallest ``|w|``, and as many grow, from 0, where ``|dL/dw|``
    of unused weights is largest. At the start layer l has the density ``eps (n_in + n_out + h + w)
    / (n_in n_out h w)``, with one ``eps`` for all, and layers beyond 1 whole (``erk``).

    Source: Evci, Gale, Menick, Castro and Elsen, "Rigging the lottery: making all tickets
    winners", ICML 2020; code google-research/rigl. Its CIFAR settings: period 100, alpha 0.3,
    updates from step 0 to 75,000 of 97,656, sparsity counted in all layers, the last one included,
    but the first. As there, a step that updates the mask moves no weight, a weight that is dropped
    and grown again at once keeps its value, and a share is rounded down to whole weights.

    Differs: the code breaks ties of ``|w|`` by noise of 1e-5, here the lower index goes first; it
    sets the momentum of a new weight to 0, while here an unused weight has no gradient, so that its
    momentum has shrunk by 0.9 a step (to 3e-5 of itself in a period of 100). Its layers each round
    down, here the total is exact. Gradients are those of all weights at each step, so no time is
    saved. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> from splinelib.train import Recipe, trainer
    >>> images, _ = data.load("digits")
    >>> fit = trainer(data.Batches(images, batch=64), Recipe(epochs=2, batch=64))
    >>> net = nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[16])
    >>> rigl(net, 0.9, fit, period=10).mask
    Mask(2 parameters, 118 of 1184 entries kept)
    """
    check_ratio(ratio)
    need_fit("rigl", fit)
    kept = _start(net, ratio, dense, seed)
    hook = RigL(kept, period=period, alpha=alpha, stop=stop)
    run = fit(Mask(kept).apply(net), "rigl", hook=hook)
    return Ticket(run.net, hook.mask(run.net))


def rewired(weight: Tensor, grad: Tensor, kept: Tensor, drop: int) -> Tensor:
    """Drop the smallest of the weights in use, and grow as many where the gradient is largest.

    All tensors have one shape; ``kept`` is bool, True for weights in use, and so is the result. A
    weight that was just dropped may grow again.

    >>> weight, grad = torch.tensor([3.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.1, -5.0])
    >>> rewired(weight, grad, torch.tensor([True, True, False, False]), drop=1)
    tensor([ True, False, False,  True])
    """
    count = int(kept.sum())
    sizes = weight.detach().abs().masked_fill(~kept, -1).flatten()
    result = torch.zeros_like(kept).flatten()
    result[sizes.argsort(descending=True, stable=True)[: count - drop]] = True
    pull = grad.abs().flatten().masked_fill(result, -1)
    result[pull.argsort(descending=True, stable=True)[:drop]] = True
    return result.reshape(kept.shape)


def _start(net: nn.Module, ratio: float, dense: tuple[str, ...], seed: int) -> dict[str, Tensor]:
    """Random weights in use at the start, by the name of the parameter."""
    found = prunable(net)
    if isinstance(dense, str):
        raise ValueError(f"dense is the text {dense!r}: give a tuple of paths, ({dense!r},).")
    for path in dense:
        if f"{path}.weight" not in found:
            raise ValueError(
                f"dense names {path!r}, but the weights of the network are {', '.join(found)}."
            )
    names = [name for name in found if name.removesuffix(".weight") not in dense]
    if not names:
        raise ValueError("dense names all layers, so that none could be sparse.")
    shapes = {name: found[name].shape for name in names}
    generator, kept = torch.Generator().manual_seed(seed), {}
    for name, count in erk(shapes, ratio).items():
        entries = torch.zeros(shapes[name].numel(), dtype=torch.bool, device="cpu")
        entries[torch.randperm(len(entries), generator=generator)[:count]] = True
        kept[name] = entries.reshape(shapes[name])
    return kept
