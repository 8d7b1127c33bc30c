"""The lottery ticket, one-shot: train, drop small weights, rewind (Frankle & Carbin, 2019)."""

from collections.abc import Callable

from torch import nn

from splinelib.masks import Mask
from splinelib.ops import copied
from splinelib.pruning.family import (
    Scope,
    Ticket,
    check_ratio,
    keep_best_weights,
    need_fit,
    prunable,
)


def lottery(
    net: nn.Module,
    ratio: float,
    fit: Callable | None = None,
    *,
    scope: Scope = "global",
) -> Ticket:
    """Find the winning ticket: the initial weights of those connections that training made large.

    Parameters
    ----------
    net : nn.Module
        The network at its initial weights.
    ratio : float, in [0, 1)
        Share of the weights of all Linear and Conv2d layers, the last one's included, that go.
    fit : callable
        Trains a copy, see ``splinelib.train.trainer``; it is called once, as "lottery: dense".
    scope : "global" or "layerwise"
        Whether the ratio holds for all layers together or in each.

    Returns
    -------
    Ticket
        The initial network, and the mask of the trained one. The mask has no structure: train the
        ticket as ``fit(mask.apply(net), hook=Held(mask))``.

    Raises
    ------
    ValueError
        No ``fit``, a ratio outside [0, 1) or out of reach, an unknown scope.

    Notes
    -----
    The claim is that a large network trains well because it holds a small one whose initial weights
    happen to be good, so the trained values are thrown away and only their mask is kept.

    Frankle & Carbin, *The Lottery Ticket Hypothesis* (ICLR 2019); facebookresearch/open_lth, which
    removes a fifth of the weights, rewinds and trains again, in many rounds. Here all go at once,
    as in the tables of the paper, and the weights rewind to those of the start, not to those of an
    early epoch. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> from splinelib.train import Recipe, trainer
    >>> images, _ = data.load("digits")
    >>> fit = trainer(data.Batches(images, batch=64), Recipe(epochs=1, batch=64))
    >>> net = nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[16])
    >>> ticket = lottery(net, 0.5, fit)
    >>> ticket.mask, bool((ticket.net[1].weight == net[1].weight).all())
    (Mask(2 parameters, 592 of 1184 entries kept), True)
    """
    check_ratio(ratio, scope)
    need_fit("lottery", fit)
    magnitude(net, ratio, scope=scope)  # its errors are better told now than after the training
    trained = fit(net, "lottery: dense").net
    return Ticket(copied(net).eval(), magnitude(trained, ratio, scope=scope))


def magnitude(net: nn.Module, ratio: float, *, scope: Scope = "global") -> Mask:
    """Remove the weights that are nearest to 0, of all Linear and Conv2d layers.

    ``net``, ``ratio`` and ``scope`` are those of ``lottery``, for a network that is trained.

    Examples
    --------
    >>> from splinelib import nets
    >>> magnitude(nets.mlp([2, 3, 1]), 0.5)
    Mask(2 parameters, 4 of 9 entries kept)
    """
    check_ratio(ratio, scope)
    scores = {name: weight.detach().abs() for name, weight in prunable(net).items()}
    return keep_best_weights(net, scores, ratio, scope)
