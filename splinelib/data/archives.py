"""Files of a folder or archive by name, read straight into memory and never unpacked to disk."""

import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

Source = bytes | Path  # what an archive held, or where a folder holds it
Listing = dict[str, Source | None]  # None: a directory

IMAGES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
ARCHIVES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz", ".zip")
DAMAGE = (
    EOFError, OSError, RuntimeError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
LARGEST = 2**28  # bytes of one member, 256 MB: no image is larger, and all are held in memory


def listing(path: str | os.PathLike) -> Listing:
    """List images, text files and directories of a folder or archive.

    Parameters
    ----------
    path : path
        A folder, or an archive: tar, plain or packed by gzip, bzip2 or xz, or zip.

    Returns
    -------
    dict of str to bytes, Path or None
        By name, with ``/`` between parts: the bytes of an archive's file, the path of a folder's,
        None for a directory. Hidden files and files of other kinds are left out.

    Raises
    ------
    ValueError
        Nothing there; a folder that links lead to twice; an archive that is corrupt, truncated or
        encrypted; a member that is a link or device, sparse or larger than 256 MB, that would land
        outside the archive's folder, or that comes twice.

    Notes
    -----
    An archive is read once from its first byte to its last, so that its checksums are tested. A
    member's name decides nothing but its class: no file is ever written.

    Examples
    --------
    >>> listing("nowhere.tar.xz")
    Traceback (most recent call last):
    ValueError: nowhere.tar.xz does not exist; give a folder or an archive (.tar.xz, .zip, ...)
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; give a folder or an archive (.tar.xz, .zip, ...)")
    if path.is_dir():
        return dict(_walk(path))
    found: Listing = {}
    try:
        for name, content in _zip(path) if _is_zip(path) else _tar(path):
            if name in found and content is not None:
                raise _RefusedError(f"holds {name!r} twice; keep one of them")
            found[name] = content
    except _RefusedError as refusal:
        raise ValueError(f"{path} {refusal}") from None
    except DAMAGE as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise ValueError(
            f"{path} is corrupt, truncated, encrypted or no tar or zip archive ({reason}): fetch "
            "it again, or give the unpacked folder"
        ) from error
    return found


def stem(path: str | os.PathLike) -> str:
    """Name of a folder or archive without the archive's suffixes; of a link, its own.

    >>> stem("data/cifar10-jpeg75.tar.xz"), stem("data/my.images")
    ('cifar10-jpeg75', 'my.images')
    """
    name = Path(path).name
    if name in ("", ".."):  # "." and what ends in ".." have no name of their own
        name = Path(path).resolve().name
    suffix = max((s for s in ARCHIVES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


class _RefusedError(Exception):
    """What is wrong with a member, said by its name."""


def _walk(folder: Path) -> Iterator[tuple[str, Source | None]]:
    """Files and directories below a folder; links are followed, as torchvision does."""
    visited = set()
    for top, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        here, real = Path(top), os.path.realpath(top)
        if real in visited:  # a link to a folder above would multiply the set
            raise ValueError(f"{top} leads to {real}, which is read already: remove one of the two")
        visited.add(real)
        folders[:] = [name for name in folders if not hidden(name)]
        for name in folders:
            yield (here / name).relative_to(folder).as_posix(), None
        for name in filter(_wanted, files):
            yield (here / name).relative_to(folder).as_posix(), here / name


def _unreadable(error: OSError) -> None:
    """Say which folder cannot be listed: ``os.walk`` would pass over it."""
    raise ValueError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _tar(path: Path) -> Iterator[tuple[str, Source | None]]:
    """Files and directories of a tar archive, in its order."""
    with tarfile.open(path, "r:*") as tar:
        for member in tar:
            name = _safe(member.name)
            if not (member.isfile() or member.isdir()):
                raise _RefusedError(
                    f"holds {member.name!r}, a link or device; only files may be inside"
                )
            if member.isdir() and not hidden(name):
                yield name, None
            elif member.isfile() and _wanted(name):
                _check_size(name, LARGEST + 1 if member.issparse() else member.size)
                yield name, tar.extractfile(member).read()
        _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise unless a tar archive ends with its block of zeros: tarfile takes any end for one."""
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no end of archive at byte {tar.offset}")
    while tar.fileobj.read(2**20):  # the checksum of a packed archive stands at its very end
        pass


def _zip(path: Path) -> Iterator[tuple[str, Source | None]]:
    """Files and directories of a zip archive, each file's checksum tested."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = _safe(member.orig_filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _RefusedError(f"holds {name!r}, a link or device; only files may be inside")
            wanted = not member.is_dir() and _wanted(name)
            if wanted:
                _check_size(name, member.file_size)
            with archive.open(member) as file:  # wanted or not: this compares both of its names
                content = file.read() if wanted else None
            if wanted or (member.is_dir() and not hidden(name)):
                yield name, content


def _is_zip(path: Path) -> bool:
    """Whether a file begins like a zip archive."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _safe(name: str) -> str:
    """A member's name without ``.`` parts; refused where it is absolute or climbs out."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name[:1] in ("/", "\\") or re.match("[A-Za-z]:", name):
        raise _RefusedError(f"holds {name!r}, which would land outside its folder: do not trust it")
    return "/".join(parts)


def _check_size(name: str, size: int) -> None:
    """Refuse what would fill the memory before it is read: a few bytes can unpack to gigabytes."""
    if size > LARGEST:
        raise _RefusedError(f"holds {name!r}, which is sparse or larger than 256 MB: no image is")


def hidden(name: str) -> bool:
    """Whether a part of a name begins with a dot, or is a Mac's shadow of an archive."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _wanted(name: str) -> bool:
    """Whether a file is an image or a list of annotations, by its name."""
    return name.lower().endswith((*IMAGES, "_annotations.txt")) and not hidden(name)
