"""How nearly two units of one layer draw the same hyperplane, for all pairs of units."""

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
WORK = 2**18  # numbers that a temporary of the close pairs holds: what a cache holds


def has_hyperplane(W: ArrayLike | Tensor) -> Tensor:
    """Whether each unit draws a hyperplane at all: its row of weights is not zero.

    Parameters
    ----------
    W : Tensor or array (C, d)
        Slope vectors, one row a unit.

    Returns
    -------
    Tensor (C,), bool

    Raises
    ------
    ValueError
        If W is not (C, d), or holds NaN or infinity.

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
    if W.ndim != 2 or not torch.isfinite(W).all():
        raise ValueError(
            f"W must be (C, d) with finite entries, one row a unit (flatten filters by "
            f"W.flatten(1)); got shape {tuple(W.shape)}"
            + ("." if W.ndim != 2 else " with NaN/inf.")
        )
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
    W : Tensor or array (C, d)
        Slope vectors, one row a unit, C >= 2, none of them zero; see ``units.rows``.
    b : Tensor or array (C,)
        Offsets.
    rho : float > 0
        Weight of offsets against angles.
    form : {"invariant", "printed"}
        ``"invariant"``: ``N* = (1 - |c|) + rho |o_k - sgn(c) o_k'|``, which depends on the
        hyperplanes alone.  ``"printed"``: ``(1 - |c|) + rho |b_k - b_k'|``, the paper's Eq. 6.
    block : int
        Units that are compared with as many others at once.  Beside the result, about
        ``block (2 d + 10 block)`` numbers are held.
    precision : torch.dtype, optional
        The type in which the weights were rounded, if it is coarser than that of W, as for
        ``units.rows`` of a float32 network.  By default the type of W.

    Returns
    -------
    Tensor (C, C), float64, on the device of W
        Symmetric to the last bit, zeros on the diagonal.

    Raises
    ------
    ValueError
        If rho is not a positive number, the form unknown, a layer of less than two units given,
        a row zero (no hyperplane), or W and b do not fit or hold NaN or infinity.

    Notes
    -----
    Near 1, ``1 - |c|`` is computed as ``||u_k - sgn(c) u_k'||^2 / 2``, which does not cancel.
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
    types = (W.dtype, b.dtype, precision or W.dtype)
    eps = min(torch.finfo(torch.float32).eps, max(torch.finfo(kind).eps for kind in types))
    lengths, offsets = _polar(W, b, block)
    shifts = offsets if form == "invariant" else b.double()
    N = torch.empty(len(W), len(W), dtype=torch.float64, device=W.device)
    parts = [slice(i, i + block) for i in range(0, len(W), block)]
    for number, rows in enumerate(parts):
        u = _directions(W, lengths, rows)
        for columns in parts[number:]:
            v = u if columns == rows else _directions(W, lengths, columns)
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
    """W (C, d) and b (C,), or an error that says what is wrong with them."""
    drawn, W = has_hyperplane(W), numbers(W, "W")
    b = numbers(b, "b").to(W.device)
    if b.shape != W.shape[:1] or not torch.isfinite(b).all():
        raise ValueError(
            f"b must hold one finite offset a row of W, ({len(W)},), zeros if the layer has none; "
            f"got shape {tuple(b.shape)}"
            + ("." if b.shape != W.shape[:1] else " with NaN or infinity.")
        )
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


def _polar(W: Tensor, b: Tensor, block: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Length of each row in two factors (C, 1), its largest entry and the rest; offsets (C,)."""
    largest = torch.cat([part.abs().amax(1, keepdim=True) for part in W.split(block)]).double()
    rest = torch.cat(
        [
            (part.double() / top).square().sum(1, keepdim=True).sqrt()
            for part, top in zip(W.split(block), largest.split(block), strict=True)
        ]
    )
    offsets = b.double() / largest[:, 0] / rest[:, 0]
    if not torch.isfinite(offsets).all():
        far = (~torch.isfinite(offsets)).nonzero().flatten().tolist()
        raise ValueError(
            f"the hyperplanes of units {_listed(far)} are further away than float64 can say "
            "(|b| / ||w|| overflows); remove these units first."
        )
    return (largest, rest), offsets


def _directions(W: Tensor, lengths: tuple[Tensor, Tensor], rows: slice) -> Tensor:
    """Some rows at length 1, float64; in two steps, so that no scale over- or underflows."""
    return W[rows].double() / lengths[0][rows] / lengths[1][rows]


def _bends(u: Tensor, v: Tensor, cosines: Tensor, tolerance: float) -> Tensor:
    """1 - |c| of each pair of directions, u (m, d), v (n, d) -> (m, n)."""
    values = 1 - cosines.abs()
    i, j = (values < CLOSE).nonzero(as_tuple=True)
    size = max(1, WORK // u.shape[1])
    for first, second in zip(i.split(size), j.split(size), strict=True):
        turned = -cosines[first, second].sign()[:, None]
        apart = torch.addcmul(u.index_select(0, first), turned, v.index_select(0, second))
        lengths = torch.linalg.vector_norm(apart, dim=1)
        values[first, second] = torch.where(lengths > tolerance, lengths.square() / 2, 0)
    return values


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
