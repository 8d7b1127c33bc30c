"""Pair matrices that can be compared between layers whose inputs differ in number.

The cosine of two directions that have nothing to do with each other shrinks as ``1 / sqrt(d)``, so
layers with few inputs look redundant beside those with many. Either all layers are brought to one
dimension ("pca", "fa", "svd"), or each cosine is told by how often chance would give it ("null").
"""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from splinelib.redundancy import pair_matrix
from splinelib.units import Rows

Reduce = Literal["none", "pca", "fa", "svd", "null"]
PROJECTIONS = ("pca", "fa", "svd")
TINY = torch.finfo(torch.float64).tiny
SAME = 1e-12  # directions that differ by less are equal, and scikit-learn divides by their spread


def distances(
    here: Rows,
    rho: float = 0.05,
    form: str = "invariant",
    reduce: Reduce = "none",
    rank: int | None = None,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Redundancy of each pair of units of a layer, comparable between layers.

    Parameters
    ----------
    here : Rows
        ``W (n, d)`` without zero rows and ``b (n,)``, n >= 2.
    rho, form, precision
        As in ``redundancy.pair_matrix``.
    reduce : {"none", "pca", "fa", "svd", "null"}
        What takes the place of ``1 - |c|``, see ``spline``.
    rank : int, optional
        Dimension after "pca", "fa", "svd": at most ``min(n, d)``.

    Returns
    -------
    Tensor (n, n), float64
        Symmetric, zeros on the diagonal; 0 for two units that draw one hyperplane, whatever
        ``reduce`` makes of their directions.

    Raises
    ------
    ValueError
        As ``redundancy.pair_matrix``.

    Notes
    -----
    Offsets are those of the whole rows. Taught in *A tour of pruning methods*.

    Examples
    --------
    Cosines of 0.6 in the plane; chance gives more in 59 of 100 cases:

    >>> W, b = torch.tensor([[1.0, 0.0], [3.0, 4.0]]).double(), torch.zeros(2).double()
    >>> distances(Rows(W, b))[0, 1].item()
    0.4
    >>> round(distances(Rows(W, b), reduce="null")[0, 1].item(), 2)
    0.59
    """
    whole = pair_matrix(*here, rho, form, precision=precision)
    if reduce == "none":
        return whole
    if reduce == "null":
        angles = pair_matrix(here.W, torch.zeros_like(here.b), rho, form, precision=precision)
        N = chance(angles, inputs(here.W)) + (whole - angles).clamp(min=0)
    else:
        N = _projected(here, whole, rho, form, reduce, rank, precision)
    return N.masked_fill(whole == 0, 0)


def chance(angles: Tensor, d: int) -> Tensor:
    """How often two random directions of d dimensions have a cosine at least as large.

    Parameters
    ----------
    angles : Tensor (n, n)
        ``1 - |c|`` of each pair, symmetric.
    d : int
        Number of dimensions, 1 or more.

    Returns
    -------
    Tensor (n, n), float64, in [0, 1]
        It grows with ``angles``, strictly, and is 0 only for 0 (if d > 1; in one dimension all
        directions are parallel, and it is 1).

    Notes
    -----
    ``c^2`` of two uniform directions follows Beta(1/2, (d-1)/2), hence ``P(|C| >= |c|) =
    I_{1-c^2}((d-1)/2, 1/2)``, by ``scipy.special.betainc``. Where that is below what float64 can
    say, it is replaced by ``1 - |c|`` times the smallest normal number, so that the order stays.

    Examples
    --------
    >>> angles = 1 - torch.tensor([[1.0, 0.5], [0.5, 1.0]]).double()
    >>> [round(chance(angles, d)[0, 1].item(), 4) for d in (2, 3, 10, 100)]
    [0.6667, 0.5, 0.1173, 0.0]
    """
    if d == 1:
        return torch.ones_like(angles)
    from scipy.special import betainc

    pairs = np.triu_indices(len(angles), 1)
    t = angles.cpu().numpy()[pairs]
    p = np.maximum(betainc((d - 1) / 2, 0.5, t * (2 - t)), t * TINY)
    result = np.zeros(angles.shape)
    result[pairs] = p
    return torch.from_numpy(result + result.T).to(angles.device)


def inputs(W: Tensor) -> int:
    """The most inputs that one row of ``W (n, d)`` looks at.

    Zeros count for nothing: those of a grouped convolution, and those of inputs pruned before.
    """
    return int((W != 0).sum(1).max())


def project(W: Tensor, rank: int, by: str) -> Tensor:
    """Bring the directions of a layer to some dimension.

    Parameters
    ----------
    W : Tensor (n, d)
        Slope vectors, none zero; they are brought to length 1 first, so scales do not matter.
    rank : int
        At most ``min(n, d)``.
    by : {"pca", "fa", "svd"}
        ``PCA`` or ``FactorAnalysis`` of scikit-learn, which move the mean of the directions to the
        origin first, or the singular value decomposition without that.

    Returns
    -------
    Tensor (n, rank), float64

    Notes
    -----
    All three are deterministic (exact decompositions by LAPACK; nothing random). Signs and order of
    the components are arbitrary, but ``|c|`` of two units of the layer does not depend on them.
    """
    u = W / W.abs().amax(1, keepdim=True)  # so that no square over- or underflows
    u = u / u.norm(dim=1, keepdim=True)
    if by == "svd":
        left, sizes, _ = torch.linalg.svd(_turned(u), full_matrices=False)
        return left[:, :rank] * sizes[:rank]
    from sklearn.decomposition import PCA, FactorAnalysis

    if (u - u.mean(0)).abs().max() < SAME:
        return u.new_zeros(len(u), rank)
    if by == "pca":
        u = _turned(u - u.mean(0))
        model = PCA(rank, svd_solver="full")
    else:
        model = FactorAnalysis(rank, svd_method="lapack")
    return torch.from_numpy(model.fit_transform(u.cpu().numpy())).to(u.device)


def _turned(u: Tensor) -> Tensor:
    """Rows ``(n, d)`` in the coordinates of their span ``(n, min(n, d))``: lengths, angles stay."""
    return torch.linalg.qr(u.T, mode="r").R.T if len(u) < u.shape[1] else u


def common_rank(sizes: dict[str, tuple[int, int]], rank: int | None) -> int:
    """The dimension for all layers, from ``(n, d)`` of each: the largest possible, or ``rank``.

    Layers of less than two hyperplanes have no pair, and no say.
    """
    sizes = {name: size for name, size in sizes.items() if size[0] > 1}
    if not sizes:
        return 1
    name, size = min(sizes.items(), key=lambda item: min(item[1]))
    if rank is None:
        return min(size)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(size):
        raise ValueError(
            f"rank is {rank!r}, but {name!r} has {size[0]} hyperplanes of {size[1]} inputs: give a "
            f"whole number from 1 to {min(size)}, or None for the largest."
        )
    return rank


def check_reduce(reduce: str, rank: int | None) -> None:
    """Raise a ``ValueError`` for an unknown ``reduce``, or a rank that nothing would use."""
    if reduce not in get_args(Reduce):
        raise ValueError(f"reduce is {reduce!r}, but must be one of {get_args(Reduce)}.")
    if rank is not None and reduce not in PROJECTIONS:
        raise ValueError(
            f"rank is {rank!r}, but reduce={reduce!r} leaves directions as they are; give a rank "
            f"with one of {PROJECTIONS}."
        )


def _projected(here: Rows, whole: Tensor, rho, form, reduce, rank, precision) -> Tensor:
    """The pair matrix of projected directions; pairs of which one is lost keep the whole one."""
    R = project(here.W, rank, reduce)
    length = R.norm(dim=1)
    eps = torch.finfo(precision or here.W.dtype).eps
    # a direction that the projection has all but lost is rounding, by pair_matrix's own rule
    seen = (length > 32 * min(eps, torch.finfo(torch.float32).eps)).nonzero().flatten()
    if len(seen) < 2:
        return whole.clone()
    b = here.b
    if form == "invariant":  # b / ||R|| is then the offset of the whole row
        b = b / here.W.norm(dim=1) * length
    N = whole.clone()
    N[seen[:, None], seen] = pair_matrix(R[seen], b[seen], rho, form, precision=precision)
    return N
