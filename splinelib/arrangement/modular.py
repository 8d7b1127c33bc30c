"""General position certified by arithmetic modulo a prime.

Determinants of integers are large, their remainders modulo a prime are not, and one that is not
zero there is not zero.  So a positive answer is a proof; after a negative one, look closer.
"""

import math
from collections import defaultdict

import numpy as np

from splinelib.arrangement.integers import Row

Array = np.ndarray

PRIMES = (2_147_483_647, 2_147_483_629)  # products of two remainders fit into int64
MINORS = 10_000_000  # determinants that one check of general position may take


def certainly_general(rows: list[Row]) -> bool:
    """True only in general position; False there only if a prime divides a determinant.

    General position says that determinants are not zero: of slopes, and of d + 1 whole rows.  A
    determinant that is not zero modulo a prime is not zero.  So True is exact.
    """
    return any(_general_modulo(rows, p) for p in PRIMES)


def _general_modulo(rows: list[Row], p: int) -> bool:
    """Whether the determinants are not zero modulo a prime p; False if they are too many."""
    n, d = len(rows), len(rows[0]) - 1
    rank, rest = _reduced(rows, p)
    if n <= d or rank < d:
        return rank == n
    # With d rows as axes, the determinants are all minors of the other rows: transpose at will.
    rest = rest if len(rest) >= rest.shape[1] else rest.T
    size = rest.shape[1] - 1
    if math.comb(n, size + 1) > MINORS:
        return False
    table = np.concatenate([np.eye(size, size + 1, dtype=np.int64), rest]).astype(object)
    mix = np.random.default_rng(0).integers(1, p, (size + 1, size + 1)).astype(object)
    mix[-1] = [0] * size + [1]  # other coordinates and another origin: pivots are rarely zero
    return _all_minors((table @ mix % p).astype(np.int64), p)


def _all_minors(rows: Array, p: int) -> bool:
    """Whether elimination modulo p, of each choice of rows in turn, meets no zero."""
    flats = {len(rows): rows[None]}  # k: flats (F, k, .) on which the first k hyperplanes are left
    for _ in range(rows.shape[1]):
        finer = defaultdict(list)
        for k, on in flats.items():
            if not on[..., 0].all():
                return False
            for j in range(1, k):
                h, others = on[:, j : j + 1], on[:, :j]
                finer[j].append((others[..., 1:] * h[..., :1] - h[..., 1:] * others[..., :1]) % p)
        flats = {k: np.concatenate(on) for k, on in finer.items()}
    return True


def _reduced(rows: list[Row], p: int) -> tuple[int, Array]:
    """Rank of the slopes modulo p, and the other rows in coordinates with as many rows as axes.

    For n <= d only the rank is right: there, columns that became axes are left behind.
    """
    A = np.array([[v % p for v in row] for row in rows], dtype=np.int64)
    n, d = len(A), A.shape[1] - 1
    for r in range(min(n, d)):
        nonzero = np.argwhere(A[r : r + 1, r:d])
        nonzero = nonzero if len(nonzero) else np.argwhere(A[r:, r:d])
        if not len(nonzero):
            return r, A[r:, [*range(r), d]]
        i, j = r + nonzero[0]
        A[[r, i]] = A[[i, r]]
        A[:, [r, j]] = A[:, [j, r]]
        A[r:, r] = A[r:, r] * pow(int(A[r, r]), -1, p) % p
        row = np.where(np.arange(d + 1) == r, 0, A[r])
        first = r + 1 if n <= d else 0
        A[r + 1 :, first:] = (A[r + 1 :, first:] - A[r + 1 :, [r]] * row[first:]) % p
    return min(n, d), A[d:]


def certainly_whole(rows: list[Row]) -> bool:
    """True only if the arrangement is neither a product nor central, nor of a lower rank."""
    rank, rest = _reduced(rows, PRIMES[0])
    full = rank == len(rows[0]) - 1 < len(rows)
    return bool(full and rest[:, :-1].all(axis=1).any() and rest[:, -1].any())
