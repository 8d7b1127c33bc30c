"""Is a function its author's own work?  The checks of the assignments ask before they give points.

A question of an assignment could be answered by one call of this library, or of the slow
specification above it.  ``own`` refuses that: it reads the bytecode of a function, and follows
whatever of the notebook it can reach.  It is made for shortcuts, not for attacks: who replaces
``own`` itself is found by reading the cell.
"""

from __future__ import annotations

import builtins
import dis
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from splinelib.classroom import sources

# Refused as functions, under whatever name they are reached; and as names, wherever one is written.
TRICKS = {"getattr", "globals", "locals", "vars", "eval", "exec", "compile", "open", "__import__"}
TRICKS |= {"builtins", "import_module", "attrgetter", "methodcaller", "get_type_hints"}
DOORS = {"sys", "os", "importlib", "inspect", "gc", "ctypes", "pickle", "subprocess", "get_ipython"}
DOORS |= {"builtins", "import_module", "attrgetter", "methodcaller", "get_type_hints", "__spec__"}
DOORS |= {"__globals__", "__dict__", "__builtins__", "__subclasses__", "__bases__", "__base__"}
DOORS |= {"__mro__", "__getattribute__", "__code__", "__closure__", "__loader__", "__wrapped__"}
LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "LOAD_FROM_DICT_OR_DEREF"}
ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"}
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented))
WORK = f"Write the work yourself: you may use Python, {', '.join(sources.USABLE)}."
COMPARE = "The specification is there to compare with, not to call."
ANSWER = "It would do what the question asks you to write."
PLAINLY = "Plain code does it: names, arithmetic, torch, numpy and math."
_MISSING = object()


def own(function: Callable, refused: Collection[str] = ()) -> None:
    """Refuse a function that hands its work to splinelib or to a specification.

    Followed are all functions, classes and values of the notebook that ``function`` can reach:
    through its global names, closures, defaults, decorators, nested functions and attributes of
    modules; and whatever was added to modules and classes of torch, numpy and Python.

    Parameters
    ----------
    function : callable
        A function of the notebook that calls ``own``: a ``def`` or ``lambda``, decorated or not.
    refused : collection of str
        Names that would give the answer away, for example ``{"jacobian", "backward"}``.

    Raises
    ------
    AssertionError
        If it reaches anything of splinelib, a function or name that ends in ``_spec``, a name in
        ``refused``, a module other than torch, numpy and a few plain ones of Python's own
        library, or a trick such as ``eval``, ``getattr`` or ``globals``.  The message names the
        way from ``function`` to what it found.

    Notes
    -----
    Used by the assignments; see *In a classroom*.  Numbers have no author: a table that a cell
    has filled by the library cannot be told from one that the student's own code has filled.

    Examples
    --------
    >>> import math
    >>> own(lambda x: math.sqrt(x) + 1)
    >>> from splinelib.affine import codes
    >>> own(lambda net, x: codes(net, x) > 0)
    Traceback (most recent call last):
    ...
    AssertionError: <lambda> uses splinelib.affine.codes. Write the work yourself: you may use ...
    """
    reader = _Reader(sys._getframe(1).f_globals, frozenset(refused))
    reader.read(function, ())
    name = getattr(function, "__name__", repr(function)[:60])
    if not reader.written:
        whole = f"{sources.home(function)}.{name}"
        raise AssertionError(
            f"this is {whole}, not a function of this notebook: write it with def, in its cell"
        )
    for added in sources.added():  # an operator is called without its name
        reader.read(added, (name,))


class _Reader:
    """Follows what can be reached, once each; ``trail`` is the way there, as names."""

    def __init__(self, notebook: dict[str, Any], refused: frozenset[str]):
        self.notebook, self.refused = notebook, refused
        self.specs = {id(v) for k, v in notebook.items() if k.endswith("_spec")}
        self.seen: dict[int, Any] = {}  # what was seen stays alive, so that no id is used twice
        self.todo: list[tuple[Any, tuple[str, ...]]] = []
        self.written = False  # whether the notebook has written any of it

    def kind(self, value: Any) -> str:
        """Who made a value; a function is the notebook's if its names are looked up there."""
        if isinstance(value, types.FunctionType) and value.__globals__ is self.notebook:
            return "notebook"
        return sources.kind(value, self.notebook.get("__name__", ""))

    def read(self, value: Any, trail: tuple[str, ...]) -> None:
        """Judge a value and all that it leads to."""
        self.todo.append((value, trail))
        while self.todo:
            value, trail = self.todo.pop()
            if id(value) in self.seen:
                continue
            self.seen[id(value)] = value
            self.judge(value, trail)
            if isinstance(value, types.FunctionType | type):
                trail = (*trail, value.__name__)
                self.body(value, trail)
            held = sources.parts(value)
            if isinstance(value, types.FunctionType) and self.kind(value) != "notebook":
                held = [part for part in held if not isinstance(part, types.ModuleType)]
            self.later([type(value), *held], trail)

    def later(self, values: Iterable[Any], trail: tuple[str, ...]) -> None:
        """Put values on the list, but those that lead nowhere."""
        self.todo += [(value, trail) for value in values if not isinstance(value, PLAIN)]

    def judge(self, value: Any, trail: tuple[str, ...]) -> None:
        """Refuse what comes from splinelib, from a specification, or from elsewhere."""
        if id(value) in self.specs:
            self.fail(trail, getattr(value, "__name__", "a specification"), COMPARE)
        if not sources.is_code(value):
            return
        whole, kind = sources.whole_name(value), self.kind(value)
        name = whole.rsplit(".", 1)[-1]
        if kind == "notebook" and not isinstance(value, types.ModuleType):
            if name.endswith("_spec"):
                self.fail(trail, name, COMPARE)
            return
        if kind != "library" and (kind != "python" or isinstance(value, types.ModuleType)):
            self.fail(trail, whole, WORK)
        if name in self.refused:
            self.fail(trail, name, ANSWER)
        if name in TRICKS and not whole.startswith(("torch.", "numpy.")):
            self.fail(trail, name, PLAINLY)

    def fail(self, trail: tuple[str, ...], what: str, advice: str) -> None:
        """Say what was found, and on which way."""
        way = " calls ".join(trail) or "your answer"
        raise AssertionError(f"{way} uses {what}. {advice}")

    def body(self, value: types.FunctionType | type, trail: tuple[str, ...]) -> None:
        """Follow what the notebook has written: the code of a function, all of a class."""
        if self.kind(value) != "notebook":
            return
        if isinstance(value, type):
            self.later([*value.__bases__, *vars(value).values()], trail)
        else:
            self.written = True
            self.code(value.__code__, value.__globals__, trail)

    def code(self, code: types.CodeType, space: dict[str, Any], trail: tuple[str, ...]) -> None:
        """Follow the names in a piece of bytecode, and the functions nested in it."""
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self.code(const, space, trail)
        for name, value in self.names(code, space, trail):
            self.name(name, value, trail)
            if value is not _MISSING:
                self.later([value], trail)

    def name(self, name: str, value: Any, trail: tuple[str, ...]) -> None:
        """Judge a name as it is written; ``value`` is what it stands for, or missing."""
        if name.endswith("_spec"):
            self.fail(trail, name, COMPARE)
        if name in DOORS:
            self.fail(trail, name, PLAINLY)
        if name in self.refused and value is _MISSING:
            self.fail(trail, name, ANSWER)
        if sources.is_code(value) and self.kind(value) == "python":
            self.fail(trail, sources.whole_name(value), WORK)

    def names(
        self, code: types.CodeType, space: dict[str, Any], trail: tuple[str, ...]
    ) -> Iterator[tuple[str, Any]]:
        """Names that the code loads, with the values that they have now, as far as one can tell."""
        value: Any = _MISSING
        for step in dis.get_instructions(code):
            if step.opname in LOADS:
                value = space.get(step.argval, getattr(builtins, step.argval, _MISSING))
                yield step.argval, value
            elif step.opname == "IMPORT_NAME":
                if step.argval.split(".")[0] not in sources.LIBRARIES:
                    self.fail(trail, step.argval, WORK)
                value = sys.modules.get(step.argval, _MISSING)
                yield step.argval, value
            elif step.opname in ATTRIBUTES:
                space_like = isinstance(value, types.ModuleType | type)  # looking up runs nothing
                found = getattr(value, step.argval, _MISSING) if space_like else _MISSING
                yield step.argval, found
                value = value if step.opname == "IMPORT_FROM" else found
            elif not step.opname.startswith(("STORE_", "PUSH_NULL", "CACHE")):
                value = _MISSING
