"""The affine map that a network applies around each input: codes, slopes, ``(A, b)``.

A network of affine layers and piecewise affine activations *is* an affine map on each cell of its
partition (paper, Eq. 1-4).  This module says which cell an input is in (its code) and which affine
map holds there.  The map is found by carrying it through the layers exactly, not by differences.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from splinelib.ops import Op
from splinelib.stages import Stage, read


class AffineMap(NamedTuple):
    """The maps ``f(x) = A x + b``, one for each of B inputs.

    ``A`` has shape ``(B, C, D)`` and ``b`` has shape ``(B, C)``, with D the size of one input laid
    flat and C the number of outputs; both float64, on the device of the inputs.
    """

    A: Tensor
    b: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Apply each map to its own input.  x (B, ...) -> (B, C)."""
        return (self.A @ x.flatten(1).to(self.A.dtype).unsqueeze(2)).squeeze(2) + self.b


def codes(net: nn.Module, x: Tensor) -> Tensor:
    """Code of the region that each input is in: which units are active.

    Parameters
    ----------
    net : nn.Module
        A piecewise affine network (operations: see ``splinelib.ops``).
    x : Tensor (B, ...)
        Inputs.

    Returns
    -------
    Tensor (B, K), int8 (int32 if a window has more than 127 entries)
        One column a unit, in order of evaluation: +1 where its pre-activation is positive and -1
        elsewhere.  The column of a max-pooling window holds the index of the entry that wins.

    Raises
    ------
    ValueError
        If the network is not piecewise affine or the inputs do not fit it.

    Notes
    -----
    The operator S of the paper (Sec. 3.1, below Eq. 3), with the sign that puts +1 on the active
    side; taught in *From layer to CPA map*.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.eye(2)), net[0].bias.zero_()
    >>> codes(net, torch.tensor([[1.0, -1.0], [2.0, 3.0]])).tolist()
    [[1, -1], [1, 1]]
    """
    columns = [stage.codes(state) for stage, state in _states(net, x)]
    return torch.cat(columns, dim=1) if columns else torch.empty(len(x), 0, dtype=torch.int8)


def slopes(net: nn.Module, x: Tensor) -> Tensor:
    """Slope q of every activation at each input: 1 where active, alpha where not.

    Parameters
    ----------
    net : nn.Module
        A piecewise affine network.
    x : Tensor (B, ...)
        Inputs.

    Returns
    -------
    Tensor (B, K), float64
        The diagonals that stand in Eq. 4 once it is corrected: slopes in {1, alpha}, not signs.
        Max-pooling windows have no slope and no column.

    Notes
    -----
    Taught in *From layer to CPA map*.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(1, 1), nn.LeakyReLU(0.1))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.fill_(1.0), net[0].bias.zero_()
    >>> slopes(net, torch.tensor([[2.0], [-2.0]])).tolist()
    [[1.0], [0.1]]
    """
    columns = [
        _slope(stage.scores(state), stage.switch.alpha)
        for stage, state in _states(net, x)
        if stage.switch.kind == "sign"
    ]
    return torch.cat(columns, dim=1) if columns else torch.empty(len(x), 0, dtype=torch.float64)


def affine_map(net: nn.Module, x: Tensor, directions: Tensor | None = None) -> AffineMap:
    """The affine map that the network applies in the region of each input.

    Parameters
    ----------
    net : nn.Module
        A piecewise affine network.
    x : Tensor (B, ...)
        Inputs, one region each.
    directions : Tensor (P, D), optional
        Give ``A`` along these directions of the input space only: ``A`` is ``(B, C, P)``, and
        ``f(x) = A u + b`` for ``x = sum_p u_p directions_p``.  By default all D coordinate axes.

    Returns
    -------
    AffineMap
        ``A (B, C, D)`` and ``b (B, C)`` with ``f(x) = A x + b`` in the whole region of each input.

    Raises
    ------
    ValueError
        If the network is not piecewise affine or the inputs do not fit it.

    Notes
    -----
    Paper, Eq. 4 (with slopes in {1, alpha} on the diagonal) carried through all layers.  Offset
    and slopes go through every layer by themselves; f(x) is not used.  So ``A x + b == f(x)`` is a
    check and not a definition.  Taught in *From layer to CPA map*.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    >>> x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    >>> bool(torch.allclose(affine_map(net, x)(x), net(x), atol=1e-12))
    True
    """
    _check_inputs(x)
    if directions is None:
        directions = torch.eye(x[0].numel(), dtype=torch.float64, device=x.device)
    if directions.ndim != 2 or directions.shape[1] != x[0].numel():
        raise ValueError(
            f"directions must be (P, {x[0].numel()}) for inputs of shape {tuple(x.shape[1:])}; got "
            f"{tuple(directions.shape)}."
        )
    return map_of(read(net, x.shape[1:]), x.double(), directions)


def map_of(stages: Sequence[Stage], x: Tensor, directions: Tensor) -> AffineMap:
    """``affine_map`` of a network that is read already."""
    seeds = directions.to(x).reshape(-1, 1, *x.shape[1:]).expand(-1, *x.shape)
    maps = torch.cat([torch.zeros_like(x), *seeds])  # rows: the offset, then one a direction
    values = {next(iter(stages[0].live_in)): (x, maps)}
    for op in (op for stage in stages for op in stage.ops):
        values[op.name] = _through(op, [values[name] for name in op.inputs])
    _, maps = values[next(iter(stages[-1].live_out))]
    maps = maps.flatten(1).reshape(1 + len(directions), len(x), -1)
    return AffineMap(maps[1:].permute(1, 2, 0), maps[0])


def _through(op: Op, inputs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Carry values ``(B, ...)`` and affine maps ``((1 + D) B, ...)`` through one operation."""
    z, maps = inputs[0]
    if op.kind == "affine":
        value = op.apply(*(value for value, _ in inputs))
        images = op.apply(*(maps for _, maps in inputs))
        constant = op.apply(*(torch.zeros_like(value[:1]) for value, _ in inputs))
        images[len(z) :] -= constant  # A ← W A, b ← W b + bias: only the offset takes the bias
        return value, images
    copies = len(maps) // len(z)
    if op.kind == "sign":
        slope = _slope(z, op.alpha)
        return slope * z, maps * slope.repeat(copies, *[1] * (z.ndim - 1))
    winner = op.windows(z).argmax(2)
    shape = op.apply(z).shape
    chosen = op.windows(maps).gather(2, winner.repeat(copies, 1).unsqueeze(2))
    return op.apply(z), chosen.reshape(-1, *shape[1:])


def _slope(z: Tensor, alpha: float) -> Tensor:
    """1 where the unit is active (z > 0), alpha elsewhere."""
    return torch.where(z > 0, z.new_tensor(1.0), z.new_tensor(alpha))


def _states(net: nn.Module, x: Tensor) -> list[tuple[Stage, Tensor]]:
    """Each stage of the network with the state ``(B, S)`` that its switch sees."""
    _check_inputs(x)
    stages = read(net, x.shape[1:])
    state, seen = x.double().flatten(1), []
    for stage in stages[:-1]:
        state = stage.advance(state)
        seen.append((stage, state))
    return seen


def _check_inputs(x: Tensor) -> None:
    """Raise unless x holds at least one input, of finite numbers."""
    if x.ndim < 2 or len(x) == 0 or not torch.isfinite(x).all():
        raise ValueError(
            f"inputs must be a batch (B, ...) of finite numbers with B >= 1; got shape "
            f"{tuple(x.shape)}" + ("." if torch.isfinite(x).all() else " with NaN or infinity.")
        )
