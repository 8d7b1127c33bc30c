"""splinelib.redundancy: the distance of two hyperplanes, and the order in which units go."""

import itertools
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from splinelib import redundancy
from splinelib.redundancy import greedy, has_hyperplane, keep, one_shot, pair_matrix
from splinelib.units import rows

FACTORS = [1 / 3, -1 / 3, 1e-8, -1e-8, 1e8, -1.0, 7e250, -3e-250, 0.1, 2.0]
seeds = st.integers(0, 2**32 - 1)
factors = st.sampled_from(FACTORS) | st.floats(1e-12, 1e12) | st.floats(-1e12, -1e-12)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=seeded(seed))


def layer(units, inputs, seed=0):
    return normal(units, inputs, seed=seed), normal(units, seed=seed + 1)


def by_decimals(w, b, v, c, rho):
    """N* of two units at 60 digits, from the very numbers that the floats are."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**6, -(10**6)
        w, v = ([Decimal(float(x)) for x in row] for row in (w, v))
        b, c, rho = (Decimal(float(x)) for x in (b, c, rho))
        norms = [sum(x * x for x in row).sqrt() for row in (w, v)]
        cosine = sum(x * y for x, y in zip(w, v, strict=True)) / norms[0] / norms[1]
        turned = -1 if cosine < 0 else 1
        return float(1 - abs(cosine) + rho * abs(b / norms[0] - turned * c / norms[1]))


def naive(N):
    """The greedy as it is told, O(n^3): look at all pairs, again and again."""
    left, steps = list(range(len(N))), []
    while len(left) > 1:
        low, high = min(itertools.combinations(left, 2), key=lambda pair: N[pair[0]][pair[1]])

        def second(k, pair=(low, high)):
            return min((N[k][i] for i in left if i not in pair), default=float("inf"))

        gone, stays = (low, high) if second(low) < second(high) else (high, low)
        left.remove(gone)
        steps.append((gone, N[low][high], stays))
    return [list(column) for column in zip(*steps, strict=True)]


def as_lists(removals):
    return [column.tolist() for column in removals]


def symmetric(values, units):
    """The matrix of which ``values`` are the pairs."""
    N = np.zeros((units, units))
    N[np.triu_indices(units, 1)] = values
    return N + N.T


# The pair matrix


@given(seeds, st.integers(2, 7), st.integers(1, 6), st.floats(1e-3, 10))
def test_the_matrix_holds_the_numbers_of_the_formula(seed, units, inputs, rho):
    W, b = layer(units, inputs, seed)
    N = pair_matrix(W, b, rho)
    for j, k in itertools.permutations(range(units), 2):
        assert N[j, k] == pytest.approx(by_decimals(W[j], b[j], W[k], b[k], rho), rel=1e-10)


@given(seeds, factors, st.integers(1, 8) | st.sampled_from([50, 4608]))
def test_zero_where_one_hyperplane_is_given_twice(seed, factor, inputs):
    W, b = layer(3, inputs, seed)
    W, b = torch.cat([W, factor * W]), torch.cat([b, factor * b])
    N = pair_matrix(W, b)
    assert N[range(3), range(3, 6)].abs().max() == 0
    others = N[:3, :3][~torch.eye(3, dtype=torch.bool)]
    assert others.min() > 0


@given(seeds, factors, st.integers(3, 12), st.sampled_from(["weight", "offset"]))
@example(seed=0, factor=1.0, digits=9, what="weight")
@example(seed=0, factor=-1e-8, digits=9, what="offset")
def test_positive_where_planes_differ_by_little(seed, factor, digits, what):
    (w, v), (b, c) = layer(2, 5, seed)
    v, c = factor * w, factor * b
    if what == "weight":
        v[0] *= 1 + 10.0**-digits
    else:
        c *= 1 + 10.0**-digits
    value = pair_matrix(torch.stack([w, v]), torch.stack([b, c]))[0, 1]
    assert value > 0
    # the offsets are numbers of their own size with 16 digits, so that many are left of the shift
    assert value == pytest.approx(by_decimals(w, b, v, c, 0.05), rel=1e-15 * 10.0**digits)


@pytest.mark.parametrize("digits", range(3, 14))
def test_small_angles_are_not_lost_to_cancellation(digits):
    angle = 10.0**-digits  # 1 - cos is far below the last digit of 1 for the last ones
    N = pair_matrix([[1.0, 0.0], [1.0, angle], [-1.0, 2 * angle]], [0.0, 0.0, 0.0])
    assert N[0, 1] == pytest.approx(angle**2 / 2, rel=1e-5)
    assert N[0, 2] == pytest.approx(2 * angle**2, rel=1e-4)
    assert N[1, 2] == pytest.approx(9 * angle**2 / 2, rel=1e-4)


def test_the_rounding_rule_is_the_one_that_is_stated():
    eps = 2.0**-52
    N = pair_matrix([[1.0, 0.0], [1.0, 32 * eps], [1.0, 33 * eps]], [0.0, 0.0, 0.0])
    assert (N == 0).tolist() == [[True, True, False], [True, True, True], [False, True, True]]
    for start in (0.0, 1.0, 5.0, -3.0):
        near, far = (start + factor * eps * (1 + abs(start)) for factor in (31, 34))
        assert pair_matrix([[1.0], [1.0]], [start, near])[0, 1] == 0
        assert pair_matrix([[1.0], [-1.0]], [start, -far])[0, 1] > 0


@given(seeds, factors, st.sampled_from([nn.BatchNorm1d, nn.BatchNorm2d]))
def test_zero_for_units_that_batchnorm_makes_coincide(seed, factor, norm):
    """Different weights, statistics and scales, one hyperplane: a duplicate behind BatchNorm."""
    image = norm is nn.BatchNorm2d
    first = nn.Conv2d(2, 6, 3) if image else nn.Linear(7, 6)
    net = nn.Sequential(first, norm(6), nn.ReLU()).double().eval()
    with torch.no_grad():
        for value, number in zip(net.state_dict().values(), range(6), strict=False):
            value.copy_(normal(*value.shape, seed=seed + number))
        net[1].running_var.copy_(normal(6, seed=seed + 9).square() + 0.01)
        scale = net[1].weight / (net[1].running_var + net[1].eps).sqrt()
        first.weight[3:] = factor * first.weight[:3]
        first.bias[3:] = factor * first.bias[:3]
        net[1].running_mean[3:] = factor * net[1].running_mean[:3]
        # scale' factor (z - mu) + beta' is to be a multiple of scale (z - mu) + beta
        net[1].bias[3:] = scale[3:] * factor / scale[:3] * net[1].bias[:3]
    N = pair_matrix(*rows(net, "0"))
    assert N[range(3), range(3, 6)].max() == 0
    assert N[:3, :3][~torch.eye(3, dtype=torch.bool)].min() > 0


@given(seeds, st.integers(2, 9), st.integers(1, 9), st.sampled_from([1, 2, 4, 512]))
def test_symmetric_to_the_last_bit_whatever_the_block(seed, units, inputs, block):
    W, b = layer(units, inputs, seed)
    for form in ("invariant", "printed"):
        N = pair_matrix(W, b, form=form, block=block)
        assert torch.equal(N, N.T)
        assert not N.diagonal().any()
        torch.testing.assert_close(N, pair_matrix(W, b, form=form), rtol=1e-12, atol=1e-15)


@given(seeds, st.lists(factors, min_size=6, max_size=6))
def test_the_invariant_form_depends_on_the_hyperplanes_alone(seed, factors):
    W, b = layer(6, 4, seed)
    scale = torch.tensor(factors, dtype=torch.float64)
    N = pair_matrix(W, b)
    torch.testing.assert_close(pair_matrix(scale[:, None] * W, scale * b), N, rtol=1e-10, atol=0)


def test_the_printed_form_has_its_counterexamples():
    """Zero for two different planes, and positive for one plane written in two ways."""
    N = pair_matrix([[2.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], [1.0, 1.0, 0.5], 0.1, "printed")
    assert N[0, 1] == 0
    assert N[0, 2] == pytest.approx(0.05)
    N = pair_matrix([[2.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], [1.0, 1.0, 0.5], 0.1)
    assert N[0, 1] == pytest.approx(0.15)
    assert N[0, 2] == 0


@given(seeds, st.floats(1e-3, 10))
def test_the_printed_form_is_the_papers_formula(seed, rho):
    W, b = layer(5, 3, seed)
    angles = 1 - torch.cosine_similarity(W[:, None], W[None], dim=2).abs()
    shifts = (b[:, None] - b[None]).abs()
    expected = (angles + rho * shifts).fill_diagonal_(0)
    torch.testing.assert_close(pair_matrix(W, b, rho, "printed"), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_at_right_angles_the_smaller_shift_counts(signs):
    W = torch.tensor([[1.0, 1.0], [0.3, -0.3]], dtype=torch.float64)
    b = torch.tensor([1.0, -2.0], dtype=torch.float64)
    turn = torch.tensor(signs, dtype=torch.float64)
    N = pair_matrix(turn[:, None] * W, turn * b, rho=1.0)
    near = abs(1 / 2**0.5 - 2 / (0.3 * 2**0.5))
    assert N[0, 1] == pytest.approx(1 + near, rel=1e-12)


def test_numbers_of_any_kind_are_taken():
    W, b = [[1, 2], [3, 4], [2, 4]], [1, 0, 2]
    expected = pair_matrix(torch.tensor(W), torch.tensor(b))
    assert expected.dtype == torch.float64
    assert expected[0, 2] == 0
    fixed = np.asfortranarray(np.array(W, dtype=float)[::-1])
    fixed.setflags(write=False)
    assert torch.equal(pair_matrix(W, b), expected)
    assert torch.equal(pair_matrix(fixed, b[::-1]), expected.flip(0, 1))
    grad = nn.Parameter(torch.tensor(W, dtype=torch.float32))
    assert torch.equal(pair_matrix(grad, torch.tensor(b).float()), expected)
    assert not pair_matrix(grad, torch.tensor(b).float()).requires_grad
    half = pair_matrix(torch.tensor(W, dtype=torch.bfloat16), torch.tensor(b).bfloat16())
    assert torch.equal(half, expected)


@pytest.mark.parametrize("factor", [1 / 3, -0.1, 1e-8, 1e8])
def test_precision_names_the_type_in_which_the_weights_were_rounded(factor):
    W, b = normal(1, 9, dtype=torch.float32), normal(1, dtype=torch.float32)
    W, b = torch.cat([W, factor * W]), torch.cat([b, factor * b])
    assert pair_matrix(W, b)[0, 1] == 0
    assert 0 < pair_matrix(W.double(), b.double())[0, 1] < 1e-6
    assert pair_matrix(W.double(), b.double(), precision=torch.float32)[0, 1] == 0


def test_the_type_of_the_offsets_does_not_count():
    W = torch.tensor([[1.0, 0.0], [1.0, 1e-7]], dtype=torch.float64)
    expected = pair_matrix(W, torch.zeros(2, dtype=torch.float64))
    assert expected[0, 1] == pytest.approx(5e-15)
    for kind in (torch.float32, torch.bfloat16, torch.int64):
        assert torch.equal(pair_matrix(W, torch.zeros(2, dtype=kind)), expected)
    assert pair_matrix(W.float(), torch.zeros(2, dtype=torch.float64))[0, 1] == 0
    assert pair_matrix(W.float(), torch.zeros(2), precision=torch.float64)[0, 1] > 0


def test_no_type_is_coarser_than_float32():
    W = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2**-7]], dtype=torch.bfloat16)  # one ulp apart
    assert pair_matrix(W, torch.zeros(2).bfloat16())[0, 1] > 0
    assert pair_matrix(W.double(), torch.zeros(2), precision=torch.bfloat16)[0, 1] > 0
    assert pair_matrix(torch.ones(2, 1).bfloat16(), torch.tensor([1.0, 1 + 2**-7]))[0, 1] > 0


def test_the_larger_of_two_offsets_sets_what_counts_as_equal():
    tolerance = 2.0**-18  # 32 eps of float32
    offset = tolerance * (1 + tolerance / 2)  # more than tolerance, less than that times 1 + offset
    for offsets in ([0.0, offset], [offset, 0.0]):
        N = pair_matrix(torch.ones(2, 1).double(), offsets, precision=torch.float32)
        assert not N.any()


@pytest.mark.parametrize("size", [1e308, 1e160, 1e-160, 1e-307, 5e-324])
def test_rows_of_any_size_have_a_direction_and_an_offset(size):
    W = [[size] * 5, [-size] * 5, [1.0] * 5, [1.0, 0, 0, 0, 0]]
    N = pair_matrix(W, [size, -size, 1.0, 0.0])
    assert not N[:3, :3].any()
    assert N[0, 3] == pytest.approx(1 - 0.95 * 5**-0.5)


def test_equal_directions_are_compared_once(monkeypatch):
    compared = []

    def halves(u, v, turned, tolerance):
        compared.append(int(turned.count_nonzero()))
        return original(u, v, turned, tolerance)

    original = redundancy.pairs._halves
    monkeypatch.setattr(redundancy.pairs, "_halves", halves)
    w, v = normal(2, 50)
    W = torch.stack([w, -w, 2 * w, v]).repeat(32, 1)
    N = pair_matrix(W, torch.zeros(128), block=64)
    assert compared == [2, 2, 2]  # of two directions each with itself, for three pairs of blocks
    assert (N == 0).sum() == 96**2 + 32**2


def test_zero_in_many_dimensions_and_for_many_units():
    W, b = layer(3, 200_000)
    N = pair_matrix(torch.cat([W, W / 3]), torch.cat([b, b / 3]), block=2)
    assert (N == 0).sum() == 12
    N = pair_matrix(torch.ones(600, 3), torch.ones(600), block=100)
    assert not N.any()


def test_two_units_and_what_is_given_stays():
    W, b = layer(2, 3)
    before = W.clone(), b.clone()
    assert pair_matrix(W, b).shape == (2, 2)
    assert torch.equal(W, before[0])
    assert torch.equal(b, before[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu():
    W, b = layer(300, 40)
    W[7], b[7] = -3 * W[5], -3 * b[5]
    N = pair_matrix(W.cuda(), b.cuda(), block=128)
    assert N.is_cuda
    assert N[5, 7] == 0
    torch.testing.assert_close(N.cpu(), pair_matrix(W, b), rtol=1e-10, atol=1e-14)
    assert greedy(N).order.is_cuda
    assert as_lists(greedy(N)) == as_lists(greedy(N.cpu()))


def test_has_hyperplane():
    assert has_hyperplane([[0.0, 0.0], [0.0, 1e-300], [-0.0, 0.0]]).tolist() == [False, True, False]
    assert has_hyperplane(torch.empty(2, 0)).tolist() == [False, False]


W2 = [[1.0, 0.0], [0.0, 1.0]]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((W2, [0.0, 0.0], 0.0), "rho is 0.0; a positive"),
        ((W2, [0.0, 0.0], -1.0), "rho is -1.0; a positive"),
        ((W2, [0.0, 0.0], NAN), "rho is nan; a positive"),
        ((W2, [0.0, 0.0], INF), "rho is inf; a positive"),
        ((W2, [0.0, 0.0], 0.05, "signed"), r"form 'signed' is unknown.*'invariant', 'printed'"),
        (([[1.0, 0.0]], [0.0]), "1 row; two units at least"),
        ((np.empty((0, 3)), []), "0 row; two units at least"),
        (([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [0.0] * 3), r"rows \[0, 2\] of W .* remove them"),
        ((np.zeros((20, 2)), np.zeros(20)), r"rows \[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\]"),
        (([[1.0, NAN], [0.0, 1.0]], [0.0, 0.0]), r"W \(2, 2\) holds NaN or infinity; remove"),
        (([[1.0, INF], [0.0, 1.0]], [0.0, 0.0]), r"W \(2, 2\) holds NaN or infinity; remove"),
        ((W2, [0.0, NAN]), r"b \(2,\) holds NaN or infinity; remove"),
        ((W2, [0.0]), r"a row of W, \(2,\).* got shape \(1,\)\.$"),
        ((W2, [[0.0, 0.0]]), r"got shape \(1, 2\)"),
        (([1.0, 2.0], [0.0, 0.0]), r"W must be \(n, d\).* got shape \(2,\)\.$"),
        ((np.ones((2, 3, 1, 1)), [0.0, 0.0]), r"W\.flatten\(1\)"),
        ((np.array(W2) * 1j, [0.0, 0.0]), "real numbers; got torch.complex128"),
        (([[1e-300], [1.0]], [1e300, 0.0]), r"units \[0\] are further away than"),
    ],
)
def test_bad_layers_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        pair_matrix(*arguments)


def test_an_empty_block_is_refused():
    with pytest.raises(ValueError, match="block is 0; give a number"):
        pair_matrix(W2, [0.0, 0.0], block=0)


# The order of removal


@given(seeds, st.integers(2, 24), st.integers(1, 4))
def test_greedy_is_the_naive_greedy(seed, units, inputs):
    W, b = layer(units, inputs, seed)
    W[units // 2], b[units // 2] = -2 * W[0], -2 * b[0]
    N = pair_matrix(W, b)
    assert as_lists(greedy(N)) == naive(N.tolist())


@given(st.data(), st.integers(2, 14), st.integers(1, 4))
def test_greedy_is_the_naive_greedy_where_distances_tie(data, units, most):
    pairs = units * (units - 1) // 2
    values = data.draw(st.lists(st.integers(0, most), min_size=pairs, max_size=pairs))
    N = symmetric(values, units)
    assert as_lists(greedy(N)) == naive(N.tolist())


@pytest.mark.parametrize("units", [2, 3, 60])
@pytest.mark.parametrize("kind", ["star", "hubs", "equal", "line", "infinite"])
def test_greedy_is_the_naive_greedy_in_bad_cases(kind, units):
    """Many units with one nearest neighbour, whose going changes all of their lists."""
    first, second = np.triu_indices(units, 1)
    values = {
        "star": np.where(first == 0, 1.0, 2.0),
        "hubs": 1.0 + first,
        "equal": np.zeros(len(first)),
        "line": (second - first).astype(float),
        "infinite": np.where(second == first + 1, 1.0, np.inf),
    }[kind]
    N = symmetric(values, units)
    np.fill_diagonal(N, 0)
    assert as_lists(greedy(N)) == naive(N.tolist())


@pytest.mark.parametrize("stretch", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(6))
def test_greedy_walks_over_any_run_of_pairs_that_are_gone(stretch, seed, monkeypatch):
    monkeypatch.setattr(redundancy.order, "STRETCH", stretch)
    N = pair_matrix(*layer(20, 2, seed))
    assert as_lists(greedy(N)) == naive(N.tolist())


@given(seeds, st.integers(2, 40))
def test_removal_values_never_decrease(seed, units):
    removals = greedy(pair_matrix(*layer(units, 3, seed)))
    assert (removals.values.diff() >= 0).all()
    assert len(set(removals.order.tolist())) == units - 1
    gone = set()
    for unit, partner in zip(*as_lists(removals)[::2], strict=True):
        assert partner not in gone | {unit}
        gone.add(unit)


def test_greedy_gives_numbers_of_full_precision_and_leaves_its_argument():
    N = pair_matrix(*layer(5, 3))
    before = N.clone()
    removals = greedy(N)
    assert removals.values.dtype == torch.float64
    assert removals.order.dtype == removals.partners.dtype == torch.int64
    assert removals.values[0] == N[~torch.eye(5, dtype=torch.bool)].min()
    one_shot(N)
    assert torch.equal(N, before)


def test_of_a_pair_the_one_with_the_nearer_second_neighbour_goes():
    x = torch.tensor([10.0, 11.0, 13.0, 0.0])  # 11 is nearer to 13 than 10 is
    removals = greedy((x[:, None] - x).abs())
    assert removals.order[0] == 1
    assert removals.partners[0] == 0
    assert greedy([[0, 1], [1, 0]]).order.tolist() == [1]  # a tie: the higher index goes


def test_one_shot_loses_planes_that_greedy_keeps():
    """Of exact duplicates one-shot scores take both, the sequential greedy takes one."""
    W, b = layer(8, 5)
    W, b = torch.cat([W, -2 * W[:4]]), torch.cat([b, -2 * b[:4]])
    N = pair_matrix(W, b)
    planes = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]
    lowest = one_shot(N).argsort(stable=True)[:8].tolist()
    left = set(range(12)) - set(lowest)
    assert len({planes[k] for k in left}) == 4
    removals = greedy(N)
    assert removals.values[:5].count_nonzero() == 1
    left = keep(removals, 4).nonzero().flatten().tolist()
    assert len({planes[k] for k in left}) == len(left) == 8


def test_one_of_three_copies_stays():
    W, b = layer(4, 3)
    W, b = torch.cat([W, -W[:1], 5 * W[:1]]), torch.cat([b, -b[:1], 5 * b[:1]])
    removals = greedy(pair_matrix(W, b))
    assert removals.values[:2].tolist() == [0, 0]
    assert removals.values[2] > 0
    assert set(removals.order[:2].tolist()) < {0, 4, 5}


@given(seeds, st.integers(2, 12))
def test_one_shot_is_the_smallest_distance_to_another(seed, units):
    N = pair_matrix(*layer(units, 3, seed))
    expected = [min(N[k, j].item() for j in range(units) if j != k) for k in range(units)]
    assert one_shot(N).tolist() == expected


@given(seeds, st.integers(2, 12))
def test_keep_takes_the_first_removals(seed, units):
    removals = greedy(pair_matrix(*layer(units, 3, seed)))
    for number in range(units):
        left = keep(removals, number)
        assert left.dtype == torch.bool
        assert left.sum() == units - number
        assert not left[removals.order[:number]].any()


@pytest.mark.parametrize("number", [-1, 4, 100])
def test_too_many_removals_are_refused(number):
    with pytest.raises(ValueError, match=f"{number} removals of 4 units .* give 0 to 3"):
        keep(greedy(pair_matrix(*layer(4, 2))), number)


@pytest.mark.parametrize("function", [greedy, one_shot])
@pytest.mark.parametrize(
    "N, words",
    [
        (np.zeros((2, 3)), r"\(n, n\) with n >= 2.* got \(2, 3\)"),
        (np.zeros(4), r"got \(4,\)"),
        (np.zeros((1, 1)), r"n >= 2.* got \(1, 1\)"),
        ([[0.0, NAN], [NAN, 0.0]], "NaN; remove"),
        ([[0.0, 1.0], [1.5, 0.0]], r"not symmetric .* up to 0\.5.*\(N \+ N\.T\) / 2"),
    ],
)
def test_bad_distances_are_refused(function, N, words):
    with pytest.raises(ValueError, match=words):
        function(N)
