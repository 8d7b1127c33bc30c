"""Two searches by evolution: one in which the oldest goes, one in which the best stay."""

import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from splinelib.train.recipe import whole

Generator = torch.Generator
Candidate = TypeVar("Candidate", bound=Hashable)


class Search(NamedTuple):
    """What a search found: the best candidate, and the fitness of each one in order of trial."""

    best: object
    tried: list


def aging(
    fitness: Callable[[Tensor], float],
    spread: Tensor,
    *,
    population: int = 64,
    sample: int = 16,
    generations: int = 400,
    mutate: float = 0.1,
    generator: Generator,
) -> Search:
    """Search for affine maps by regularised evolution: each newcomer takes the oldest one's place.

    Parameters
    ----------
    fitness : callable
        From maps ``(L, 2)`` float64, a scale and a shift for each of L layers, to a loss: less is
        better, NaN is worst.
    spread : Tensor (L,)
        Deviation of the random shifts.
    population, sample, generations : int
        How many live, how many enter each tournament (drawn with replacement), how many are tried
        in all, the first population included.
    mutate : float, in (0, 1]
        Share of the layers that change in a child, at least one.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Search
        With the best maps of all that were tried.

    Raises
    ------
    ValueError
        Sizes that do not fit each other, no loss that is finite.

    Notes
    -----
    The first population is drawn around the identity, which is its last member. The winner of a
    tournament gets a child: its scales change by a factor ``exp(s N(0, 1))``, with s falling
    from 1 to 0.2, its shifts by ``spread * N(0, 1)``. After Real et al., "Regularized evolution for
    image classifier architecture search" (AAAI 2019), as in the public code of LeGR. Taught in *A
    tour of pruning methods*.

    Examples
    --------
    >>> goal = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    >>> found = aging(lambda maps: float((maps - goal).abs().sum()), torch.ones(2),
    ...               population=8, sample=4, generations=400, mutate=0.5,
    ...               generator=torch.Generator().manual_seed(0))
    >>> len(found.tried), min(found.tried) < min(found.tried[:8])
    (400, True)
    """
    sizes = (sample, population, generations)
    if not all(whole(n, 1) for n in sizes) or list(sizes) != sorted(sizes) or not 0 < mutate <= 1:
        raise ValueError(
            f"sample={sample}, population={population}, generations={generations}, "
            f"mutate={mutate}: need whole numbers 1 <= sample <= population <= generations and "
            "mutate in (0, 1]."
        )
    identity = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(len(spread), 1)
    living, tried, best = deque(maxlen=population), [], (float("inf"), identity)
    for number in range(generations):
        if number < population - 1:
            maps = _changed(identity, spread, 1.0, len(spread), generator)
        elif number == population - 1:
            maps = identity
        else:
            winner = _winner(living, sample, generator)
            layers, step = max(1, int(mutate * len(spread))), 1 - number / (1.25 * generations)
            maps = _changed(winner, spread, step, layers, generator)
        loss = fitness(maps)
        loss = loss if loss < float("inf") else float("inf")  # NaN: its training diverged
        living.append((loss, maps))
        tried.append(loss)
        best = min(best, living[-1], key=lambda one: one[0])
    need_finite(best[0], len(tried))
    return Search(best[1], tried)


def need_finite(loss: float, tried: int) -> None:
    """Raise a ``ValueError`` unless the loss of the best of all that were tried is finite."""
    if not math.isfinite(loss):
        raise ValueError(
            f"none of the {tried} candidates that were tried has a finite loss: give every weight "
            "and pixel a number first, and train at a lower rate."
        )


def _winner(living: deque, sample: int, generator: Generator) -> Tensor:
    """The best of some that are drawn from all who live."""
    drawn = torch.randint(len(living), (sample,), generator=generator).tolist()
    return min((living[i] for i in drawn), key=lambda one: one[0])[1]


def _changed(maps: Tensor, spread: Tensor, step: float, layers: int, generator) -> Tensor:
    """A copy of maps, changed at random in some layers."""
    chosen = torch.randperm(len(spread), generator=generator)[:layers]
    scale, shift = torch.randn(2, layers, generator=generator, dtype=torch.float64)
    maps = maps.clone()
    maps[chosen, 0] *= (step * scale).exp()
    maps[chosen, 1] += spread[chosen].double() * shift
    return maps


def elitist(
    fitness: Callable[[Candidate], float],
    fresh: Callable[[], Candidate],
    mutated: Callable[[Candidate], Candidate],
    crossed: Callable[[Candidate, Candidate], Candidate],
    *,
    population: int = 50,
    parents: int = 10,
    iterations: int = 20,
    generator: Generator,
) -> Search:
    """Search with the best as parents: half their mutants, half their crossings, the rest fresh.

    Parameters
    ----------
    fitness : callable
        From a candidate to a value that can be compared: less is better.
    fresh, mutated, crossed : callable
        Make a candidate of none, one or two others.
    population, parents, iterations : int
        Candidates tried in each iteration, how many of the best so far have children, iterations.
    generator : torch.Generator
        On the CPU; it chooses the parents.

    Returns
    -------
    Search

    Raises
    ------
    ValueError
        Sizes that do not fit each other.

    Notes
    -----
    No candidate is tried twice: after ten attempts for each place in the population, an iteration
    goes on with what it has, and the search ends when nothing new was found. The evolution of
    MetaPruning, whose public code has these sizes. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> draws = torch.Generator().manual_seed(0)
    >>> number = lambda: int(torch.randint(1000, (), generator=draws))
    >>> found = elitist(lambda n: abs(n - 700), number, lambda n: n + number() % 9 - 4,
    ...                 lambda a, b: (a + b) // 2, iterations=8, generator=draws)
    >>> abs(found.best - 700) < 5
    True
    """
    sizes = (parents, population, iterations)
    if not all(whole(n, 1) for n in sizes) or not 2 <= parents <= population:
        raise ValueError(
            f"parents={parents}, population={population}, iterations={iterations}: need whole "
            "numbers, 2 <= parents <= population and at least one iteration."
        )
    known: dict[Candidate, float] = {}

    def pair() -> list[Candidate]:
        best = sorted(known, key=known.get)[:parents]
        order = torch.randperm(len(best), generator=generator)[:2].tolist()
        return [best[i] for i in order] * (2 // len(order))

    for iteration in range(iterations):
        half = population // 2 if iteration else 0
        found = _new(lambda: mutated(pair()[0]), half, known)
        found |= _new(lambda: crossed(*pair()), half, known.keys() | found)
        found |= _new(fresh, population - len(found), known.keys() | found)
        known |= {candidate: fitness(candidate) for candidate in found}
        if not found:
            break
    return Search(min(known, key=known.get), list(known.values()))


def _new(make: Callable[[], Candidate], count: int, known) -> dict[Candidate, None]:
    """Up to ``count`` candidates that are not known yet, in order."""
    found: dict[Candidate, None] = {}
    for _ in range(10 * count):
        candidate = make()
        if candidate not in known:
            found[candidate] = None
        if len(found) == count:
            break
    return found
