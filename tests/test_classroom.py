"""The guard of the assignments: shortcuts to the answer are refused, plain work is not."""

from __future__ import annotations

import itertools
import textwrap
import threading
import time

import pytest
import torch

from splinelib.classroom import same, within

NOTEBOOK = """
import functools, math, sys
import numpy as np
import torch
from collections import deque
from torch import Tensor, nn
from splinelib.classroom import own

def codes_spec(net, x):
    return [[1 if z > 0 else -1 for z in row] for row in x]
"""

CHEATS = {
    "a deque": """
        from splinelib.affine import codes
        box = deque([codes])
        def f(net, x): return box[0](net, x)""",
    "an array of objects": """
        from splinelib.affine import codes
        box = np.array([codes, None], dtype=object)
        def f(net, x): return box[0](net, x)""",
    "an attribute of a tensor": """
        from splinelib.affine import codes
        keep = torch.zeros(1)
        keep.f = codes
        def f(net, x): return keep.f(net, x)""",
    "an iterator": """
        from splinelib.affine import codes
        import itertools
        box = itertools.repeat(codes)
        def f(net, x): return next(box)(net, x)""",
    "a generator": """
        from splinelib.affine import codes
        box = (g for g in [codes])
        def f(net, x): return next(box)(net, x)""",
    "an operator of torch's": """
        from splinelib.affine import codes
        torch.nn.Module.__matmul__ = lambda net, x: codes(net, x)
        def f(net, x): return net @ x""",
    "from-import": """
        from splinelib.affine import codes
        def f(net, x): return codes(net, x)""",
    "alias": """
        import splinelib.affine as a
        def f(net, x): return a.codes(net, x)""",
    "package": """
        import splinelib.affine
        def f(net, x): return splinelib.affine.codes(net, x)""",
    "import inside": """
        def f(net, x):
            from splinelib.affine import codes as c
            return c(net, x)""",
    "the library's function itself": """
        from splinelib.affine import codes as f""",
    "partial": """
        from splinelib.affine import codes
        g = functools.partial(codes)
        def f(net, x): return g(net, x)""",
    "a partial as the answer": """
        from splinelib.affine import codes
        f = functools.partial(codes)""",
    "wrapper": """
        from splinelib.affine import codes
        def wrap(g):
            def inner(*a): return g(*a)
            return inner
        f = wrap(codes)""",
    "functools.wraps": """
        from splinelib.affine import codes
        @functools.lru_cache
        def g(net, x): return codes(net, x)
        def f(net, x): return g(net, x)""",
    "a helper of a helper": """
        from splinelib.affine import codes
        def h(net, x): return codes(net, x)
        def g(net, x): return h(net, x)
        def f(net, x): return g(net, x)""",
    "the specification": """
        def f(net, x): return codes_spec(net, x)""",
    "the specification under another name": """
        ref = codes_spec
        def f(net, x): return ref(net, x)""",
    "the specification, its name deleted": """
        ref = codes_spec
        del codes_spec
        def f(net, x): return ref(net, x)""",
    "the specification in a table": """
        table = {"f": [codes_spec]}
        def f(net, x): return table["f"][0](net, x)""",
    "lambda": """
        from splinelib.affine import codes
        f = lambda net, x: codes(net, x)""",
    "nested lambda": """
        from splinelib.affine import codes
        def f(net, x): return list(map(lambda y: codes(net, y), [x]))""",
    "comprehension": """
        from splinelib.affine import codes
        def f(net, x): return [codes(net, y) for y in x]""",
    "default argument": """
        from splinelib.affine import codes
        def f(net, x, g=codes): return g(net, x)""",
    "keyword default": """
        from splinelib.affine import codes
        def f(net, x, *, g=codes): return g(net, x)""",
    "method on a class": """
        from splinelib.affine import codes
        class A:
            def go(self, net, x): return codes(net, x)
        def f(net, x): return A().go(net, x)""",
    "static method": """
        from splinelib.affine import codes
        class A:
            go = staticmethod(codes)
        def f(net, x): return A.go(net, x)""",
    "instance": """
        from splinelib.affine import codes
        class A: pass
        a = A()
        a.go = codes
        def f(net, x): return a.go(net, x)""",
    "bound method": """
        from splinelib.affine import codes
        class A:
            def go(self, net, x): return codes(net, x)
        g = A().go
        def f(net, x): return g(net, x)""",
    "class inside": """
        def f(net, x):
            class A:
                from splinelib.affine import codes
            return A.codes(net, x)""",
    "monkeypatched name of torch": """
        from splinelib.affine import codes
        torch.sgn2 = codes
        def f(net, x): return torch.sgn2(net, x)""",
    "monkeypatched name of torch, deeper": """
        from splinelib.affine import codes
        torch.nn.functional.sgn2 = lambda net, x: codes(net, x)
        def f(net, x): return nn.functional.sgn2(net, x)""",
    "method added to tensors": """
        from splinelib.affine import codes
        torch.Tensor.sgn2 = lambda x, net: codes(net, x)
        def f(net, x): return x.sgn2(net)""",
    "globals": """
        from splinelib.affine import codes
        def f(net, x): return globals()["codes"](net, x)""",
    "sys.modules": """
        def f(net, x): return sys.modules["splinelib.affine"].codes(net, x)""",
    "sys by way of torch": """
        def f(net, x):
            t = torch
            return t.sys.modules["splinelib.affine"].codes(net, x)""",
    "sys by way of copy": """
        import copy
        def f(net, x): return copy.weakref.sys.modules["splinelib.affine"].codes(net, x)""",
    "eval": """
        from splinelib.affine import codes
        def f(net, x): return eval("codes")(net, x)""",
    "exec": """
        def f(net, x):
            exec("from splinelib.affine import codes")""",
    "__import__": """
        def f(net, x): return __import__("splinelib.affine").affine.codes(net, x)""",
    "__import__ under another name": """
        bring = __import__
        def f(net, x): return bring("splinelib.affine").affine.codes(net, x)""",
    "importlib": """
        import importlib
        def f(net, x): return importlib.import_module("splinelib.affine").codes(net, x)""",
    "importlib's function": """
        from importlib import import_module as bring
        def f(net, x): return bring("splinelib.affine").codes(net, x)""",
    "getattr": """
        import splinelib.affine
        def f(net, x): return getattr(torch, "x", None)""",
    "globals of a function": """
        from splinelib.affine import codes
        def g(): pass
        def f(net, x): return g.__globals__["codes"](net, x)""",
    "vmap": """
        from splinelib.affine import codes
        g = torch.vmap(lambda x: codes(None, x))
        def f(net, x): return g(x)""",
    "an object of the library": """
        from splinelib.partition import partition
        p = partition(nn.Sequential(nn.Linear(2, 1), nn.ReLU()), box=((-1, -1), (1, 1)))
        def f(net, x): return p.num_cells""",
    "another package": """
        import scipy.optimize
        def f(net, x): return scipy.optimize.linprog(x)""",
    "another package, inside": """
        def f(net, x):
            import scipy.optimize as o
            return o.linprog(x)""",
    "a refused name": """
        def f(net, x): return torch.autograd.functional.jacobian(net, x)""",
    "a refused name, renamed": """
        from torch.autograd.functional import jacobian as j
        def f(net, x): return j(net, x)""",
    "a refused name, imported inside": """
        def f(net, x):
            from torch.autograd.functional import jacobian as j
            return j(net, x)""",
    "a refused name by attribute": """
        def f(net, x):
            t = torch.autograd
            return t.functional.jacobian(net, x)""",
    "a mask over the library's function": """
        import types
        from splinelib.affine import codes
        f = types.FunctionType(codes.__code__, codes.__globals__, "f")
        f.__module__, f.__wrapped__ = "__main__", lambda net, x: 0""",
    "a function of elsewhere": """
        f = math.sqrt""",
}

HONEST = {
    "torch": """
        def f(net, x): return torch.where(net(x) > 0, 1, -1).to(torch.int8)""",
    "helpers, closures, classes, a queue": """
        scale = 2.0
        class Queue:
            def __init__(self, length: int): self.items = deque(maxlen=length)
            def full(self) -> bool: return len(self.items) == self.items.maxlen
        def twice(g):
            def inner(x): return g(g(x))
            return inner
        half = functools.partial(torch.mul, 0.5)
        def f(net: nn.Module, x: Tensor) -> Tensor:
            queue = Queue(3)
            queue.items.append(scale)
            return twice(half)(x) + math.sqrt(len([m for m in net.modules()]))""",
    "imports inside": """
        def f(net, x):
            import torch.nn.functional as F
            from itertools import combinations
            return F.relu(x), np.linalg.norm(np.asarray(x)), list(combinations(range(3), 2))""",
    "plain modules of Python": """
        import bisect, copy, heapq, random
        def f(net, x):
            heapq.heappush([], functools.reduce(max, [1, 2]))
            order = list(range(len(x)))
            random.Random(0).shuffle(order)
            return copy.deepcopy(net)(x[order]), bisect.bisect_left([1, 3], 2), random.random()""",
    "recursion and global data": """
        net = nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.1))
        known = {"a": torch.zeros(2), 3: [np.arange(2)]}
        def f(x, n=3): return f(net(x), n - 1) + known["a"] if n else x""",
    "decorators of torch, and vmap of one's own": """
        g = torch.vmap(lambda x: x.sum() + 1)
        @torch.no_grad()
        def f(net, x): return g(net(x)).clamp(min=0).numpy()""",
    "an unused import of the library": """
        from splinelib.affine import codes
        from splinelib import viz
        def f(net, x):
            '''Like splinelib.affine.codes, and like codes_spec.'''
            return x > 0""",
}


def run(source: str, refused: str = '("jacobian",)') -> None:
    """Execute cells in one namespace, as a notebook does, and ask whether ``f`` is its own."""
    space: dict[str, object] = {"__name__": "__main__"}
    exec(NOTEBOOK + textwrap.dedent(source) + f"\nown(f, {refused})\n", space)


@pytest.fixture(autouse=True)
def restored() -> object:
    """What a cheat has added to torch is taken away again."""
    yield
    for owner in (torch, torch.nn.functional, torch.Tensor):
        if "sgn2" in vars(owner):
            delattr(owner, "sgn2")
    if "__matmul__" in vars(torch.nn.Module):
        delattr(torch.nn.Module, "__matmul__")


@pytest.mark.parametrize("name", CHEATS)
def test_shortcuts_are_refused(name: str) -> None:
    with pytest.raises(AssertionError) as caught:
        run(CHEATS[name])
    assert len(str(caught.value)) > 40, "the message says what was found and what to do"


@pytest.mark.parametrize("name", HONEST)
def test_own_work_passes(name: str) -> None:
    run(HONEST[name])


def test_the_message_names_the_way() -> None:
    with pytest.raises(AssertionError, match=r"f calls g calls h uses splinelib\.affine\.codes"):
        run(CHEATS["a helper of a helper"])


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
    same(torch.tensor([1, -1], dtype=torch.int8), torch.tensor([1, -1]))
    same(torch.tensor(True), torch.tensor(True))
    same(torch.empty(0), torch.empty(0))
