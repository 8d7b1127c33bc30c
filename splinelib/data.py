"""Data sets: toy sets by formula, scikit-learn's digits, MNIST.

Each function returns ``(x, y)`` as CPU tensors: inputs in float64, one row or image each, and
labels in int64 (targets of a regression in float64). Random numbers come from a ``torch.Generator``
on the CPU, by default a fresh one with seed 0: equal arguments give equal data, and the global
random state is never touched.
"""

import gzip
import hashlib
import math
import os
import struct
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor

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
    _whole(n=n)
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
    _whole(n=n)
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
    _whole(n=n, peaks=peaks)
    x = _linspace(1, 2 * peaks + 1, n)
    return x[:, None], 1 - (torch.remainder(x - 1, 2) - 1).abs()


def digits(split: str = "train") -> Pair:
    """Load scikit-learn's handwritten digits as vectors: 1,797 real images of 8 x 8 pixels.

    Parameters
    ----------
    split : "train", "test" or "all"
        In each class, every fifth image is a test image: 1,442 train, 355 test, always the same.

    Returns
    -------
    x : Tensor (n, 64) float64
        Grey levels in [0, 1], row by row, 1 is ink.
    y : Tensor (n,) int64
        The digit.

    Raises
    ------
    ValueError
        If ``split`` is another word.

    Notes
    -----
    They come with scikit-learn, so nothing is downloaded. First used in *The decision boundary is
    the last spline*.

    Examples
    --------
    >>> x, y = digits("all")
    >>> x.shape, y[:5].tolist()
    (torch.Size([1797, 64]), [0, 1, 2, 3, 4])
    """
    from sklearn.datasets import load_digits  # here, since it takes most of a second

    raw = load_digits()
    x, y = torch.from_numpy(raw.data) / 16, torch.from_numpy(raw.target).long()
    rank = torch.empty_like(y)
    for digit in range(10):
        rank[y == digit] = torch.arange(int((y == digit).sum()))
    return _split(x, y, rank % 5 == 4, split)


def digits_images(split: str = "train") -> Pair:
    """Load the same images as :func:`digits` in the shape ``(n, 1, 8, 8)`` of a ConvNet.

    >>> digits_images("test")[0].shape
    torch.Size([355, 1, 8, 8])
    """
    x, y = digits(split)
    return x.reshape(-1, 1, 8, 8), y


def mnist(
    split: str = "train", root: str | os.PathLike | None = None, download: bool = False
) -> Pair:
    """Load MNIST's handwritten digits, 28 x 28 pixels, from the official files.

    Parameters
    ----------
    split : "train", "test" or "all"
        Where a folder holds the official test set only (the two ``t10k`` files), every fifth of its
        10,000 images is a test image and the rest train: 8,000 and 2,000 instead of 60,000 and
        10,000. Name it so wherever you report a number: ``len(y)`` tells.
    root : path, optional
        Folder with the ``.gz`` files, or torchvision's root above them. Default: the environment
        variable ``SPLINELIB_DATA``, else the first folder ``shared/data/mnist`` beside or above the
        repository.
    download : bool
        Let torchvision download the files to ``root`` first (about 12 MB, once).

    Returns
    -------
    x : Tensor (n, 1, 28, 28) float64
        Grey levels in [0, 1], 1 is ink. All 60,000 take 0.4 GB.
    y : Tensor (n,) int64
        The digit.

    Raises
    ------
    ValueError
        If ``split`` is another word, the files are missing, a file differs from the official one
        (MD5), or ``download`` has no folder to write to.

    Notes
    -----
    The images of Fig. 3.

    Examples
    --------
    >>> mnist(root="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: no MNIST files in nowhere...
    """
    _check_split(split)
    folders = _mnist_folders(root)
    if download:
        _download_mnist(folders[0] if root or os.environ.get("SPLINELIB_DATA") else None)
    for folder in (f for top in folders for f in (top, top / "MNIST" / "raw")):
        held = [part for part in _MNIST if all((folder / name).is_file() for name in _MNIST[part])]
        if held == ["train", "test"]:
            parts = [_read_mnist(folder, part) for part in held if split in (part, "all")]
            return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
        if held == ["test"]:
            x, y = _read_mnist(folder, "test")
            return _split(x, y, torch.arange(len(y)) % 5 == 4, split)
    raise ValueError(
        f"no MNIST files in {', '.join(map(str, folders)) or 'any shared/data/mnist'}: call "
        "mnist(root='data', download=True) once, or point root or SPLINELIB_DATA at a folder with "
        "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"
    )


# The official files and their MD5 sums, images before labels.
_MNIST = {
    "train": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    },
    "test": {
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
}


def _mnist_folders(root) -> list[Path]:
    """List the folders to look in: root, else SPLINELIB_DATA, else shared/data/mnist further up."""
    if chosen := root or os.environ.get("SPLINELIB_DATA"):
        return [Path(chosen)]
    places = (up / "shared" / "data" / "mnist" for up in Path(__file__).resolve().parents)
    return [place for place in places if place.is_dir()]


def _download_mnist(root: Path | None) -> None:
    """Download all four files below root, which must be given."""
    if root is None:
        raise ValueError("download=True needs a folder: pass root, for instance root='data'")
    from torchvision.datasets import MNIST  # here, since it takes seconds

    MNIST(root, download=True)


def _read_mnist(folder: Path, part: str) -> Pair:
    """Read images (n, 1, 28, 28) in [0, 1] and labels (n,) of one part, checksums verified."""
    images, labels = (_read_idx(folder / name, md5) for name, md5 in _MNIST[part].items())
    return images[:, None].double() / 255, labels.long()


def _read_idx(path: Path, md5: str) -> Tensor:
    """Read one IDX file of bytes: two zeros, type, dimensions, sizes, then the entries."""
    packed = path.read_bytes()
    found = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(
            f"{path} has MD5 {found}, the official file {md5}: delete it and download it again"
        )
    raw = bytearray(gzip.decompress(packed))
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    return torch.frombuffer(raw, dtype=torch.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _check_split(split: str) -> None:
    """Raise unless the split is known."""
    if split not in ("train", "test", "all"):
        raise ValueError(f"split is {split!r}, but must be 'train', 'test' or 'all'")


def _split(x: Tensor, y: Tensor, is_test: Tensor, split: str) -> Pair:
    """Keep the rows of one split."""
    _check_split(split)
    rows = is_test | ~is_test if split == "all" else is_test == (split == "test")
    return x[rows], y[rows]


def _seeded(generator: Generator | None) -> Generator:
    """Return the generator given, or a fresh one with seed 0."""
    return generator or torch.Generator().manual_seed(0)


def _whole(**named: int) -> None:
    """Raise unless each named number is whole and at least 1."""
    for name, value in named.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value}, but must be a whole number of at least 1")


def _halves(n: int, noise: float) -> tuple[int, int]:
    """Check ``n`` and ``noise`` of a set of two classes and return the sizes of the classes."""
    if not isinstance(n, Integral) or n < 2 or not 0 <= noise < math.inf:
        raise ValueError(f"n is {n} and noise {noise}: need a whole n >= 2 and noise of at least 0")
    return n // 2, n - n // 2


def _linspace(start: float, stop: float, n: int) -> Tensor:
    return torch.linspace(start, stop, n, dtype=torch.float64)


def _two_classes(x0: Tensor, x1: Tensor, noise: float, generator: Generator | None) -> Pair:
    """Join two classes, the first with label 0, and add noise."""
    x = torch.cat([x0, x1])
    y = (torch.arange(len(x)) >= len(x0)).long()
    return x + noise * torch.randn(x.shape, dtype=x.dtype, generator=_seeded(generator)), y
