"""Result files: checked against a schema, written whole or not at all, never overwritten."""

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from itertools import count
from pathlib import Path

FORMAT = 1
DIGITS = 6  # significant digits of numbers that were measured


def write(result: Mapping, folder: str | os.PathLike) -> Path:
    """Write a result to ``<folder>/<name>/seed<k>.json``.

    Parameters
    ----------
    result : mapping
        As ``result.schema.json`` says.
    folder : path
        The folder of all results.

    Returns
    -------
    Path
        The file. Where ``seed<k>.json`` exists already, it stays as it is, and the new result lies
        beside it as ``seed<k>-2.json`` (then ``-3``, ...).

    Raises
    ------
    ValueError
        A result that breaks the schema; nothing is written.
    OSError
        The disk is full or cannot be written; no part of a file is left.

    Notes
    -----
    The bytes go to a hidden file in the same folder, are flushed to the disk, and take their name
    in one step that fails if the name is taken. So two writers never lose a result, and a reader
    never sees half of one. Used in *Drawing the ticket*.
    """
    check(result)
    place = Path(folder, *result["name"].split("/"))
    text = as_text(result)
    part = None
    try:
        place.mkdir(parents=True, exist_ok=True)
        part = _written(text, place)
        for number in count(1):
            target = place / f"seed{result['seed']}{f'-{number}' if number > 1 else ''}.json"
            if _take(part, target):
                return target
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write the result of {result['name']}, seed {result['seed']} "
            f"({error.strerror}); nothing of it is left. Its checkpoint is: free "
            f"{max(len(text) // 1000, 1)} kB there and run it again",
            str(place),
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def read(path: str | os.PathLike) -> dict:
    """Read one result and check it; "file" holds its path.

    Raises
    ------
    ValueError
        A file that is no JSON, breaks the schema, or stands under another name or seed than it
        says. The message names the file.
    """
    path = Path(path)
    try:
        result = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged or no JSON ({error}): restore it, or delete it and run it again"
        ) from error
    check(result, path)
    parts = result["name"].split("/")
    named = re.fullmatch(r"seed(\d+)(-\d+)?\.json", path.name)
    if (
        not named
        or int(named[1]) != result["seed"]
        or list(path.parts[-1 - len(parts) : -1]) != parts
    ):
        raise ValueError(
            f"{path} says that it is {result['name']}, seed {result['seed']}: move it to "
            f"{result['name']}/seed{result['seed']}.json, or run that experiment again"
        )
    return {**result, "file": str(path)}


def read_all(
    paths: Iterable[str | os.PathLike], damaged: Callable[[str], object] | None = None
) -> list[dict]:
    """Read results; those that are damaged are told to ``damaged`` and left out, if it is given."""
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except ValueError as error:
            if damaged is None:
                raise
            damaged(f"left out: {error}")
    return found


def check(result: object, where: object = "the result") -> None:
    """Raise a ``ValueError`` that says where a result breaks the schema."""
    broken = sorted(
        _validator().iter_errors(result), key=lambda e: [str(p) for p in e.absolute_path]
    )
    if broken:
        told = "; ".join(
            f"{'/'.join(map(str, e.absolute_path)) or 'the whole'}: {e.message[:200]}"
            for e in broken[:3]
        )
        raise ValueError(f"{where} breaks result.schema.json: {told}")
    if result["config"]["name"] != result["name"]:
        raise ValueError(
            f"{where} is called {result['name']!r}, but its config {result['config']['name']!r}"
        )
    data = result["config"]["data"]
    if not re.fullmatch(rf"{re.escape(data)}(-\d+of\d+)?", result["data"]["name"]):
        raise ValueError(
            f"{where} was made on {result['data']['name']!r}, but its config says "
            f"{data!r}: a stand-in needs its own name"
        )


def rounded(value: object) -> object:
    """The same value with floats of six significant digits, and tuples as lists."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def as_text(result: Mapping) -> str:
    """JSON that a person can read: sections and entries of lists each on a line of their own."""
    return "{\n" + ",\n".join(f'"{k}": {_section(v)}' for k, v in result.items()) + "\n}\n"


def _section(value: object) -> str:
    """One value of the top: a mapping line by line, a list entry by entry, else in one line."""
    if isinstance(value, Mapping) and value:
        lines = [f' "{key}": {_entries(item)}' for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n}"
    return _entries(value)


def _entries(value: object) -> str:
    """A list of mappings with one a line; anything else in one line."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return "[\n" + ",\n".join(f"  {_compact(item)}" for item in value) + "\n ]"
    return _compact(value)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


@cache
def _validator():
    """The schema, compiled once."""
    import jsonschema  # here, since it takes a moment that a chapter need not pay

    schema = json.loads(files("splinelib.experiments").joinpath("result.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema)


def _written(text: str, place: Path) -> Path:
    """Write a hidden file in a folder and flush it to the disk."""
    number, name = tempfile.mkstemp(prefix=".writing-", suffix=".part", dir=place)
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return Path(name)


def _take(part: Path, target: Path) -> bool:
    """Give a written file its name unless the name is taken; say whether it got it."""
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        return _reserve(part, target)  # a file system without links
    _flush_names(target.parent)
    return True


def _reserve(part: Path, target: Path) -> bool:
    """The same by a file that holds the name for a moment."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    os.replace(part, target)
    _flush_names(target.parent)
    return True


def _flush_names(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
