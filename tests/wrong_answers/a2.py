"""Wrong answers to assignment 2, and what each loses."""

from assignments import Wrong

from wrong_answers.typed import typed_again

CUT, CELLS, REGIONS = "a2-q1-cut", "a2-q2-cells", "a2-q3-regions"
BREAK, REPAIR = "a2-q4-break", "a2-q5-repair"

WRONG = [
    # 1. Cut a cell
    Wrong(
        "the two sides swapped",
        CUT,
        "(active, inactive))",
        "(inactive, active))",
        {
            "a2-q1-check-1": 2,
            "a2-q1-check-3": 2,
            "a2-q1-hidden-1": 2,
            "a2-q1-hidden-2": 1,
            "a2-q1-hidden-3": 2,
        },
    ),
    Wrong(
        "corners on the line twice",
        CUT,
        "z[k - 1] * z[k] < 0",
        "z[k - 1] * z[k] <= 0",
        {"a2-q1-hidden-1": 2, "a2-q1-hidden-2": 1},
    ),
    Wrong(
        "crossings at the end",
        CUT,
        "            active.append(x)\n",
        "",
        {
            "a2-q1-check-1": 2,
            "a2-q1-check-2": 1,
            "a2-q1-check-3": 2,
            "a2-q1-hidden-1": 2,
            "a2-q1-hidden-3": 2,
        },
    ),
    Wrong(
        "parts without area",
        CUT,
        "    if z.max() <= 0:",
        "    if z.max() < 0:",
        {"a2-q1-hidden-2": 1},
    ),
    Wrong(
        "the middle of the side instead of the crossing",
        CUT,
        "polygon[k - 1] + share * (polygon[k] - polygon[k - 1])",
        "(polygon[k] + polygon[k - 1]) / 2",
        {"a2-q1-check-1": 2, "a2-q1-check-3": 2, "a2-q1-hidden-3": 2},
    ),
    Wrong(
        "the offset with the wrong sign",
        CUT,
        "polygon @ w + b",
        "polygon @ w - b",
        {
            "a2-q1-check-1": 2,
            "a2-q1-check-2": 1,
            "a2-q1-check-3": 2,
            "a2-q1-hidden-1": 2,
            "a2-q1-hidden-2": 1,
            "a2-q1-hidden-3": 2,
        },
    ),
    Wrong(
        "the specification, called",
        CUT,
        "",
        "def cut(polygon, w, b):\n    return cut_spec(polygon, w, b)\n",
        {
            "a2-q1-check-1": 2,
            "a2-q1-check-2": 1,
            "a2-q1-check-3": 2,
            "a2-q1-hidden-1": 2,
            "a2-q1-hidden-2": 1,
            "a2-q1-hidden-3": 2,
        },
    ),
    Wrong(
        "the specification under another name",
        CUT,
        "",
        "shortcut = cut_spec\n\n\ndef cut(polygon, w, b):\n    return shortcut(polygon, w, b)\n",
        {
            "a2-q1-check-1": 2,
            "a2-q1-check-2": 1,
            "a2-q1-check-3": 2,
            "a2-q1-hidden-1": 2,
            "a2-q1-hidden-2": 1,
            "a2-q1-hidden-3": 2,
        },
    ),
    Wrong(
        "the specification, typed again",
        CUT,
        "",
        typed_again("a2", 1),
        {"a2-q1-hidden-1": 2, "a2-q1-hidden-2": 1, "a2-q1-hidden-3": 2},
    ),
    # 2. Count cells in a square
    Wrong(
        "pairs of lines instead of points",
        CELLS,
        "sum(len(meeting) - 1 for meeting in through.values())",
        "sum(len(v) * (len(v) - 1) // 2 for v in through.values())",
        {"a2-q2-check-2": 2, "a2-q2-hidden-2": 1, "a2-q2-hidden-3": 2, "a2-q2-hidden-4": 2},
    ),
    Wrong(
        "points however many lines",
        CELLS,
        "sum(len(meeting) - 1 for meeting in through.values())",
        "len(through)",
        {"a2-q2-check-2": 2, "a2-q2-hidden-2": 1, "a2-q2-hidden-3": 2, "a2-q2-hidden-4": 2},
    ),
    Wrong(
        "one cell forgotten",
        CELLS,
        "return 1 + len",
        "return len",
        {
            "a2-q2-check-1": 2,
            "a2-q2-check-2": 2,
            "a2-q2-hidden-1": 1,
            "a2-q2-hidden-2": 1,
            "a2-q2-hidden-3": 2,
            "a2-q2-hidden-4": 2,
        },
    ),
    Wrong(
        "lines that miss the square",
        CELLS,
        "min(signs) < 0 < max(signs)",
        "signs",
        {"a2-q2-hidden-1": 1, "a2-q2-hidden-4": 2},
    ),
    Wrong(
        "crossings anywhere",
        CELLS,
        "if x and abs(x[0]) < half and abs(x[1]) < half",
        "if x",
        {"a2-q2-hidden-1": 1, "a2-q2-hidden-3": 2, "a2-q2-hidden-4": 2},
    ),
    Wrong(
        "the closed square",
        CELLS,
        "min(signs) < 0 < max(signs)",
        "min(signs) <= 0 <= max(signs)",
        {"a2-q2-hidden-1": 1, "a2-q2-hidden-4": 2},
    ),
    Wrong(
        "crossings on the outline",
        CELLS,
        "abs(x[0]) < half and abs(x[1]) < half",
        "abs(x[0]) <= half and abs(x[1]) <= half",
        {"a2-q2-hidden-1": 1, "a2-q2-hidden-3": 2, "a2-q2-hidden-4": 2},
    ),
    Wrong(
        "multiples are other lines",
        CELLS,
        "Fraction(a if a else b)",
        "Fraction(1)",
        {"a2-q2-hidden-2": 1, "a2-q2-hidden-3": 2},
    ),
    Wrong(
        "points rounded",
        CELLS,
        "through.setdefault(x, set())",
        "through.setdefault((round(float(x[0]), 9), round(float(x[1]), 9)), set())",
        {"a2-q2-hidden-3": 2},
    ),
    Wrong(
        "the library, called",
        CELLS,
        "",
        """def cells(lines, half):
    W, b = [line[:2] for line in lines], [line[2] for line in lines]
    return partition(layer(W, b), ((-half, -half), (half, half))).num_cells
""",
        {
            "a2-q2-check-1": 2,
            "a2-q2-check-2": 2,
            "a2-q2-hidden-1": 1,
            "a2-q2-hidden-2": 1,
            "a2-q2-hidden-3": 2,
            "a2-q2-hidden-4": 2,
        },
    ),
    Wrong(
        "the specification, typed again",
        CELLS,
        "",
        typed_again("a2", 2),
        {"a2-q2-hidden-3": 2, "a2-q2-hidden-4": 2},
    ),
    # 3. Count regions in any dimension
    Wrong(
        "general position always",
        REGIONS,
        "return count(different([*w, c] for w, c in zip(W, b, strict=True)))",
        "d = len(W[0]) if W else 0\n    return sum(math.comb(len(W), i) for i in range(d + 1))",
        {"a2-q3-check-2": 2, "a2-q3-hidden-1": 2, "a2-q3-hidden-2": 2, "a2-q3-hidden-3": 2},
    ),
    Wrong(
        "the offset is not restricted",
        REGIONS,
        "r[j] / h[j] * h[i] for i in left",
        "(r[j] / h[j] * h[i] if i < len(h) - 1 else 0) for i in left",
        {"a2-q3-check-1": 2, "a2-q3-check-2": 2, "a2-q3-hidden-1": 2, "a2-q3-hidden-2": 2},
    ),
    Wrong(
        "traces are not compared",
        REGIONS,
        "return different([r[i]",
        "return (lambda rows: [h for r in rows for h in different([r])])([r[i]",
        {"a2-q3-check-2": 2, "a2-q3-hidden-1": 2, "a2-q3-hidden-2": 2, "a2-q3-hidden-3": 2},
    ),
    Wrong(
        "multiples are other hyperplanes",
        REGIONS,
        "tuple(Fraction(v) / first for v in row)",
        "tuple(Fraction(v) for v in row)",
        {"a2-q3-check-2": 2, "a2-q3-hidden-1": 2, "a2-q3-hidden-2": 2, "a2-q3-hidden-3": 2},
    ),
    Wrong(
        "parallels draw a trace",
        REGIONS,
        "for v in row[:-1] if v",
        "for v in row if v",
        {"a2-q3-check-1": 2, "a2-q3-check-2": 2, "a2-q3-hidden-1": 2, "a2-q3-hidden-2": 2},
    ),
    Wrong(
        "one region too few",
        REGIONS,
        "return 1 + sum(count",
        "return sum(count",
        {
            "a2-q3-check-1": 2,
            "a2-q3-check-2": 2,
            "a2-q3-hidden-1": 2,
            "a2-q3-hidden-2": 2,
            "a2-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "the library, called",
        REGIONS,
        "",
        "def regions(W, b):\n    return arrangement.regions(W, b)\n",
        {
            "a2-q3-check-1": 2,
            "a2-q3-check-2": 2,
            "a2-q3-hidden-1": 2,
            "a2-q3-hidden-2": 2,
            "a2-q3-hidden-3": 2,
        },
    ),
    Wrong(
        "the specification, typed again",
        REGIONS,
        "",
        typed_again("a2", 3),
        {"a2-q3-hidden-2": 2, "a2-q3-hidden-3": 2},
    ),
    # 4. Break Theorem 1
    Wrong(
        "a unit without a twin goes",
        BREAK,
        "[[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]]",
        "[[0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]",
        {"a2-q4-check-1": 2},
    ),
    Wrong("equal units", BREAK, "[0, 0, -2]]", "[0, 0, 1]]", {"a2-q4-check-1": 2}),
    Wrong("a grid", BREAK, "directions[k % 3]", "directions[k % 2]", {"a2-q4-hidden-2": 3}),
    Wrong("triple points", BREAK, "2 * k + (k % 3 == 2)", "k + 1", {"a2-q4-hidden-2": 3}),
    Wrong(
        "one line only turns",
        BREAK,
        "directions[k % 3]",
        "directions[2 if k else 0]",
        {"a2-q4-hidden-1": 2, "a2-q4-hidden-2": 3},
    ),
    Wrong(
        "lines that cross before",
        BREAK,
        "return [[1, 1]] * n, b, M",
        "return [[1, 1 + k] for k in range(n)], b, M",
        {"a2-q4-check-2": 3, "a2-q4-hidden-1": 2, "a2-q4-hidden-2": 3},
    ),
    Wrong(
        "a row of zeros",
        BREAK,
        "M = [directions[k % 3] for k in range(n)]",
        "M = [directions[k % 3] for k in range(n - 1)] + [[0, 0]]",
        {"a2-q4-check-2": 3, "a2-q4-hidden-1": 2, "a2-q4-hidden-2": 3},
    ),
    Wrong(
        "most regions for multiples of three alone",
        BREAK,
        "directions[k % 3]",
        "directions[k % 3 if n % 3 == 0 else k % 2]",
        {"a2-q4-hidden-2": 3},
    ),
    Wrong(
        "the library, called on the way",
        BREAK,
        "b = [0, 0, -1, 2]",
        "b = [0, 0, -1, arrangement.largest(1, 1)]",
        {"a2-q4-check-1": 2, "a2-q4-check-2": 3, "a2-q4-hidden-1": 2, "a2-q4-hidden-2": 3},
    ),
    Wrong(
        "the specification, typed again",
        BREAK,
        "",
        typed_again("a2", 4),
        {"a2-q4-check-1": 2, "a2-q4-check-2": 3, "a2-q4-hidden-1": 2, "a2-q4-hidden-2": 3},
    ),
    # 5. Repair it
    Wrong(
        "the sum ends before d",
        REPAIR,
        "range(d + 1)",
        "range(d)",
        {
            "a2-q5-check-1": 1,
            "a2-q5-check-2": 2,
            "a2-q5-hidden-1": 1,
            "a2-q5-hidden-2": 1,
            "a2-q5-hidden-3": 1,
            "a2-q5-hidden-4": 2,
            "a2-q5-hidden-5": 2,
        },
    ),
    Wrong(
        "2 to the power n",
        REPAIR,
        "return sum(math.comb(n, i) for i in range(d + 1))",
        "return 2**n",
        {
            "a2-q5-check-1": 1,
            "a2-q5-hidden-1": 1,
            "a2-q5-hidden-2": 1,
            "a2-q5-hidden-3": 1,
            "a2-q5-hidden-4": 2,
        },
    ),
    Wrong(
        "units instead of hyperplanes",
        REPAIR,
        "before - len(old) + len(new)",
        "before - len(rows) + sum(map(any, M))",
        {"a2-q5-check-2": 2, "a2-q5-hidden-1": 1, "a2-q5-hidden-2": 1, "a2-q5-hidden-5": 2},
    ),
    Wrong(
        "statement 2 for all masks",
        REPAIR,
        "if new <= old else bound",
        "if True else bound",
        {"a2-q5-check-2": 2, "a2-q5-hidden-1": 1, "a2-q5-hidden-3": 1},
    ),
    Wrong(
        "statement 1 only",
        REPAIR,
        "return min(bound, before - len(old) + len(new)) if new <= old else bound",
        "return bound",
        {"a2-q5-check-2": 2, "a2-q5-hidden-1": 1, "a2-q5-hidden-2": 1, "a2-q5-hidden-5": 2},
    ),
    Wrong(
        "offsets stay",
        REPAIR,
        "[*row, entry]",
        "[*row, 1]",
        {"a2-q5-hidden-1": 1, "a2-q5-hidden-3": 1},
    ),
    Wrong(
        "the specification, called",
        REPAIR,
        "return sum(math.comb(n, i) for i in range(d + 1))",
        "return largest_spec(n, d)",
        {
            "a2-q5-check-1": 1,
            "a2-q5-check-2": 2,
            "a2-q5-hidden-1": 1,
            "a2-q5-hidden-2": 1,
            "a2-q5-hidden-3": 1,
            "a2-q5-hidden-4": 2,
            "a2-q5-hidden-5": 2,
        },
    ),
    Wrong(
        "statement 2 where no more hyperplanes than before",
        REPAIR,
        "if new <= old else bound",
        "if len(new) <= len(old) else bound",
        {"a2-q5-hidden-1": 1, "a2-q5-hidden-3": 1},
    ),
    Wrong(
        "statement 2 only where hyperplanes go",
        REPAIR,
        "if new <= old else bound",
        "if new < old else bound",
        {"a2-q5-check-2": 2, "a2-q5-hidden-1": 1, "a2-q5-hidden-2": 1},
    ),
    Wrong(
        "the library, called",
        REPAIR,
        "",
        """def largest(n, d):
    return arrangement.largest(n, d)


def repaired(W, b, M, m, before):
    return arrangement.corrected_bound(W, b, M, m)
""",
        {
            "a2-q5-check-1": 1,
            "a2-q5-check-2": 2,
            "a2-q5-hidden-1": 1,
            "a2-q5-hidden-2": 1,
            "a2-q5-hidden-3": 1,
            "a2-q5-hidden-4": 2,
            "a2-q5-hidden-5": 2,
        },
    ),
    Wrong(
        "the specification, typed again",
        REPAIR,
        "",
        typed_again("a2", 3, 5)
        + """


def repaired(W, b, M, m, before):
    V = [[v * q for v, q in zip(w, row)] for w, row in zip(W, M)]
    c = [v * q for v, q in zip(b, m)]
    old, new = hyperplanes(W, b), hyperplanes(V, c)
    bound = largest(new, len(W[0]))
    was_there = hyperplanes([*W, *V], [*b, *c]) == old
    return min(bound, before - old + new) if was_there else bound
""",
        {"a2-q5-hidden-4": 2, "a2-q5-hidden-5": 2},
    ),
    Wrong(
        "the recursion of the specification",
        REPAIR,
        "return sum(math.comb(n, i) for i in range(d + 1))",
        "return largest(n - 1, d) + largest(n - 1, d - 1) if n and d else 1",
        {"a2-q5-hidden-4": 2},
    ),
]
