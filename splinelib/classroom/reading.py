"""Is a function its author's own work?  The checks of the assignments ask before they give points.

A question of an assignment could be answered by one call of this library, or of the slow
specification above it.  ``own`` refuses that: it reads the bytecode of a function, and follows
whatever of the notebook it can reach.  It is made for shortcuts, not for attacks: who replaces
``own`` itself is found by reading the cell.
"""

from __future__ import annotations

import builtins
import dis
import functools
import gc
import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import torch

ALLOWED = {"torch", "numpy", "math", "itertools", "functools", "collections", "fractions", "heapq"}
ALLOWED |= {"bisect", "copy", "random", "typing", "dataclasses", "abc", "builtins", "__future__"}
TRICKS = {"getattr", "setattr", "delattr", "globals", "locals", "vars", "eval", "exec", "compile"}
TRICKS |= {"open", "input", "breakpoint", "sys", "os", "importlib", "import_module", "builtins"}
TRICKS |= {"inspect", "gc", "ctypes", "pickle", "subprocess", "operator", "types", "__import__"}
TRICKS |= {"__globals__", "__dict__", "__builtins__", "__class__", "__subclasses__", "__bases__"}
TRICKS |= {"__base__", "__mro__", "__getattribute__", "__getattr__", "__code__", "__closure__"}
TRICKS |= {"__loader__", "__spec__", "__wrapped__", "get_ipython", "In", "_ih"}
LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "LOAD_FROM_DICT_OR_DEREF"}
ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"}
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented))
CONTAINERS = {"builtins", "collections", "itertools"}  # homes of what holds other things
PATCHED = (torch.Tensor, torch.nn.Module, torch.nn.Linear)  # classes that take new methods
_MISSING = object()


def own(function: Callable, refused: Collection[str] = ()) -> None:
    """Refuse a function that hands its work to splinelib or to a specification.

    Followed are all functions, classes and values of the notebook that ``function`` can reach:
    through its global names, closures, defaults, nested functions and attributes of modules.

    Parameters
    ----------
    function : callable
        A function that is defined, by ``def`` or ``lambda``, in the notebook that calls ``own``.
    refused : collection of str
        Names that would give the answer away, for example ``{"jacobian", "backward"}``.

    Raises
    ------
    AssertionError
        If it reaches anything of splinelib, a function or name that ends in ``_spec``, a name in
        ``refused``, a module other than torch, numpy, math and a few plain ones of Python's own
        library, or a trick such as ``eval``, ``getattr`` or ``globals``.  The message names the
        way from ``function`` to what it found.

    Notes
    -----
    Used by the assignments; see *In a classroom*.

    Examples
    --------
    >>> import math
    >>> own(lambda x: math.sqrt(x) + 1)
    >>> from splinelib.affine import codes
    >>> own(lambda net, x: codes(net, x) > 0)
    Traceback (most recent call last):
    ...
    AssertionError: <lambda> uses splinelib.affine.codes. Write the work yourself: torch, ...
    """
    notebook = sys._getframe(1).f_globals
    name = getattr(function, "__name__", repr(function)[:60])
    inner = inspect.unwrap(function) if isinstance(function, types.FunctionType) else None
    if inner is None or getattr(inner, "__globals__", None) is not notebook:
        whole = f"{getattr(function, '__module__', '?')}.{name}"
        raise AssertionError(
            f"this is {whole}, not a function of this notebook: write it with def, in its cell"
        )
    reader = _Reader(notebook, frozenset(refused))
    reader.value(function, (), name)
    for added in _added(notebook):  # an operator is called without its name
        reader.value(added, (name,), added.__name__)


class _Reader:
    """Follows what can be reached, once each; ``trail`` is the way there, as names."""

    def __init__(self, notebook: dict[str, Any], refused: frozenset[str]):
        self.notebook, self.refused = notebook, refused
        self.specs = {id(v) for k, v in notebook.items() if k.endswith("_spec")}
        self.seen: set[int] = set()
        self.kept: list[Any] = []  # what was seen stays alive, so that no id is used twice

    def fail(self, trail: tuple[str, ...], what: str, advice: str = "") -> None:
        """Say what was found, and on which way."""
        way = " calls ".join(trail) or "your answer"
        advice = advice or "Write the work yourself: torch, numpy and math are enough."
        raise AssertionError(f"{way} uses {what}. {advice}")

    def name(self, name: str, trail: tuple[str, ...]) -> None:
        """Judge a name as it is written."""
        if name.endswith("_spec"):
            self.fail(trail, name, "The specification is there to compare with, not to call.")
        if name in self.refused:
            self.fail(trail, name, "It would do what the question asks you to write.")
        if name in TRICKS:
            self.fail(trail, name, "Plain code does it: names, arithmetic, torch, numpy and math.")

    def value(self, value: Any, trail: tuple[str, ...], label: str) -> None:
        """Judge a value, and follow it where it belongs to the notebook."""
        if isinstance(value, PLAIN) or id(value) in self.seen:
            return
        self.seen.add(id(value))
        self.kept.append(value)
        self.origin(value, trail, label)
        if isinstance(value, types.FunctionType):
            self.function(value, (*trail, value.__name__))
        elif isinstance(value, type):
            self.cls(value, (*trail, value.__name__))
        else:
            for part in _parts(value):
                self.value(part, trail, label)

    def origin(self, value: Any, trail: tuple[str, ...], label: str) -> None:
        """Refuse what comes from splinelib, from a specification, or from a module not allowed."""
        own_name = getattr(value, "__name__", "") if _is_code(value) else ""
        if id(value) in self.specs or own_name.endswith("_spec"):
            self.fail(trail, own_name or label, "The specification is there to compare with.")
        if isinstance(value, types.FunctionType) and value.__globals__ is self.notebook:
            return
        home = _home(value)
        root, whole = home.split(".")[0], f"{home}.{own_name}" if own_name else f"{label} of {home}"
        if isinstance(value, types.ModuleType):
            whole = home
        local = home == self.notebook.get("__name__") and not isinstance(value, types.ModuleType)
        plain = root in ALLOWED or root.removeprefix("_") in ALLOWED  # heapq's code is _heapq's
        if root == "splinelib" or not (local or plain):
            self.fail(trail, whole)
        if own_name in self.refused or (root == "builtins" and own_name in TRICKS):
            self.name(own_name, trail)

    def function(self, function: types.FunctionType, trail: tuple[str, ...]) -> None:
        """Follow a function: defaults and closure always, its code if it is the notebook's."""
        for cell in function.__closure__ or ():
            self.value(_content(cell), trail, "a variable around it")
        for default in [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]:
            self.value(default, trail, "a default")
        self.value(getattr(function, "__wrapped__", None), trail, "what it wraps")
        if function.__globals__ is self.notebook:
            self.code(function.__code__, trail)

    def cls(self, cls: type, trail: tuple[str, ...]) -> None:
        """Follow a class of the notebook: its bases and everything in its body."""
        if _home(cls) == self.notebook.get("__name__"):
            for part in [*cls.__bases__, type(cls), *vars(cls).values()]:
                if not isinstance(part, types.GetSetDescriptorType | types.MappingProxyType):
                    self.value(part, trail, cls.__name__)

    def code(self, code: types.CodeType, trail: tuple[str, ...]) -> None:
        """Follow the names in a piece of bytecode, and the functions nested in it."""
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self.code(const, trail)
        for name, value in self.names(code, trail):
            self.name(name, trail)
            if value is not _MISSING:
                self.value(value, trail, name)
            for patched in (getattr(c, name, None) for c in (torch.Tensor, torch.nn.Module)):
                if isinstance(patched, types.FunctionType):  # a method that a notebook has added
                    self.value(patched, trail, name)

    def names(self, code: types.CodeType, trail: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        """Names that the code loads, with the values that they have now, as far as one can tell."""
        value: Any = _MISSING
        for step in dis.get_instructions(code):
            if step.opname in LOADS:
                value = self.notebook.get(step.argval, getattr(builtins, step.argval, _MISSING))
                yield step.argval, value
            elif step.opname == "IMPORT_NAME":
                if step.argval.split(".")[0] not in ALLOWED:
                    self.fail(trail, step.argval)
                value = sys.modules.get(step.argval, _MISSING)
                yield step.argval, value
            elif step.opname in ATTRIBUTES:
                found = getattr(value, step.argval, _MISSING) if _is_space(value) else _MISSING
                yield step.argval, found
                value = value if step.opname == "IMPORT_FROM" else found
            elif not step.opname.startswith(("STORE_", "PUSH_NULL", "CACHE")):
                value = _MISSING


def _is_space(value: Any) -> bool:
    """Whether attributes of it can be looked up without running anything."""
    return isinstance(value, types.ModuleType | type)


def _is_code(value: Any) -> bool:
    """Whether a value is a function or a class: something with a name of its own."""
    return callable(value) and hasattr(value, "__name__")


def _home(value: Any) -> str:
    """The module that a value comes from: its own, or that of its class."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, types.FunctionType):  # __module__ can be overwritten, this cannot
        return str(value.__globals__.get("__name__"))
    owner = value if isinstance(getattr(value, "__module__", None), str) else type(value)
    return owner.__module__ or "builtins"


def _content(cell: types.CellType) -> Any:
    """What a closure holds; None while it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _parts(value: Any) -> list[Any]:
    """What a value is made of, as far as it may hide a function."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, types.ModuleType):
        return []
    inside = list(vars(value).values()) if hasattr(value, "__dict__") else []
    if isinstance(value, torch.Tensor):
        return inside
    if isinstance(value, np.ndarray):
        return [*inside, *(value.flat if value.dtype == object else ())]
    if type(value).__module__ in CONTAINERS and not callable(value):  # deque, iterators, ...
        return [*inside, *gc.get_referents(value)]
    return [type(value), *inside]


def _added(notebook: dict[str, Any]) -> Iterator[types.FunctionType]:
    """Methods that the notebook, or splinelib on its behalf, has put into classes of torch."""
    for part in (part for cls in PATCHED for part in vars(cls).values()):
        if isinstance(part, types.FunctionType) and (
            part.__globals__ is notebook or _home(part).startswith("splinelib")
        ):
            yield part
