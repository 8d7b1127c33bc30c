"""A copy of Colab: its versions, torch borrowed, our repository by a local address."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from bookfiles import ROOT, config

PINS = ROOT / ".ci" / "colab.txt"
BORROWED = ("torch", "torchvision")  # 5 GB; the environment of the tests has Colab's versions
KERNEL = "colab"


def environment() -> Path:
    """The folder of the environment, made once for each list of pins."""
    key = hashlib.sha256(PINS.read_bytes() + sys.version.encode() + sys.prefix.encode()).hexdigest()
    place = ROOT / "_build" / f"colab-{key[:12]}"
    if not (place / "made").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip(place, "install", "--requirement", str(PINS))
        borrow(site(place))
        _pretend(site(place))
        (place / "made").touch()
    return place


def python(place: Path) -> Path:
    """The interpreter of an environment."""
    return place / "bin" / "python"


def site(place: Path) -> Path:
    """Where an environment keeps its packages."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(place)}))


def pip(place: Path, *words: str) -> None:
    """Run pip of an environment, and show what it says if it fails."""
    quiet = ["--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [str(python(place)), "-m", "pip", words[0], *quiet, *words[1:]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def borrow(folder: Path) -> None:
    """Link torch, torchvision and what they need, if it is not there, into an environment."""
    own = Path(sysconfig.get_path("purelib"))
    there = {_plain(each.name) for each in metadata.distributions(path=[str(folder)])}
    for name in _needed(BORROWED) - there:
        for part in {file.parts[0] for file in metadata.files(name) or ()} - {"..", "__pycache__"}:
            if not (folder / part).exists():
                (folder / part).symlink_to(own / part)


def _needed(names: tuple[str, ...]) -> set[str]:
    """Distributions that are installed here and that these need, themselves among them."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = _plain(left.pop())
        try:
            wanted = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:  # for another system, or an extra
            continue
        if name not in found:
            found.add(name)
            left += [re.match(r"[\w.-]+", each)[0] for each in wanted]
    return found


def _plain(name: str) -> str:
    """The name of a distribution in the one form in which two can be compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pretend(folder: Path) -> None:
    """Let every Python of an environment find ``google.colab`` loaded, as on Colab."""
    (folder / "google" / "colab").mkdir(parents=True, exist_ok=True)
    (folder / "google" / "colab" / "__init__.py").touch()
    (folder / "on_colab.pth").write_text("import google.colab\n")


def repository(folder: Path) -> Path:
    """A git repository of the tree as it is now, committed or not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    who = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "Tree"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return folder


def settings(place: Path, clone: Path, jupyter: Path) -> dict[str, str]:
    """Environment variables under which a notebook runs as on Colab.

    The repository's address leads to ``clone``, and the kernel called "colab" is that of ``place``.
    """
    spec = jupyter / "kernels" / KERNEL
    spec.mkdir(parents=True, exist_ok=True)
    argv = [str(python(place)), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "Colab", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(about))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {
        "JUPYTER_PATH": str(jupyter),
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{clone.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": config()["repository"]["url"],
    }
