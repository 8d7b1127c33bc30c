"""Spline pruning: of the two units whose hyperplanes are closest, one goes, again and again."""

import math
from collections.abc import Collection, Iterator
from numbers import Real
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.ops import unwrapped
from splinelib.pruning.family import (
    Scope,
    check_ratio,
    exactly,
    keep_best,
    targets,
)
from splinelib.pruning.hyperplanes import drawing, hyperplanes
from splinelib.pruning.reduce import PROJECTIONS, Reduce, check_reduce, common_rank, distances
from splinelib.redundancy import greedy
from splinelib.surgery.groups import Group, Residual
from splinelib.units import Rows, units
from splinelib.units.weights import need_eval

Criterion = Literal["invariant", "paper"]
Bias = Literal["folded", "beta", "none"]
FORMS = {"invariant": "invariant", "paper": "printed"}


class _Going(NamedTuple):
    """Score of each channel of a group, and its place in the order of removal, both ``(n,)``."""

    scores: Tensor
    steps: Tensor


def spline(
    net: nn.Module,
    ratio: float,
    *,
    scope: Scope = "layerwise",
    criterion: Criterion = "invariant",
    bias: Bias = "folded",
    rho: float = 0.05,
    reduce: Reduce = "none",
    rank: int | None = None,
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
) -> Mask:
    """Remove the units whose hyperplanes are nearest to those of others.

    Parameters
    ----------
    net : nn.Module
        A network, see ``splinelib.units``, in evaluation mode, as BatchNorm counts with its running
        statistics (with the other choices of ``bias`` in either mode). It stays as it is.
    ratio : float, in [0, 1)
        The share of units that go. Of n, ``floor(ratio n + 1/2)`` are removed (the paper does not
        say how it rounds).
    scope : "layerwise" or "global"
        Whether n counts the units of each group, of which the last one always stays (so 0.9 of 4
        removes 3), or of all groups together.
    criterion : "invariant" or "paper"
        ``N* = (1 - |c|) + rho |o_k - sgn(c) o_k'|``, which is 0 exactly where hyperplanes coincide,
        or Eq. 6 as it is printed, ``(1 - |c|) + rho |b_k - b_k'|``.
    bias : "folded", "beta" or "none"
        What b is behind a BatchNorm, see ``units.rows``; the paper does not say.
    rho : float, above 0
        Weight of offsets against angles.
    reduce : "none", "pca", "fa", "svd" or "null"
        How angles of layers with many and with few inputs are made comparable. "pca" and "fa"
        (scikit-learn) and "svd" (not centred) bring the directions of each layer to ``rank``
        dimensions. "null" takes, for ``1 - |c|``, the probability that two random directions have a
        cosine at least as large, and drops nothing.
    rank : int, optional
        Dimension for "pca", "fa" and "svd". Default: the largest that all groups allow, the
        smallest number of hyperplanes or inputs of any.
    residual : "inner", "select" or "joint"
        Which channels may go, see ``splinelib.surgery.groups``, which lists them: where most layers
        are in sums, or are grouped convolutions, "inner" is little.
    layers : collection of str, optional
        Names of the groups to prune; default: all.

    Returns
    -------
    Mask
        For ``splinelib.surgery.cut``.

    Raises
    ------
    ValueError
        A ratio outside [0, 1), or out of reach because every group keeps a unit; an unknown option
        or a rank that is too large; no unit that could go; an operation that is not supported; NaN;
        a BatchNorm in training mode.

    Notes
    -----
    Each pair of units is told how far its two hyperplanes are apart, and one unit of the closest
    pair goes (which one: see ``redundancy.greedy``), until enough are gone. These values never fall
    within a group, so one threshold over all of them is the greedy over the whole network. Of units
    that draw one hyperplane, all but one go at the value 0, before any other.

    Units without a hyperplane (w = 0, or gamma = 0) go first. They are constants, and the masked
    network loses them: call ``splinelib.folding.fold_constants`` before if they matter. Units with
    the same hyperplane can be merged before without any change of the function, by
    ``splinelib.merging.merge_all``. A unit that is nearly constant, its hyperplane far outside the
    data, counts as far from all others.

    Paper, Eq. 6, Proposition 2, Sec. 4.2 (layerwise) and 4.3 (global with PCA; App. C: FA), with
    rho = 0.05. Its public code does not prune. Ours: the rank, which the paper does not give;
    fitting per layer, on directions of length 1; comparing pairs within layers only, because
    components of two layers have nothing to do with each other; offsets of whole rows; "svd" and
    "null". Centring moves w and -w apart, so units that share a hyperplane are kept at distance 0
    whatever the projection. FactorAnalysis takes several times as long as PCA.
    Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.by_hand(([[1, 0], [-2, 0], [1, 1]], [1, -2, 0]), ([[5, 7, 1]], [0]))
    >>> mask = spline(net, 1 / 3)
    >>> mask.entries["0.bias"].tolist()
    [True, False, True]
    """
    chosen = {"criterion": criterion, "bias": bias, "reduce": reduce, "rank": rank}
    found = check(net, ratio, scope=scope, rho=rho, residual=residual, layers=layers, **chosen)
    going = dict(_going(net, found, criterion, bias, rho, reduce, rank))
    return keep_best(net, found, _ranks(going), ratio, scope)


def spline_scores(
    net: nn.Module,
    *,
    criterion: Criterion = "invariant",
    bias: Bias = "folded",
    rho: float = 0.05,
    reduce: Reduce = "none",
    rank: int | None = None,
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Score each unit by the distance of the closest pair at the moment when it goes.

    Parameters
    ----------
    net, criterion, bias, rho, reduce, rank, residual, layers
        As in ``spline``.

    Returns
    -------
    dict of str to Tensor (n,), float64
        By the name of the group: +inf for the unit that outlives all others, -inf for units without
        a hyperplane.

    Raises
    ------
    ValueError
        As ``spline``.

    Notes
    -----
    ``spline`` removes the lowest ones, and of equal scores those that go first in the order of
    removal. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.by_hand(([[1, 0], [-2, 0], [0, 1]], [1, -2, 0]), ([[5, 7, 1]], [0]))
    >>> spline_scores(net)["0"].tolist()
    [inf, 0.0, 1.05]
    """
    found = targets(net, residual, layers)
    going = _going(net, found, criterion, bias, rho, reduce, rank)
    return {name: at.scores for name, at in going}


def check(
    net: nn.Module,
    ratio: float,
    *,
    scope: Scope = "layerwise",
    criterion: Criterion = "invariant",
    bias: Bias = "folded",
    rho: float = 0.05,
    reduce: Reduce = "none",
    rank: int | None = None,
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
) -> dict[str, Group]:
    """The groups that ``spline`` would prune; its errors, before any work is done."""
    check_ratio(ratio, scope)
    _check(criterion, bias, reduce, rank)
    if not (isinstance(rho, Real) and 0 < rho < math.inf):
        raise ValueError(f"rho is {rho!r}; a positive number is needed, such as the paper's 0.05.")
    found = targets(net, residual, layers)
    exactly({name: torch.zeros(group.width) for name, group in found.items()}, ratio, scope)
    return found


def _going(
    net: nn.Module, found: dict[str, Group], criterion, bias, rho, reduce, rank
) -> Iterator[tuple[str, _Going]]:
    """Go through the groups one by one, so that the pairs of one alone are held."""
    _check(criterion, bias, reduce, rank)
    if bias == "folded":
        need_eval(f"spline with bias={bias!r}", net)
    net = unwrapped(net)
    at = units(net)
    if reduce in PROJECTIONS:
        sizes = {name: _size(hyperplanes(net, at, group, bias)) for name, group in found.items()}
        rank = common_rank(sizes, rank)
    for name, group in found.items():
        drawn, here = drawing(hyperplanes(net, at, group, bias))
        N = None
        if len(here.b) > 1:
            precision = _precision(net, group)
            try:
                N = distances(here, rho, FORMS[criterion], reduce, rank, precision)
            except ValueError as error:
                raise ValueError(f"the units of {name!r} cannot be compared: {error}") from error
        yield name, _order(N, drawn)


def _precision(net: nn.Module, group: Group) -> torch.dtype:
    """The type in which the numbers of a group are rounded."""
    if group.writers:
        return net.get_submodule(group.writers[0]).weight.dtype
    return net.get_submodule(group.norms[0]).running_mean.dtype


def _size(here: Rows) -> tuple[int, int]:
    """How many hyperplanes there are, of how many inputs."""
    n, d = drawing(here)[1].W.shape
    return n, d


def _order(N: Tensor | None, drawn: Tensor) -> _Going:
    """Scores and steps of the channels of a group: those that draw nothing, then the greedy."""
    scores = torch.full(drawn.shape, torch.inf, dtype=torch.float64, device=drawn.device)
    scores[~drawn] = -torch.inf
    steps = torch.arange(len(drawn), device=drawn.device)
    if N is not None:
        order, values, _ = greedy(N)
        places = drawn.nonzero().flatten()[order]
        scores[places] = values
        steps[places] = torch.arange(len(places), device=drawn.device)
    if not drawn.any():
        scores[0] = torch.inf  # one unit stays in any case
    return _Going(scores, steps)


def _ranks(going: dict[str, _Going]) -> dict[str, Tensor]:
    """Scores with ties broken as the greedy breaks them: by layer, then by order of removal."""
    sizes = [len(at.steps) for at in going.values()]
    scores = np.concatenate([at.scores.cpu().numpy() for at in going.values()])
    steps = np.concatenate([at.steps.cpu().numpy() for at in going.values()])
    order = np.lexsort((steps, np.repeat(np.arange(len(sizes)), sizes), scores))
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    ranks[np.isposinf(scores)] = np.inf
    return dict(zip(going, torch.from_numpy(ranks).split(sizes), strict=True))


def _check(criterion: str, bias: str, reduce: str, rank: int | None) -> None:
    """Raise a ``ValueError`` for an option that is unknown."""
    if criterion not in get_args(Criterion):
        raise ValueError(f"criterion is {criterion!r}, but must be one of {get_args(Criterion)}.")
    if bias not in get_args(Bias):
        raise ValueError(f"bias is {bias!r}, but must be one of {get_args(Bias)}.")
    check_reduce(reduce, rank)
