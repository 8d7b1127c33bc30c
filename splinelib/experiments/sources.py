"""Data sets of experiments: loaded under their true name, or not at all."""

import os
from collections.abc import Mapping, Sequence

from splinelib import data
from splinelib.data.official import normalised_by_name

OFFICIAL = ("cifar10", "cifar100", "mnist", "digits", "colour")
STAND_INS = {
    "cifar10-jpeg75": "cifar10",
    "mnist-t10k": "mnist",
    "tiny-imagenet-100": "tiny-imagenet",
}
Places = Mapping[str, Sequence[str | os.PathLike]]


class MissingDataError(ValueError):
    """A data set that is not at hand, with what to do about it."""


def load(
    name: str,
    root: str | os.PathLike | None = None,
    places: Places | None = None,
    download: bool = False,
) -> tuple[data.ImageSet, data.ImageSet]:
    """Load a training and a test set that are called ``name``, and nothing else.

    Parameters
    ----------
    name : str
        As in a config: "cifar10", or a stand-in by its own name, "cifar10-jpeg75".
    root : path, optional
        Where the files lie, as for :func:`splinelib.data.load`.
    places : mapping of str to list of paths, optional
        Files of single sets: folders or archives, whose classes are joined; for official sets, a
        root of their own.
    download : bool
        Let torchvision fetch official files.

    Returns
    -------
    train, test : ImageSet

    Raises
    ------
    MissingDataError
        Nothing there, or files of another set; the message says what to do.

    Notes
    -----
    Used in *Drawing the ticket*.

    Examples
    --------
    >>> load("digits")[0]
    ImageSet('digits', 1442 of 1x8x8, 10 classes)
    """
    paths = list((places or {}).get(name, ()))
    try:
        if paths and name not in OFFICIAL:
            train, test = normalised_by_name(name, data.folder(*paths, name=name))
        else:
            known = STAND_INS.get(name) if name == "mnist-t10k" else name
            train, test = data.load(known, paths[0] if paths else root, download=download)
    except (ValueError, OSError) as error:
        raise MissingDataError(f"{error}. {advice(name)}") from error
    if train.name != name:
        raise MissingDataError(
            f"{name!r} is not at hand, only {train.name!r}. Run the experiment under that name "
            f"({train.name!r} in the place of {name!r}). {advice(name)}"
        )
    return train, test


def advice(name: str) -> str:
    """How to get a data set."""
    known = {
        "cifar10": "Add --download once, with --root FOLDER (170 MB); or run on a stand-in, "
        "--as-data cifar10=cifar10-jpeg75",
        "cifar100": "Add --download once, with --root FOLDER (170 MB)",
        "mnist": "Add --download once, with --root FOLDER (12 MB); or run on a stand-in, "
        "--as-data mnist=mnist-t10k",
        "imagenet": "Say where its folder lies, with train and val in it: --data imagenet=FOLDER",
    }
    default = (
        f"Say where its files lie, --data {name}=PATH, folder or archive (repeat it for parts)"
    )
    return known.get(name, default)
