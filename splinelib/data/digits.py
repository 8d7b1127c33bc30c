"""scikit-learn's digits: 1,797 real images of 8 x 8 pixels, which need no download."""

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


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
    return keep_split(x, y, rank % 5 == 4, split)


def digits_images(split: str = "train") -> Pair:
    """Load the same images as :func:`digits` in the shape ``(n, 1, 8, 8)`` of a ConvNet.

    >>> digits_images("test")[0].shape
    torch.Size([355, 1, 8, 8])
    """
    x, y = digits(split)
    return x.reshape(-1, 1, 8, 8), y


def check_split(split: str) -> None:
    """Raise unless the split is known."""
    if split not in ("train", "test", "all"):
        raise ValueError(f"split is {split!r}, but must be 'train', 'test' or 'all'")


def keep_split(x: Tensor, y: Tensor, is_test: Tensor, split: str) -> Pair:
    """Keep the rows of one split."""
    check_split(split)
    rows = is_test | ~is_test if split == "all" else is_test == (split == "test")
    return x[rows], y[rows]
