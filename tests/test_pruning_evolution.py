"""splinelib.pruning.evolution: two searches, and the widths that one of them goes through."""

import pytest
import torch
from learning import seeded

from splinelib import nets
from splinelib.pruning.evolution import aging, elitist
from splinelib.pruning.metapruning import Space
from splinelib.pruning.pruningnet import SCALES
from splinelib.surgery import groups


class TestAging:
    def test_improves_on_its_first_population_which_ends_with_the_identity(self):
        goal = torch.tensor([[9.0, 0.0], [1.0, -1.0], [0.2, 2.0]], dtype=torch.float64)
        seen = []

        def fitness(maps):
            seen.append(maps)
            return float((maps - goal).square().sum())

        found = aging(
            fitness, torch.ones(3), population=16, sample=4, generations=400, generator=seeded()
        )
        assert len(found.tried) == len(seen) == 400
        assert torch.equal(seen[15], torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64))
        assert min(found.tried) < min(found.tried[:16]) / 4
        assert fitness(found.best) == min(found.tried)

    def test_a_child_differs_from_its_parent_in_the_share_of_layers_asked_for(self):
        seen = []
        options = {"population": 2, "sample": 1, "generations": 12, "generator": seeded()}
        aging(lambda maps: seen.append(maps) or 0.0, torch.ones(20), mutate=0.1, **options)
        for number in range(2, 12):
            parents = seen[number - 2 : number]  # two live at a time: the oldest always goes
            changed = [int((seen[number] != parent).any(1).sum()) for parent in parents]
            assert 2 in changed

    def test_a_candidate_that_diverged_never_wins(self):
        found = aging(
            lambda maps: float("nan") if maps[0, 0] > 1 else float(maps[0, 0]),
            torch.zeros(1), population=4, sample=2, generations=30, generator=seeded(),
        )  # fmt: skip
        assert found.best[0, 0] <= 1
        assert float("inf") in found.tried

    def test_steps_fall_from_1_to_a_fifth(self):
        """With one who lives, each child is its predecessor, changed in all of many layers."""
        seen, generations = [], 9
        aging(
            lambda maps: seen.append(maps) or 0.0, torch.zeros(8000), population=1, sample=1,
            generations=generations, mutate=1.0, generator=seeded(),
        )  # fmt: skip
        pairs = zip(seen, seen[1:], strict=False)
        steps = [float((child / parent)[:, 0].log().std()) for parent, child in pairs]
        expected = [1 - 0.8 * number / generations for number in range(1, generations)]
        assert steps == pytest.approx(expected, rel=0.04)

    def test_a_search_without_a_finite_loss_has_no_winner(self):
        for bad in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="none of the 5 candidates .* has a finite loss"):
                aging(
                    lambda maps, bad=bad: bad, torch.ones(2), population=2, sample=1,
                    generations=5, generator=seeded(),
                )  # fmt: skip

    def test_refuses_sizes_that_do_not_fit(self):
        for sizes in (
            {"generations": 64.5},
            {"population": 4, "sample": 5},
            {"generations": 3},
            {"mutate": 0.0},
        ):
            with pytest.raises(ValueError, match="sample <= population <= generations"):
                aging(lambda maps: 0.0, torch.ones(1), generator=seeded(), **sizes)


class TestElitist:
    def test_finds_the_best_of_a_small_space_and_tries_nothing_twice(self):
        tried, draws = [], seeded()

        def bit(n):
            return int(torch.randint(n, (), generator=draws))

        found = elitist(
            lambda c: tried.append(c) or (c[0] - 3) ** 2 + (c[1] - 5) ** 2,
            lambda: (bit(8), bit(8)),
            lambda c: (c[0], bit(8)),
            lambda a, b: (a[0], b[1]),
            population=10, parents=4, iterations=50, generator=draws,
        )  # fmt: skip
        assert found.best == (3, 5)
        assert len(tried) == len(set(tried)) <= 64

    def test_goes_where_random_search_does_not(self):
        """Of 40 bits all are to be 1: of 400 random ones, the best has some 30."""
        draws = seeded()

        def fresh():
            return tuple(torch.randint(2, (40,), generator=draws).tolist())

        def mutated(bits):
            flip = torch.rand(40, generator=draws) < 0.05
            return tuple(int(bit != f) for bit, f in zip(bits, flip.tolist(), strict=True))

        def crossed(a, b):
            coins = torch.randint(2, (40,), generator=draws).tolist()
            return tuple(p if coin else q for p, q, coin in zip(a, b, coins, strict=True))

        def reached(*make):
            sizes = {"population": 20, "parents": 5, "iterations": 20}
            found = elitist(lambda bits: -sum(bits), fresh, *make, **sizes, generator=draws)
            return sum(found.best)

        chance = max(sum(fresh()) for _ in range(400))
        assert chance <= 32
        assert reached(mutated, crossed) >= 37
        assert reached(mutated, lambda a, b: fresh()) > chance
        assert reached(lambda a: fresh(), crossed) > chance

    @pytest.mark.parametrize("wrong", [{"iterations": 2.5}, {"population": 8.5}, {"parents": 1}])
    def test_refuses_sizes_that_are_none(self, wrong):
        with pytest.raises(ValueError, match="need whole numbers, 2 <= parents <= population"):
            elitist(sum, tuple, tuple, tuple, generator=seeded(), **wrong)


class TestSpace:
    """Children compared with their parents, where no budget repairs them."""

    def space(self, mutate=0.1):
        net = nets.mlp([2, *[60] * 50, 2])
        widths = Space(net, groups(net), 0.0, "macs", (2,), SCALES, mutate, seeded())
        return widths, [widths.fresh() for _ in range(40)]

    @pytest.mark.parametrize("mutate", [0.0, 0.1, 0.5, 1.0])
    def test_a_mutant_differs_in_the_share_asked_for(self, mutate):
        space, parents = self.space(mutate)
        same = [a == b for p in parents for a, b in zip(p, space.mutated(p), strict=True)]
        drawn_again = 1 / len(SCALES)
        assert 1 - sum(same) / 2000 == pytest.approx(mutate * (1 - drawn_again), abs=0.04)

    def test_a_crossing_takes_half_of_each_parent(self):
        space, parents = self.space()
        for a, b in zip(parents, parents[1:], strict=False):
            rows = list(zip(a, b, space.crossed(a, b), strict=True))
            assert all(child in (p, q) for p, q, child in rows)
            from_a = [child == p for p, q, child in rows if p != q]
            assert 0.2 < sum(from_a) / len(from_a) < 0.8

    def test_a_chance_is_one(self):
        for bad in (-0.1, 1.5, float("nan")):
            with pytest.raises(ValueError, match="is a chance, in"):
                self.space(bad)
