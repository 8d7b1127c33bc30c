"""EB Train: the mask of network slimming, drawn as soon as it stops changing."""

from collections.abc import Callable, Collection
from functools import partial

from torch import nn

from splinelib.earlybird import MASK_DISTANCE, EarlyBird, Rule, mask_codes
from splinelib.pruning.family import Scope, Ticket, need_fit
from splinelib.pruning.slimming import slimming
from splinelib.surgery.groups import Residual


def eb_train(
    net: nn.Module,
    ratio: float,
    fit: Callable | None = None,
    *,
    rule: Rule = MASK_DISTANCE,
    scope: Scope = "global",
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
    label: str = "dense",
) -> Ticket:
    """Train until the mask that slimming would draw has settled, then draw it.

    Parameters
    ----------
    net : nn.Module
        The network at its start, with BatchNorm.
    ratio : float, in [0, 1)
        Share of the channels that go.
    fit : callable
        Trains a copy, see ``train.trainer``; its recipe should have the penalty ``slimming=1e-4``.
    rule : earlybird.Rule
        When the masks are near enough.
    scope : "global" or "layerwise"
        Of the mask that is drawn; the distance is that of global masks, as in the source.
    residual : "inner", "select" or "joint"
        Which channels can go, see ``surgery.groups``. The distance looks at every BatchNorm.
    layers : collection of str, optional
        Names of the groups to prune; default: all.
    label : str
        Names the dense training for ``fit``.

    Returns
    -------
    Ticket
        The network at epoch ``epoch``, and its mask. ``fired`` is False if the rule never fired:
        then the mask is that of the last epoch, and nothing was saved.

    Raises
    ------
    ValueError
        A ratio out of range, no ``fit``, a network without BatchNorm.

    Notes
    -----
    After each epoch the mask ``|gamma| > threshold`` is drawn as a trial. The mask distance is the
    share of channels on which two such masks differ; when the mask differs from each of the last
    four by less than 0.1, the dense training ends. The small network goes on at that epoch of the
    schedule (``pruning.weights``).

    You et al., "Drawing early-bird tickets: towards more efficient training of deep networks" (ICLR
    2020); public code GATECH-EIC/Early-Bird-Tickets: penalty s = 1e-4, five masks kept, distances
    up to 0.1 included (below 0.1 here), checked before each epoch. Its scripts build the small
    network anew and train that; the text says that weights are inherited. Taught in *Drawing the
    ticket* and *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets, train
    >>> digits, _ = data.load("digits")
    >>> net = nets.build("convnet", 10, channels=[4], kernels=[3], batch_norm=True)
    >>> recipe = train.Recipe(epochs=8, batch=256, drops=(4,), slimming=1e-4)
    >>> ticket = eb_train(net, 0.5, train.trainer(data.Batches(digits, 256), recipe))
    >>> ticket.fired, ticket.epoch < 8
    (True, True)
    """
    need_fit("eb_train", fit)
    if not isinstance(rule, Rule):
        raise ValueError(f"rule is {rule!r}, but is an earlybird.Rule: Rule(compare, length, eps).")
    choice = {"scope": scope, "residual": residual, "layers": layers}
    slimming(net, ratio, **choice)  # its errors are better told now than after the training
    bird = EarlyBird(partial(mask_codes, fraction=ratio), rule, weight="element")
    run = fit(net, label, until=bird)
    return Ticket(run.net, slimming(run.net, ratio, **choice), run.epoch, run.stopped)
