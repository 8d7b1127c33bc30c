"""LeGR: a global ranking of filters that is learned."""

from itertools import product

import planted
import pytest
import torch
import torch.nn.functional as F
import training
from learning import first, seeded
from torch import nn

from splinelib import cost, nets, surgery
from splinelib.pruning.budget import allowed, macs_by_width
from splinelib.pruning.legr import Judge, legr, picker, ranked, squared_norms
from splinelib.pruning.memory import Memory
from splinelib.surgery import group_mask, groups


def two_scales():
    """A network that uses half of each hidden layer, and the norms that hide it.

    In each layer the used units have the larger norms; but all those of the first are smaller than
    any of the second, because its outputs were scaled down and its readers up.
    """
    net = planted.network("mlp")
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight /= layer.weight.norm(dim=1, keepdim=True)
            layer.weight[:4] *= 2
        for parameter in net[4].parameters():
            parameter *= 100  # sure of its labels: whoever changes them pays
    net = planted.important(planted.important(net, "0", range(4)), "2", range(4))
    with torch.no_grad():  # dead inputs had norm, too
        net[2].weight *= torch.tensor([2.0] * 4 + [1.0] * 4)[:, None] / net[2].weight.norm(
            dim=1, keepdim=True
        )
    for unit in range(8):
        net = planted.rescaled(net, "0", unit, 0.5)
    x, _ = planted.inputs("mlp", 400)
    return net, x, net(x).argmax(1)


class TestLegr:
    search = {"population": 12, "sample": 4, "generations": 60, "steps": 0, "held": 0.5}

    def test_learns_the_maps_that_undo_a_scaling_of_layers(self):
        net, x, y = two_scales()
        found = groups(net)
        by_norm = group_mask(
            net, found, picker(net, found, 0.5, "units", (6,))(squared_norms(net, found))
        )
        learned = legr(net, 0.5, x, y, **self.search)
        assert planted.removed_units(by_norm, "0") > {4, 5, 6, 7}  # useful ones, too
        for layer in ("0", "2"):
            assert planted.removed_units(learned, layer) == {4, 5, 6, 7}
        assert torch.equal(learned.apply(net)(x).argmax(1), y)

    @pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.8])
    def test_meets_each_budget_exactly(self, ratio):
        net, (x, y) = planted.network("convnet"), planted.inputs("convnet", 20)
        search = {"population": 2, "sample": 1, "generations": 3, "steps": 1, "batch": 8}
        mask = legr(net, ratio, x, y, **search)
        kept = sum(int(planted.kept_units(mask, name).sum()) for name in groups(net))
        assert kept == allowed(ratio, 14)
        mask = legr(net, ratio, x, y, budget="macs", **search)
        shape = planted.SHAPES["convnet"]
        assert cost.macs(surgery.cut(net, mask).net, shape) <= (1 - ratio) * cost.macs(net, shape)

    @pytest.mark.parametrize("residual", ["inner", "select", "joint"])
    def test_counts_the_channels_of_residual_networks(self, residual):
        net, (x, y) = planted.network("preresnet"), planted.inputs("preresnet", 20)
        search = {"population": 1, "sample": 1, "generations": 2, "steps": 1, "batch": 8}
        mask, found = legr(net, 0.3, x, y, residual=residual, **search), groups(net, residual)
        kept = 0
        for group in found.values():
            entry = mask.entries[f"{(group.norms if group.gate else group.writers)[0]}.weight"]
            kept += int(entry.reshape(len(entry), -1).any(1).sum())
        assert kept == allowed(0.3, sum(group.width for group in found.values()))
        assert (surgery.cut(net, mask).net(x) - mask.apply(net)(x)).abs().max() < 1e-12

    @pytest.mark.parametrize("form", ["mlp", "convnet"])
    def test_takes_no_more_channels_than_the_multiply_adds_ask_for(self, form):
        net, shape = planted.network(form), planted.SHAPES[form]
        found = groups(net)
        norms, count = squared_norms(net, found), macs_by_width(net, found, shape)
        maps = torch.tensor([[1.0, 0.0], [3.0, -1.0]], dtype=torch.float64)
        for ratio in (0.0, 0.2, 0.5, 0.7):
            scores = ranked(norms, maps)
            keep = picker(net, found, ratio, "macs", shape)(scores)
            widths = {name: int(kept.sum()) for name, kept in keep.items()}
            assert count(widths) <= allowed(ratio, count({}))
            gone = [(scores[n][k], n) for n in keep for k in (~keep[n]).nonzero().flatten()]
            if gone:  # with the last one back, it is too dear
                name = max(gone)[1]
                assert count({**widths, name: widths[name] + 1}) > allowed(ratio, count({}))

    def test_says_what_it_needs(self):
        net, (x, y) = planted.network("mlp"), planted.inputs("mlp", 20)
        with pytest.raises(ValueError, match="out of reach"):
            legr(net, 0.99, x, y, budget="macs", **self.search)
        with pytest.raises(ValueError, match="legr looks at data"):
            legr(net, 0.5)
        with pytest.raises(ValueError, match="some to judge by"):
            legr(net, 0.5, x, y, held=0.01)
        with pytest.raises(ValueError, match="budget is 'flops'"):
            legr(net, 0.5, x, y, budget="flops")

    def test_norms_are_squared_and_see_torchs_own_pruning(self):
        net = nets.by_hand(([[3, 4], [1, 0]], [5, 6]), ([[1, 1]], [0]))
        assert squared_norms(net, groups(net))["0"].tolist() == [25, 1]
        torch.nn.utils.prune.custom_from_mask(net[0], "weight", torch.tensor([[0, 1], [1, 1]]))
        net[0].weight_orig.data[0, 0] = 9.0  # no forward pass since: `weight` itself is stale
        assert squared_norms(net, groups(net))["0"].tolist() == [16, 1]

    def test_the_fitness_is_the_held_out_loss_after_the_steps(self):
        """Written out, with BatchNorm by the batch while training and by its statistics after."""
        net, (x, y) = planted.network("convnet"), planted.inputs("convnet")
        found, settings = groups(net), {"steps": 3, "lr": 0.1, "batch": 4}
        judge = Judge(net, found, x, y, 0.25, **settings, generator=seeded())
        keep = first(found, dict.fromkeys(found, 2))
        small = surgery.cut(net, group_mask(net, found, keep)).net
        order = torch.randperm(len(x), generator=(generator := seeded()))
        seen, rest = order[: round(len(x) / 4)], order[round(len(x) / 4) :]
        optimizer = torch.optim.SGD(small.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        for rows in torch.randint(len(rest), (3, 4), generator=generator):
            optimizer.zero_grad()
            F.cross_entropy(small.train()(x[rest[rows]]), y[rest[rows]]).backward()
            optimizer.step()
        loss = F.cross_entropy(small.eval()(x[seen]), y[seen])
        assert judge(keep) == pytest.approx(loss.item(), rel=1e-9)

    def test_goes_on_after_an_interruption_without_trying_again(self, tmp_path):
        net, (x, y) = planted.network("convnet"), planted.inputs("convnet", 20)
        search = {"population": 2, "sample": 1, "generations": 6, "steps": 1, "batch": 8}
        whole = legr(net, 0.5, x, y, **search)
        with pytest.raises(training.InterruptedRunError):
            legr(net, 0.5, x, y, **search, memory=training.Interrupted(tmp_path / "a.pt", 2))
        memory = Memory(tmp_path / "a.pt", every=0)
        assert legr(net, 0.5, x, y, **search, memory=memory) == whole
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Judge, "_loss", lambda *_: pytest.fail("tried again"))
            assert legr(net, 0.5, x, y, **search, memory=memory) == whole
        with pytest.raises(ValueError, match="steps is 2, in the checkpoint 1"):
            legr(net, 0.5, x, y, **{**search, "steps": 2}, memory=memory)

    def test_a_memory_of_other_groups_is_refused(self, tmp_path):
        net, (x, y) = planted.network("mlp"), planted.inputs("mlp", 20)
        search = {"population": 1, "sample": 1, "generations": 2, "steps": 1, "batch": 8}
        legr(net, 0.5, x, y, layers=["0"], **search, memory=Memory(tmp_path / "a.pt", every=0))
        memory = Memory(tmp_path / "a.pt", every=0)
        with pytest.raises(ValueError, match=r"groups is .*'2'.*, in the checkpoint .*'0'"):
            legr(net, 0.5, x, y, layers=["2"], **search, memory=memory)

    def test_what_is_known_has_short_names_and_no_two_choices_share_one(self):
        net, (x, y) = planted.network("mlp"), planted.inputs("mlp", 20)
        settings = {"steps": 0, "lr": 0.1, "batch": 4, "generator": seeded()}
        judge = Judge(net, groups(net), x, y, 0.5, **settings)
        rows = [
            torch.tensor([True, *bits, *[True] * 4]) for bits in product((True, False), repeat=3)
        ]
        for a, b in product(rows, repeat=2):
            judge({"0": a, "2": b})
            judge({"0": a, "2": b.clone()})
        assert len(judge.known.values) == 64
        assert {len(key) for key in judge.known.values} == {16}

    @pytest.mark.parametrize("wrong", [
        {"steps": 2.5}, {"steps": -1}, {"batch": 0}, {"lr": 0}, {"lr": float("nan")},
    ])  # fmt: skip
    def test_settings_of_the_short_trainings(self, wrong):
        net, (x, y) = planted.network("mlp"), planted.inputs("mlp", 20)
        with pytest.raises(ValueError, match="need whole numbers, from 0 and from 1 on"):
            legr(net, 0.5, x, y, **{**self.search, **wrong})

    def test_no_mask_without_a_finite_loss(self):
        net, (x, y) = planted.network("mlp"), planted.inputs("mlp", 20)
        search = {"population": 2, "sample": 1, "generations": 3, "batch": 8}
        with pytest.raises(ValueError, match="none of the 3 candidates .* lower rate"):
            legr(net, 0.5, x, y, **search, steps=30, lr=1e6)
        x[3, 2] = torch.nan
        with pytest.raises(ValueError, match="every weight and pixel a number first"):
            legr(net, 0.5, x, y, **search, steps=30, held=0.5)

    def test_dropout_draws_nothing(self):
        net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))
        x, y = torch.randn(64, 4, generator=seeded()), torch.arange(64) % 2
        sizes = {"population": 4, "sample": 2, "generations": 8, "steps": 3}
        state, found = torch.get_rng_state(), []
        for seed in range(3):
            torch.manual_seed(seed)
            found.append(legr(net, 0.5, x, y, **sizes))
        assert found[0] == found[1] == found[2]
        torch.set_rng_state(state)
        legr(net, 0.5, x, y, **sizes)
        assert torch.equal(torch.get_rng_state(), state)

    def test_leaves_the_network_and_torchs_random_state_alone(self):
        net, (x, y) = planted.network("convnet"), planted.inputs("convnet", 20)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        state = torch.get_rng_state()
        search = {"population": 2, "sample": 1, "generations": 3, "steps": 2, "batch": 8}
        masks = [legr(net, 0.5, x, y, **search) for _ in range(2)]
        assert masks[0] == masks[1]
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
