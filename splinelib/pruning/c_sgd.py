"""Centripetal SGD: filters are trained to become equal, and equal filters are merged."""

import math
from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor, nn

from splinelib.pruning.clusters import (
    Clusters,
    Means,
    all_rows,
    clusters,
    first,
    means,
    merged,
    need_clusters,
)
from splinelib.pruning.family import Ticket, check_ratio, count, need_fit, targets
from splinelib.pruning.filters import filters, need_trained
from splinelib.pruning.held import checksum
from splinelib.surgery.groups import Group, Residual, group_mask
from splinelib.train.hook import StepHook


class CSGD(StepHook):
    """Train the filters of each cluster towards one another.

    Parameters
    ----------
    found : mapping of str to Group
        Groups of channels, see ``splinelib.surgery.groups``.
    labels : mapping of str to Tensor (n,) int64
        By group, the cluster of each channel.
    strength : float >= 0
        Centripetal strength epsilon of the weights of layers.
    vectors : float >= 0
        That of biases and of scales and shifts of BatchNorm, as a multiple of ``strength``.
    """

    optimizer = "sgd"

    def __init__(
        self,
        found: Mapping[str, Group],
        labels: Mapping[str, Tensor],
        *,
        strength: float = 0.05,
        vectors: float = 1.0,
    ) -> None:
        if not (0 <= strength < math.inf and 0 <= vectors < math.inf):
            raise ValueError(f"strength={strength}, vectors={vectors}: need numbers, at least 0.")
        self.groups, self.labels, self.start = dict(found), dict(labels), dict(labels)
        self.strength, self.vectors = strength, vectors
        self._means: dict[str, Means] = {}  # by group, once the network is known

    def __repr__(self) -> str:
        numbers = {name: len(row.unique()) for name, row in self.start.items()}
        settings = f"strength={self.strength}, vectors={self.vectors}, clusters={numbers}"
        return f"CSGD({settings}, {checksum(self.start)})"

    def begin(self, net: nn.Module, steps: int) -> None:
        """Build what averages each cluster, none of whose filters may be frozen."""
        self.load_state_dict({"labels": self.start})
        need_clusters(net, self.groups, self.start)
        self._averages(net)
        for name, group in self.groups.items():
            if not first(self.labels[name]).all():
                need_trained("c_sgd", net, filters(net, group))

    def before_step(self, net: nn.Module, step: int) -> None:
        """Give the members of a cluster their mean gradient, and a pull towards their mean."""
        for name, mean in self._averages(net).items():
            for weight in filters(net, self.groups[name]).values():
                if weight.grad is not None:
                    pull = self.strength * (1 if weight.ndim > 1 else self.vectors)
                    away = weight.detach() - mean(weight.detach())
                    weight.grad.copy_(mean(weight.grad).add_(away, alpha=pull))

    def _averages(self, net: nn.Module) -> dict[str, Means]:
        """What averages the clusters of each group, on the device of the network."""
        if not self._means:
            for name, group in self.groups.items():
                like = net.get_submodule(group.writers[0]).weight
                self._means[name] = Means(self.labels[name], like)
        return self._means

    def spread(self, net: nn.Module) -> float:
        """Largest distance from a cluster's mean, as a share of the tensor's largest entry."""
        worst = 0.0
        for name, group in self.groups.items():
            for values in all_rows(net, group):
                away = (values.detach() - means(values.detach(), self.labels[name])).abs().max()
                worst = max(worst, (away / values.detach().abs().max().clamp_min(1e-30)).item())
        return worst

    def farthest(self, net: nn.Module) -> float:
        """Largest distance of a trained entry from its cluster's mean."""
        pairs = [(v.detach(), self.labels[name]) for name, group in self.groups.items()
                 for v in filters(net, group).values()]  # fmt: skip
        return max((values - means(values, labels)).abs().max().item() for values, labels in pairs)

    def mask(self, net: nn.Module):
        """The mask that keeps the first filter of each cluster."""
        keep = {name: first(labels) for name, labels in self.labels.items()}
        return group_mask(net, self.groups, keep)

    def state_dict(self) -> dict:
        """The clusters."""
        return {"labels": dict(self.labels)}

    def load_state_dict(self, state: dict) -> None:
        """Go on with those clusters."""
        self.labels, self._means = dict(state["labels"]), {}


def c_sgd(
    net: nn.Module,
    ratio: float,
    fit=None,
    *,
    kind: Clusters = "kmeans",
    strength: float = 0.05,
    vectors: float = 1.0,
    tolerance: float = 1e-3,
    residual: Residual = "inner",
    seed: int = 0,
) -> Ticket:
    """Prune by centripetal SGD: make filters equal, then merge them without loss.

    Parameters
    ----------
    net : nn.Module
        A trained network; it stays as it is.
    ratio : float, in [0, 1)
        Share of the filters of each layer that is merged into others.
    fit : callable
        ``fit(net, label, *, hook) -> Run``, see ``splinelib.train.trainer``; it is called once.
    kind : "kmeans" or "even"
        Filters of a cluster are close at the start, or stand next to each other in the layer.
    strength, vectors : float
        How strongly the weights of a filter, and bias, scale and shift beside them, are pulled to
        their cluster's mean; the second as a multiple of the first.
    tolerance : float
        Distance of filters, running statistics included, from their mean, as a share of the layer's
        largest entry, below which they count as equal; the mean takes their place.
    residual : "inner" or "joint"
        Which channels are pruned, see ``splinelib.surgery.groups``.
    seed : int
        Of k-means.

    Returns
    -------
    Ticket
        The trained and merged network, in which the first filter of each cluster does the work of
        all, and the mask that removes the others: applying it changes nothing but rounding.

    Raises
    ------
    ValueError
        A setting out of its range, no ``fit``, another optimizer than SGD, a frozen layer; or
        filters that training has not brought together. The error then has the trained network as
        ``error.net``: ``c_sgd(error.net, ...)`` goes on from there.

    Notes
    -----
    Idea: instead of removing filters, train some to become equal; two equal filters are one filter
    whose readers add up. With H the cluster of filter k, a step uses ``mean_{j in H} dL/dW_j +
    epsilon (W_k - mean_{j in H} W_j)`` in place of ``dL/dW_k``: the differences inside a cluster
    shrink by a constant factor a step whatever the loss, while the means are trained: by
    ``1 - lr epsilon`` without momentum m, by about ``1 - lr epsilon / (1 - m)`` with it, but never
    faster than ``sqrt(m)``. That is so for SGD alone: other optimizers divide by the size of past
    gradients, entry by entry, and are refused. Then ``V_first = sum_{k in H} V_k`` in all layers
    that read them.

    Source: Ding, Ding, Guo and Han, "Centripetal SGD for pruning very deep convolutional networks
    with complicated structure", CVPR 2019; code DingXiaoH/Centripetal-SGD. Settings there: 3e-3 at
    learning rate 3e-2 for 600 epochs (ResNet-56, CIFAR-10), 0.05 at 3e-3 for 70 epochs (ResNet-50),
    and a tenth of it for biases, scales and shifts. The code prunes in rounds, each a training of
    this length of the network that the round before has cut: to 13/16, 11/16 and 5/8 of the width
    (ResNet-56), or to 70, 60, 50, 40 and 30 % (ResNet-50). Left out: this is one round, straight to
    the ratio; for several, call it again with what ``splinelib.surgery.cut`` returns. Scaled down:
    a tenth leaves these apart after a
    few hundred steps, so ``vectors`` is 1 here, and 0.05 is the default. The code keeps the first
    filter of a cluster as it is, however far the others are; here the rest of the differences is
    averaged away, and above ``tolerance`` it is an error. It clusters a residual stream by one of
    its layers, here by all that write it.

    This is the nearest relative of the paper's Proposition 2: two units that draw one hyperplane
    are redundant. Proposition 2 looks for them, C-SGD makes them, and the sums are those of
    ``splinelib.merging``. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> from splinelib.train import Recipe, trainer
    >>> images, _ = data.load("digits")
    >>> fit = trainer(data.Batches(images, batch=64), Recipe(epochs=4, batch=64, lr=0.05))
    >>> net = fit(nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[16])).net
    >>> ticket = c_sgd(net, 0.25, fit, strength=0.5)
    >>> x = images.inputs()
    >>> bool((ticket.mask.apply(ticket.net)(x) - ticket.net(x)).abs().max() < 1e-5)
    True
    """
    _check(ratio, fit, kind, tolerance, residual)
    found, labels = targets(net, residual), {}
    for name, group in found.items():
        points = torch.cat([net.get_submodule(p).weight.flatten(1) for p in group.writers], 1)
        labels[name] = clusters(points, group.width - count(ratio, group.width), kind, seed)
    hook = CSGD(found, labels, strength=strength, vectors=vectors)
    merged(net, found, labels)  # refuses now what could not be merged after the training
    start, run = hook.farthest(net), fit(net, "c-sgd", hook=hook)
    try:
        return _ticket(hook, run.net, tolerance, start)
    except ValueError as error:
        error.net = run.net  # so that the training is not lost
        raise


def _ticket(hook: CSGD, net: nn.Module, tolerance: float, start: float) -> Ticket:
    """Merge the clusters of a trained network, if they are close enough."""
    if not hook.farthest(net) <= 2 * start + 1e-9:  # rounding, where they were equal
        raise ValueError(
            f"training drove the filters of a cluster apart, from {start:.1e} to "
            f"{hook.farthest(net):.1e}: the pull, rate times strength, is too large for the steps. "
            f"Take less strength (now {hook.strength:g}), fewer vectors, or a lower rate."
        )
    if not (spread := hook.spread(net)) <= tolerance:
        raise ValueError(
            f"the filters of some cluster are still {spread:.1e} of the largest weight apart "
            f"(tolerance {tolerance:g}): train longer, at a higher rate, or with more strength; "
            "this error's net is the trained network, and c_sgd(error.net, ...) goes on from there."
        )
    return Ticket(merged(net, hook.groups, hook.labels), hook.mask(net))


def _check(ratio, fit, kind, tolerance, residual) -> None:
    """Raise unless the settings are in range."""
    check_ratio(ratio)
    need_fit("c_sgd", fit)
    if kind not in get_args(Clusters) or residual == "select":
        raise ValueError(
            f"kind={kind!r}, residual={residual!r}: need 'kmeans' or 'even', and 'inner' or "
            "'joint' (a selection in front of a BatchNorm has no filters to merge)."
        )
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}: a distance is at least 0.")
