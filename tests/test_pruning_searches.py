"""Methods that search: LeGR, MetaPruning, early birds, rounds of slimming, layers one by one."""

import copy
from functools import cache, partial
from itertools import product

import learning
import numpy as np
import planted
import pytest
import torch
import torch.nn.functional as F
import training
from torch import nn
from torchvision import models

from splinelib import cost, nets, surgery
from splinelib.chain import chain
from splinelib.data import Batches, ImageSet
from splinelib.earlybird import Rule, mask_codes
from splinelib.pruning.budget import allowed, macs_by_width
from splinelib.pruning.eb_spline import eb_spline
from splinelib.pruning.eb_train import eb_train
from splinelib.pruning.evolution import aging, elitist
from splinelib.pruning.iterative import iterative
from splinelib.pruning.l1 import l1
from splinelib.pruning.legr import Judge, legr, picker, ranked, squared_norms
from splinelib.pruning.memory import Memory
from splinelib.pruning.metapruning import judged, metapruning
from splinelib.pruning.pruningnet import Hyper, PruningNet, first_channels
from splinelib.pruning.slimming import slimming
from splinelib.pruning.spline import spline
from splinelib.pruning.weights import first_epoch, put_back, start
from splinelib.surgery import group_mask, groups
from splinelib.train import Recipe, Run, train, trainer
from splinelib.train.layerwise import Stage, layerwise

KINDS = [("mlp", "inner"), ("convnet", "inner")]
KINDS += [("preresnet", residual) for residual in ("inner", "select", "joint")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def first(found, widths):
    return {name: torch.arange(found[name].width) < width for name, width in widths.items()}


class TestBudget:
    @pytest.mark.parametrize(("form", "residual"), [kind for kind in KINDS if "select" not in kind])
    def test_equals_the_count_of_the_network_that_surgery_leaves(self, form, residual):
        net, shape = planted.network(form), planted.SHAPES[form]
        found, random = groups(net, residual), np.random.RandomState(0)
        count = macs_by_width(net, found, shape)
        assert count({}) == cost.macs(net, shape)
        for _ in range(3):
            widths = {name: random.randint(1, group.width + 1) for name, group in found.items()}
            small = surgery.cut(net, group_mask(net, found, first(found, widths))).net
            assert count(widths) == cost.macs(small, shape)

    def test_refuses_selections(self):
        net = planted.network("preresnet")
        with pytest.raises(ValueError, match="'stage1.0.bn1' is a selection"):
            macs_by_width(net, groups(net, "select"), planted.SHAPES["preresnet"])

    def test_refuses_widths_that_a_group_cannot_have(self):
        net = nets.mlp([2, 4, 1])
        count = macs_by_width(net, groups(net), (2,))
        for widths in ({"0": 0}, {"0": 5}, {"2": 1}):
            with pytest.raises(ValueError, match="at least one channel"):
                count(widths)


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

    def test_refuses_sizes_that_do_not_fit(self):
        for sizes in ({"population": 4, "sample": 5}, {"generations": 3}, {"mutate": 0.0}):
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


def radial(n=500, d=12):
    """Points ``(n, d)`` labelled by their distance from 0: the first layer needs d + 1 directions.

    The second has little more to do than to add up.
    """
    x = torch.randn(n, d, generator=seeded())
    size = x.square().sum(1)
    return x, (size > size.median()).long()


def plain_fit(x, y, steps, lr=0.01):
    """A ``fit`` for points: Adam on all of them."""

    def fit(net, label="", **settings):
        net.train()
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        return Run(net.eval(), [], 1, False, 0.0)

    return fit


def statistics(net):
    """The BatchNorms of a network."""
    return [m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]


def cropped(net, maker, widths):
    """The small network that surgery makes of the weights of a PruningNet, BatchNorms as new."""
    full = copy.deepcopy(net)
    made = {**maker.weights(widths), **dict(maker.net.named_parameters())}
    with torch.no_grad():
        for name, values in made.items():
            full.get_parameter(name).copy_(values)
    for norm in statistics(full):
        norm.reset_parameters()
    named = dict(zip(maker.found, widths.tolist(), strict=True))
    return surgery.cut(full, first_channels(net, maker.found, named)).net


def outsider():
    """A network that is no chain and has convolutions of kinds that the repository does not use."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)
            self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6, padding_mode="circular")
            self.last = nn.Conv2d(6, 4, 3, stride=1, dilation=2, padding=2)

        def forward(self, z):
            inside = F.leaky_relu(self.norm(self.first(z)), 0.1)
            return z + self.last(F.relu(self.depth(inside)))

    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), Block(), *head).double().eval()


def narrow(net):
    """A network of torchvision with a tenth of the channels of each group."""
    return surgery.cut(net, l1(net, 0.9, residual="joint", scope="layerwise")).net.double()


NETWORKS = {
    **{form: partial(planted.network, form) for form in ("mlp", "convnet")},
    "preresnet20": lambda: nets.preresnet(20, 3, width=0.25, dtype=torch.float64),
    "resnet18": lambda: narrow(nets.resnet(18, 3, small=True)),
    "bottleneck": lambda: narrow(models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], 3)),
    "outsider": outsider,
}
NETWORKS = {name: cache(make) for name, make in NETWORKS.items()}
WIDE = [(name, "inner") for name in NETWORKS]
WIDE += [(name, "joint") for name in ("preresnet20", "bottleneck")]


def pictures(name, b=6):
    shape = planted.SHAPES.get(name, (3, 16, 16))
    return torch.randn(b, *shape, generator=seeded(), dtype=torch.float64), torch.arange(b) % 3


def colour_noise(n=12):
    """Random images in colour, in batches of 6."""
    pixels = torch.randint(256, (n, 3, 16, 16), generator=seeded()).to(torch.uint8)
    kept = ImageSet("noise", pixels, torch.arange(n) % 3, tuple("abc"), (0.5,) * 3, (0.3,) * 3)
    return Batches(kept, 6)


class TestPruningNet:
    @pytest.mark.parametrize(("name", "residual"), WIDE)
    def test_gives_the_numbers_of_the_network_cropped_to_any_widths(self, name, residual):
        net, (x, _) = NETWORKS[name](), pictures(name)
        maker, random = PruningNet(net, hidden=4, residual=residual), np.random.RandomState(0)
        for _ in range(2):
            widths = torch.tensor([random.randint(1, n + 1) for n in maker.whole.tolist()])
            small = cropped(net, maker, widths).train()
            assert (maker.train().run(x, widths) - small(x)).abs().max() < 1e-10

    @pytest.mark.parametrize("name", NETWORKS)
    def test_makes_the_weights_of_all_layers_on_a_group_and_of_no_other(self, name):
        net = NETWORKS[name]()
        maker, found = PruningNet(net, hidden=4), groups(net)
        on = {path for at in found.values() for path in at.writers}
        on |= {reader.layer for at in found.values() for reader in at.readers}
        made, own = maker.weights(maker.whole), dict(maker.net.named_parameters())
        layers = {n for n, m in net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
        assert {parameter.rpartition(".")[0] for parameter in made} == on
        assert {parameter.rpartition(".")[0] for parameter in own} == layers - on
        for parameter, values in {**made, **own}.items():
            assert values.shape == net.get_parameter(parameter).shape

    def test_widths_are_drawn_anew_in_training_and_whole_in_evaluation(self):
        net, (x, _) = planted.network("mlp"), planted.inputs("mlp")
        maker = PruningNet(net)
        drawn = torch.stack([maker._draw() for _ in range(300)])
        assert (drawn.min(), drawn.max()) == (1, 8)
        assert len(drawn.unique(dim=0)) > 30
        assert not torch.equal(maker(x), maker(x))
        assert torch.equal(maker.eval()(x), maker.run(x, maker.whole))

    def test_the_widths_on_either_side_change_the_weights_themselves(self):
        maker = PruningNet(planted.network("mlp"))
        narrow, wide = (maker.weights(torch.tensor([n, 8])) for n in (2, 8))
        assert not torch.equal(narrow["0.weight"][:2], wide["0.weight"][:2])
        assert not torch.equal(narrow["2.weight"], wide["2.weight"])
        assert torch.equal(narrow["4.weight"], wide["4.weight"])  # it is not on this group

    def test_a_hyper_network_has_one_hidden_layer_of_relus(self):
        hyper = Hyper(nn.Linear(3, 2).double(), 5, seeded())
        shares = torch.tensor([0.4, 0.7], dtype=torch.float64)
        h = (hyper.fc1.weight @ shares + hyper.fc1.bias).clamp(min=0)
        flat = hyper.fc2.weight @ h + hyper.fc2.bias
        weight, bias = hyper(shares)
        assert torch.allclose(weight, flat[:6].reshape(2, 3), atol=1e-14)
        assert torch.allclose(bias, flat[6:], atol=1e-14)
        assert (hyper.fc1.weight @ shares + hyper.fc1.bias < 0).any()

    def test_leaves_the_network_alone(self):
        net, (x, _) = planted.network("convnet"), planted.inputs("convnet")
        before, state = net(x), copy.deepcopy(net.state_dict())
        PruningNet(net).train()(x).sum().backward()
        assert torch.equal(net(x), before)
        assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())

    def test_says_what_it_cannot_take(self):
        with pytest.raises(ValueError, match="'stage1.0.bn1' is a selection"):
            PruningNet(planted.network("preresnet"), residual="select")
        with pytest.raises(ValueError, match="no channels that can be removed"):
            PruningNet(nn.Sequential(nn.Linear(2, 2)))
        with pytest.raises(ValueError, match="shares in"):
            PruningNet(planted.network("mlp"), scales=(0.0, 1.0))
        net = planted.network("mlp")
        nn.utils.parametrizations.orthogonal(net[4])
        with pytest.raises(ValueError, match=r"weight of '4' is computed from others"):
            PruningNet(net)


class TestMetapruning:
    small = {"population": 6, "parents": 3, "iterations": 3}

    @pytest.mark.parametrize("name", ["convnet", "preresnet20", "bottleneck"])
    def test_a_choice_is_judged_by_the_small_network_with_statistics_of_its_own(self, name):
        """Error and loss of what surgery cuts, whose BatchNorms saw these images and no others."""
        net, (x, y) = NETWORKS[name](), pictures(name, 30)
        maker = PruningNet(net)
        maker.train()(x + 5)  # statistics of other images
        widths = (maker.whole // 2 + 1).tolist()
        small = cropped(net, maker, torch.tensor(widths)).train()
        for norm in statistics(small):
            norm.momentum = None
        small(x)
        logits = small.eval()(x)
        wrong = (logits.argmax(1) != y).double().mean()
        for _ in range(2):  # what was judged before does not count
            error, loss = judged(maker, tuple(widths), x, y)
            assert error == wrong.item()
            assert loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-9)
            judged(maker, tuple(maker.whole.tolist()), x, y)

    def test_error_comes_before_loss(self):
        tried = {(1, 7): (0.0, 9.0), (4, 4): (0.5, 0.1), (5, 3): (0.0, 8.0)}
        found = elitist(
            tried.get, iter(tried).__next__, lambda a: a, lambda a, b: a,
            population=3, parents=2, iterations=1, generator=seeded(),
        )  # fmt: skip
        assert found.best == (5, 3)

    @pytest.mark.parametrize(("name", "residual", "budget"), [
        ("preresnet20", "joint", "macs"), ("preresnet20", "inner", "units"),
        ("resnet18", "inner", "macs"), ("bottleneck", "inner", "units"),
        ("outsider", "inner", "units"),
    ])  # fmt: skip
    def test_runs_on_residual_networks(self, name, residual, budget):
        """The engine trains, the evolution searches, surgery cuts to the widths of the budget."""
        net, (x, y) = copy.deepcopy(NETWORKS[name]()).float(), pictures(name, 12)
        fit = trainer(colour_noise(), Recipe(epochs=1, batch=6, lr=0.01))
        small = {"population": 2, "parents": 2, "iterations": 2, "hidden": 4}
        more = {"budget": budget, "residual": residual}
        ticket = metapruning(net, 0.5, fit, x.float(), y, **more, **small)
        found, cut = groups(net, residual), surgery.cut(*ticket).net
        kept = [planted.kept_units(ticket.mask, at.writers[0]) for at in found.values()]
        assert all(k.tolist() == sorted(k.tolist(), reverse=True) for k in kept)
        assert cut(x.float()).shape == (12, 3)
        if budget == "units":
            total = sum(at.width for at in found.values())
            assert sum(int(k.sum()) for k in kept) == allowed(0.5, total)
        else:
            assert cost.macs(cut, (3, 16, 16)) <= 0.5 * cost.macs(net, (3, 16, 16))
        assert training.gap(net, ticket.net) == 0

    def test_goes_on_after_an_interruption(self, tmp_path):
        net, (x, y) = planted.network("convnet"), planted.inputs("convnet", 12)
        search = [net, 0.5, learning.fit("convnet"), x, y]
        whole = metapruning(*search, **self.small).mask
        memory = training.Interrupted(tmp_path / "a.pt", 3)
        with pytest.raises(training.InterruptedRunError):
            metapruning(*search, **self.small, memory=memory)
        memory = Memory(tmp_path / "a.pt", every=0)
        assert metapruning(*search, **self.small, memory=memory).mask == whole
        before = (tmp_path / "a.pt").read_bytes()  # what is known is not judged again
        assert metapruning(*search, **self.small, memory=memory).mask == whole
        assert (tmp_path / "a.pt").read_bytes() == before

    def test_narrows_the_layer_that_has_little_to_do(self):
        x, y = radial()
        net = nets.mlp([12, 16, 16, 2], dtype=torch.float32)
        ticket = metapruning(net, 0.5, plain_fit(x, y, 250), x, y, **self.small)
        widths = [len(kept) for kept in list(surgery.plan(*ticket).kept.values())[:2]]
        assert sum(widths) == 16
        assert widths[0] >= widths[1] + 4

    @pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.75])
    def test_widths_meet_the_budget(self, ratio):
        net, (x, y) = planted.network("convnet"), planted.inputs("convnet", 12)
        fit = plain_fit(x, y, 1)
        ticket = metapruning(net, ratio, fit, x, y, **self.small)
        kept = [planted.kept_units(ticket.mask, name) for name in groups(net)]
        assert sum(int(k.sum()) for k in kept) == allowed(ratio, 14)
        assert all(k.tolist() == sorted(k.tolist(), reverse=True) for k in kept)  # the first ones
        ticket = metapruning(net, ratio, fit, x, y, budget="macs", **self.small)
        left = cost.macs(surgery.cut(*ticket).net, planted.SHAPES["convnet"])
        assert left <= (1 - ratio) * cost.macs(net, planted.SHAPES["convnet"])

    def test_trains_by_the_engine_and_keeps_the_initial_weights(self):
        net = nets.build("convnet", 3, in_shape=(1, 6, 6), channels=[4], kernels=[3])
        source = training.source(dtype=torch.float32)
        calls = []

        def fit(maker, label, **settings):
            calls.append((label, settings["recipe"]))
            return train(maker, source, **settings)

        x, y = next(source.epoch(0))
        options = {"recipe": training.SHORT, "population": 2, "parents": 2, "iterations": 1}
        ticket = metapruning(net, 0.5, fit, x, y, **options)
        assert calls == [("pruningnet", training.SHORT)]
        assert training.gap(net, ticket.net) == 0

    def test_says_what_it_needs(self):
        net, (x, y) = planted.network("mlp"), planted.inputs("mlp", 12)
        with pytest.raises(ValueError, match="needs fit"):
            metapruning(net, 0.5)
        with pytest.raises(ValueError, match="looks at data"):
            metapruning(net, 0.5, plain_fit(x, y, 1))
        with pytest.raises(ValueError, match="out of reach"):
            metapruning(net, 0.99, plain_fit(x, y, 1), x, y, **self.small)
        with pytest.raises(ValueError, match="one iteration"):
            metapruning(net, 0.5, plain_fit(x, y, 1), x, y, iterations=0)


def normed(channels=4, dtype=torch.float64):
    return nets.convnet((1, 6, 6), (channels,), (3,), 3, batch_norm=True, dtype=dtype)


class TestEarlyBirds:
    recipe = Recipe(epochs=6, batch=16, lr=0.05, drops=(3,), slimming=1e-3)

    def fit(self):
        return trainer(training.source(), self.recipe)

    def probe(self):
        return next(training.source().epoch(1))[0]

    @pytest.mark.parametrize(("compare", "epoch"), [("consecutive", 2), ("lookback", 4)])
    def test_draw_the_ticket_when_the_rule_fires(self, compare, epoch):
        net, rule = normed(), Rule(compare, epoch, 2.0)  # it fires as soon as it may
        stopped = self.fit()(net, until=training.Counter(yes_at=epoch + 1)).net
        drawn = {
            eb_train(net, 0.5, self.fit(), rule=rule): slimming(stopped, 0.5),
            eb_spline(net, 0.5, self.fit(), self.probe(), rule=rule): spline(stopped, 0.5),
        }
        for ticket, mask in drawn.items():
            assert (ticket.epoch, ticket.fired) == (epoch, True)
            assert training.gap(ticket.net, stopped) == 0
            assert ticket.mask == mask

    def test_tell_when_nothing_fired(self):
        net, late = normed(), Rule("lookback", 7, 2.0)  # it would fire after seven epochs
        end = self.fit()(net).net
        ticket = eb_spline(net, 0.5, self.fit(), self.probe(), rule=late)
        assert (ticket.epoch, ticket.fired) == (6, False)
        assert training.gap(ticket.net, end) == 0
        assert ticket.mask == spline(end, 0.5)
        assert eb_train(net, 0.5, self.fit(), rule=late).fired is False

    def test_the_mask_distance_watches_the_masks_of_the_ratio(self):
        """Scales that trade places at one ratio only: another ratio has settled long before."""
        net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))

        def fit(net, label, until):
            for epoch in range(9):
                order = [0.1, 0.2, 0.8, 0.9] if epoch % 2 else [0.2, 0.1, 0.8, 0.9]
                net[1].weight.data.copy_(torch.tensor(order))
                if until.update(net):
                    break
            return Run(net.eval(), [], epoch, until.fired is not None, 0.0)

        rule = Rule("lookback", 4, 0.1)
        assert eb_train(net, 0.5, fit, rule=rule).epoch == 4
        assert not eb_train(net, 0.25, fit, rule=rule).fired
        assert mask_codes(net, 0.5).count == 1

    def test_labels_and_options_are_passed_on(self):
        net, told = normed(), []

        def fit(net, label, **settings):
            told.append(label)
            return self.fit()(net, **settings)

        rule = Rule("consecutive", 1, 2.0)
        eb_train(net, 0.5, fit, rule=rule, label="search")
        ticket = eb_spline(net, 0.5, fit, self.probe(), rule=rule, scope="global", bias="beta")
        assert told == ["search", "dense"]
        assert ticket.mask == spline(ticket.net, 0.5, scope="global", bias="beta")

    def test_how_the_codes_are_compared_is_passed_on(self, monkeypatch):
        made = []

        class Spy:
            def __init__(self, probe, rule, **options):
                made.append(options)
                raise InterruptedError

        for module in (eb_spline, eb_train):
            monkeypatch.setitem(module.__globals__, "EarlyBird", Spy)
        net, x = planted.network("convnet"), planted.inputs("convnet")[0]
        with pytest.raises(InterruptedError):
            eb_spline(net, 0.5, print, x, weight="element", features=7)
        with pytest.raises(InterruptedError):
            eb_train(net, 0.5, print)
        assert made == [{"weight": "element", "features": 7}, {"weight": "element"}]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"scope": "both"}, "scope is 'both'"),
            ({"criterion": "eq6"}, "criterion is 'eq6'"),
            ({"rho": -1}, "rho is -1"),
            ({"scope": "global", "ratio": 0.999}, "may go"),
            ({"layers": ["x"]}, "layers names 'x'"),
        ],
    )
    def test_bad_options_are_told_before_the_training(self, options, message):
        net, x = planted.network("convnet"), planted.inputs("convnet")[0]
        ratio = options.pop("ratio", 0.5)

        def fit(*_args, **_options):
            pytest.fail("trained first")

        with pytest.raises(ValueError, match=message):
            eb_spline(net, ratio, fit, x, **options)
        if not {"criterion", "rho"} & options.keys():
            for method in (eb_train, iterative):
                with pytest.raises(ValueError, match=message):
                    method(net, ratio, fit, **options)

    def test_say_what_they_need(self):
        with pytest.raises(ValueError, match="needs fit"):
            eb_train(normed(), 0.5)
        with pytest.raises(ValueError, match="needs probe"):
            eb_spline(normed(), 0.5, self.fit())
        with pytest.raises(ValueError, match="ratio is 1"):
            eb_spline(normed(), 1, self.fit(), self.probe())


class TestIterative:
    def test_counts_are_exact_after_each_round(self):
        net, seen = normed(10), []

        def fit(net, label, **settings):
            seen.append((label, net[0].out_channels))
            return train(net, training.source(), training.SHORT)

        ticket = iterative(net, 0.7, fit, rounds=4)
        assert seen == [("round 1", 10), ("round 2", 8), ("round 3", 6), ("round 4", 5)]
        assert planted.kept_units(ticket.mask, "0").sum() == 3
        small = surgery.cut(*ticket).net
        gone = ticket.net[1].weight == 0
        assert gone.sum() == 5  # those of the rounds before the last; none of them came back
        assert not (planted.kept_units(ticket.mask, "0") & gone).any()
        x = next(training.source().epoch(0))[0]
        assert (small(x) - ticket.mask.apply(ticket.net)(x)).abs().max() < 1e-12

    def test_a_later_round_sees_what_the_training_before_made_of_the_rest(self):
        net = normed(6)
        net[1].weight.data.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))

        def fit(net, label, **settings):
            if label == "round 2":  # 0 and 1 have gone; of the rest, the largest withers
                net[1].weight.data[-1] = 0.01
            return Run(net.eval(), [], 1, False, 0.0)

        ticket = iterative(net, 0.5, fit, rounds=2)
        assert planted.removed_units(slimming(net, 0.5), "0") == {0, 1, 2}
        assert planted.removed_units(ticket.mask, "0") == {0, 1, 5}
        assert ticket.net[1].weight[5] == 0.01

    def test_one_round_is_slimming(self):
        net = planted.network("preresnet")
        stay = lambda net, label: Run(net, [], 0, False, 0.0)  # noqa: E731
        for residual, scope in product(("inner", "select"), ("global", "layerwise")):
            options = {"residual": residual, "scope": scope}
            for rounds in (1, 3):
                ticket = iterative(net, 0.4, stay, rounds=rounds, **options)
                assert ticket.mask == slimming(net, 0.4, **options)

    def test_says_what_it_needs(self):
        with pytest.raises(ValueError, match="needs fit"):
            iterative(normed(), 0.5)
        with pytest.raises(ValueError, match="at least one round"):
            iterative(normed(), 0.5, lambda net: None, rounds=0)


class TestWeights:
    def trained(self, form):
        initial = planted.network(form)
        net = planted.settled(planted.network(form, seed=1), seeded(2))
        return net, initial, surgery.plan(net, l1(net, 0.5))

    @pytest.mark.parametrize("form", planted.FORMS)
    def test_inherit_and_rewind_are_slices(self, form):
        net, initial, plan = self.trained(form)
        for weights, whole in (("inherit", net), ("rewind", initial)):
            small = start(net, initial, plan, weights)
            for path in plan.sizes:
                kept, read = plan.kept[path], plan.read[path]
                part, full = small.get_submodule(path), whole.get_submodule(path)
                rows = full.weight[kept]
                assert torch.equal(part.weight, rows if rows.ndim == 1 else rows[:, read])
                if full.bias is not None:
                    assert torch.equal(part.bias, full.bias[kept])
                if isinstance(full, nn.BatchNorm2d):
                    assert torch.equal(part.running_var, full.running_var[kept])

    def test_matrix_of_weights_and_schedules(self):
        """Each of the six ways starts where it says, and trains as long as it says."""
        initial = normed()
        fit = trainer(training.source(), training.SHORT)
        dense = fit(initial, until=training.Counter(yes_at=2))
        plan = surgery.plan(dense.net, slimming(dense.net, 0.5))
        ends = {}
        for weights, schedule in product(("inherit", "rewind", "reinit"), ("continue", "full")):
            small = start(dense.net, initial, plan, weights, seeded(), rule="fan-in")
            run = fit(small, first_epoch=first_epoch(dense.epoch, schedule))
            assert len(run.log) == {"continue": 2, "full": 3}[schedule]
            assert run.log[0]["lr"] == {"continue": 0.025, "full": 0.05}[schedule]
            ends[weights, schedule] = run.net[0].weight
        for a, b in product(ends, ends):
            assert torch.equal(ends[a], ends[b]) == (a == b)

    @pytest.mark.parametrize(("name", "options", "laws"), [
        ("vgg16", {"width": 0.25}, ("fan-out", "0.01")),
        ("preresnet20", {}, ("fan-out", "uniform")),
        ("convnet", {"channels": (32, 64), "batch_norm": True}, ("fan-in", "fan-in")),
        ("mlp", {"in_shape": (1, 8, 8), "hidden": (64, 64)}, (None, "fan-in")),
    ])  # fmt: skip
    def test_reinit_draws_for_the_small_networks_own_widths(self, name, options, laws):
        net = nets.build(name, 10, generator=seeded(), **options)
        plan = surgery.plan(net, l1(net, 0.5))
        cut = start(net, net, plan)
        small = start(net, net, plan, "reinit", seeded(1), rule=name)
        for path, module in small.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.numel() > 1000:
                law = laws[isinstance(module, nn.Linear)]
                out, into = module.weight.shape[:2]
                pixels = module.weight[0, 0].numel()
                scale = {"fan-out": (2 / out / pixels) ** 0.5, "fan-in": (2 / into / pixels) ** 0.5}
                scale |= {"0.01": 0.01, "uniform": (3 * into * pixels) ** -0.5}
                assert float(module.weight.detach().std()) == pytest.approx(scale[law], rel=0.08)
                assert not torch.equal(module.weight, cut.get_submodule(path).weight)
        again, other = (start(net, net, plan, "reinit", seeded(seed), rule=name) for seed in (1, 2))
        assert training.gap(small, again) == 0 < training.gap(small, other)

    @pytest.mark.parametrize("name", nets.NAMES)
    def test_rules_of_our_networks_are_those_of_nets(self, name):
        """The rule draws layers of the deviations that the network itself begins with."""
        options = {
            "mlp": {"in_shape": (1, 8, 8), "hidden": (64, 64)},
            "convnet": {"in_shape": (1, 8, 8), "channels": (32, 64)},
        }
        net = nets.build(name, 50, generator=seeded(), **options.get(name, {}))
        whole = surgery.plan(net, l1(net, 0.0, scope="layerwise"))
        again = start(net, net, whole, "reinit", seeded(1), rule=name)
        for path, module in net.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.numel() > 2000:
                new = again.get_submodule(path)
                a, b = (float(m.weight.detach().std()) for m in (new, module))
                assert a == pytest.approx(b, rel=0.1)
                assert (new.bias is None) or bool((new.bias == 0).all() == (module.bias == 0).all())

    def test_reinit_by_torchs_own_rule_and_no_other_by_itself(self):
        net = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 20))
        plan = surgery.plan(net, l1(net, 0.5))
        small = start(net, net, plan, "reinit", rule="uniform")
        assert small[0].weight.abs().max() <= 20**-0.5 < 1.1 * small[0].weight.abs().max()
        assert small[2].weight.abs().max() <= 20**-0.5 < 1.1 * small[2].weight.abs().max()
        with pytest.raises(ValueError, match="has to be told how the network was drawn"):
            start(net, net, plan, "reinit")
        for bad in ({"weights": "random"}, {"weights": "reinit", "rule": "mine"}):
            with pytest.raises(ValueError, match="one of"):
                start(net, net, plan, **bad)

    def test_schedules(self):
        assert first_epoch(7) == 7
        assert first_epoch(None, "full") == 0
        with pytest.raises(ValueError, match="no epoch to go on from"):
            first_epoch(None)
        with pytest.raises(ValueError, match="schedule is 'half'"):
            first_epoch(1, "half")

    @pytest.mark.parametrize(("form", "residual"), KINDS)
    def test_put_back_undoes_a_cut(self, form, residual):
        net, other = planted.network(form), planted.network(form, seed=5)
        plan = surgery.plan(net, l1(net, 0.4, residual=residual))
        small = surgery.shrink(other, plan)
        back = put_back(small, plan, net)
        assert training.gap(surgery.shrink(back, plan), small) == 0
        for path in plan.sizes:
            weight, old = back.get_submodule(path).weight, net.get_submodule(path).weight
            gone = torch.ones(len(weight), dtype=torch.bool)
            gone[plan.kept[path]] = False
            assert torch.equal(weight[gone], old[gone])


def dots(n=400, size=14):
    """Images of two bright pixels in a row; the class is their distance: 2, 4, 6 or 8."""
    labels, pixels = torch.arange(n) % 4, torch.zeros(n, 1, 5, size, dtype=torch.uint8)
    row, place = torch.randint(1, 4, (n,), generator=seeded()), torch.rand(n, generator=seeded(1))
    left = 1 + (place * (size - 4 - 2 * labels)).long()
    for shift in (0, 2 * labels + 2):
        pixels[range(n), 0, row, left + shift] = 255
    return ImageSet("dots", pixels, labels, ("2", "4", "6", "8"), (0.0,), (1.0,))


class TestLayerwise:
    def test_classifiers_get_better_with_depth(self):
        """Layer l sees 2 l + 1 pixels at once, so it can tell l distances from all others."""
        net = nets.convnet((1, 5, 14), (8, 8, 8), (3, 3, 3), 4, pool=None, batch_norm=True)
        _, runs = layerwise(net.float(), Batches(dots(), 50), epochs=36, every=15, side=1)
        reached = [run.log[-1]["accuracy"] for run in runs]
        assert reached[0] < 0.55
        assert reached[0] + 0.05 < reached[1] < 0.8
        assert reached[1] + 0.05 < reached[2]

    def test_trains_one_layer_at_a_time(self):
        net, source = planted_chain(), training.source()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        stages = []

        def fit(stage, label, **settings):
            earlier = [value.clone() for value in stage.before.state_dict().values()]
            part = [value.clone() for value in stage.part.parameters()]
            run = train(stage, **settings)
            after = run.net.before.state_dict().values()
            assert all(torch.equal(a, b) for a, b in zip(earlier, after, strict=True))
            parts = zip(part, run.net.part.parameters(), strict=True)
            assert all(not torch.equal(a, b) for a, b in parts)
            stages.append((label, len(earlier), settings["recipe"]))
            return run

        trained, runs = layerwise(net, source, epochs=2, every=1, fit=fit)
        assert [(label, count) for label, count, _ in stages] == [
            ("layer 0", 0), ("layer 4", 7), ("layer 9", 14)
        ]  # fmt: skip
        recipe = stages[0][2]
        assert (recipe.drops, recipe.factor, recipe.weight_decay) == ((1,), 0.2, 5e-4)
        assert isinstance(runs[0].net, Stage)
        for name, value in net.state_dict().items():
            assert torch.equal(value, before[name])
            assert not torch.equal(value, trained.state_dict()[name])
        x = next(source.epoch(0))[0]
        assert torch.equal(trained(x), runs[-1].net(x))  # the last layer is its own classifier

    def test_defaults_are_the_sources(self):
        recipes = []

        def fit(stage, label, recipe, source):
            recipes.append(recipe)
            return Run(stage.eval(), [], 0, False, 0.0)

        layerwise(planted_chain(), training.source(), fit=fit)
        assert recipes[0] == Recipe(
            epochs=50, batch=16, lr=0.1, drops=(15, 30, 45), factor=0.2, weight_decay=5e-4
        )

    def test_settings_that_would_be_lost_are_refused(self):
        net, images = nets.build("mlp", 3, in_shape=(1, 6, 6), hidden=[4]), training.source()
        for wrong in ({"every": 0}, {"fit": print, "nonsense": 3}):
            with pytest.raises(ValueError, match="every 1 or more epochs"):
                layerwise(net, images, **wrong)

    def test_refuses_what_is_no_chain_of_layers(self):
        with pytest.raises(ValueError, match="is a Bottleneck"):
            layerwise(nets.build("preresnet20", 10), training.source())
        layer = nn.Linear(2, 2)
        with pytest.raises(ValueError, match="'1' is the same layer as '0'"):
            chain(nn.Sequential(layer, layer))
        with pytest.raises(ValueError, match="ends with ReLU"):
            layerwise(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()), training.source())


def planted_chain():
    return nets.convnet((1, 6, 6), (3, 4), (3, 3), 3, batch_norm=True)
