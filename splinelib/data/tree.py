"""Files and classes of a folder that is streamed, listed by torchvision."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from splinelib.data.archives import IMAGES, hidden

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder


def tree(root: Path, split: str) -> "ImageFolder":
    """List the files and classes of ``root/split/<class>/*``, without what is hidden.

    Parameters
    ----------
    root : path
    split : str

    Returns
    -------
    torchvision.datasets.ImageFolder
        Its ``samples`` and ``classes`` are those that :func:`splinelib.data.folder` would read.

    Raises
    ------
    ValueError
        A missing folder, one without classes or with an empty class, or classes that differ from
        those of ``root/train``.
    """
    from torchvision.datasets import ImageFolder  # here, since it takes seconds

    class Tree(ImageFolder):
        def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
            names = _class_names(Path(directory))
            return names, {name: label for label, name in enumerate(names)}

    place = root / split
    if not place.is_dir() or not _class_names(place):
        what = "holds no class" if place.is_dir() else "is no folder"
        raise ValueError(f"{place} {what}; need one with a folder of images for each class")
    try:
        listed = Tree(place, is_valid_file=lambda path: _is_image(path, place))
    except FileNotFoundError as error:
        raise ValueError(f"{place}: {error}; each class needs a folder with images") from error
    _check_same(place, set(listed.classes), root / "train")
    return listed


def _check_same(place: Path, classes: set[str], train: Path) -> None:
    """Raise where the training set has other classes."""
    known = set(_class_names(train)) if train.is_dir() else set()
    if known and known != classes:
        raise ValueError(
            f"{place} and {train} have different classes, for instance {min(known ^ classes)!r}, "
            "so that their labels would not agree"
        )


def _class_names(place: Path) -> list[str]:
    """The folders in a place that are not hidden, sorted."""
    return sorted(path.name for path in place.iterdir() if path.is_dir() and not hidden(path.name))


def _is_image(path: str, place: Path) -> bool:
    """Whether a file is an image by its suffix, and nothing below the place is hidden."""
    inside = path.removeprefix(str(place)).strip(os.sep).replace(os.sep, "/")
    return inside.lower().endswith(IMAGES) and not hidden(inside)
