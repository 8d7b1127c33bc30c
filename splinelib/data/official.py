"""Data sets by name: official files through torchvision, and sets that need no file."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from splinelib.data.archives import ARCHIVES, stem
from splinelib.data.colour import colour
from splinelib.data.digits import digits_images
from splinelib.data.folders import folder
from splinelib.data.images import ImageSet, statistics
from splinelib.data.mnist import listed, mnist

Sets = tuple[ImageSet, ImageSet]

# Mean and std as the paper's public code has them, for CIFAR-100 too. These deviations are means of
# each image's own; over all pixels CIFAR-10 has (0.2470, 0.2435, 0.2616).
CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
MNIST = (0.1307,), (0.3081,)


def load(name: str, root: str | os.PathLike | None = None, *, download: bool = False) -> Sets:
    """Load a data set by its name.

    Parameters
    ----------
    name : str
        "digits" and "colour" need no file. "cifar10", "cifar100" and "mnist" are the official
        files, read by torchvision, which tests their checksums. Any other name is that of a folder
        or archive below root, loaded by :func:`splinelib.data.folder`: "cifar10-jpeg75" finds
        ``cifar10-jpeg75.tar.xz``.
    root : path, optional
        The folder that holds the files. Default: the environment variable ``SPLINELIB_DATA``, else
        each folder ``shared/data`` beside or above the repository.
    download : bool
        Let torchvision download official files to ``root`` first, once (CIFAR: 170 MB).

    Returns
    -------
    train, test : ImageSet
        On the CPU; ``train.to("cuda")`` moves one. Both normalise with the training set's numbers:
        CIFAR, and sets whose name begins with "cifar10-" or "cifar100-", with those of the paper's
        public code.

    Raises
    ------
    ValueError
        No such name or files, files that differ from the official ones, or a download that failed;
        what to do is said.

    Notes
    -----
    Where a folder holds MNIST's test files only, they are split as :func:`splinelib.data.mnist`
    does, and the set is named "mnist-t10k". ImageNet fits no memory: see
    :class:`splinelib.data.Stream`. Used in *The partition settles early* and *Drawing the ticket*.

    Examples
    --------
    >>> train, test = load("digits")
    >>> train, len(test)
    (ImageSet('digits', 1442 of 1x8x8, 10 classes), 355)
    """
    if name == "colour":
        return colour()
    if name == "digits":
        return _digits()
    if name == "mnist":
        return _mnist(root, download)
    if name in ("cifar10", "cifar100"):
        return _cifar(name, root, download)
    return _folder(name, root)


def _digits() -> Sets:
    """scikit-learn's digits; their 17 grey levels are spread over 0 to 255 and rounded."""
    return _grey("digits", digits_images("train"), digits_images("test"))


def _mnist(root, download: bool) -> Sets:
    """MNIST's official files, by the loader of its own that tests their sums."""
    train, test = mnist("train", root, download), mnist("test", root)
    return _grey("mnist" if len(train[1]) == 60_000 else "mnist-t10k", train, test, MNIST)


def _grey(name: str, train, test, numbers=None) -> Sets:
    """Sets of digits from grey levels in [0, 1], which become bytes again."""
    (x, y), (test_x, test_y) = (((255 * x).round().to(torch.uint8), y) for x, y in (train, test))
    classes, numbers = tuple("0123456789"), numbers or statistics(x)
    held_out = ImageSet(name, test_x, test_y, classes, *numbers)
    return ImageSet(name, x, y, classes, *numbers), held_out


def _cifar(name: str, root, download: bool) -> Sets:
    """CIFAR-10 or CIFAR-100 from its official files, checked by torchvision."""
    from torchvision import datasets  # here, since it takes seconds

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    chosen = root or os.environ.get("SPLINELIB_DATA")
    if download and not chosen:
        raise ValueError("download=True needs a folder: pass root, for instance root='data'")
    problem = None
    for place in _places(root):
        try:
            parts = [kind(place, train=train, download=download) for train in (True, False)]
        except (RuntimeError, OSError) as error:  # missing or changed files, a failed download
            problem = error
            continue
        train, test = (_from_torchvision(name, part) for part in parts)
        return train, test
    why = f", or they differ from the official ones, or the download failed ({problem})"
    raise ValueError(
        f"no official {name} files in {listed(_places(root))}{why if problem else ''}: call "
        f"load({name!r}, root='data', download=True) once, with a network and a folder that may be "
        "written to"
    ) from problem


def _from_torchvision(name: str, part) -> ImageSet:
    """One part of CIFAR as an image set; torchvision holds it as (n, H, W, C)."""
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(name, images, torch.tensor(part.targets), tuple(part.classes), *CIFAR)


def _folder(name: str, root) -> Sets:
    """A folder or archive of that name."""
    places = _places(root)
    found = [path for place in places for path in _named(place, name)]
    if len(found) != 1:
        told = ", ".join(path.name for path in found)
        raise ValueError(
            f"{name!r} is no data set of a known name, and {len(found)} folders or archives in "
            f"{listed(places)} are so called{told and f' ({told})'}. Known: "
            "cifar10, cifar100, mnist, digits, colour; for files elsewhere: folder(path); for "
            "ImageNet, which fits no memory: Stream(root, 'train')"
        )
    return normalised_by_name(name, folder(found[0], name=name))


def normalised_by_name(name: str, sets: Sets) -> Sets:
    """Give sets that stand in for CIFAR, such as "cifar10-jpeg75", its mean and std."""
    if not name.startswith(("cifar10-", "cifar100-")):
        return sets
    train, test = (replace(images, mean=CIFAR[0], std=CIFAR[1]) for images in sets)
    return train, test


def _named(place: Path, name: str) -> list[Path]:
    """The folder and archives of that name in a place."""
    if not place.is_dir():
        return []
    paths = (path for path in sorted(place.iterdir()) if stem(path) == name)
    return [path for path in paths if path.is_dir() or path.name.lower().endswith(ARCHIVES)]


def _places(root) -> list[Path]:
    """Where to look: root, else SPLINELIB_DATA, else shared/data further up."""
    if chosen := root or os.environ.get("SPLINELIB_DATA"):
        return [Path(chosen)]
    places = (up / "shared" / "data" for up in Path(__file__).resolve().parents)
    return [place for place in places if place.is_dir()]
