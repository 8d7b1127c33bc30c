"""One process at a time for each checkpoint, and for each seed of an experiment."""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from splinelib.train.checkpoint import beside

# The system tells processes apart, not two users in one process; closing a file of the second one
# would even open the lock of the first.
HELD: set[Path] = set()


class NoLocksError(OSError):
    """A file system that cannot lock files."""


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock file, and tell whether that is so, or someone else holds it.

    The lock ends with the process, however that ends: a file that was left behind holds nothing.

    Parameters
    ----------
    path : Path
        An empty file, made with its folder if there is none; it stays.

    Raises
    ------
    NoLocksError
        The file system has no locks.
    """
    path = path.absolute()
    if path in HELD:
        yield False
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        mine = _lock(file.fileno())
        HELD.update([path] * mine)
        try:
            yield mine
        finally:
            HELD.difference_update([path] * mine)


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Keep others from using a checkpoint, by a lock file ``path`` + ".lock" beside it.

    Parameters
    ----------
    path : str or Path
        The checkpoint.

    Raises
    ------
    ValueError
        Another run uses this checkpoint.
    """
    lock = beside(Path(path), ".lock")
    with ExitStack() as stack:
        try:
            free = stack.enter_context(held(lock))
        except NoLocksError as error:
            free = True
            warnings.warn(
                f"{lock.parent} cannot lock files ({error.strerror}): see to it yourself that no "
                f"other process uses {path}",
                RuntimeWarning,
                stacklevel=3,
            )
        if not free:
            raise ValueError(
                f"another process is using the checkpoint {path}, or another run in this one: wait "
                "for it, or give this run another file"
            )
        yield


def _lock(number: int) -> bool:
    """Lock an open file; False if another process holds it."""
    try:
        if os.name == "posix":
            import fcntl

            # Not flock: a worker that was forked would hold that on after this process was killed.
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise NoLocksError(error.errno, error.strerror) from error
    return True
