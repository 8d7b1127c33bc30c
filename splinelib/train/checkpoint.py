"""Checkpoints: written whole or not at all, read without running code, one run to a file."""

import contextlib
import errno
import hashlib
import io
import os
import pickle
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import NoneType

import torch

FORMAT = "splinelib checkpoint 1"
SEAL = b"splinelib sha256"


def save(path: str | Path, state: Mapping[str, object]) -> None:
    """Write a checkpoint so that a reader finds the old one or the new one, never a part of one.

    Parameters
    ----------
    path : str or Path
        The file. Its folder is made if there is none.
    state : mapping
        Tensors, numbers, texts, None, and lists, tuples and dicts of them.

    Raises
    ------
    OSError
        The disk is full or cannot be written; the old checkpoint is as it was.
    ValueError
        Something in the state that ``load`` would refuse to read, a NumPy number for example.

    Notes
    -----
    The bytes go to a file beside it, are flushed to the disk, and take the name in one step
    (``os.replace``). The checkpoint before stays as ``path`` + ".old". Used in *Drawing the
    ticket*.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/run.pt", {"epoch": 3, "weight": torch.ones(2)})
    ...     load(f"{folder}/run.pt")
    {'epoch': 3, 'weight': tensor([1., 1.])}
    """
    path = Path(path)
    check_plain("the state", state)
    packed = io.BytesIO()
    torch.save({"format": FORMAT, "state": dict(state)}, packed)
    content = sealed(packed.getvalue())
    part = beside(path, ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _keep_old(path)
        os.replace(part, path)
        _flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"cannot write the checkpoint ({error.strerror}); the one before it is whole: free "
            f"{len(content) / 1e6:.0f} MB there and make the same call again, and it goes on from "
            "that one",
            str(path),
        ) from error


def load(path: str | Path) -> dict[str, object]:
    """Read a checkpoint; tensors come to the CPU, and no code in it is run.

    Parameters
    ----------
    path : str or Path
        The file. If it is damaged, the checkpoint before it (``path`` + ".old") is taken, with a
        ``RuntimeWarning``.

    Returns
    -------
    dict
        What ``save`` was given. Of a run of ``train``, "net" is the network's ``state_dict``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file holds code, is no checkpoint of splinelib, or is damaged and so is the one before.

    Examples
    --------
    >>> load("nowhere.pt")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.pt'
    """
    path = Path(path)
    try:
        return _read(path)
    except DamagedError as damage:
        old = beside(path, ".old")
        try:
            state = _read(old)
        except (DamagedError, OSError):
            raise ValueError(
                f"{damage}, and there is no whole checkpoint before it ({old.name}): delete "
                f"{path} to start from the beginning"
            ) from damage
        warnings.warn(f"{damage}; taking the one before, {old}", RuntimeWarning, stacklevel=2)
        return state


class DamagedError(ValueError):
    """A checkpoint whose bytes are not those that were written."""


def check_plain(name: str, value: object) -> None:
    """Raise unless a value is made only of what can be read back without running code."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            check_plain(f"{name}[{key!r}]", part)
    elif type(value) in (list, tuple):
        for number, part in enumerate(value):
            check_plain(f"{name}[{number}]", part)
    elif type(value) not in (int, float, bool, str, NoneType) and not torch.is_tensor(value):
        raise ValueError(
            f"{name} is a {type(value).__name__} of {type(value).__module__}, which a checkpoint "
            "cannot hold: make it a tensor, a number, a text, or a list or dict of them"
        )


def moved(value: object, device: torch.device) -> object:
    """A tensor on a device, or all tensors in dicts, lists and tuples there; the rest as it is."""
    if torch.is_tensor(value):
        return value.to(device)
    if isinstance(value, dict):
        return {name: moved(part, device) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(part, device) for part in value)
    return value


def beside(path: Path, suffix: str) -> Path:
    """The file beside another with something added to its name."""
    return path.with_name(path.name + suffix)


def sealed(content: bytes) -> bytes:
    """Bytes with their checksum behind them, which torch does not read: it compares none."""
    return content + SEAL + hashlib.sha256(content).digest()


def _read(path: Path) -> dict[str, object]:
    """Read one file, if its checksum says that it is as it was written."""
    content = path.read_bytes()
    inner = content[: -len(SEAL) - hashlib.sha256().digest_size]
    if sealed(inner) != content:
        raise DamagedError(f"{path} is damaged or no checkpoint of splinelib")
    try:
        found = torch.load(io.BytesIO(inner), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds code, not only tensors, numbers and texts; it was not run. A "
            "checkpoint of splinelib holds none: do not use this file"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this version of splinelib ({FORMAT!r})")
    return found["state"]


def _keep_old(path: Path) -> None:
    """Keep the present checkpoint under another name too; ``path`` exists at every moment."""
    old, link = beside(path, ".old"), beside(path, ".link")
    if not path.exists():
        old.unlink(missing_ok=True)  # of a run that was deleted
        return
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without links
        shutil.copyfile(path, link)
    os.replace(link, old)


def _flush_folder(folder: Path) -> None:
    """Flush the folder's list of names to the disk, where the system can."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(number)


def check_same(path: str | Path, saved: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Raise a ``ValueError`` that says what differs, unless a checkpoint is of this very run."""
    names = [name for name in saved.keys() | now.keys() if saved.get(name) != now.get(name)]
    if names:
        told = "; ".join(
            f"{name} is {now.get(name)!r}, in the checkpoint {saved.get(name)!r}"
            for name in sorted(names)
        )
        raise ValueError(
            f"the checkpoint {path} is of another run: {told}. Give this run another file; "
            'splinelib.train.load(path)["net"] holds the weights in that one'
        )
