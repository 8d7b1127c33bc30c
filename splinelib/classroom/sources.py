"""Where a value comes from, and what it holds: what the reading of a student's function asks."""

from __future__ import annotations

import bisect
import collections
import copy
import dataclasses
import fractions
import functools
import gc
import heapq
import itertools
import math
import operator
import random
import statistics
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

MODULES = (torch, np, bisect, collections, copy, dataclasses, fractions, functools, heapq)
MODULES += (itertools, math, operator, random, statistics, typing)
USABLE = tuple(module.__name__ for module in MODULES)
LIBRARIES = {*USABLE, "builtins", "abc", "collections_abc", "contextlib", "typing_extensions"}


def home(value: Any) -> str:
    """The module that a value comes from: its own, or that of its class."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, types.FunctionType):  # __module__ can be overwritten, this cannot
        return str(value.__globals__.get("__name__"))
    owner = value if isinstance(getattr(value, "__module__", None), str) else type(value)
    return owner.__module__ or "builtins"


def kind(value: Any, notebook: str) -> str:
    """Who made a value: splinelib, a library that may be used, notebook, python or elsewhere.

    ``notebook`` is the name of the notebook's module.  Code that no file stands behind, such as
    the methods of a ``namedtuple``, is the notebook's, too.
    """
    source = home(value)
    root = source.split(".")[0]
    if root == "splinelib":
        return "splinelib"
    if root.removeprefix("_") in LIBRARIES:  # heapq's code is _heapq's
        return "library"
    if source == notebook or getattr(sys.modules.get(source), "__spec__", None) is None:
        return "notebook"
    return "python" if root in sys.stdlib_module_names else "elsewhere"


def is_code(value: Any) -> bool:
    """Whether a value is a function, a class or a module: something with a name of its own."""
    return isinstance(value, types.ModuleType) or (callable(value) and hasattr(value, "__name__"))


def whole_name(value: Any) -> str:
    """The name of a function, class or module, with its module."""
    name = value.__name__
    return name if isinstance(value, types.ModuleType) else f"{home(value)}.{name}"


def parts(value: Any) -> list[Any]:
    """What a value is made of, as far as it may hide a function."""
    if isinstance(value, types.FunctionType):
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return [*map(_content, value.__closure__ or ()), *defaults, *vars(value).values()]
    if isinstance(value, np.ndarray):
        return [
            *gc.get_referents(value),
            *(value.ravel().tolist() if value.dtype.hasobject else ()),
        ]
    if not is_code(value) or isinstance(value, np.ufunc):
        return gc.get_referents(value)
    if isinstance(value, types.ModuleType | type):
        return []
    bound = [getattr(value, name, None) for name in ("__self__", "__func__")]
    inside = [*getattr(value, "__dict__", {}).values(), *bound]
    return [part for part in inside if not isinstance(part, types.ModuleType)]


def _content(cell: types.CellType) -> Any:
    """What a closure holds; None while it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _spaces() -> list[Any]:
    """Modules of the libraries that a notebook names, and the classes in them."""
    loaded = [m for m in sys.modules.values() if isinstance(m, types.ModuleType)]
    modules = [m for m in loaded if _is_public(m.__name__)]
    found = {id(v): v for m in modules for v in vars(m).values() if issubclass(type(v), type)}
    return [*modules, *found.values()]


def _is_public(name: str) -> bool:
    """Whether a module of a library is one that a notebook may name, such as ``torch.nn``."""
    return name.split(".")[0] in USABLE and name.count(".") < 2 and "._" not in name


_BEFORE = [(space, dict(vars(space))) for space in _spaces()]


def added() -> Iterator[Any]:
    """Functions and methods that modules and classes of libraries did not have at first."""
    for space, before in _BEFORE:
        for name, part in list(vars(space).items()):
            if part is not before.get(name) and (callable(part) or hasattr(part, "__get__")):
                yield part
