"""One process at a time for each checkpoint."""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from splinelib.train.checkpoint import beside


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Keep other processes from using a checkpoint; the system opens the lock if this one dies.

    Parameters
    ----------
    path : str or Path
        The checkpoint. The lock is an empty file beside it, ``path`` + ".lock", which stays.

    Raises
    ------
    ValueError
        Another process uses this checkpoint.
    """
    lock = beside(Path(path), ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "a+b") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise ValueError(
                    f"another process is using the checkpoint {path}: wait for it, or give this "
                    "run another file"
                ) from error
            warnings.warn(
                f"{lock.parent} cannot lock files ({error.strerror}): see to it yourself that no "
                f"other process uses {path}",
                RuntimeWarning,
                stacklevel=2,
            )
        yield


def _lock(number: int) -> None:
    """Lock an open file, or raise an OSError at once."""
    if os.name == "posix":
        import fcntl

        # Not flock: a worker that was forked would hold that on after this process was killed.
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
