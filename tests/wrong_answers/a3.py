"""Wrong answers to assignment 3, and what each loses."""

from assignments import Wrong

from wrong_answers.typed import typed_again

PRINTED, FOOLED, INVARIANT = "a3-q1-printed", "a3-q2-fooled", "a3-q3-invariant"
GREEDY, MERGE, COUNT = "a3-q4-greedy", "a3-q5-merge", "a3-q6-count"

WRONG = [
    # 1. The paper's measure
    Wrong(
        "a cosine without absolute value",
        PRINTED,
        "(U @ U.T).abs()",
        "U @ U.T",
        {"a3-q1-check-1": 1, "a3-q1-check-2": 2, "a3-q1-hidden-1": 2, "a3-q1-hidden-2": 2},
    ),
    Wrong(
        "offsets with a sign",
        PRINTED,
        "(b[:, None] - b).abs()",
        "(b[:, None] - b)",
        {"a3-q1-check-1": 1, "a3-q1-check-2": 2, "a3-q1-hidden-1": 2, "a3-q1-hidden-2": 2},
    ),
    Wrong(
        "offsets divided by length",
        PRINTED,
        "(b[:, None] - b).abs()",
        "(b[:, None] / W.norm(dim=1)[:, None] - b / W.norm(dim=1)).abs()",
        {"a3-q1-check-1": 1, "a3-q1-check-2": 2, "a3-q1-hidden-1": 2, "a3-q1-hidden-2": 2},
    ),
    Wrong(
        "slopes not of length 1",
        PRINTED,
        "W / W.norm(dim=1, keepdim=True)",
        "W",
        {"a3-q1-check-1": 1, "a3-q1-check-2": 2, "a3-q1-hidden-1": 2, "a3-q1-hidden-2": 2},
    ),
    Wrong(
        "rho on the angle",
        PRINTED,
        "1 - (U @ U.T).abs() + rho * (b[:, None] - b).abs()",
        "rho * (1 - (U @ U.T).abs()) + (b[:, None] - b).abs()",
        {"a3-q1-check-1": 1, "a3-q1-check-2": 2, "a3-q1-hidden-1": 2, "a3-q1-hidden-2": 2},
    ),
    Wrong(
        "the library, called",
        PRINTED,
        "",
        "def printed(W, b, rho):\n    return redundancy.pair_matrix(W, b, rho, form='printed')\n",
        {"a3-q1-check-1": 1, "a3-q1-check-2": 2, "a3-q1-hidden-1": 2, "a3-q1-hidden-2": 2},
    ),
    Wrong(
        "the specification, typed again",
        PRINTED,
        "",
        typed_again("a3", 1),
        {"a3-q1-hidden-1": 2, "a3-q1-hidden-2": 2},
    ),
    # 2. Fool it
    Wrong(
        "equal units",
        FOOLED,
        "[[2, 4, 6], [-1, -2, -3]], [1, 1]",
        "[[2, 4, 6], [2, 4, 6]], [1, 1]",
        {"a3-q2-check-1": 1, "a3-q2-hidden-1": 2},
    ),
    Wrong(
        "no offsets",
        FOOLED,
        "[[2, 4, 6], [-1, -2, -3]], [1, 1]",
        "[[2, 4, 6], [-1, -2, -3]], [0, 0]",
        {"a3-q2-check-1": 1, "a3-q2-hidden-1": 2},
    ),
    Wrong(
        "offsets of two signs",
        FOOLED,
        "[[2, 4, 6], [-1, -2, -3]], [1, 1]",
        "[[1, 2, 3], [1, 2, 3]], [1, -1]",
        {"a3-q2-check-1": 1, "a3-q2-hidden-1": 2},
    ),
    Wrong(
        "a factor on the slopes alone",
        FOOLED,
        "[40, 80, 120]], [1, 40]",
        "[40, 80, 120]], [1, 1]",
        {"a3-q2-check-2": 1, "a3-q2-hidden-2": 1},
    ),
    Wrong(
        "a factor on the offset alone",
        FOOLED,
        "[40, 80, 120]], [1, 40]",
        "[1, 2, 3]], [1, 40]",
        {"a3-q2-check-2": 1, "a3-q2-hidden-2": 1},
    ),
    Wrong(
        "the library, called on the way",
        FOOLED,
        "[40, 80, 120]], [1, 40]",
        "[40, 80, 120]], [1, 40 * arrangement.largest(0, 0)]",
        {"a3-q2-check-1": 1, "a3-q2-check-2": 1, "a3-q2-hidden-1": 2, "a3-q2-hidden-2": 1},
    ),
    # 3. The invariant form
    Wrong(
        "the sign forgotten",
        INVARIANT,
        "torch.where(c > 0, same, turned)",
        "same",
        {
            "a3-q3-check-1": 2,
            "a3-q3-check-2": 3,
            "a3-q3-hidden-1": 1,
            "a3-q3-hidden-2": 2,
            "a3-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "the sign the other way",
        INVARIANT,
        "torch.where(c > 0, same, turned)",
        "torch.where(c > 0, turned, same)",
        {
            "a3-q3-check-1": 2,
            "a3-q3-check-2": 3,
            "a3-q3-hidden-1": 1,
            "a3-q3-hidden-2": 2,
            "a3-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "no scale invariance",
        INVARIANT,
        "b / length",
        "b",
        {
            "a3-q3-check-1": 2,
            "a3-q3-check-2": 3,
            "a3-q3-hidden-1": 1,
            "a3-q3-hidden-2": 2,
            "a3-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "absolute offsets",
        INVARIANT,
        "b / length",
        "b.abs() / length",
        {
            "a3-q3-check-1": 2,
            "a3-q3-check-2": 3,
            "a3-q3-hidden-1": 1,
            "a3-q3-hidden-2": 2,
            "a3-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "distances from the origin",
        INVARIANT,
        "torch.where(c > 0, same, turned)",
        "(o.abs()[:, None] - o.abs()).abs()",
        {"a3-q3-check-2": 3, "a3-q3-hidden-1": 1, "a3-q3-hidden-3": 2},
    ),
    Wrong(
        "the smaller one always",
        INVARIANT,
        "torch.where(c > 0, same, turned)",
        "torch.minimum(same, turned)",
        {"a3-q3-check-2": 3, "a3-q3-hidden-1": 1, "a3-q3-hidden-3": 2},
    ),
    Wrong(
        "sgn(0) = 0",
        INVARIANT,
        "torch.minimum(same, turned), gap",
        "o.abs()[:, None].expand_as(c), gap",
        {"a3-q3-hidden-1": 1},
    ),
    Wrong(
        "right angles by one side",
        INVARIANT,
        "torch.minimum(same, turned), gap",
        "same, gap",
        {"a3-q3-hidden-1": 1},
    ),
    Wrong(
        "a right angle only at exactly 0",
        INVARIANT,
        "c.abs() < 1e-12",
        "c == 0",
        {"a3-q3-hidden-1": 1},
    ),
    Wrong(
        "a right angle already at 1e-6",
        INVARIANT,
        "c.abs() < 1e-12",
        "c.abs() < 1e-6",
        {"a3-q3-hidden-1": 1, "a3-q3-hidden-3": 2},
    ),
    Wrong(
        "the library, called",
        INVARIANT,
        "",
        "def invariant(W, b, rho):\n    return redundancy.pair_matrix(W, b, rho)\n",
        {
            "a3-q3-check-1": 2,
            "a3-q3-check-2": 3,
            "a3-q3-hidden-1": 1,
            "a3-q3-hidden-2": 2,
            "a3-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "the specification, typed again",
        INVARIANT,
        "",
        typed_again("a3", 1, 3),
        {"a3-q3-hidden-2": 2, "a3-q3-hidden-3": 2},
    ),
    # 4. One at a time
    Wrong(
        "the larger one goes",
        GREEDY,
        "size[k] < size[j]",
        "size[k] > size[j]",
        {
            "a3-q4-check-1": 2,
            "a3-q4-check-2": 2,
            "a3-q4-hidden-1": 2,
            "a3-q4-hidden-2": 1,
            "a3-q4-hidden-4": 2,
        },
    ),
    Wrong(
        "of equal sizes the lower index",
        GREEDY,
        "size[k] < size[j]",
        "size[k] <= size[j]",
        {"a3-q4-hidden-2": 1},
    ),
    Wrong(
        "always the second one",
        GREEDY,
        "k if size[k] < size[j] else j",
        "j",
        {
            "a3-q4-check-1": 2,
            "a3-q4-check-2": 2,
            "a3-q4-hidden-1": 2,
            "a3-q4-hidden-2": 1,
            "a3-q4-hidden-4": 2,
        },
    ),
    Wrong(
        "N is changed",
        GREEDY,
        "N.clone().fill_diagonal_",
        "N.fill_diagonal_",
        {"a3-q4-hidden-3": 1},
    ),
    Wrong(
        "the diagonal counts",
        GREEDY,
        "N.clone().fill_diagonal_(torch.inf)",
        "N.clone() + torch.diag(torch.inf * (N.diagonal() == 0))",
        {"a3-q4-hidden-3": 1},
    ),
    Wrong(
        "one-shot",
        GREEDY,
        "",
        """def greedy(N, size):
    N = N.clone().fill_diagonal_(torch.inf)
    nearest = N.min(dim=1).values
    order = nearest.argsort(stable=True)[:-1]
    return order.tolist(), nearest[order].tolist()
""",
        {
            "a3-q4-check-1": 2,
            "a3-q4-check-2": 2,
            "a3-q4-hidden-1": 2,
            "a3-q4-hidden-2": 1,
            "a3-q4-hidden-4": 2,
        },
    ),
    Wrong(
        "the library, called",
        GREEDY,
        "",
        """def greedy(N, size):
    removals = redundancy.greedy(N)
    return removals.order.tolist(), removals.values.tolist()
""",
        {
            "a3-q4-check-1": 2,
            "a3-q4-check-2": 2,
            "a3-q4-hidden-1": 2,
            "a3-q4-hidden-2": 1,
            "a3-q4-hidden-3": 1,
            "a3-q4-hidden-4": 2,
        },
    ),
    Wrong(
        "the specification, typed again",
        GREEDY,
        "",
        typed_again("a3", 4),
        {"a3-q4-hidden-1": 2, "a3-q4-hidden-4": 2},
    ),
    # 5. Merge without loss
    Wrong(
        "dropped, not merged",
        MERGE,
        "                V[:, j] += a * V[:, k]\n",
        "",
        {
            "a3-q5-check-1": 2,
            "a3-q5-check-2": 2,
            "a3-q5-hidden-1": 2,
            "a3-q5-hidden-3": 1,
            "a3-q5-hidden-4": 3,
        },
    ),
    Wrong(
        "no factor",
        MERGE,
        "V[:, j] += a * V[:, k]",
        "V[:, j] += V[:, k]",
        {
            "a3-q5-check-1": 2,
            "a3-q5-check-2": 2,
            "a3-q5-hidden-1": 2,
            "a3-q5-hidden-3": 1,
            "a3-q5-hidden-4": 3,
        },
    ),
    Wrong(
        "the factor upside down",
        MERGE,
        "V[:, j] += a * V[:, k]",
        "V[:, j] += V[:, k] / a",
        {
            "a3-q5-check-1": 2,
            "a3-q5-check-2": 2,
            "a3-q5-hidden-1": 2,
            "a3-q5-hidden-3": 1,
            "a3-q5-hidden-4": 3,
        },
    ),
    Wrong(
        "both sides merged for every alpha",
        MERGE,
        "-t if alpha == -1 else None",
        "-t",
        {"a3-q5-check-1": 2, "a3-q5-hidden-1": 2, "a3-q5-hidden-3": 1, "a3-q5-hidden-4": 3},
    ),
    Wrong(
        "t instead of |t|",
        MERGE,
        "-t if alpha == -1 else None",
        "t if alpha == -1 else None",
        {"a3-q5-check-1": 2, "a3-q5-hidden-1": 2, "a3-q5-hidden-3": 1},
    ),
    Wrong(
        "the absolute value not used",
        MERGE,
        "-t if alpha == -1 else None",
        "None",
        {"a3-q5-check-1": 2, "a3-q5-hidden-1": 2, "a3-q5-hidden-3": 1},
    ),
    Wrong(
        "-alpha t for the other side",
        MERGE,
        "-t if alpha == -1 else None",
        "alpha * t if alpha else None",
        {"a3-q5-check-1": 2, "a3-q5-hidden-1": 2},
    ),
    Wrong(
        "slopes only",
        MERGE,
        "rows = torch.cat([W, b[:, None]], dim=1)",
        "rows = W",
        {"a3-q5-hidden-2": 2},
    ),
    Wrong(
        "nearly the same is the same",
        MERGE,
        "1e-9 * second.norm()",
        "1e-2 * second.norm()",
        {"a3-q5-hidden-2": 2},
    ),
    Wrong(
        "the same up to 1e-5",
        MERGE,
        "1e-9 * second.norm()",
        "1e-5 * second.norm()",
        {"a3-q5-hidden-2": 2},
    ),
    Wrong(
        "nearly the absolute value",
        MERGE,
        "-t if alpha == -1 else None",
        "-t if alpha < -0.9 else None",
        {"a3-q5-hidden-1": 2},
    ),
    Wrong(
        "V is changed",
        MERGE,
        "dtype=torch.bool), V.clone()",
        "dtype=torch.bool), V",
        {"a3-q5-hidden-3": 1},
    ),
    Wrong(
        "columns stay",
        MERGE,
        "                V[:, k] = 0\n",
        "",
        {
            "a3-q5-check-1": 2,
            "a3-q5-check-2": 2,
            "a3-q5-hidden-1": 2,
            "a3-q5-hidden-3": 1,
            "a3-q5-hidden-4": 3,
        },
    ),
    Wrong(
        "the specification, typed again",
        MERGE,
        "",
        typed_again("a3", 1, 5),
        {"a3-q5-hidden-1": 2, "a3-q5-hidden-4": 3},
    ),
    # 6. Exact counts
    Wrong(
        "one more goes",
        COUNT,
        "[:number]",
        "[: number + 1]",
        {"a3-q6-check-1": 1, "a3-q6-check-2": 1, "a3-q6-hidden-1": 1, "a3-q6-hidden-3": 2},
    ),
    Wrong(
        "half to even",
        COUNT,
        "math.floor(p * sum(map(len, scores)) + 0.5)",
        "round(p * sum(map(len, scores)))",
        {"a3-q6-check-1": 1, "a3-q6-hidden-3": 2},
    ),
    Wrong(
        "rounded down",
        COUNT,
        "sum(map(len, scores)) + 0.5",
        "sum(map(len, scores))",
        {"a3-q6-check-1": 1, "a3-q6-hidden-3": 2},
    ),
    Wrong(
        "the best go",
        COUNT,
        "torch.argsort(s, stable=True)",
        "torch.argsort(-s, stable=True)",
        {
            "a3-q6-check-1": 1,
            "a3-q6-check-2": 1,
            "a3-q6-hidden-1": 1,
            "a3-q6-hidden-2": 1,
            "a3-q6-hidden-3": 2,
        },
    ),
    Wrong(
        "layers are emptied",
        COUNT,
        "order[:-1]",
        "order",
        {"a3-q6-check-2": 1, "a3-q6-hidden-1": 1, "a3-q6-hidden-2": 1},
    ),
    Wrong(
        "layer by layer",
        COUNT,
        "",
        """def kept_units(scores, p):
    masks = []
    for s in scores:
        mask = torch.ones(len(s), dtype=torch.bool)
        number = math.floor(p * len(s) + 0.5)
        if number == len(s):
            raise ValueError("empty")
        mask[torch.argsort(s, stable=True)[:number]] = False
        masks.append(mask)
    return masks
""",
        {"a3-q6-hidden-1": 1, "a3-q6-hidden-3": 2},
    ),
    Wrong(
        "a threshold",
        COUNT,
        "",
        """def kept_units(scores, p):
    every = torch.cat(scores).sort().values
    number = math.floor(p * len(every) + 0.5)
    return [s > every[number - 1] if number else s == s for s in scores]
""",
        {"a3-q6-check-2": 1, "a3-q6-hidden-1": 1, "a3-q6-hidden-2": 1, "a3-q6-hidden-3": 2},
    ),
    Wrong(
        "ties from the end",
        COUNT,
        "(float(s[k]), layer, k) for k",
        "(float(s[k]), layer, -k) for k",
        {"a3-q6-check-1": 1, "a3-q6-check-2": 1, "a3-q6-hidden-1": 1, "a3-q6-hidden-3": 2},
    ),
    Wrong(
        "no error", COUNT, "if number > len(may_go):", "if number > 10**9:", {"a3-q6-hidden-2": 1}
    ),
    Wrong(
        "the library, called",
        COUNT,
        "",
        """from splinelib.masks import select


def kept_units(scores, p):
    named = {str(k): s for k, s in enumerate(scores)}
    return list(select(named, p, scope="global").values())
""",
        {
            "a3-q6-check-1": 1,
            "a3-q6-check-2": 1,
            "a3-q6-hidden-1": 1,
            "a3-q6-hidden-2": 1,
            "a3-q6-hidden-3": 2,
        },
    ),
    Wrong("the specification, typed again", COUNT, "", typed_again("a3", 6), {"a3-q6-hidden-3": 2}),
]
