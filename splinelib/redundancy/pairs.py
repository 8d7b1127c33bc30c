"""How nearly two units of one layer draw the same hyperplane, for all pairs of units."""

from __future__ import annotations

import math
import operator
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

Form = Literal["invariant", "printed"]
ROUNDING = 32  # directions and offsets this many eps apart count as equal
CLOSE = 1e-4  # 1 - |c| below this is not left to subtraction
WORK = {"cpu": 2**18}  # numbers that a temporary of the close pairs holds: what a cache holds


def has_hyperplane(W: ArrayLike | Tensor) -> Tensor:
    """Whether each unit draws a hyperplane at all: its row of weights is not zero.

    Parameters
    ----------
    W : Tensor or array (n, d)
        Slope vectors, one row a unit.

    Returns
    -------
    Tensor (n,), bool

    Raises
    ------
    ValueError
        If W is not (n, d), or holds NaN or infinity.

    Notes
    -----
    A unit without a hyperplane is a constant: ``splinelib.folding`` moves it into the next layer.
    Taught in *Redundant units*.

    Examples
    --------
    >>> has_hyperplane([[1.0, 0.0], [0.0, 0.0]]).tolist()
    [True, False]
    """
    W = numbers(W, "W")
    if W.ndim != 2:
        raise ValueError(
            "W must be (n, d), one row a unit (flatten filters by W.flatten(1)); got shape "
            f"{tuple(W.shape)}."
        )
    if not torch.isfinite(W).all():
        raise ValueError(f"W {tuple(W.shape)} holds NaN or infinity; remove these units first.")
    return (W != 0).any(1)


def pair_matrix(
    W: ArrayLike | Tensor,
    b: ArrayLike | Tensor,
    rho: float = 0.05,
    form: Form = "invariant",
    *,
    block: int = 512,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Redundancy of each pair of units: 0 where they draw the same hyperplane.

    Parameters
    ----------
    W : Tensor or array (n, d)
        Slope vectors, one row a unit, n >= 2, see ``units.rows``.  No row is zero; ``greedy`` shows
        how to leave such rows out.
    b : Tensor or array (n,)
        Offsets.
    rho : float > 0
        Weight of offsets against angles.
    form : {"invariant", "printed"}
        ``"invariant"``: ``N* = (1 - |c|) + rho |o_k - sgn(c) o_k'|``, which depends on the
        hyperplanes alone.  ``"printed"``: ``(1 - |c|) + rho |b_k - b_k'|``, the paper's Eq. 6.
    block : int
        Units that are compared with as many others at once.  Beside the result, about
        ``block (2 d + 10 block)`` numbers are held, and ``4 block d`` more where pairs are close.
    precision : torch.dtype, optional
        The type in which weights and offsets were rounded, such as float32 for ``units.rows`` of a
        float32 network.  By default the type of W; that of b never counts, as zeros are zeros in
        any type.

    Returns
    -------
    Tensor (n, n), float64, on the device of W
        Symmetric to the last bit, zeros on the diagonal.

    Raises
    ------
    ValueError
        If rho is not a positive number, the form unknown, a layer of less than two units given,
        a row zero (no hyperplane), or W and b do not fit or hold NaN or infinity.

    Notes
    -----
    Near 1, ``1 - |c|`` is computed as ``||u_k - sgn(c) u_k'||^2 / 2``, which does not cancel, once
    for all units with the same direction.  This is the slow part where many units are close without
    being the same, d numbers a pair.
    The rounding rule: directions at most ``32 eps`` apart and offsets at most ``32 eps (1 + |o|)``
    apart count as equal, with the eps of ``precision``, but no coarser than that of float32; that
    is 7e-15 for float64 and 4e-6 for float32.  A cosine of at most ``32 eps`` has no sign, and the
    sign that makes N* smaller is taken.

    Paper, Eq. 6 and Proposition 2; taught in *Redundant units*.

    Examples
    --------
    The plane x = 1 twice, scaled and turned round, and the plane y = 0:

    >>> W, b = [[3.0, 0.0], [-1.0, 0.0], [0.0, 2.0]], [-3.0, 1.0, 0.0]
    >>> pair_matrix(W, b).tolist()
    [[0.0, 0.0, 1.05], [0.0, 0.0, 1.05], [1.05, 1.05, 0.0]]
    >>> pair_matrix(W, b, form="printed")[0, 1].item()
    0.2
    """
    W, b = _layer(W, b)
    _check_options(rho, form, block)
    eps = min(torch.finfo(kind).eps for kind in (torch.float32, precision or W.dtype))
    parts = [slice(i, i + block) for i in range(0, len(W), block)]
    offsets = _offsets(W, b, parts)
    shifts = offsets if form == "invariant" else b.double()
    N = torch.empty(len(W), len(W), dtype=torch.float64, device=W.device)
    for number, rows in enumerate(parts):
        u = _directions(W[rows])[0]
        for columns in parts[number:]:
            v = u if columns == rows else _directions(W[columns])[0]
            cosines = (u @ v.T).triu(1) if columns == rows else u @ v.T
            values = _bends(u, v, cosines, ROUNDING * eps)
            sides = cosines if form == "invariant" else None
            values += rho * _shifts(shifts[rows], shifts[columns], sides, ROUNDING * eps)
            if columns == rows:  # symmetric to the last bit, as a product need not be
                values = values.triu(1) + values.triu(1).T
            N[rows, columns], N[columns, rows] = values, values.T
    return N


def numbers(values: ArrayLike | Tensor, name: str) -> Tensor:
    """A floating-point tensor of what is given; lists and arrays as NumPy reads them."""
    if not isinstance(values, Tensor):
        values = torch.tensor(np.ascontiguousarray(values))
    if values.is_complex():
        raise ValueError(f"{name} must hold real numbers; got {values.dtype}.")
    return values.detach() if values.is_floating_point() else values.double()


def _layer(W: ArrayLike | Tensor, b: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    """W (n, d) and b (n,), or an error that says what is wrong with them."""
    drawn, W = has_hyperplane(W), numbers(W, "W")
    b = numbers(b, "b").to(W.device)
    if b.shape != W.shape[:1]:
        raise ValueError(
            f"b must hold one finite offset a row of W, ({len(W)},), zeros if the layer has none; "
            f"got shape {tuple(b.shape)}."
        )
    if not torch.isfinite(b).all():
        raise ValueError(f"b ({len(b)},) holds NaN or infinity; remove these units first.")
    if len(W) < 2:
        raise ValueError(f"W has {len(W)} row; two units at least are needed to make a pair.")
    if not drawn.all():
        zero = (~drawn).nonzero().flatten().tolist()
        raise ValueError(
            f"rows {_listed(zero)} of W are zero and draw no hyperplane; remove them first: "
            "has_hyperplane(W) says which rows stay."
        )
    return W, b


def _listed(numbers: list[int]) -> str:
    return str(numbers) if len(numbers) <= 10 else f"{str(numbers[:10])[:-1]}, ...]"


def _check_options(rho: float, form: str, block: int) -> None:
    if not (rho > 0 and math.isfinite(rho)):
        raise ValueError(f"rho is {rho}; a positive number is needed, such as the paper's 0.05.")
    if form not in get_args(Form):
        raise ValueError(f"form {form!r} is unknown; give one of {get_args(Form)}.")
    if operator.index(block) < 1:
        raise ValueError(f"block is {block}; give a number of units, 1 or more.")


def _offsets(W: Tensor, b: Tensor, parts: list[slice]) -> Tensor:
    """Signed offsets (n,) of the rows, for their directions as `_directions` turns them."""
    polar = [(b[rows].double(), *_directions(W[rows])[1:]) for rows in parts]
    offsets = torch.cat([b / top[:, 0] / length[:, 0] for b, top, length in polar])
    if not torch.isfinite(offsets).all():
        far = (~torch.isfinite(offsets)).nonzero().flatten().tolist()
        raise ValueError(
            f"the hyperplanes of units {_listed(far)} are further away than float64 can say "
            "(|b| / ||w|| overflows); remove these units first."
        )
    return offsets


def _directions(W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows at length 1, float64, and what they were divided by, so that no scale overflows.

    That is first the largest entry (m, 1), with its sign: of a row and its multiples, most come out
    equal to the last bit.  Then the length (m, 1).
    """
    W = W.double()
    top = W.gather(1, W.abs().argmax(1, keepdim=True))
    W = W / top
    length = W.square().sum(1, keepdim=True).sqrt()
    return W / length, top, length


def _bends(u: Tensor, v: Tensor, cosines: Tensor, tolerance: float) -> Tensor:
    """1 - |c| of each pair of directions, u (m, d), v (n, d) -> (m, n)."""
    values = 1 - cosines.abs()
    i, j = (values < CLOSE).nonzero(as_tuple=True)
    if len(i):
        turned = -cosines[i, j].sign()
        (u, of_u), (v, of_v) = (x.unique(dim=0, return_inverse=True) for x in (u, v))
        i_, j_ = of_u[i], of_v[j]
        table = values.new_zeros(len(u), len(v))
        table[i_, j_] = turned
        values[i, j] = _halves(u, v, table, tolerance)[i_, j_]
    return values


def _halves(u: Tensor, v: Tensor, turned: Tensor, tolerance: float) -> Tensor:
    """||u_k + turned v_k'||^2 / 2 of each pair with turned (m, n) = +-1, in place of that."""
    i, j = turned.nonzero(as_tuple=True)
    size = max(1, WORK.get(u.device.type, 2**25) // u.shape[1])
    for first, second in zip(i.split(size), j.split(size), strict=True):
        signs = turned[first, second][:, None]
        apart = torch.addcmul(u.index_select(0, first), signs, v.index_select(0, second))
        lengths = torch.linalg.vector_norm(apart, dim=1)
        turned[first, second] = torch.where(lengths > tolerance, lengths.square() / 2, 0)
    return turned


def _shifts(o: Tensor, p: Tensor, cosines: Tensor | None, tolerance: float) -> Tensor:
    """|o_k - sgn(c) o_k'| of each pair, o (m,), p (n,) -> (m, n); without cosines |o_k - o_k'|."""
    straight = (o[:, None] - p).abs()
    if cosines is None:
        return straight
    turned = (o[:, None] + p).abs()
    shifts = torch.where(cosines > 0, straight, turned)
    shifts = torch.where(cosines.abs() > tolerance, shifts, torch.minimum(straight, turned))
    slack = tolerance * (1 + torch.maximum(o.abs()[:, None], p.abs()))
    return shifts.masked_fill_(shifts <= slack, 0)
