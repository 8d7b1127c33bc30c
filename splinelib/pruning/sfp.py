"""Soft filter pruning: the weakest filters are set to zero after each epoch, and may come back."""

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.pruning.family import Ticket, check_ratio, exactly, need_fit, targets
from splinelib.pruning.filters import need_trained
from splinelib.surgery.groups import Group, Residual, group_mask
from splinelib.train.hook import StepHook
from splinelib.units.walk import units


class SFP(StepHook):
    """Zero the filters of smallest L2 norm in each layer, and let training go on with them.

    Parameters
    ----------
    ratio : float, in [0, 1)
        Share of the filters of each group that is zeroed.
    rescale : bool
        Whether a filter behind which a BatchNorm stands comes back with the norm that it had.
    residual : "inner" or "joint"
        Which channels are pruned, see ``splinelib.surgery.groups``.

    Notes
    -----
    A filter that is zeroed keeps waiting for its first step back while steps are skipped, or do
    not use its layer.
    """

    def __init__(self, ratio: float, *, rescale: bool = True, residual: Residual = "inner") -> None:
        check_ratio(ratio)
        if residual == "select":
            raise ValueError(
                "residual is 'select', but soft filter pruning zeroes filters, and a selection in "
                "front of a BatchNorm has none: give 'inner' or 'joint'."
            )
        self.ratio, self.rescale, self.residual = ratio, rescale, residual
        self._forget()

    def _forget(self) -> None:
        """Begin anew."""
        self._groups: dict[str, Group] = {}  # once the network is known
        self._norms: dict[str, str | None] = {}  # BatchNorm directly behind each layer
        self.sizes: dict[str, Tensor] = {}  # by layer: norms of its filters before they were zeroed
        self.gone: dict[str, Tensor] = {}  # by layer: filters whose first step back is to come
        self._waits: dict[str, Tensor] = {}  # those of layers that this step does not use

    def __repr__(self) -> str:
        return f"SFP(ratio={self.ratio}, rescale={self.rescale}, residual={self.residual!r})"

    def begin(self, net: nn.Module, steps: int) -> None:
        """Find the filters of the network, none of which may be frozen."""
        self._forget()
        self._find(net)
        for group in self._groups.values():
            need_trained("sfp", net, [f"{path}.weight" for path in group.writers])

    def keep(self, net: nn.Module) -> dict[str, Tensor]:
        """Which filters of each group are the strongest now, ``(n,)`` bool by its name."""
        self._find(net)
        scores = {}
        for name, group in self._groups.items():
            norms = [_norms(net.get_submodule(path).weight) for path in group.writers]
            scores[name] = torch.stack(norms).norm(dim=0)
        return exactly(scores, self.ratio, "layerwise")

    def _find(self, net: nn.Module) -> None:
        """Look once where the filters stand."""
        if not self._groups:
            self._groups = targets(net, self.residual)
            self._norms = {layer: at.norm for layer, at in units(net).items()}

    def after_epoch(self, net: nn.Module, epoch: int) -> None:
        """Zero the weakest filters."""
        self.zero(net)

    @torch.no_grad()
    def zero(self, net: nn.Module) -> None:
        """Set the weights of all filters but the strongest to 0, in place."""
        keep = self.keep(net)
        for name, group in self._groups.items():
            for path in group.writers:
                weight = net.get_submodule(path).weight
                if self.rescale and self._norms[path]:
                    now = _norms(weight)
                    self.sizes[path] = torch.where(now > 0, now, self.sizes.get(path, now))
                    self.gone[path] = ~keep[name]
                weight[~keep[name]] = 0

    def mask(self, net: nn.Module) -> Mask:
        """The mask that removes what ``zero`` would set to 0, with bias and BatchNorm."""
        keep = self.keep(net)  # which finds the groups
        return group_mask(net, self._groups, keep)

    def before_step(self, net: nn.Module, step: int) -> None:
        """Take out of the first gradient of a zeroed filter what BatchNorm put in too much."""
        unused = [path for path in self.gone if net.get_submodule(path).weight.grad is None]
        self._waits = {path: self.gone.pop(path) for path in unused}
        for path, gone in self.gone.items():
            norm, grad = net.get_submodule(self._norms[path]), net.get_submodule(path).weight.grad
            usual = (norm.eps / (norm.running_var + norm.eps)).sqrt()
            grad.mul_(_column(torch.where(gone, usual, 1), grad))

    def after_step(self, net: nn.Module, step: int) -> None:
        """Give a filter that came back the norm that it had, which BatchNorm does not notice."""
        for path, gone in self.gone.items():
            weight = net.get_submodule(path).weight
            factor = self.sizes[path] / _norms(weight).clamp_min(1e-30)
            weight.mul_(_column(torch.where(gone, factor, 1), weight))
        self.gone, self._waits = self._waits, {}

    def state_dict(self) -> dict:
        """Norms of the filters, and which of them are on their way back."""
        return {"sizes": dict(self.sizes), "gone": dict(self.gone)}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there."""
        self.sizes, self.gone = dict(state["sizes"]), dict(state["gone"])


def sfp(
    net: nn.Module,
    ratio: float,
    fit=None,
    *,
    rescale: bool = True,
    residual: Residual = "inner",
) -> Ticket:
    """Prune by soft filter pruning.

    Parameters
    ----------
    net : nn.Module
        A network to be trained, new or already trained; it stays as it is.
    ratio : float, in [0, 1)
        Share of the filters of each layer that goes, at most n - 1 of n.
    fit : callable
        ``fit(net, label, *, hook) -> Run``, see ``splinelib.train.trainer``; it is called once.
    rescale : bool
        Whether a filter behind which a BatchNorm stands comes back with the norm that it had;
        False is what the public code does.
    residual : "inner" or "joint"
        Which channels are pruned, see ``splinelib.surgery.groups``.

    Returns
    -------
    Ticket
        The trained network, whose filters to be removed are 0, and the mask.

    Raises
    ------
    ValueError
        A ratio outside [0, 1), no ``fit``, an unknown ``residual``, a frozen layer.

    Notes
    -----
    Idea: a filter that is small today may be needed tomorrow, so it is set to zero and goes on
    being trained; only what is zero at the end is removed. After each epoch, in each layer,
    ``W_k = 0`` for the ``floor(ratio n + 1/2)`` filters of smallest ``||W_k||_2``.

    Source: He, Kang, Dong, Fu and Yang, "Soft filter pruning for accelerating deep convolutional
    neural networks", IJCAI 2018; code he-y/soft-filter-pruning, whose ``rate`` 0.7 is the share
    that is kept. Settings there: from scratch, on CIFAR-10 at batch 128 with weight decay 5e-4 for
    200 or 300 epochs, on ImageNet for 100. The code also zeroes before the first epoch.

    Schedule: all of the training, whatever its rates. The share does not grow, and what is zeroed
    after the last epoch goes, with no training behind it. At high ratios that fails: on digits (16,
    16 and 32 filters, 80 epochs, 3 seeds), the masked networks are right on 0.94 to 0.99 of the
    test images at ratio 0.5, and on 0.51 to 0.74 at 0.8; 20 more epochs of the cut networks, at
    rate 0.01, make 0.82 to 0.83 of the latter.

    The code zeroes the weights of convolutions alone: scale and shift of the BatchNorm behind stay,
    so a zeroed filter puts out the constant ``sigma(beta - gamma mu / sqrt(var + eps))``, and
    gradients reach it. So it is here. Were the scale zeroed too, a ReLU would pass none, and no
    filter could come back; as it is, one comes back only if its shift is above 0, since in training
    a zeroed filter puts out its shift alone. As in the code's small network, the constants of inner
    channels are left out at the end: the mask removes weights, bias, scale and shift, and the
    masked network, which is what the cut one computes, may differ from ``ticket.net`` by these
    constants.

    Differs: BatchNorm divides the outputs of a zero filter by ``sqrt(eps)``, so its first gradient
    is some 300 times too large, and the filter comes back with a norm so large that later steps
    hardly turn it: on digits, at ratio 0.5 and 40 epochs, accuracies of 0.59 to 0.77 come of it.
    With ``rescale`` (0.97 to 0.98) the first gradient is brought to its usual size, and the filter,
    which then points where that gradient sent it, to the norm that it had: behind a BatchNorm, a
    norm changes nothing but the size of later steps. The code zeroes each convolution of a residual
    stream on its own; here the filters of a group go together. Linear layers are pruned like
    convolutions. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> from splinelib.train import Recipe, trainer
    >>> images, _ = data.load("digits")
    >>> fit = trainer(data.Batches(images, batch=64), Recipe(epochs=2, batch=64))
    >>> ticket = sfp(nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[16]), 0.25, fit)
    >>> int((ticket.net[1].weight == 0).all(1).sum()), ticket.mask.counts()["1.bias"]
    (4, (12, 16))
    """
    hook = SFP(ratio, rescale=rescale, residual=residual)
    need_fit("sfp", fit)
    run = fit(net, "sfp", hook=hook)
    return Ticket(run.net, hook.mask(run.net))


def _norms(weight: Tensor) -> Tensor:
    """L2 norm ``(n,)`` of each filter."""
    return weight.detach().flatten(1).norm(dim=1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """One number a filter, ``(n,)``, in the shape that multiplies all its weights."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
