"""Wrong answers to Assignment 1, the map of a cell."""

from assignments import Wrong

WRONG = [
    # Question 1
    Wrong(
        "the paper's sign of a code",
        "a1-q1-codes",
        "torch.where(z > 0, 1, -1)",
        "torch.where(z > 0, -1, 1)",
        {"a1-q1-check-1": 2, "a1-q1-check-2": 2, "a1-q1-hidden-1": 2, "a1-q1-hidden-2": 2},
    ),
    Wrong(
        "on the line counts as active",
        "a1-q1-codes",
        "torch.where(z > 0, 1, -1)",
        "torch.where(z >= 0, 1, -1)",
        {"a1-q1-hidden-1": 2},
    ),
    Wrong(
        "the last layer has a code, too",
        "a1-q1-codes",
        "zip(weights[:-1], biases[:-1])",
        "zip(weights, biases)",
        {"a1-q1-check-1": 2, "a1-q1-check-2": 2, "a1-q1-hidden-1": 2, "a1-q1-hidden-2": 2},
    ),
    Wrong(
        "a ReLU, whatever alpha is",
        "a1-q1-codes",
        "torch.where(z > 0, z, alpha * z)",
        "torch.relu(z)",
        {"a1-q1-check-2": 2, "a1-q1-hidden-1": 2, "a1-q1-hidden-2": 2},
    ),
    Wrong(
        "the specification's loops, typed again",
        "a1-q1-codes",
        "",
        """
def codes(weights, biases, alpha, x):
    rows = []
    for h in x.tolist():
        row = []
        for W, b in zip(weights[:-1], biases[:-1]):
            layer = zip(W.tolist(), b.tolist())
            z = [sum(w * v for w, v in zip(w_k, h)) + b_k for w_k, b_k in layer]
            row += [1 if z_k > 0 else -1 for z_k in z]
            h = [z_k if z_k > 0 else alpha * z_k for z_k in z]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.int8)
""",
        {"a1-q1-hidden-2": 2},
    ),
    Wrong(
        "a call of the library",
        "a1-q1-codes",
        "",
        """
def codes(weights, biases, alpha, x):
    return affine.codes(module(weights, biases, alpha), x)
""",
        {"a1-q1-hidden-2": 2},
    ),
    # Question 2
    Wrong(
        "cells numbered in sorted order",
        "a1-q2-cells",
        "",
        """
def cells(code):
    return torch.unique(code, dim=0, return_inverse=True)[1]
""",
        {"a1-q2-check-1": 2, "a1-q2-check-2": 1, "a1-q2-hidden-1": 2, "a1-q2-hidden-2": 1},
    ),
    Wrong(
        "codes told apart by their sums",
        "a1-q2-cells",
        "row.tobytes()",
        "int(row.sum())",
        {"a1-q2-check-1": 2, "a1-q2-check-2": 1, "a1-q2-hidden-1": 2, "a1-q2-hidden-2": 1},
    ),
    Wrong(
        "codes packed into 64 bits",
        "a1-q2-cells",
        "",
        """
def cells(code):
    known, bits = {}, (code > 0).long()
    packed = (bits << torch.arange(code.shape[1])).sum(dim=1)
    return torch.tensor([known.setdefault(int(n), len(known)) for n in packed])
""",
        {"a1-q2-hidden-1": 2},
    ),
    Wrong(
        "the specification's loops, typed again",
        "a1-q2-cells",
        "",
        """
def cells(code):
    known, numbers = [], []
    for row in code.tolist():
        if row not in known:
            known.append(row)
        numbers.append(known.index(row))
    return torch.tensor(numbers)
""",
        {"a1-q2-hidden-2": 1},
    ),
    # Question 3
    Wrong(
        "signs in place of slopes, as printed in the paper's Eq. 4",
        "a1-q3-map",
        "torch.where(z > 0, 1.0, alpha)",
        "torch.where(z > 0, 1.0, -1.0)",
        {
            "a1-q3-check-1": 3,
            "a1-q3-check-2": 3,
            "a1-q3-hidden-1": 3,
            "a1-q3-hidden-2": 1,
            "a1-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "biases past the slopes",
        "a1-q3-map",
        "A, b = q.unsqueeze(2) * A, q * b",
        "A = q.unsqueeze(2) * A",
        {
            "a1-q3-check-1": 3,
            "a1-q3-check-2": 3,
            "a1-q3-hidden-1": 3,
            "a1-q3-hidden-2": 1,
            "a1-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "b as what is left of f(x)",
        "a1-q3-map",
        "return weights[-1] @ A, b @ weights[-1].T + biases[-1]",
        "A = weights[-1] @ A\n"
        "    return A, forward(weights, biases, alpha, x) - (A @ x.unsqueeze(2)).squeeze(2)",
        {"a1-q3-hidden-2": 1},
    ),
    Wrong(
        "automatic differentiation",
        "a1-q3-map",
        "",
        """
def affine_map(weights, biases, alpha, x):
    f = lambda y: forward(weights, biases, alpha, y[None])[0]
    A = torch.stack([torch.autograd.functional.jacobian(f, y) for y in x])
    return A, forward(weights, biases, alpha, x) - (A @ x.unsqueeze(2)).squeeze(2)
""",
        {"a1-q3-hidden-2": 1, "a1-q3-hidden-3": 2},
    ),
    Wrong(
        "the slopes of the first point for all",
        "a1-q3-map",
        "q = torch.where(z > 0, 1.0, alpha)",
        "q = torch.where(z[:1] > 0, 1.0, alpha).expand_as(z)",
        {"a1-q3-check-2": 3, "a1-q3-hidden-1": 3, "a1-q3-hidden-2": 1, "a1-q3-hidden-3": 2},
    ),
    # Question 4
    Wrong(
        "rows not turned by the code",
        "a1-q4-walls",
        "s = torch.where(active, 1.0, -1.0)",
        "s = torch.ones(len(b))",
        {"a1-q4-check-1": 2, "a1-q4-check-2": 3, "a1-q4-hidden-1": 3, "a1-q4-hidden-2": 2},
    ),
    Wrong(
        "deeper rows without slopes",
        "a1-q4-walls",
        "A, b = q[:, None] * A, q * b",
        "x = x + 0.0",
        {"a1-q4-check-2": 3, "a1-q4-hidden-1": 3, "a1-q4-hidden-2": 2},
    ),
    Wrong(
        "offsets not turned with their rows",
        "a1-q4-walls",
        "offsets.append(s * b)",
        "offsets.append(b)",
        {"a1-q4-check-1": 2, "a1-q4-check-2": 3, "a1-q4-hidden-1": 3, "a1-q4-hidden-2": 2},
    ),
    Wrong(
        "a ReLU, whatever alpha is",
        "a1-q4-walls",
        "torch.where(active, 1.0, alpha)",
        "active.double()",
        {"a1-q4-check-2": 3, "a1-q4-hidden-1": 3, "a1-q4-hidden-2": 2},
    ),
    # Question 5
    Wrong(
        "not divided by the length of the row",
        "a1-q5-distance",
        "/ length[real]",
        "",
        {"a1-q5-check-1": 2, "a1-q5-check-2": 1, "a1-q5-hidden-1": 2, "a1-q5-hidden-2": 1},
    ),
    Wrong(
        "rows of zeros as walls",
        "a1-q5-distance",
        "real = length > 0",
        "length, real = length.clamp(min=1e-12), length >= 0",
        {"a1-q5-hidden-1": 2},
    ),
    Wrong(
        "divided by the square of the length",
        "a1-q5-distance",
        "/ length[real]",
        "/ length[real] ** 2",
        {"a1-q5-check-1": 2, "a1-q5-check-2": 1, "a1-q5-hidden-1": 2, "a1-q5-hidden-2": 1},
    ),
    Wrong(
        "distance from the origin",
        "a1-q5-distance",
        "(G @ x + h)[real]",
        "h[real].abs()",
        {"a1-q5-check-1": 2, "a1-q5-check-2": 1, "a1-q5-hidden-2": 1},
    ),
    # Question 6
    Wrong(
        "the walls of the first cell, drawn straight on",
        "a1-q6-crossings",
        "",
        """
def crossings(walls_at, x, e, length):
    G, h = walls_at(x)
    t = -(G @ x + h) / (G @ e)
    return t[(t > 0) & (t < length)].sort().values.unique()
""",
        {"a1-q6-check-2": 2, "a1-q6-hidden-1": 2, "a1-q6-hidden-2": 2},
    ),
    Wrong(
        "walls behind taken for walls ahead",
        "a1-q6-crossings",
        "ahead = speed < 0",
        "ahead = speed != 0",
        {"a1-q6-check-1": 2, "a1-q6-check-2": 2, "a1-q6-hidden-1": 2, "a1-q6-hidden-2": 2},
    ),
    Wrong(
        "small steps, as the specification goes",
        "a1-q6-crossings",
        "",
        """
def crossings(walls_at, x, e, length):
    found, n = [], 397
    for i in range(n):
        low, high = i * length / n, (i + 1) * length / n
        G, h = walls_at(x + low * e)
        if not (G @ (x + high * e) + h > 0).all():
            for _ in range(50):
                t = (low + high) / 2
                inside = (G @ (x + t * e) + h > 0).all()
                low, high = (t, high) if inside else (low, t)
            found.append(high)
    return torch.tensor(found)
""",
        {"a1-q6-hidden-1": 2, "a1-q6-hidden-2": 2},
    ),
    Wrong(
        "a step of 0.01 over each wall",
        "a1-q6-crossings",
        "t = t_next + 1e-9",
        "t = t_next + 1e-2",
        {"a1-q6-hidden-1": 2, "a1-q6-hidden-2": 2},
    ),
    Wrong(
        "goes on behind the end",
        "a1-q6-crossings",
        "if t_next >= length:",
        "if t_next >= 2 * length:",
        {"a1-q6-check-1": 2, "a1-q6-check-2": 2, "a1-q6-hidden-2": 2},
    ),
    Wrong(
        "only the first wall",
        "a1-q6-crossings",
        "t = t_next + 1e-9",
        "break",
        {"a1-q6-check-1": 2, "a1-q6-check-2": 2, "a1-q6-hidden-1": 2, "a1-q6-hidden-2": 2},
    ),
]
