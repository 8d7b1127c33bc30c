"""splinelib.arrangement: exact counts against other ways to count, and the bounds of Theorem 1."""

import itertools
import math
from fractions import Fraction

import exact
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from splinelib.arrangement import (
    codes,
    corrected_bound,
    corrected_maximum,
    count,
    hyperplanes,
    in_general_position,
    largest,
    printed_bound,
    printed_maximum,
    regions,
)

few = settings(max_examples=40)


def rng(seed=0):
    return np.random.default_rng(seed)


def rank(rows):
    """Rank of rational rows, by plain elimination."""
    rows, r = [[Fraction(v) for v in row] for row in rows], 0
    for j in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(r, len(rows)) if rows[i][j]), None)
        if pivot is not None:
            rows[r], rows[pivot] = rows[pivot], rows[r]
            for i in range(r + 1, len(rows)):
                factor = rows[i][j] / rows[r][j]
                rows[i] = [v - factor * u for v, u in zip(rows[i], rows[r], strict=True)]
            r += 1
    return r


def subsets(items):
    return itertools.chain.from_iterable(
        itertools.combinations(items, size) for size in range(len(items) + 1)
    )


def whitney(W, b):
    """Regions by Whitney's theorem: over all sets B of planes that have a common point, the sum of
    (-1)^(|B| - rank B).  Equal rows cancel out by themselves."""
    total = 0
    rows = [([*w], [*w, c]) for w, c in zip(W, b, strict=True) if any(w)]
    for chosen in subsets(rows):
        normals, whole = [w for w, _ in chosen], [r for _, r in chosen]
        if rank(normals) == rank(whole):
            total += (-1) ** (len(chosen) - rank(normals))
    return total


def general_by_definition(W, b):
    d = len(W[0])
    whole = [[*w, c] for w, c in zip(W, b, strict=True)]
    return all(
        rank([W[k] for k in chosen]) == len(chosen)
        if len(chosen) <= d
        else rank([whole[k] for k in chosen]) == d + 1
        for chosen in subsets(range(len(W)))
        if len(chosen) <= d + 1
    )


@st.composite
def layers(draw, n=(0, 7), d=(1, 4), size=2):
    """Layers with small integers: full of parallels, repetitions, common points, zero rows."""
    n, d = draw(st.integers(*n)), draw(st.integers(*d))
    entry = st.integers(-size, size)
    W = draw(st.lists(st.lists(entry, min_size=d, max_size=d), min_size=n, max_size=n))
    return W, draw(st.lists(entry, min_size=n, max_size=n))


def roots(m, signs=(-1,), offsets=(0,), axes=False):
    """Hyperplanes x_i + s x_j = c, and the coordinate hyperplanes if asked."""
    rows = [[int(k == i) for k in range(m)] for i in range(m)] if axes else []
    b = [0] * len(rows)
    for i, j in itertools.combinations(range(m), 2):
        for s, c in itertools.product(signs, offsets):
            rows.append([int(k == i) + s * int(k == j) for k in range(m)])
            b.append(-c)
    return rows, b


# --------------------------------------------------------------------------- known counts


@pytest.mark.parametrize("m", range(2, 7))
def test_known_arrangements(m):
    assert regions(np.eye(m), np.zeros(m)) == 2**m
    assert regions(np.eye(m), np.ones(m)) == 2**m
    assert regions(*roots(m)) == math.factorial(m)  # braid: the orders of m numbers
    assert regions(*roots(m, (-1, 1), axes=True)) == 2**m * math.factorial(m)  # type B
    assert regions(*roots(m, (-1, 1))) == 2 ** (m - 1) * math.factorial(m)  # type D
    assert regions(*roots(m, offsets=(0, 1))) == (m + 1) ** (m - 1)  # Shi: parking functions
    if m < 6:  # Catalan: m! times a Catalan number
        catalan = math.comb(2 * m, m) // (m + 1)
        assert regions(*roots(m, offsets=(-1, 0, 1))) == math.factorial(m) * catalan


@pytest.mark.parametrize("d, count", [(1, 2), (2, 6), (3, 32), (4, 370), (5, 11292)])
def test_resonance_arrangement(d, count):
    W = list(itertools.product((0, 1), repeat=d))
    assert regions(W, [0] * len(W)) == count
    assert hyperplanes(W, [0] * len(W)) == 2**d - 1


@pytest.mark.parametrize("n, d", [(6, 1), (9, 2), (9, 3), (8, 5), (7, 6), (9, 8), (5, 5), (3, 7)])
def test_closed_forms_on_random_floats(n, d):
    W, b = rng(n).normal(size=(n, d)), rng(d).normal(size=n)
    assert in_general_position(W, b)
    assert regions(W, b) == largest(n, d)
    assert regions(W, 0 * b) == 2 * largest(n - 1, d - 1)  # central
    assert regions([W[0]] * n, np.arange(n)) == n + 1  # parallel


def test_products_of_arrangements_multiply():
    (V, a), (W, b) = ((rng(s).integers(-2, 3, (5, 3)), rng(s).integers(-1, 2, 5)) for s in (1, 2))
    zero = np.zeros((5, 3), dtype=int)
    both = np.block([[V, zero], [zero, W]])
    twist = rng(3).integers(-3, 4, (6, 6))
    assert round(np.linalg.det(twist)) != 0
    assert regions(both @ twist, np.append(a, b)) == regions(V, a) * regions(W, b)


def refused(*_):
    raise AssertionError("this is not to be called")


@pytest.mark.parametrize("n, d", [(12, 6), (25, 7), (60, 3), (30, 28), (150, 400)])
def test_layers_in_general_position_take_no_deletion_and_restriction(n, d, monkeypatch):
    monkeypatch.setattr(count, "restriction", refused)
    W, b = rng().normal(size=(n, d)), rng(1).normal(size=n)
    assert regions(W, b) == largest(n, d)
    assert in_general_position(W, b)
    with pytest.raises(AssertionError, match="not to be called"):
        regions(*roots(4, offsets=(0, 1)))


def test_what_a_high_dimension_hides_is_quick():
    W, b = rng().integers(-99, 100, (40, 3)), rng(1).integers(-99, 100, 40)
    assert regions(W @ rng(2).integers(-9, 10, (3, 30)), b) == regions(W, b) > 9000  # rank 3
    assert regions([*np.eye(30), *np.eye(30)], np.arange(60)) == 3**30  # a grid


def test_largest():
    assert [largest(n, 2) for n in range(5)] == [1, 2, 4, 7, 11]
    assert largest(5, 0) == largest(0, 5) == 1
    assert largest(3, 3) == largest(3, 99) == 8
    for n, d in itertools.product(range(1, 9), range(1, 9)):
        assert largest(n, d) == largest(n - 1, d) + largest(n - 1, d - 1)


def test_nothing_drawn_is_one_region():
    assert regions(np.zeros((0, 3)), []) == regions([], []) == 1
    assert regions(np.zeros((4, 0)), [1, 0, -1, 2]) == regions(np.zeros((2, 3)), [0, 1]) == 1
    assert hyperplanes(np.zeros((2, 3)), [0, 1]) == hyperplanes([], []) == 0
    assert regions([[3]], [7]) == 2


# ----------------------------------------------------------------------- independent counts


@given(layers())
def test_regions_equal_whitneys_sum(layer):
    assert regions(*layer) == whitney(*layer)


@given(layers(n=(1, 7), d=(2, 2)))
@few
def test_regions_of_lines_equal_exact_polygons(layer):
    box = ((-99, -99), (99, 99))
    assert regions(*layer) == len(exact.cells([("linear", *layer), ("act", 0)], box))


@given(layers(n=(0, 7), d=(1, 5)))
@few
def test_codes_equal_regions_and_hold_every_point(layer):
    W, b = (np.array(v) for v in layer)
    W = W.reshape(len(b), -1) if len(b) else np.zeros((0, 1))
    found = codes(W, b)
    assert found.dtype == np.int8
    assert found.shape == (regions(W, b), len(b))
    rows = [tuple(row) for row in found.tolist()]
    assert rows == sorted(set(rows))
    x = rng().normal(size=(500, W.shape[1])) * rng(1).choice([0.3, 1, 5, 40], size=(500, 1))
    assert {tuple(row) for row in np.where(x @ W.T + b > 0, 1, -1).tolist()} <= set(rows)


@pytest.mark.parametrize("seed", range(12))
def test_codes_equal_regions_on_floats(seed):
    n, d = int(rng(seed).integers(2, 10)), seed % 5 + 1
    W, b = rng(seed).normal(size=(n, d)), rng(seed + 99).normal(size=n)
    if seed % 2:
        W, b = np.round(W), np.round(b)
    W[0], b[0] = -4 * W[-1], -4 * b[-1]
    found = codes(W, b)
    assert len(found) == regions(W, b)
    assert hyperplanes(W, b) == 0 or (found[:, 0] == -found[:, -1]).all() or not W[0].any()
    scaled = codes(2.0**-20 * W, 2.0**20 * b)  # the same picture, 1e12 times as large
    assert np.array_equal(scaled, found)


def test_codes_of_rows_of_zeros():
    assert codes([[0, 0], [0, 0], [0, 0]], [1, 0, -1]).tolist() == [[1, -1, -1]]
    assert codes([], []).shape == (1, 0)
    assert codes(np.zeros((2, 0)), [1, -1]).tolist() == [[1, -1]]


@given(layers(n=(1, 6), d=(1, 3), size=4))
def test_general_position_is_its_definition_and_the_maximum(layer):
    W, b = layer
    general = general_by_definition(W, b)
    assert in_general_position(W, b) == general
    assert general == (regions(W, b) == largest(len(W), len(W[0])) and hyperplanes(W, b) == len(W))


@pytest.mark.parametrize("n, d", [(10, 4), (9, 6), (8, 8), (6, 9)])
def test_one_coincidence_is_found(n, d):
    W, b = rng(n).integers(-99, 100, (n, d)), rng(d).integers(-99, 100, n)
    assert in_general_position(W, b)
    dependent, size = W.copy(), min(n, d)
    dependent[size - 1] = dependent[: size - 1].sum(axis=0)  # d slopes in a plane
    assert not in_general_position(dependent, b)
    assert regions(dependent, b) == whitney(dependent.tolist(), b.tolist())
    if n > d:
        x = rng().integers(-9, 10, d)
        c = b.copy()
        c[: d + 1] = -W[: d + 1] @ x  # d + 1 planes through x
        assert not in_general_position(W, c)
        assert regions(W, c) == largest(n, d) - 1


def test_a_prime_that_divides_a_determinant_does_not_deceive():
    p, q = 2_147_483_647, 2_147_483_629
    W = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [p * q, 1, 1], [1, 1, 2]]
    b = [0, 0, 0, 1, 3]
    assert regions(W, b) == whitney(W, b)
    assert in_general_position(W, b) == general_by_definition(W, b)
    tilt = [[1, 0], [1, p * q]]  # parallel modulo both primes
    assert in_general_position(tilt, [0, 1])
    assert regions(tilt, [0, 1]) == 4


# -------------------------------------------------------------------------- invariances


@given(layers(n=(1, 6)), st.randoms(use_true_random=False))
@few
def test_count_does_not_depend_on_how_planes_are_written(layer, random):
    W, b = layer
    n, d = len(W), len(W[0])
    count, planes = regions(W, b), hyperplanes(W, b)
    order = random.sample(range(n), n)
    factor = [random.choice([-3, Fraction(-1, 7), 2, 0.1]) for _ in range(n)]
    rows = [[Fraction(factor[k]) * v for v in W[k]] for k in order]
    offsets = [Fraction(factor[k]) * b[k] for k in order]
    again = random.randrange(n)
    for V, c in (
        ([W[k] for k in order], [b[k] for k in order]),
        (rows, offsets),
        ([*W, [-2 * v for v in W[again]]], [*b, -2 * b[again]]),
        ([*W, [0] * d], [*b, 5]),
        ([[*row, 0] for row in W], b),
    ):
        assert regions(V, c) == count
        assert hyperplanes(V, c) == planes


@given(layers(n=(1, 6), d=(2, 3)), st.randoms(use_true_random=False))
@few
def test_count_does_not_depend_on_coordinates(layer, random):
    W, b = (np.array(v) for v in layer)
    d = W.shape[1]
    A = np.array([[random.randint(-3, 3) for _ in range(d)] for _ in range(d)])
    assume(round(np.linalg.det(A)) != 0)
    shift = np.array([random.randint(-3, 3) for _ in range(d)])
    assert regions(W @ A, b + W @ shift) == regions(W, b)
    assert in_general_position(W @ A, b + W @ shift) == in_general_position(W, b)


def test_floats_are_taken_as_they_are():
    lines = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    assert regions(lines, [-0.1, -0.2, -0.3]) == 7  # 0.1 + 0.2 is not 0.3 in floats
    assert regions(lines, [Fraction(-1, 10), Fraction(-1, 5), Fraction(-3, 10)]) == 6
    assert regions(lines, [-0.25, -0.5, -0.75]) == 6
    assert regions(lines, [-1e300, 0, 1e300 - 1e284]) == 7
    assert hyperplanes([[5e-324], [1.0]], [0.0, 0.0]) == 1


def test_every_kind_of_numbers():
    W, b = [[1, 2], [3, 4], [1, 1]], [1, 0, 2]
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.int8):
        assert regions(torch.tensor(W, dtype=kind), torch.tensor(b, dtype=kind)) == 7
    for kind in (np.float16, np.float32, np.int64, object, np.longdouble):
        assert regions(np.array(W, dtype=kind), np.array(b, dtype=kind)) == 7
    net = torch.nn.Linear(2, 3)
    assert regions(net.weight, net.bias) == 7
    rows = [torch.tensor(row) for row in W]
    assert regions(rows, [torch.tensor(v) for v in b]) == 7
    assert regions([np.array(row) for row in W], tuple(b)) == 7
    assert len(codes(net.weight, net.bias)) == 7


# ------------------------------------------------------------------------------ Theorem 1


def masked(W, b, M, m):
    W, b, M, m = (np.asarray(v) for v in (W, b, M, m))
    return W * M, b * m


@given(layers(n=(1, 7)), st.randoms(use_true_random=False))
def test_corrected_bound_holds_for_any_mask(layer, random):
    W, b = layer
    n, d = len(W), len(W[0])
    draw = random.choice([[0, 1, 1], [1, 1, 1, 1, 0]])
    M = [[random.choice(draw) for _ in range(d)] for _ in range(n)]
    m = [random.choice(draw) for _ in range(n)]
    if random.random() < 0.5:  # unit masks
        M = [[row[0]] * d for row in M]
        m = [row[0] if random.random() < 0.5 else 1 for row in M]
    after, bound = regions(*masked(W, b, M, m)), corrected_bound(W, b, M, m)
    assert after <= bound <= corrected_maximum(M, d)
    if all(row == [row[0]] * d and row[0] <= q for row, q in zip(M, m, strict=True)):
        lost = hyperplanes(W, b) - hyperplanes(*masked(W, b, M, m))
        assert bound <= regions(W, b) - lost


@pytest.mark.parametrize("seed", range(60))
def test_in_general_position_the_printed_bound_holds_for_any_mask(seed):
    random = rng(seed)
    n, d = random.integers(2, 8), random.integers(1, 5)
    W, b = random.normal(size=(n, d)), random.normal(size=n)
    M, m = random.random((n, d)) < 0.7, random.random(n) < 0.7
    M[random.random(n) < 0.4] = False
    kept = int(M.any(axis=1).sum())
    after = regions(*masked(W, b, M, m))
    assert after <= corrected_bound(W, b, M, m) <= largest(kept, d) <= printed_bound(W, b, M)


@pytest.mark.parametrize("n, kept, d", [(4, 3, 6), (5, 3, 2), (6, 6, 3), (6, 0, 3)])
def test_corrected_maximum_is_reached_by_unit_masks(n, kept, d):
    W, b = rng(n).normal(size=(n, d)), rng(d).normal(size=n)
    keep = np.arange(n) < kept
    M = np.repeat(keep[:, None], d, axis=1)
    after = regions(*masked(W, b, M, keep))
    assert after == corrected_bound(W, b, M, keep) == corrected_maximum(M, d)
    assert corrected_maximum(keep, d) == corrected_maximum(M, d)
    assert printed_maximum(keep) == printed_maximum(torch.tensor(M)) == 2 ** (n - kept)


def test_printed_maximum_counts_the_wrong_units():
    assert (printed_maximum([1, 1, 1, 0]), corrected_maximum([1, 1, 1, 0], 6)) == (2, 8)


@pytest.mark.parametrize(
    "W, b, M, before, after",
    [
        ([[1, 0], [2, 0]], [0, 0], [[1, 1], [0, 0]], 2, 2),  # equal lines
        ([[1, 1], [1, 1]], [0, 1], [[1, 0], [1, 1]], 3, 4),  # parallel
        ([[1, 0], [1, 1], [1, 2]], [-1, -1, -1], [[1, 1], [1, 1], [0, 1]], 6, 7),  # one point
    ],
)
def test_counterexamples_to_the_printed_bound(W, b, M, before, after):
    m = [1] * len(W)
    assert (regions(W, b), regions(*masked(W, b, M, m))) == (before, after)
    assert printed_bound(W, b, M) < after
    assert corrected_bound(W, b, M) == corrected_bound(W, b, M, m) == after


def test_a_constant_unit_counts_as_pruned():
    W, b = [[1, 0], [0, 1], [1, 1]], [0, 0, -1]
    M = [[1, 1], [1, 1], [0, 0]]
    assert corrected_bound(W, b, M, [1, 1, 1]) == corrected_bound(W, b, M, [1, 1, 0]) == 4
    assert corrected_bound([[1, 0], [2, 0], [1, 1]], [0, 0, 0], M, [1, 1, 1]) == 2


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "W, b, message",
    [
        ([[1.0, math.nan]], [0.0], "finite real numbers; one of them is nan"),
        ([[1.0, 2.0]], [math.inf], "one of them is inf"),
        ([[1.0, 2j]], [0.0], "finite real numbers"),
        ([["1"]], [0.0], "finite real numbers"),
        ([[None]], [0.0], "finite real numbers"),
        ([[1, 2], [3]], [0, 0], "length 1 or 2"),
        ([[1, 2]], [0, 0], "1 rows of length 2, and 2 offsets"),
        ([1, 2], [0, 0], "two axes"),
        ([[1, 2]], 0, "two axes"),
        ("ab", [0, 0], "two axes"),
        (np.zeros((2, 3, 1)), [0, 0], "finite real numbers"),
        (np.zeros((2, 3)), np.zeros((2, 1)), "finite real numbers"),
    ],
)
def test_bad_layers_are_refused(W, b, message):
    for function in (regions, hyperplanes, in_general_position, codes):
        with pytest.raises(ValueError, match=message):
            function(W, b)


@pytest.mark.parametrize("M", [[[1, 2]], [[0.5, 1]], [[math.nan, 1]], [[1]], [[1, 1], [1, 1]], 1])
def test_bad_masks_are_refused(M):
    for call in (
        lambda: printed_bound([[1, 2]], [0], M),
        lambda: corrected_bound([[1, 2]], [0], M, [1]),
    ):
        with pytest.raises(ValueError, match="mask"):
            call()


@pytest.mark.parametrize("M", [[[1, 2]], [[0.5, 1]], [[math.nan, 1]], [[1]], [[1, 1], [1]], 1, [2]])
def test_bad_unit_masks_are_refused(M):
    with pytest.raises(ValueError, match="mask"):
        corrected_maximum(M, 2)
    if M != [[1]]:
        with pytest.raises(ValueError, match="mask"):
            printed_maximum(M)


@pytest.mark.parametrize("m", [[2], [1, 1], [], 1])
def test_bad_offset_masks_are_refused(m):
    with pytest.raises(ValueError, match="mask"):
        corrected_bound([[1, 2]], [0], [[1, 1]], m)


def test_endless_counts_are_refused_with_numbers(monkeypatch):
    W, b = rng().normal(size=(200, 100)), rng(1).normal(size=200)
    with monkeypatch.context() as patch:  # no elimination of large integers first
        patch.setattr(count, "_parts", refused)
        with pytest.raises(
            ValueError, match=r"200 hyperplanes of R\^100.*10\^\d\d steps.* 10,000,000"
        ):
            regions(W, b)
    W, b = rng().integers(-1, 2, (20, 4)), rng(1).integers(-1, 2, 20)
    with pytest.raises(ValueError, match="limit = 100"):
        regions(W, b, limit=100)
    assert regions(W, b) < largest(20, 4)
    with pytest.raises(ValueError, match="limit = 10"):
        codes(W, b, limit=10)
    with pytest.raises(ValueError, match="n >= 0"):
        largest(-1, 2)


def test_the_limit_speaks_of_steps():
    W, b = rng().integers(-9, 10, (40, 2)), np.arange(40)
    steps = largest(hyperplanes(W, b), 2)
    assert regions(W, b, limit=steps) < steps
    with pytest.raises(ValueError, match=f"may take {steps} steps, more than limit = {steps - 1}"):
        regions(W, b, limit=steps - 1)
    with pytest.raises(ValueError, match=f"{2 * largest(12, 3)} steps"):
        regions(*roots(4, offsets=(0, 1)), limit=9)


def test_thousands_of_lines_are_no_endless_count(monkeypatch):
    asked = []
    monkeypatch.setattr(count, "restriction", lambda rows, h: asked.append(h) or [])
    n = 4400
    tangents = [(k, 1) for k in range(n)], [k * k for k in range(n)]
    assert regions(*tangents) == 1 + n
    assert len(asked) == n
    assert not in_general_position(*tangents)  # as the first restriction is said to be empty
    with pytest.raises(ValueError, match="steps"):
        regions(*tangents, limit=9_000_000)
