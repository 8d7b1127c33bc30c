"""Where and by what a result was made: code, libraries, device."""

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import torch

import splinelib

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow")
HOME = Path(splinelib.__file__).resolve().parents[1]  # the repository, if this is one


def code(home: Path = HOME) -> dict:
    """Version and commit of splinelib.

    Parameters
    ----------
    home : Path
        The folder above the package.

    Returns
    -------
    dict
        "version"; "commit", 40 hexadecimal digits: of the repository that the package lies in, or
        that pip installed it from; else "unknown"; "dirty", whether files differ from that commit,
        recorded results aside, or None where it is not known.

    Examples
    --------
    >>> sorted(code())
    ['commit', 'dirty', 'version']
    """
    found = {"version": splinelib.__version__, "commit": "unknown", "dirty": None}
    if not (home / ".git").exists():
        commit = _installed()
        return found | ({"commit": commit, "dirty": False} if commit else {})
    commit = _git(home, "rev-parse", "HEAD")
    changes = _git(home, "status", "--porcelain", "--", ".", ":(exclude)data/results")
    if commit:
        found |= {"commit": commit, "dirty": None if changes is None else bool(changes)}
    return found


def libraries() -> dict[str, str]:
    """Versions of Python and of the libraries that decide numbers."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def alone() -> bool:
    """Whether this is the one run at work here, in one process, as far as the queue can tell."""
    return set(_sharing().values()) == {1}


def _sharing() -> dict[str, int]:
    """How many runs are at work here, and how many processes share this one."""
    numbers = {"side_by_side": "SPLINELIB_SIDE_BY_SIDE", "processes": "WORLD_SIZE"}
    return {name: int(os.environ.get(variable, 1)) for name, variable in numbers.items()}


def device(where: torch.device) -> dict:
    """Type and name of a device, and how many runs share it.

    Parameters
    ----------
    where : torch.device

    Returns
    -------
    dict
        "type"; "name"; "threads" of PyTorch on a CPU; "processes" of ``torchrun``; "side_by_side",
        the number of runs that the queue lets work at once: their seconds are no measure of speed.
    """
    told = {"type": where.type} | _sharing()
    if where.type == "cuda":
        return told | {"name": torch.cuda.get_device_name(where)}
    return told | {"name": _cpu(), "threads": torch.get_num_threads()}


def _cpu() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _installed() -> str | None:
    """The commit that pip installed splinelib from (PEP 610), if it came from a repository."""
    try:
        told = json.loads(distribution("splinelib").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    return told.get("vcs_info", {}).get("commit_id")


def _git(home: Path, *arguments: str) -> str | None:
    """Output of a git command that only reads; None where it fails."""
    command = ["git", "--no-optional-locks", "-C", str(home), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
