"""An independent count of regions in exact rational arithmetic: one cell, one unit at a time.

Slow and plain, so that it can be trusted: every feature is an affine function ``(a, b, c)`` of the
plane, ``a x + b y + c`` with Fractions, and every cell is a polygon with Fractions as corners.
"""

from fractions import Fraction
from itertools import pairwise


def cells(steps, box):
    """All cells of a box, as pairs (polygon, features).

    steps: ("linear", W, b), ("act", alpha), ("max", windows), ("push",), ("add",)
    """
    (x0, y0), (x1, y1) = [[Fraction(v) for v in corner] for corner in box]
    one, zero = Fraction(1), Fraction(0)
    plane = [(one, zero, zero), (zero, one, zero)]
    work = [([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], plane, [])]
    for step in steps:
        work = [new for cell in work for new in _advance(cell, *step)]
    return [(polygon, features) for polygon, features, _ in work]


def _advance(cell, kind, *args):
    polygon, features, stack = cell
    if kind == "linear":
        return [
            (polygon, [_combine(row, features, c) for row, c in zip(*args, strict=True)], stack)
        ]
    if kind == "push":
        return [(polygon, features, [*stack, features])]
    if kind == "add":
        total = [
            tuple(map(sum, zip(f, g, strict=True)))
            for f, g in zip(features, stack[-1], strict=True)
        ]
        return [(polygon, total, stack[:-1])]
    if kind == "act":
        return [(p, f, stack) for p, f in _activate(polygon, features, Fraction(args[0]))]
    return [(p, f, stack) for p, f in _pool(polygon, features, args[0])]


def _combine(row, features, constant):
    terms = [[Fraction(w) * v for v in f] for w, f in zip(row, features, strict=True) if w]
    a, b, c = (sum(t[i] for t in terms) for i in range(3))
    return (a, b, c + Fraction(constant))


def _activate(polygon, features, alpha):
    pieces = [polygon]
    for f in features:
        pieces = [half for p in pieces for half in (_clip(p, f, 1), _clip(p, f, -1)) if half]
    for p in pieces:
        x, y = _center(p)
        yield p, [f if _at(f, x, y) > 0 else tuple(alpha * v for v in f) for f in features]


def _pool(polygon, features, windows):
    pieces = [(polygon, [])]
    for window in windows:
        new = []
        for p, chosen in pieces:
            for n, i in enumerate(window):
                part = p
                for m, j in enumerate(window):
                    gap = tuple(u - v for u, v in zip(features[i], features[j], strict=True))
                    if m < n and gap == (0, 0, 0):  # the first of equals wins
                        part = None
                    part = part and _clip(part, gap, 1, touching=gap == (0, 0, 0))
                if part:
                    new.append((part, [*chosen, features[i]]))
        pieces = new
    return pieces


def _clip(polygon, f, side, touching=False):
    """The part of a polygon where ``side * f >= 0``; None if it has no area, or all of it where f
    has one sign only (then only the side that holds it)."""
    values = [side * _at(f, *corner) for corner in polygon]
    if touching:
        return polygon
    if max(values) <= 0:
        # identically zero belongs to the inactive side
        return polygon if side < 0 and min(values) == 0 == max(values) else None
    part = []
    for (a, u), (b, v) in pairwise([*zip(polygon, values, strict=True), (polygon[0], values[0])]):
        if u >= 0:
            part.append(a)
        if u * v < 0:
            t = u / (u - v)
            part.append(tuple(p + t * (q - p) for p, q in zip(a, b, strict=True)))
    return part


def _at(f, x, y):
    return f[0] * x + f[1] * y + f[2]


def _center(polygon):
    return tuple(sum(c) / len(polygon) for c in zip(*polygon, strict=True))


def linear(module, shape):
    """Any affine layer as a ("linear", W, b) step, read off the layer itself."""
    import torch

    size = torch.Size(shape).numel()
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    with torch.no_grad():
        offset = module(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        columns = module(basis).flatten(1) - offset
    return ("linear", columns.T.tolist(), offset.tolist())
