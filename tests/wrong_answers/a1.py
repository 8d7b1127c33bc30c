"""Wrong answers to Assignment 1, the map of a cell."""

from assignments import Wrong

from wrong_answers import only
from wrong_answers.typed import typed_again

Q1 = {"a1-q1-check-1": 2, "a1-q1-check-2": 1, "a1-q1-hidden-1": 2, "a1-q1-hidden-2": 3}
Q2 = {"a1-q2-check-1": 1, "a1-q2-check-2": 1, "a1-q2-hidden-1": 2, "a1-q2-hidden-2": 2}
Q3 = {
    "a1-q3-check-1": 2,
    "a1-q3-check-2": 3,
    "a1-q3-hidden-1": 2,
    "a1-q3-hidden-2": 1,
    "a1-q3-hidden-3": 4,
}
Q4 = {"a1-q4-check-1": 2, "a1-q4-check-2": 2, "a1-q4-hidden-1": 2, "a1-q4-hidden-2": 4}
Q5 = {"a1-q5-check-1": 1, "a1-q5-check-2": 1, "a1-q5-hidden-1": 2, "a1-q5-hidden-2": 2}
Q6 = {"a1-q6-check-1": 2, "a1-q6-check-2": 2, "a1-q6-hidden-1": 2, "a1-q6-hidden-2": 2}

WRONG = [
    # Question 1
    Wrong(
        "the paper's sign of a code",
        "a1-q1-codes",
        "torch.where(z > 0, 1, -1)",
        "torch.where(z > 0, -1, 1)",
        Q1,
    ),
    Wrong(
        "on the line counts as active",
        "a1-q1-codes",
        "torch.where(z > 0, 1, -1)",
        "torch.where(z >= 0, 1, -1)",
        only(Q1, "hidden-1"),
    ),
    Wrong(
        "the last layer has a code, too",
        "a1-q1-codes",
        "zip(weights[:-1], biases[:-1])",
        "zip(weights, biases)",
        Q1,
    ),
    Wrong(
        "a ReLU, whatever alpha is",
        "a1-q1-codes",
        "torch.where(z > 0, z, alpha * z)",
        "torch.relu(z)",
        only(Q1, "check-2", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "what is close to the line counts as inactive",
        "a1-q1-codes",
        "torch.where(z > 0, 1, -1)",
        "torch.where(z > 1e-9, 1, -1)",
        only(Q1, "hidden-1"),
    ),
    Wrong(
        "the specification, typed again",
        "a1-q1-codes",
        "",
        typed_again("a1", 1),
        only(Q1, "hidden-2"),
    ),
    Wrong(
        "a call of the library",
        "a1-q1-codes",
        "",
        """
def codes(weights, biases, alpha, x):
    return affine.codes(module(weights, biases, alpha), x)
""",
        Q1,
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
        Q2,
    ),
    Wrong(
        "codes told apart by their sums",
        "a1-q2-cells",
        "row.tobytes()",
        "int(row.sum())",
        Q2,
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
        only(Q2, "hidden-1"),
    ),
    Wrong(
        "the specification, typed again",
        "a1-q2-cells",
        "",
        typed_again("a1", 2),
        only(Q2, "hidden-2"),
    ),
    Wrong("a call of the specification", "a1-q2-cells", "", "cells = cells_spec", Q2),
    Wrong(
        "right: unique, and a helper with a name that a check uses, too",
        "a1-q2-cells",
        "",
        """
def code(rows):
    return torch.unique(rows, dim=0, return_inverse=True)[1]
def cells(rows):
    found, order = code(rows), torch.arange(len(rows))
    first = torch.full((int(found.max()) + 1,), len(rows))
    first = first.scatter_reduce(0, found, order, "amin")
    return first.argsort().argsort()[found]
""",
        {},
    ),
    # Question 3
    Wrong(
        "signs in place of slopes, as printed in the paper's Eq. 4",
        "a1-q3-map",
        "torch.where(z > 0, 1.0, alpha)",
        "torch.where(z > 0, 1.0, -1.0)",
        Q3,
    ),
    Wrong(
        "biases past the slopes",
        "a1-q3-map",
        "A, b = q.unsqueeze(2) * A, q * b",
        "A = q.unsqueeze(2) * A",
        Q3,
    ),
    Wrong(
        "b as what is left of f(x)",
        "a1-q3-map",
        "return weights[-1] @ A, b @ weights[-1].T + biases[-1]",
        "A = weights[-1] @ A\n"
        "    return A, forward(weights, biases, alpha, x) - (A @ x.unsqueeze(2)).squeeze(2)",
        only(Q3, "hidden-2"),
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
        Q3,
    ),
    Wrong(
        "the slopes of the first point for all",
        "a1-q3-map",
        "q = torch.where(z > 0, 1.0, alpha)",
        "q = torch.where(z[:1] > 0, 1.0, alpha).expand_as(z)",
        only(Q3, "check-2", "hidden-1", "hidden-2", "hidden-3"),
    ),
    Wrong(
        "on the line counts as active",
        "a1-q3-map",
        "torch.where(z > 0, 1.0, alpha)",
        "torch.where(z >= 0, 1.0, alpha)",
        only(Q3, "hidden-2"),
    ),
    Wrong(
        "the specification, typed again",
        "a1-q3-map",
        "",
        typed_again("a1", 3),
        only(Q3, "hidden-3"),
    ),
    Wrong(
        "a call of the library",
        "a1-q3-map",
        "",
        """
def affine_map(weights, biases, alpha, x):
    found = affine.affine_map(module(weights, biases, alpha), x)
    return found.A, found.b
""",
        Q3,
    ),
    # Question 4
    Wrong(
        "rows not turned by the code",
        "a1-q4-walls",
        "s = torch.where(active, 1.0, -1.0)",
        "s = torch.ones(len(b))",
        Q4,
    ),
    Wrong(
        "deeper rows without slopes",
        "a1-q4-walls",
        "A, b = q[:, None] * A, q * b",
        "x = x + 0.0",
        only(Q4, "check-2", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "offsets not turned with their rows",
        "a1-q4-walls",
        "offsets.append(s * b)",
        "offsets.append(b)",
        Q4,
    ),
    Wrong(
        "a ReLU, whatever alpha is",
        "a1-q4-walls",
        "torch.where(active, 1.0, alpha)",
        "active.double()",
        only(Q4, "check-2", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "on the line counts as active",
        "a1-q4-walls",
        "active = A @ x + b > 0",
        "active = A @ x + b >= 0",
        only(Q4, "hidden-1"),
    ),
    Wrong(
        "the specification, typed again",
        "a1-q4-walls",
        "",
        typed_again("a1", 4),
        only(Q4, "hidden-2"),
    ),
    Wrong(
        "a call of the specification",
        "a1-q4-walls",
        "",
        """
def walls(weights, biases, alpha, x):
    return walls_of(weights, biases, alpha)(x)
def walls_of(weights, biases, alpha):
    return lambda y: walls_spec(weights, biases, alpha, y)
""",
        Q4,
    ),
    Wrong(
        "automatic differentiation",
        "a1-q4-walls",
        "",
        """
def walls(weights, biases, alpha, x):
    def z(y):
        found = []
        for W, b in zip(weights[:-1], biases[:-1]):
            found.append(W @ y + b)
            y = torch.where(found[-1] > 0, found[-1], alpha * found[-1])
        return torch.cat(found)
    G, s = torch.func.jacrev(z)(x), torch.where(z(x) > 0, 1.0, -1.0)
    return s[:, None] * G, s * (z(x) - G @ x)
""",
        Q4,
    ),
    # Question 5
    Wrong(
        "not divided by the length of the row",
        "a1-q5-distance",
        "/ length[real]",
        "",
        Q5,
    ),
    Wrong(
        "rows of zeros as walls",
        "a1-q5-distance",
        "real = length > 0",
        "length, real = length.clamp(min=1e-12), length >= 0",
        only(Q5, "hidden-1"),
    ),
    Wrong(
        "divided by the square of the length",
        "a1-q5-distance",
        "/ length[real]",
        "/ length[real] ** 2",
        Q5,
    ),
    Wrong(
        "distance from the origin",
        "a1-q5-distance",
        "(G @ x + h)[real]",
        "h[real].abs()",
        only(Q5, "check-1", "check-2", "hidden-2"),
    ),
    Wrong(
        "the specification, typed again",
        "a1-q5-distance",
        "",
        typed_again("a1", 5),
        only(Q5, "hidden-2"),
    ),
    Wrong(
        "a call of the specification",
        "a1-q5-distance",
        "",
        """
def wall_distance(*cell):
    return wall_distance_spec(*cell)
""",
        Q5,
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
        only(Q6, "check-2", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "walls behind taken for walls ahead",
        "a1-q6-crossings",
        "ahead = speed < 0",
        "ahead = speed != 0",
        Q6,
    ),
    Wrong(
        "the specification, typed again",
        "a1-q6-crossings",
        "",
        typed_again("a1", 6),
        only(Q6, "hidden-1", "hidden-2"),
    ),
    Wrong(
        "a call of the specification",
        "a1-q6-crossings",
        "",
        """
def crossings(walls_at, x, e, length):
    return crossings_spec(walls_at, x, e, length, 20_000)
""",
        Q6,
    ),
    Wrong(
        "a wall at the end counts",
        "a1-q6-crossings",
        "if t_next >= length:",
        "if t_next > length:",
        only(Q6, "hidden-1"),
    ),
    Wrong(
        "a step of 0.01 over each wall",
        "a1-q6-crossings",
        "t = t_next + 1e-9",
        "t = t_next + 1e-2",
        only(Q6, "hidden-1", "hidden-2"),
    ),
    Wrong(
        "goes on behind the end",
        "a1-q6-crossings",
        "if t_next >= length:",
        "if t_next >= 2 * length:",
        Q6,
    ),
    Wrong(
        "only the first wall",
        "a1-q6-crossings",
        "t = t_next + 1e-9",
        "break",
        Q6,
    ),
]
