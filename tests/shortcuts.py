"""Answers that hand the work to somebody else, and answers that only look like it.

Each is the text of a cell that defines ``f``; ``NOTEBOOK`` is what stands above it.
"""

NOTEBOOK = """
import functools, math, sys
import numpy as np
import torch
from collections import Counter, deque, namedtuple
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple
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
    "a static method": """
        from splinelib.affine import codes
        class A:
            go = staticmethod(codes)
        def f(net, x): return A().go(net, x)""",
    "a class method": """
        from splinelib.affine import codes
        class A:
            @classmethod
            def go(cls, net, x): return codes(net, x)
        def f(net, x): return A().go(net, x)""",
    "a property": """
        from splinelib.affine import codes
        class A:
            @property
            def go(self): return codes
        def f(net, x): return A().go(net, x)""",
    "a cached property": """
        from splinelib.affine import codes
        class A:
            @functools.cached_property
            def go(self): return codes
        def f(net, x): return A().go(net, x)""",
    "a partial method": """
        from splinelib.affine import codes
        class A:
            go = functools.partialmethod(lambda self, g, net, x: g(net, x), codes)
        def f(net, x): return A().go(net, x)""",
    "a base class": """
        from splinelib.affine import codes
        class B:
            def go(self, net, x): return codes(net, x)
        class A(B): pass
        def f(net, x): return A().go(net, x)""",
    "a metaclass": """
        from splinelib.affine import codes
        class M(type):
            def go(cls, net, x): return codes(net, x)
        class A(metaclass=M): pass
        def f(net, x):
            a = A
            return a.go(net, x)""",
    "a slot": """
        from splinelib.affine import codes
        class A:
            __slots__ = ("go",)
        a = A()
        a.go = codes
        def f(net, x): return a.go(net, x)""",
    "a module of torch": """
        from splinelib.affine import codes
        class A(nn.Module):
            def forward(self, net, x): return codes(net, x)
        a = A()
        def f(net, x): return a(net, x)""",
    "a hook": """
        from splinelib.affine import codes
        layer = nn.Linear(2, 2)
        layer.register_forward_hook(lambda m, x, y: codes(m, x[0]))
        def f(net, x): return layer(x)""",
    "keys": """
        from splinelib.affine import codes
        table = {codes: 1}
        def f(net, x): return next(iter(table))(net, x)""",
    "a method of a list": """
        from splinelib.affine import codes
        take = [codes].pop
        def f(net, x): return take()(net, x)""",
    "an attribute of a function": """
        from splinelib.affine import codes
        def f(net, x): return f.go(net, x)
        f.go = codes""",
    "a default of a namedtuple": """
        from splinelib.affine import codes
        A = namedtuple("A", "go", defaults=[codes])
        def f(net, x): return A().go(net, x)""",
    "a default of a dataclass": """
        from splinelib.affine import codes
        @dataclass
        class A:
            go: object = field(default_factory=lambda: codes)
        def f(net, x): return A().go(net, x)""",
    "np.frompyfunc": """
        from splinelib.affine import codes
        g = np.frompyfunc(codes, 2, 1)
        def f(net, x): return g(net, x)""",
    "np.vectorize": """
        from splinelib.affine import codes
        g = np.vectorize(codes, signature="(),(n)->(k)")
        def f(net, x): return g(net, x)""",
    "an array of records": """
        from splinelib.affine import codes
        box = np.array([(1, codes)], dtype=[("n", int), ("go", object)])
        def f(net, x): return box["go"][0](net, x)""",
    "a cache around the library": """
        from splinelib.affine import codes
        f = functools.cache(codes)""",
    "a cache around the specification": """
        g = functools.cache(codes_spec)
        def f(net, x): return g(net, x)""",
    "a cached answer": """
        from splinelib.affine import codes
        @functools.lru_cache(maxsize=None)
        def f(net, x): return codes(net, x)""",
    "a decorated answer": """
        from splinelib.affine import codes
        def decorated(g):
            @functools.wraps(g)
            def inner(*a): return g(*a)
            return inner
        @decorated
        def f(net, x): return codes(net, x)""",
    "a decorator that does the work": """
        from splinelib.affine import codes
        def decorated(g):
            @functools.wraps(g)
            def inner(*a): return codes(*a)
            return inner
        @decorated
        def f(net, x): return x > 0""",
    "a decorator of torch's": """
        from splinelib.affine import codes
        @torch.no_grad()
        def f(net, x): return codes(net, x)""",
    "a partial of a function of one's own": """
        from splinelib.affine import codes
        def g(how, net, x): return codes(net, x)
        f = functools.partial(g, "fast")""",
    "single dispatch": """
        from splinelib.affine import codes
        @functools.singledispatch
        def g(x, net): return x
        g.register(Tensor, lambda x, net: codes(net, x))
        def f(net, x): return g(x, net)""",
    "a method added to fractions": """
        from splinelib.affine import codes
        Fraction.sgn2 = lambda self, net, x: codes(net, x)
        def f(net, x): return Fraction(0).sgn2(net, x)""",
    "a static method added to counters": """
        from splinelib.affine import codes
        Counter.sgn2 = staticmethod(codes)
        def f(net, x): return Counter().sgn2(net, x)""",
    "a property added to tensors": """
        from splinelib.affine import codes
        torch.Tensor.sgn2 = property(lambda x: codes)
        def f(net, x): return x.sgn2(net, x)""",
    "a method replaced": """
        from splinelib.affine import codes
        nn.Linear.extra_repr = lambda self: codes
        def f(net, x): return net.extra_repr()(net, x)""",
    "monkeypatched name of torch, through a local name": """
        from splinelib.affine import codes
        torch.sgn2 = codes
        def f(net, x):
            t = torch
            return t.sgn2(net, x)""",
    "attrgetter": """
        import operator
        reach = operator.attrgetter("sys.modules")
        def f(net, x): return reach(torch)["splinelib.affine"].codes(net, x)""",
    "attrgetter, through a local name": """
        import operator
        def f(net, x):
            o = operator
            return o.attrgetter("sys.modules")(torch)["splinelib.affine"].codes(net, x)""",
    "methodcaller": """
        from operator import methodcaller
        def f(net, x): return methodcaller("backward")(x)""",
    "annotations": """
        import typing
        from splinelib.affine import codes
        def g(x: "codes"): pass
        def f(net, x): return typing.get_type_hints(g)["x"](net, x)""",
    "sys as a default": """
        def f(net, x, s=sys): return s.modules["splinelib.affine"].codes(net, x)""",
    "eval in a list": """
        box = [eval]
        def f(net, x): return box[0]("codes")(net, x)""",
    "another package's function in a list": """
        import scipy.optimize
        box = [scipy.optimize.linprog]
        def f(net, x): return box[0](x)""",
    "a module of Python that is not listed": """
        import subprocess as s
        def f(net, x): return s.run(x)""",
    "a function of such a module": """
        from subprocess import run
        def f(net, x): return run(x)""",
    "an unknown name that ends like a specification": """
        def f(net, x): return x.codes_spec(net)""",
    "a refused name, its module renamed": """
        def f(net, x):
            import torch.autograd.functional as a
            return a.jacobian(net, x)""",
    "a refused name in a table": """
        table = [torch.autograd.functional.jacobian]
        def f(net, x): return table[0](net, x)""",
    "the notebook as a module": """
        import __main__ as here
        def f(net, x):
            h = here
            return h.codes(net, x)""",
    "a specification without a name": """
        g_spec = lambda net, x: x
        ref = g_spec
        def f(net, x): return ref(net, x)""",
    "a function of no module": """
        space = {"__name__": "nowhere"}
        exec("from splinelib.affine import codes\\ndef g(net, x): return codes(net, x)", space)
        g = space["g"]
        def f(net, x): return g(net, x)""",
    "a method made by hand": """
        import types
        from splinelib.affine import codes
        g = types.MethodType(lambda one, net, x: codes(net, x), 1)
        def f(net, x): return g(net, x)""",
    "nothing of the notebook": """
        f = functools.partial(torch.mul, 2)""",
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
    "caches": """
        @functools.cache
        def f(n, d): return 1 if n == 0 or d == 0 else f(n - 1, d) + f(n - 1, d - 1)
        assert f(3, 2) == 7""",
    "caches with a size, and a helper with one": """
        @functools.lru_cache
        def g(n): return n + 1
        @functools.lru_cache(maxsize=8)
        def f(n): return g(n)""",
    "decorators of one's own": """
        def twice(g):
            @functools.wraps(g)
            def inner(*a): return g(*a), g(*a)
            return inner
        @twice
        @torch.no_grad()
        def f(net, x): return net(x)""",
    "a partial, torch.vmap and np.vectorize as the answer": """
        own(functools.partial(lambda how, x: x, "fast"))
        own(np.vectorize(lambda x: x + 1))
        own(np.frompyfunc(lambda x: x + 1, 1, 1))
        f = torch.vmap(lambda x: x + 1)""",
    "an object with a call": """
        class A:
            def __call__(self, net, x): return net(x)
        f = A()""",
    "records": """
        Affine = namedtuple("Affine", "A b")
        class Net(NamedTuple):
            weights: list
            biases: list = []
            def size(self): return len(self.weights)
        @dataclass(frozen=True, slots=True, order=True)
        class Map:
            A: Tensor
            b: Tensor
            rows: list = field(default_factory=list)
        kept = Affine(1, 2), Map(1, 2)
        def f(net, x):
            return Affine(1, 2)._replace(A=3), Net([]).size(), Map(x, x), kept[1].rows""",
    "all of a class": """
        @functools.total_ordering
        class A:
            kind = "a"
            def __init__(self): self.open, self.types, self.input = [], {}, None
            def __lt__(self, other): return len(self.open) < len(other.open)
            def __eq__(self, other): return self is other
            @staticmethod
            def zero(): return 0
            @classmethod
            def new(cls): return cls()
            @property
            def twin(self): return self.__class__()
            @functools.cached_property
            def size(self): return super().__repr__()
        @functools.singledispatch
        def g(a): return a.size
        def f(net, x):
            a = A.new()
            setattr(a, "kind", A.zero())
            return a.twin < a, g(a), f"{a.open}{a.types}{a.input}" """,
    "numpy": """
        rng = np.random.default_rng(0)
        old = np.random.RandomState(0)
        def f(net, x):
            z = np.where(np.dot(x, x) > 0, 1, np.bincount([1])).sum(initial=np.add.reduce(x))
            return z, rng.integers(3), old.choice(3), np.random.choice(3), np.random.normal()""",
    "operator and statistics": """
        import operator, statistics
        from operator import itemgetter
        first = itemgetter(0)
        def f(net, x):
            return operator.mul(2, 3), max([(1, 2)], key=first), statistics.median([1, 2])""",
    "a training": """
        net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(2, 2)))
        def f(net, x):
            for (batch,) in loader:
                optimizer.zero_grad()
                net(batch).sum().backward()
                optimizer.step()
                schedule.step()""",
    "a helper and a table that are named like what is refused": """
        def jacobian(x): return x
        def f(net, x): return jacobian(x)
        own(f, {"jacobian"})
        jacobian = torch.zeros(2)
        def f(net, x): return jacobian[0]""",
    "a long chain": """
        chain = None
        for n in range(5000): chain = (n, chain)
        def f(net, x): return chain""",
    "data of others, kept in torch": """
        import scipy.optimize
        torch.sgn2 = {scipy.optimize.linprog: 1}
        def f(net, x): return x""",
    "a method of one's own, added to fractions": """
        Fraction.sgn2 = lambda self: self > 0
        def f(net, x): return Fraction(0).sgn2()""",
}
