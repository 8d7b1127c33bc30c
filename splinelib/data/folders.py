"""Folders of images with one folder a class, or archives of such folders, as image sets."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from splinelib.data.archives import Listing, Source, listing, stem
from splinelib.data.decode import rgb
from splinelib.data.images import ImageSet, statistics
from splinelib.data.steps import is_whole

Split = dict[str, list[tuple[str, Source]]]  # the images of each class, by name
Size = int | tuple[int, int] | None
BLOCK = 1024  # images that are decoded ahead, so that they do not pile up
SPLITS = {"train", "val", "test"}
NOTES = "{0}/{0}_annotations.txt"  # Tiny-ImageNet's list of classes, in its folder val


def folder(
    *paths: str | os.PathLike, name: str | None = None, size: Size = None, test: str | None = None
) -> tuple[ImageSet, ImageSet]:
    """Load ``train/<class>/*`` and ``val/<class>/*`` or ``test/<class>/*`` into memory.

    Parameters
    ----------
    *paths : paths
        A folder, or an archive of one (tar, plain or packed by gzip, bzip2 or xz; zip), with or
        without one folder around it all. Several are parts of one set: their classes and images
        are joined. Archives are read in memory and never unpacked to disk.
    name : str, optional
        Default: the file's name without suffixes, such as "cifar10-jpeg75"; of several joined by
        "+".
    size : int or (int, int), optional
        Height and width of the result: of each image the largest central part of that ratio,
        resized (Pillow's bilinear filter). Without it all must be of one size, and stay as they
        are.
    test : "val" or "test", optional
        Which folder is the test set. Needed only where both have the training set's classes.

    Returns
    -------
    train, test : ImageSet
        RGB images ``(n, 3, H, W)``. Labels number the class names in sorted order; images lie in
        the order of their labels and names. Mean and standard deviation are those of the training
        images.

    Raises
    ------
    ValueError
        A folder that is missing, empty or without classes; train and test of different classes; an
        image that cannot be read, has more than 8 bits a channel or another size; a damaged or
        unsafe archive. The message names the file.

    Notes
    -----
    Tiny-ImageNet's own layout is read too: ``train/<class>/images/*``, and ``val/images/*`` with
    ``val/val_annotations.txt``. Files that are no images by their suffix are passed over. Pillow
    decodes JPEG through the libjpeg it was built with: another build may differ in the last bit of
    some pixels, which shows in the fingerprint. Used in *Drawing the ticket*.

    Examples
    --------
    >>> folder("nowhere")
    Traceback (most recent call last):
    ValueError: nowhere does not exist; give a folder or an archive (.tar.xz, .zip, ...)
    """
    if not paths or test not in (None, "val", "test"):
        raise ValueError(
            f"paths are {paths} and test is {test!r}: give one path at least (a folder, an archive "
            "or several parts of a set), and test None, 'val' or 'test'"
        )
    train, held_out = _splits(_joined(paths), test, " + ".join(map(str, paths)))
    classes = tuple(sorted(train))
    (x, y), (test_x, test_y) = (_decoded(part, classes, _pair(size)) for part in (train, held_out))
    if x.shape[1:] != test_x.shape[1:]:
        raise ValueError(
            f"training images are {_format(x.shape[2:])}, test images {_format(test_x.shape[2:])} "
            "(height x width): pass size= to resize all"
        )
    name = name or "+".join(stem(path) for path in paths)
    numbers = statistics(x)
    held_out = ImageSet(name, test_x, test_y, classes, *numbers)
    return ImageSet(name, x, y, classes, *numbers), held_out


def _joined(paths: Iterable[str | os.PathLike]) -> Listing:
    """List several parts as one, each without the folder around it."""
    files: Listing = {}
    for path in paths:
        for name, source in _without_top(listing(path)).items():
            if source is not None and name in files:
                raise ValueError(f"{path} holds {name!r}, which another part holds too")
            files[name] = source
    return files


def _without_top(files: Listing) -> Listing:
    """Take away the one folder that some archives put around everything."""
    begins = [name.split("/")[:2] for name in files]
    tops = {top for top, *_ in begins}
    # A part may hold one split only; in a folder "val", what is called "test" is a class.
    inner = [["train"]] if tops & SPLITS else [[split] for split in SPLITS]
    wrapping = {top for top, *rest in begins if rest in inner}
    if "train" in tops or len(wrapping) != 1:
        return files
    top = f"{wrapping.pop()}/"
    return {name.removeprefix(top): s for name, s in files.items() if name.startswith(top)}


def _splits(files: Listing, test: str | None, where: str) -> tuple[Split, Split]:
    """Training and test images of each class, checked against each other."""
    there = {name.split("/")[0] for name in files}
    choices = [split for split in ("val", "test") if split in there and test in (None, split)]
    if "train" not in there or not choices:
        raise ValueError(
            f"{where} holds {_some(there)}: need train/<class>/ and "
            f"{test or 'val/<class>/ or test'}/<class>/, with images in them"
        )
    classes = _class_names(files, "train")
    if len(choices) == 2:  # the test set of a competition has no classes, then val is meant
        choices = [c for c in choices if _class_names(files, c) == classes] or ["val"]
    if len(choices) == 2:
        raise ValueError(f"{where} holds both val and test: say which, test='val' or test='test'")
    others = _class_names(files, choices[0])
    if classes != others:
        raise ValueError(
            f"{where}: train and {choices[0]} have different classes; only in train: "
            f"{_some(classes - others)}; only in {choices[0]}: {_some(others - classes)}"
        )
    return _by_class(files, "train"), _by_class(files, choices[0])


def _class_names(files: Listing, split: str) -> set[str]:
    """The classes of one part, by its folders or by Tiny-ImageNet's list."""
    if NOTES.format(split) in files:
        return set(_annotated(files, split).values())
    inside = {name: name.split("/") for name in files if name.startswith(f"{split}/")}
    return {parts[1] for name, parts in inside.items() if len(parts) > 2 or files[name] is None}


def _by_class(files: Listing, split: str) -> Split:
    """The images of each class in one part, by folder or by Tiny-ImageNet's list."""
    noted = _annotated(files, split) if NOTES.format(split) in files else None
    found: Split = {name: [] for name in _class_names(files, split)}
    for name, source in files.items():
        parts = name.split("/")
        if source is None or parts[0] != split or name == NOTES.format(split):
            continue
        label = parts[1] if noted is None and len(parts) > 2 else (noted or {}).pop(parts[-1], None)
        if label is None:
            raise ValueError(f"{name} belongs to no class: put it into {split}/<class>/")
        found[label].append((name, source))
    empty = [label for label, images in found.items() if not images]
    if noted or empty or not found:
        raise ValueError(
            f"{split} holds no image of {_some(noted or empty) if found else 'any class'}: add "
            "what is missing or remove its name"
        )
    return found


def _annotated(files: Listing, split: str) -> dict[str, str]:
    """Each file's class: the first two words of a line."""
    source = files[NOTES.format(split)]
    text = source if isinstance(source, bytes) else source.read_bytes()
    words = [line.split() for line in text.decode(errors="replace").splitlines() if line.strip()]
    if any(len(line) < 2 for line in words):
        raise ValueError(f"{NOTES.format(split)} needs lines of an image's name and its class")
    return {name: label for name, label, *_ in words}


def _decoded(split: Split, classes: tuple[str, ...], size: Size) -> tuple[Tensor, Tensor]:
    """Decode images (n, 3, H, W) uint8, class after class, with labels (n,)."""
    files = [(label, *file) for label, name in enumerate(classes) for file in sorted(split[name])]
    x = None
    for row, ((_, name, _), pixels) in enumerate(zip(files, _in_order(files, size), strict=True)):
        if x is None:  # all at once: a list of arrays would need the memory twice
            x = np.empty((len(files), *pixels.shape), np.uint8)
        if pixels.shape != x.shape[1:]:
            raise ValueError(
                f"{name} is {_format(pixels.shape[1:])}, {files[0][1]} {_format(x.shape[2:])} "
                "(height x width): pass size= to resize all"
            )
        x[row] = pixels
    return torch.from_numpy(x), torch.tensor([label for label, *_ in files])


def _in_order(files: list, size: Size) -> Iterator[np.ndarray]:
    """Decode images in threads, since Pillow lets go of Python's lock, and yield them in order."""
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(files), BLOCK):
            block = files[first : first + BLOCK]
            yield from pool.map(lambda file: _pixels(*file[1:], size), block)


def _pixels(name: str, source: Source, size: Size) -> np.ndarray:
    """Decode one image to bytes (3, H, W), and cut and resize it where a size is given."""
    from PIL import Image, ImageOps

    image = rgb(name, source)
    if size:
        image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def _pair(size: Size) -> Size:
    """Height and width that were asked for, both at least 1."""
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if size is not None and (len(pair) != 2 or not all(is_whole(side, 1) for side in pair)):
        raise ValueError(
            f"size is {size}, but must be one side or (height, width), whole and at least 1"
        )
    return None if size is None else pair


def _format(sizes: Iterable[int]) -> str:
    """Height x width, for a message."""
    return "x".join(map(str, sizes))


def _some(names: Iterable[str]) -> str:
    """A few names, for a message."""
    names = sorted(names)
    return (", ".join(names[:5]) + (", ..." if len(names) > 5 else "")) or "none"
