"""EB Spline: spline pruning, drawn as soon as the partition of the input space has settled."""

from collections.abc import Callable

from torch import Tensor, nn

from splinelib.earlybird import ALGORITHM_1, Codes, EarlyBird, Rule
from splinelib.pruning.family import Ticket, need_fit
from splinelib.pruning.spline import check, spline


def eb_spline(
    net: nn.Module,
    ratio: float,
    fit: Callable | None = None,
    probe: Tensor | Callable[[nn.Module], Codes] | None = None,
    *,
    rule: Rule = ALGORITHM_1,
    weight: str = "layer",
    features: int | None = 2048,
    label: str = "dense",
    **options,
) -> Ticket:
    """Train until the partition has settled, then remove redundant units.

    Parameters
    ----------
    net : nn.Module
        The network at its start.
    ratio : float, in [0, 1)
        Share of the units that go.
    fit : callable
        Trains a copy, see ``train.trainer``.
    probe : Tensor (b, ...) or callable
        Inputs whose codes are watched, best from ``earlybird.held_out``, on the device of the
        network; or a function from a network to its codes.
    rule, weight, features
        When to fire, how layers are averaged, how many entries of each are looked at: see
        ``earlybird.EarlyBird``.
    label : str
        Names the dense training for ``fit``.
    **options
        For ``pruning.spline``: scope, criterion, residual and so on.

    Returns
    -------
    Ticket
        The network at epoch ``epoch``, and its mask. ``fired`` is False if the rule never fired:
        then the mask is that of the last epoch, and nothing was saved.

    Raises
    ------
    ValueError
        A ratio out of range, no ``fit`` or ``probe``, and as ``pruning.spline``.

    Notes
    -----
    On which side of each hyperplane the probes lie is read after each epoch; when the share of
    sides that changed stays below 0.15 for three epochs in a row (two distances), the dense
    training ends, and the units whose hyperplanes are nearest to others' go. The small network
    goes on at that epoch of the schedule (``pruning.weights``).

    Algorithm 1 and Sec. 3.3 to 3.4 of the paper. Its public code stops at the detector
    (``earlybird.PUBLIC_CODE``) and prunes nothing. Taught in *Drawing the ticket* and *A tour of
    pruning methods*.

    Examples
    --------
    >>> from splinelib import data, earlybird, nets, train
    >>> probe, rest = earlybird.held_out(data.load("digits")[0], 100)
    >>> net = nets.build("convnet", 10, channels=[4], kernels=[3], batch_norm=True)
    >>> recipe = train.Recipe(epochs=8, batch=256, drops=(4,))
    >>> ticket = eb_spline(net, 0.5, train.trainer(data.Batches(rest, 256), recipe), probe)
    >>> ticket.fired, ticket.epoch < 8
    (True, True)
    """
    need_fit("eb_spline", fit)
    if probe is None:
        raise ValueError(
            "eb_spline watches the codes of some inputs, so it needs probe: eb_spline(net, ratio, "
            "fit, probe) with probe, rest = splinelib.earlybird.held_out(images)."
        )
    check(net, ratio, **options)  # better told now than after the training
    bird = EarlyBird(probe, rule, weight=weight, features=features)
    run = fit(net, label, until=bird)
    return Ticket(run.net, spline(run.net, ratio, **options), run.epoch, run.stopped)
