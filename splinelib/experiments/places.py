"""Where results and the work of runs lie."""

import os
from pathlib import Path

import splinelib

PACKAGE = Path(splinelib.__file__).resolve().parent


def results_folder(folder: str | os.PathLike | None = None) -> Path:
    """The folder that recorded results are read from.

    Parameters
    ----------
    folder : path, optional
        Default: the environment variable ``SPLINELIB_RESULTS``; else ``splinelib/results``, which
        an installed package brings; else ``data/results`` of the repository.

    Returns
    -------
    Path
        It need not exist.

    Examples
    --------
    >>> results_folder("here").name
    'here'
    """
    if chosen := folder or os.environ.get("SPLINELIB_RESULTS"):
        return Path(chosen)
    brought = PACKAGE / "results"
    return brought if brought.is_dir() else PACKAGE.parent / "data" / "results"


def out_folder(folder: str | os.PathLike | None = None) -> Path:
    """The folder that new results are written to: in a repository its own, else ``./results``."""
    if chosen := folder or os.environ.get("SPLINELIB_RESULTS"):
        return Path(chosen)
    own = PACKAGE.parent / "data" / "results"
    return own if own.is_dir() else Path("results").absolute()


def folders(out: str | os.PathLike | None = None) -> list[Path]:
    """All folders that results are read from if new ones are written to ``out``.

    By default also those that an installed package brings, beside the ones made with it.
    """
    own = out_folder(out)
    if os.environ.get("SPLINELIB_RESULTS") or own != out_folder():
        return [own]
    return list(dict.fromkeys([own, results_folder()]))


def work_folder(folder: str | os.PathLike | None, out: Path) -> Path:
    """The folder for checkpoints and locks, hidden from git; default: ``.work`` beside results."""
    work = Path(folder) if folder else out / ".work"
    work.mkdir(parents=True, exist_ok=True)
    hide = work / ".gitignore"
    if not hide.is_file() or not hide.stat().st_size:  # or a full disk stopped it
        hide.write_text("# Checkpoints and locks of runs: safe to delete when nothing runs.\n*\n")
    return work
