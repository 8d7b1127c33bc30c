"""The guard of the assignments: shortcuts to the answer are refused, plain work is not."""

from __future__ import annotations

import contextlib
import itertools
import keyword
import signal
import textwrap
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
import torch
from shortcuts import CHEATS, HONEST, NOTEBOOK

from splinelib.classroom import own, same, within


def run(source: str, refused: str = '("jacobian",)') -> None:
    """Execute cells in one namespace, as a notebook does, and ask whether ``f`` is its own."""
    space: dict[str, object] = {"__name__": "__main__"}
    exec(NOTEBOOK + textwrap.dedent(source) + f"\nown(f, {refused})\n", space)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What a cheat has added to libraries is taken away again."""
    owners = (torch, torch.nn.functional, torch.Tensor, torch.nn.Module, torch.nn.Linear)
    before = [(owner, dict(vars(owner))) for owner in (*owners, Fraction, Counter)]
    yield
    for owner, had in before:
        for name, now in list(vars(owner).items()):
            if name in ("sgn2", "__matmul__", "extra_repr") and name not in had:
                delattr(owner, name)
            elif name == "extra_repr" and had[name] is not now:
                setattr(owner, name, had[name])


@pytest.mark.parametrize("name", CHEATS)
def test_shortcuts_are_refused(name: str) -> None:
    with pytest.raises(AssertionError) as caught:
        run(CHEATS[name])
    assert len(str(caught.value)) > 40, "the message says what was found and what to do"


@pytest.mark.parametrize("name", HONEST)
def test_own_work_passes(name: str) -> None:
    run(HONEST[name])


PYTHON = ["bisect", "collections", "copy", "dataclasses", "fractions", "functools", "heapq"]
PYTHON += ["itertools", "math", "operator", "random", "statistics", "typing"]
MODULES = {"np": np, "torch": torch, "own": own, "builtins": import_module("builtins")}
MODULES |= {name: import_module(name) for name in PYTHON}
LIBRARIES = [f"np.{name}" for name in ("linalg", "random", "fft", "ma", "ndarray")]
LIBRARIES += [f"torch.{name}" for name in ("linalg", "nn", "nn.functional", "nn.init", "func")]
LIBRARIES += [f"torch.{name}" for name in ("special", "fft", "optim", "autograd.functional")]
LIBRARIES += ["np", "torch", "torch.distributions", "torch.Tensor", "torch.nn.Module", "builtins"]
LIBRARIES += ["collections.abc", "fractions.Fraction", "random.Random", "statistics.NormalDist"]
REFUSED = {"operator": {"attrgetter", "methodcaller"}, "typing": {"get_type_hints"}}
REFUSED |= {"builtins": {"getattr", "globals", "locals", "vars", "eval", "exec", "compile", "open"}}
REFUSED |= {"np.ndarray": {"ctypes"}, "fractions.Fraction": {"conjugate"}}


def public(library: str) -> dict[str, object]:
    """Everything with a name that a module or a class shows, but modules and constants."""
    owner = eval(library, MODULES)
    names = getattr(owner, "__all__", ()) if library not in ("torch", "np") else ()
    found = {name: getattr(owner, name, None) for name in names or dir(owner)}
    plain = {k: v for k, v in found.items() if not (k.startswith("_") or keyword.iskeyword(k))}
    if library == "builtins":  # debuggers and shells add names to it
        homes = ("builtins", "io", "_io")
        return {k: v for k, v in plain.items() if getattr(v, "__module__", "") in homes}
    return {k: v for k, v in plain.items() if not isinstance(v, types.ModuleType)}


@pytest.mark.filterwarnings("ignore")  # some names of torch are old
@pytest.mark.parametrize("library", [*LIBRARIES, *PYTHON])
def test_all_that_may_be_used_passes_but_a_few_names(library: str) -> None:
    names, refused = public(library), REFUSED.get(library, set())
    usable = [name for name in names if name not in refused]
    prefix = "" if library == "builtins" else f"{library}."
    space = {**MODULES, **{f"by_{name}": names[name] for name in usable}, "__name__": "__main__"}
    exec(f"def f(): return [{', '.join(prefix + name for name in usable)}]\nown(f)", space)
    exec(f"def f(): return [{', '.join('by_' + name for name in usable)}]\nown(f)", space)
    for name in refused:
        with pytest.raises(AssertionError, match="f uses "):
            exec(f"def f(): return {prefix}{name}\nown(f)", space)


def test_the_message_names_the_way() -> None:
    with pytest.raises(AssertionError, match=r"f calls g calls h uses splinelib\.affine\.codes"):
        run(CHEATS["a helper of a helper"])


def test_the_message_lists_what_may_be_used() -> None:
    with pytest.raises(AssertionError) as caught:
        run(CHEATS["another package"])
    assert f"torch, numpy, {', '.join(PYTHON)}." in str(caught.value)


def test_a_name_is_refused_only_where_it_is_asked() -> None:
    run(CHEATS["a refused name"], refused="()")


def work(seconds: float) -> int:
    """Keep the processor busy."""
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass
    return 45


def test_an_endless_loop_is_stopped() -> None:
    start = time.process_time()
    with pytest.raises(AssertionError, match=r"not done after 0\.2 s"):
        within(0.2, lambda: all(n >= 0 for n in itertools.count()))
    assert time.process_time() - start < 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_alarm_that_falls_where_python_drops_errors_is_followed_by_another() -> None:
    class Slow:
        def __del__(self) -> None:
            work(0.3)

    def call() -> None:
        Slow()
        work(3)

    with pytest.raises(AssertionError, match=r"not done after 0\.2 s"):
        within(0.2, call)
    assert work(0.3) == 45


def test_work_is_measured_where_there_are_no_alarms() -> None:
    told: list[str] = []

    def slow() -> None:
        with pytest.raises(AssertionError, match="not done after") as caught:
            within(0.01, lambda: work(0.05))
        told.append(str(caught.value))

    thread = threading.Thread(target=slow)
    thread.start()
    thread.join()
    assert len(told) == 1


def test_what_is_quick_enough_is_handed_back_and_leaves_no_alarm() -> None:
    assert within(0.2, lambda: 45) == 45
    assert work(0.3) == 45


@pytest.mark.parametrize("call", [lambda: 45, lambda: work(3), lambda: 1 / 0])
def test_the_notebooks_own_alarm_is_put_back(call: Callable[[], object]) -> None:
    def mine(*_: object) -> None:
        rang.append(True)

    rang: list[bool] = []
    before = signal.signal(signal.SIGPROF, mine)
    try:
        with contextlib.suppress(AssertionError, ZeroDivisionError):
            within(0.1, call)
        assert signal.getsignal(signal.SIGPROF) is mine
        assert not rang
    finally:
        signal.signal(signal.SIGPROF, before)


def test_an_error_of_the_call_is_the_callers_and_leaves_no_alarm() -> None:
    with pytest.raises(ZeroDivisionError):
        within(0.2, lambda: 1 / 0)
    assert work(0.3) == 45


def test_waiting_for_a_busy_machine_is_no_work() -> None:
    assert within(0.1, lambda: time.sleep(0.3) or 45) == 45


INF = float("inf")


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (3.0, "a tensor is wanted"),
        (torch.zeros(3), r"shape \(3,\) came, wanted is \(2,\)"),
        (torch.tensor([1.0, 5.0]), r"1 of 2 entries differ; at \[1\] came 5.0, wanted is inf"),
        (torch.tensor([float("nan"), INF]), r"at \[0\] came nan, wanted is 1.0"),
        (torch.tensor([1.0 + 1e-6, INF]), r"at \[0\] came 1.000001"),
        (torch.tensor([1.0, -INF]), r"at \[1\] came -inf"),
    ],
)
def test_what_differs_is_told_with_the_hint(got: object, message: str) -> None:
    with pytest.raises(AssertionError, match=message + r".*\. Signs\?$"):
        same(got, torch.tensor([1.0, INF]), "Signs?")


def test_what_is_the_same_passes() -> None:
    same(torch.tensor([1.0 + 1e-11, INF]), torch.tensor([1.0, INF]))
    same(torch.tensor([1e-12]), torch.tensor([0.0]))
    same(torch.tensor([1, -1], dtype=torch.int8), torch.tensor([1, -1]))
    same(torch.tensor(True), torch.tensor(True))
    same(torch.empty(0), torch.empty(0))
    same(torch.tensor([3.0], requires_grad=True), torch.tensor([3.0]))


def test_large_values_may_differ_more_but_not_without_bound() -> None:
    same(torch.tensor([1e6 + 1e-4], dtype=torch.float64), torch.tensor([1e6]))
    with pytest.raises(AssertionError, match="1 of 1 entries differ"):
        same(torch.tensor([1e6 + 1e-2], dtype=torch.float64), torch.tensor([1e6]))
    same(torch.tensor([1e6 + 1.0]), torch.tensor([1e6]), tol=1e-5)
