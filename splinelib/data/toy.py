"""Toy sets by formula, drawn from a ``torch.Generator``."""

import math

import torch
from torch import Tensor

from splinelib.data.steps import check_whole, is_whole

Generator = torch.Generator
Pair = tuple[Tensor, Tensor]


def moons(n: int = 500, noise: float = 0.1, generator: Generator | None = None) -> Pair:
    """Draw two interleaving half circles of radius 1, one class each.

    Parameters
    ----------
    n : int
        Number of points, at least 2. The first ``n // 2`` lie on the upper moon (label 0).
    noise : float, at least 0
        Standard deviation of the Gaussian noise on both coordinates.
    generator : torch.Generator, optional
        Source of the noise; default: a fresh one with seed 0.

    Returns
    -------
    x : Tensor (n, 2) float64
        Without noise, between (-1, -0.5) and (2, 1).
    y : Tensor (n,) int64
        0 for the upper moon, 1 for the lower.

    Raises
    ------
    ValueError
        If ``n`` or ``noise`` is out of range.

    Notes
    -----
    First used in *The decision boundary is the last spline*.

    Examples
    --------
    >>> x, y = moons(5, noise=0)
    >>> y.tolist()
    [0, 0, 1, 1, 1]
    >>> x[0].tolist()
    [1.0, 0.0]
    """
    first, second = _halves(n, noise)
    upper, lower = _linspace(0, math.pi, first), _linspace(0, math.pi, second)
    x0 = torch.stack([upper.cos(), upper.sin()], dim=1)
    x1 = torch.stack([1 - lower.cos(), 0.5 - lower.sin()], dim=1)
    return _two_classes(x0, x1, noise, generator)


def circles(
    n: int = 500, noise: float = 0.05, generator: Generator | None = None, *, inner: float = 0.5
) -> Pair:
    """Draw two concentric circles, one class each.

    Parameters
    ----------
    n, noise, generator
        As in :func:`moons`; the first ``n // 2`` points lie on the outer circle.
    inner : float, in (0, 1)
        Radius of the inner circle; the outer one has radius 1.

    Returns
    -------
    x : Tensor (n, 2) float64
    y : Tensor (n,) int64
        0 for the outer circle, 1 for the inner.

    Raises
    ------
    ValueError
        If ``n``, ``noise`` or ``inner`` is out of range.

    Notes
    -----
    No line separates the classes: a boundary must close. Used in *The decision boundary is the last
    spline*.

    Examples
    --------
    >>> x, y = circles(100, noise=0)
    >>> x.norm(dim=1)[[0, 99]].tolist()
    [1.0, 0.5]
    """
    first, second = _halves(n, noise)
    if not 0 < inner < 1:
        raise ValueError(f"inner is {inner}, but the inner radius must lie between 0 and 1")
    x0, x1 = (
        torch.stack([t.cos(), t.sin()], dim=1)
        for t in (_linspace(0, 2 * math.pi, m + 1)[:-1] for m in (first, second))
    )
    return _two_classes(x0, inner * x1, noise, generator)


def cross(n: int = 2000, half_width: float = 5.0, generator: Generator | None = None) -> Pair:
    """Draw points of a square whose two classes meet along its diagonals: the X of Fig. 2.

    Parameters
    ----------
    n : int
        Number of points, at least 1.
    half_width : float, above 0
        The square is ``[-half_width, half_width]^2``.
    generator : torch.Generator, optional
        Source of the points; default: a fresh one with seed 0.

    Returns
    -------
    x : Tensor (n, 2) float64
        Uniform on the square.
    y : Tensor (n,) int64
        1 above or below both diagonals (``|x_2| > |x_1|``), 0 to the left or right.

    Raises
    ------
    ValueError
        If ``n`` or ``half_width`` is out of range.

    Notes
    -----
    Sec. 3.2 of the paper, with the numbers of its public code (2,000 points on [-5, 5]^2). First
    used in *The decision boundary is the last spline*.

    Examples
    --------
    >>> x, y = cross(1000)
    >>> bool((y == (x[:, 1].abs() > x[:, 0].abs())).all())
    True
    """
    check_whole(1, n=n)
    if not 0 < half_width < math.inf:
        raise ValueError(f"half_width is {half_width}, but must be a number above 0")
    x = half_width * (2 * torch.rand(n, 2, dtype=torch.float64, generator=_seeded(generator)) - 1)
    return x, (x[:, 1].abs() > x[:, 0].abs()).long()


def mixture(n: int, centers: Tensor, sd: float = 0.1, generator: Generator | None = None) -> Pair:
    """Draw from a mixture of spherical Gaussians with equal weights.

    Parameters
    ----------
    n : int
        Number of points, at least 1.
    centers : Tensor (k, D)
        One centre a component.
    sd : float, at least 0
        Standard deviation along each axis, the same for all components.
    generator : torch.Generator, optional
        Source of components and points; default: a fresh one with seed 0.

    Returns
    -------
    x : Tensor (n, D) float64
    y : Tensor (n,) int64
        The component, 0 to k - 1.

    Raises
    ------
    ValueError
        If ``n``, ``sd`` or the shape of ``centers`` is out of range.

    Notes
    -----
    App. J, Fig. 10, takes 64 components. Taught in *Why start wide*.

    Examples
    --------
    >>> x, y = mixture(4, torch.tensor([[0.0, 0.0], [5.0, 5.0]]), sd=0)
    >>> bool((x == 5.0 * y[:, None]).all())
    True
    """
    check_whole(1, n=n)
    if centers.ndim != 2 or len(centers) == 0 or not 0 <= sd < math.inf:
        raise ValueError(
            f"centers has shape {tuple(centers.shape)} and sd is {sd}: need (k, D) with k >= 1, "
            "and sd of at least 0"
        )
    generator = _seeded(generator)
    y = torch.randint(len(centers), (n,), generator=generator)
    noise = torch.randn(n, centers.shape[1], dtype=torch.float64, generator=generator)
    return centers.double()[y] + sd * noise, y


def sawtooth(n: int = 200, peaks: int = 2) -> Pair:
    """Make the sawtooth of Fig. 11 on an even grid, a regression task in one dimension.

    Parameters
    ----------
    n : int
        Number of points, at least 1, from 1 to ``2 * peaks + 1``.
    peaks : int
        Number of teeth, at least 1: peaks (value 1) at 2, 4, ..., zeros at 1, 3, ....

    Returns
    -------
    x : Tensor (n, 1) float64
    y : Tensor (n,) float64
        In [0, 1], with slopes +1 and -1.

    Raises
    ------
    ValueError
        If ``n`` or ``peaks`` is out of range.

    Notes
    -----
    App. K; :func:`splinelib.nets.sawtooth_net` equals it. Taught in *Why start wide*.

    Examples
    --------
    >>> [column.flatten().tolist() for column in sawtooth(5)]
    [[1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 1.0, 0.0, 1.0, 0.0]]
    """
    check_whole(1, n=n, peaks=peaks)
    x = _linspace(1, 2 * peaks + 1, n)
    return x[:, None], 1 - (torch.remainder(x - 1, 2) - 1).abs()


def _seeded(generator: Generator | None) -> Generator:
    """Return the generator given, or a fresh one with seed 0."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def _halves(n: int, noise: float) -> tuple[int, int]:
    """Check ``n`` and ``noise`` of a set of two classes and return the sizes of the classes."""
    if not is_whole(n, 2) or not 0 <= noise < math.inf:
        raise ValueError(f"n is {n} and noise {noise}: need a whole n >= 2 and noise of at least 0")
    return n // 2, n - n // 2


def _linspace(start: float, stop: float, n: int) -> Tensor:
    return torch.linspace(start, stop, n, dtype=torch.float64)


def _two_classes(x0: Tensor, x1: Tensor, noise: float, generator: Generator | None) -> Pair:
    """Join two classes, the first with label 0, and add noise."""
    x = torch.cat([x0, x1])
    y = (torch.arange(len(x)) >= len(x0)).long()
    return x + noise * torch.randn(x.shape, dtype=x.dtype, generator=_seeded(generator)), y
