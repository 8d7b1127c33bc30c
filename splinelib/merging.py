"""Merging coincident units: one does the work of both, and the function stays as it is.

If two units of a layer draw the same hyperplane, their pre-activations are proportional,
``z_gone = c z_survivor``.  Where what follows keeps that factor, the weights that read ``gone`` can
be added, times the factor, to those that read ``survivor``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from splinelib.folding import columns, remove_units, rounded, working_copy
from splinelib.redundancy.pairs import has_hyperplane, numbers, pair_matrix
from splinelib.units.order import NORMS, is_a
from splinelib.units.walk import Reader, Units, find, known, units
from splinelib.units.weights import Rows, need_eval, rows


class Merged(NamedTuple):
    """What ``merge_all`` did: the new network and two lists.

    ``merged`` holds ``(layer, survivor, gone)``, in the order of merging, and ``refused`` holds
    ``(layer, survivor, gone, reason)`` for each coincident unit that had to stay.
    """

    net: nn.Module
    merged: list[tuple[str, int, int]]
    refused: list[tuple[str, int, int, str]]


def coincident(
    W: ArrayLike | Tensor, b: ArrayLike | Tensor, *, precision: torch.dtype | None = None
) -> list[list[int]]:
    """Groups of units that draw the same hyperplane.

    Parameters
    ----------
    W : Tensor or array (n, d)
        Slope vectors, one row a unit; see ``units.rows``.  Rows of zeros draw no hyperplane and
        are in no group.
    b : Tensor or array (n,)
        Offsets.
    precision : torch.dtype, optional
        The type in which the weights were rounded, if it is coarser than that of W.

    Returns
    -------
    list of list of int
        Two or more units each, in ascending order: the first one and all those with N* = 0 to it,
        by the rounding rule of ``redundancy.pair_matrix``.  Units on their own are left out.

    Raises
    ------
    ValueError
        If W and b do not fit or hold NaN or infinity.

    Notes
    -----
    Taught in *Redundant units*.

    Examples
    --------
    >>> coincident([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]], [-3.0, 0.0, 1.0])
    [[0, 2]]
    """
    drawn = has_hyperplane(W)
    W, b = numbers(W, "W"), numbers(b, "b")
    if b.shape == W.shape[:1]:  # if not, pair_matrix says so
        W, b = W[drawn], b[drawn.to(b.device)]
    drawing = drawn.nonzero().flatten().tolist()
    if len(drawing) < 2:
        return []
    same = pair_matrix(W, b, precision=precision) == 0
    groups, free = [], torch.ones_like(drawn[drawn])
    for k in (same.sum(1) > 1).nonzero().flatten().tolist():
        if free[k]:
            members = (same[k] & free).nonzero().flatten().tolist()
            free[members] = False
            groups.append([drawing[k] for k in members])
    return [group for group in groups if len(group) > 1]


def merge(net: nn.Module, layer: str, survivor: int, gone: int) -> nn.Module:
    """Merge two coincident units of a layer, without any change of the function.

    Parameters
    ----------
    net : nn.Module
        A network, see ``splinelib.units`` (the inputs of a Linear are ``(B, features)``), its
        BatchNorms in evaluation mode; it stays as it is.
    layer : str
        Path of the Linear or Conv2d, as in ``net.named_modules()``.
    survivor, gone : int
        The two units, from 0.  All weights of ``gone`` are zero afterwards, also the outgoing ones.

    Returns
    -------
    nn.Module
        A copy with the same function in evaluation mode, to rounding.

    Raises
    ------
    ValueError
        With the reason, if there are no such units, if their hyperplanes differ, or if the factor
        between them does not reach the readers: they look to opposite sides and the activation is
        not even, or something besides layers reads them (a sum, the output, ...).  Also if a weight
        is NaN or infinite, or would become so, or a BatchNorm is in training mode.

    Notes
    -----
    With ``z_gone = c z_survivor`` after folding BatchNorm, ``V_survivor += factor V_gone`` where
    the factor is c if c > 0, ``|c|`` for the absolute value, and c if no activation follows.  For
    c < 0 and any other leakiness, ``sigma(-z) = sigma(z) - (1 + alpha) z``: the linear term has no
    unit to carry it.  Taught in *Redundant units*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.by_hand(([[1], [2]], [1, 2]), ([[5, 7]], [0]))
    >>> merged = merge(net, "0", survivor=0, gone=1)
    >>> merged[0].weight.tolist(), merged[2].weight.tolist()
    ([[1.0], [0.0]], [[19.0, 0.0]])
    >>> x = torch.tensor([[-3.0], [4.0]], dtype=torch.float64)
    >>> bool((merged(x) == net(x)).all())
    True
    """
    need_eval("merge", net)
    at = find(net, layer)
    for unit in (survivor, gone):
        if unit not in range(at.width):
            raise ValueError(f"'{layer}' has no unit {unit}; its units are 0 to {at.width - 1}.")
    if survivor == gone:
        raise ValueError(f"survivor and gone are both {gone}; give two different units.")
    net = working_copy(net)
    _merge(net, at, rows(net, at), survivor, gone)
    return net


def merge_all(net: nn.Module, layers: Iterable[str] | None = None) -> Merged:
    """Merge all coincident units that can be merged without loss.

    Parameters
    ----------
    net : nn.Module
        A network, as in ``merge``; it stays as it is.
    layers : iterable of str, optional
        Paths of the layers to look at.  By default all.

    Returns
    -------
    Merged
        ``net``, a copy with the same function, ``merged`` and ``refused``.

    Raises
    ------
    ValueError
        If a layer is unknown, the network is not understood, or a BatchNorm is in training mode.

    Notes
    -----
    Each group of coincident units is merged into its first unit.  With an activation that is not
    even, those on the other side of the hyperplane are merged into the first of theirs.  Layers
    are taken in order of evaluation, each with the weights that the merges before have left, so
    units that tell two merged units apart may become coincident, and are merged, too.  Taught in
    *Redundant units*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.by_hand(([[1], [2], [-3]], [1, 2, -3]), ([[5, 7, 1]], [0]))
    >>> merged = merge_all(net)
    >>> merged.merged, [refusal[:3] for refusal in merged.refused]
    ([('0', 0, 1)], [('0', 0, 2)])
    >>> merged.refused[0][-1].split("and ")[-1]
    'relu(-z) = relu(z) - z needs a linear term that no unit carries.'
    """
    need_eval("merge_all", net)
    found, net = units(net), working_copy(net)
    chosen = known(found, found if layers is None else layers)
    result = Merged(net, [], [])
    for at in (at for layer, at in found.items() if layer in chosen):
        here = rows(net, at)
        for group in coincident(*here, precision=_precision(net, at)):
            _merge_group(result, at, here, group)
    return result


def _merge_group(result: Merged, at: Units, here: Rows, group: list[int]) -> None:
    """Merge the units of a group into as few as possible, in place."""
    survivors = group[:1]
    for gone in group[1:]:
        reasons = []
        for survivor in survivors:
            try:
                _merge(result.net, at, here, survivor, gone)
            except ValueError as error:
                reasons.append(str(error))
            else:
                result.merged.append((at.layer, survivor, gone))
                break
        else:
            result.refused.append((at.layer, group[0], gone, reasons[0]))
            survivors.append(gone)


def _merge(net: nn.Module, at: Units, here: Rows, survivor: int, gone: int) -> None:
    """Merge two units of a working copy in place, or say why not."""
    pair = f"units {survivor} and {gone} of '{at.layer}'"
    W, b = here.W[[survivor, gone]], here.b[[survivor, gone]]
    if not has_hyperplane(W).all():
        raise ValueError(f"one of {pair} is constant; splinelib.folding.fold_constants moves it.")
    distance = pair_matrix(W, b, precision=_precision(net, at))[0, 1].item()
    if distance > 0:
        raise ValueError(
            f"{pair} draw different hyperplanes (N* = {distance:.3g}), so merging them would "
            "change the function."
        )
    if at.closed:
        raise ValueError(f"{pair} cannot be merged: {at.closed}.")
    _add(net, at, survivor, gone, _factor(at, pair, _ratio(W)))


def _factor(at: Units, pair: str, ratio: float) -> float:
    """The factor with ``h_gone = factor h_survivor``, from that of the pre-activations."""
    if not (math.isfinite(ratio) and ratio):
        raise ValueError(f"{pair} cannot be merged: the ratio of their weights is {ratio}.")
    if ratio < 0 and at.alpha not in (None, -1):
        raise ValueError(
            f"{pair} look to opposite sides of their hyperplane, and "
            f"{_name(at.alpha)} needs a linear term that no unit carries."
        )
    for reader in at.readers:
        between = f"stands between '{at.layer}' and '{reader.layer}'"
        if any(is_a(op, NORMS) for op in reader.through):
            raise ValueError(f"{pair} cannot be merged: a BatchNorm {between}.")
        if ratio < 0 and _pools_signs(reader):
            raise ValueError(f"{pair} have opposite signs, and a max-pooling {between}.")
    return abs(ratio) if at.alpha is not None else ratio


def _pools_signs(reader: Reader) -> bool:
    """Whether a max-pooling comes before any activation."""
    kinds = [op.kind for op in reader.through if op.kind in ("max", "sign")]
    return kinds[:1] == ["max"]


def _add(net: nn.Module, at: Units, survivor: int, gone: int, factor: float) -> None:
    """Let ``survivor`` do the work of ``gone``, in place: all readers, or none and an error."""
    sums = []
    for reader in at.readers:
        read = columns(net, reader, at.width)
        added = read[:, survivor].double() + factor * read[:, gone].double()
        sums.append(rounded(added, read, f"the weights of '{reader.layer}'"))
    for reader, added in zip(at.readers, sums, strict=True):
        columns(net, reader, at.width)[:, survivor] = added
    remove_units(net, at, [gone])


def _name(alpha: float) -> str:
    """What an activation of some leakiness does to -z, in words."""
    if alpha == 0:
        return "relu(-z) = relu(z) - z"
    return f"sigma(-z) = sigma(z) - {1 + alpha:g} z"


def _ratio(W: Tensor) -> float:
    """The c with ``w_gone = c w_survivor``, for rows (survivor, gone) that are parallel."""
    largest = W.abs().amax(1, keepdim=True)
    survivor, gone = W / largest  # at most 1, so that no square over- or underflows
    return ((gone @ survivor) / (survivor @ survivor) * largest[1] / largest[0]).item()


def _precision(net: nn.Module, at: Units) -> torch.dtype:
    """The type in which the weights of a layer are rounded."""
    return net.get_submodule(at.layer).weight.dtype
