"""Iterative slimming: train, prune a part, and again, until the ratio is reached."""

from collections.abc import Callable, Collection

from torch import nn

from splinelib.ops import copied
from splinelib.pruning.family import Scope, Ticket, check_ratio, exactly, need_fit, targets
from splinelib.pruning.slimming import slimming_scores
from splinelib.pruning.weights import put_back
from splinelib.surgery import cut
from splinelib.surgery.groups import Residual, group_mask
from splinelib.train.recipe import whole as is_whole


def iterative(
    net: nn.Module,
    ratio: float,
    fit: Callable | None = None,
    *,
    rounds: int = 3,
    scope: Scope = "global",
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
    label: str = "round",
) -> Ticket:
    """Prune by network slimming in several rounds, with a whole training in each.

    Parameters
    ----------
    net : nn.Module
        The network at its start, with BatchNorm.
    ratio : float, in [0, 1)
        Share of the channels that go in all rounds together.
    fit : callable
        Trains a copy, see ``train.trainer``; its recipe should have the penalty ``slimming``. It is
        called once a round, with the network as small as it is by then.
    rounds : int
        How often to train and prune. After round r, ``ratio * r / rounds`` of the original
        channels are gone.
    scope : "global" or "layerwise"
        Whether the ratio holds for all layers together or in each.
    residual : "inner", "select" or "joint"
        Which channels can go, see ``surgery.groups``.
    layers : collection of str, optional
        Names of the groups to prune; default: all.
    label : str
        The trainings are called ``"round 1"`` and so on.

    Returns
    -------
    Ticket
        The network as the last round left it, in the original shape (channels that went before are
        0), and the mask of all rounds.

    Raises
    ------
    ValueError
        A ratio out of range, no ``fit``, less than one round, layers without BatchNorm.

    Notes
    -----
    A channel's scale is a better guide in a network that has lost its worst channels and was
    trained again. Weights are inherited from round to round; the schedule starts anew in each.

    The multi-pass scheme of Liu et al., "Learning efficient convolutional networks through network
    slimming" (ICCV 2017), Sec. 3; NS-IP in the tables of the paper, which does not say how many
    rounds, nor the source's code: three is our choice. Penalty as in ``slimming``. Taught in *A
    tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets, train
    >>> digits, _ = data.load("digits")
    >>> net = nets.build("convnet", 10, channels=[4], kernels=[3], batch_norm=True)
    >>> recipe = train.Recipe(epochs=1, batch=256, slimming=1e-4)
    >>> ticket = iterative(net, 0.5, train.trainer(data.Batches(digits, 256), recipe), rounds=2)
    >>> ticket.mask.counts()["1.weight"]
    (2, 4)
    """
    check_ratio(ratio, scope)
    need_fit("iterative", fit)
    if not is_whole(rounds, 1):
        raise ValueError(f"rounds is {rounds}: need a whole number, at least one round to prune.")
    found = targets(net, residual, layers)
    whole = copied(net).eval()
    scores = slimming_scores(whole, found)
    exactly(scores, ratio, scope)  # a ratio out of reach is better told now
    keep = exactly(scores, 0.0, scope)
    for number in range(1, rounds + 1):
        small, plan = cut(whole, group_mask(whole, found, keep))
        run = fit(small, f"{label} {number}")
        whole = put_back(run.net, plan, group_mask(whole, found, keep).apply(whole))
        scores = {
            name: values.masked_fill(~keep[name].to(values.device), -1.0)  # gone before: stay gone
            for name, values in slimming_scores(whole, found).items()
        }
        keep = exactly(scores, ratio * (number / rounds), scope)
    return Ticket(whole.eval(), group_mask(whole, found, keep))
