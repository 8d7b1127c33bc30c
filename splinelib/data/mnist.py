"""MNIST from its official files, checksums verified."""

import gzip
import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from splinelib.data.digits import check_split, keep_split

Pair = tuple[Tensor, Tensor]


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
        Folder with the ``.gz`` files, one with a folder ``mnist`` of them, or torchvision's root
        above them. Default: the environment variable ``SPLINELIB_DATA``, else the first folder
        ``shared/data/mnist`` beside or above the repository.
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
        (MD5), or ``download`` has no folder to write to or fails.

    Notes
    -----
    The images of Fig. 3.

    Examples
    --------
    >>> mnist(root="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: no MNIST files in nowhere...
    """
    check_split(split)
    folders = _mnist_folders(root)
    if download:
        _download_mnist(folders[0] if root or os.environ.get("SPLINELIB_DATA") else None)
    for folder in (f for top in folders for f in (top, top / "mnist", top / "MNIST" / "raw")):
        held = [part for part in _MNIST if all((folder / name).is_file() for name in _MNIST[part])]
        if held == ["train", "test"]:
            parts = [_read_mnist(folder, part) for part in held if split in (part, "all")]
            return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
        if held == ["test"]:
            x, y = _read_mnist(folder, "test")
            return keep_split(x, y, torch.arange(len(y)) % 5 == 4, split)
    raise ValueError(
        f"no MNIST files in {listed(folders)}: call "
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


def listed(folders: Sequence[Path]) -> str:
    """Where files were looked for, for a message."""
    named = ", ".join(map(str, folders))
    return named or "any folder (none was named: pass root, or set SPLINELIB_DATA)"


def _download_mnist(root: Path | None) -> None:
    """Download all four files below root, which must be given."""
    if root is None:
        raise ValueError("download=True needs a folder: pass root, for instance root='data'")
    from torchvision.datasets import MNIST  # here, since it takes seconds

    try:
        MNIST(root, download=True)
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"MNIST could not be downloaded to {root} ({error}): try again with a network and a "
            "folder that may be written to, or put its four .gz files there"
        ) from error


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
