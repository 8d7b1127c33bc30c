"""MetaPruning: a network of any widths, and the search for the best ones."""

import copy
from functools import cache, partial

import learning
import numpy as np
import planted
import pytest
import torch
import torch.nn.functional as F
import training
from learning import seeded
from torch import nn
from torchvision import models

from splinelib import cost, nets, surgery
from splinelib.data import Batches, ImageSet
from splinelib.pruning.budget import allowed
from splinelib.pruning.evolution import elitist
from splinelib.pruning.l1 import l1
from splinelib.pruning.memory import Memory
from splinelib.pruning.metapruning import judged, metapruning
from splinelib.pruning.pruningnet import Hyper, PruningNet, first_channels
from splinelib.surgery import groups
from splinelib.train import Recipe, Run, train, trainer


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

    def test_no_ticket_without_a_finite_loss(self):
        net, (x, y) = planted.network("convnet"), planted.inputs("convnet", 12)
        x[3, 0, 2, 2] = torch.nan
        with pytest.raises(ValueError, match="every weight and pixel a number first"):
            metapruning(net, 0.5, learning.fit("convnet"), x, y, **self.small)

    def test_a_candidate_whose_loss_is_no_number_is_the_worst(self):
        net, (x, y) = planted.network("mlp"), planted.inputs("mlp", 12)
        maker = PruningNet(net)
        worse = judged(maker, (8, 8), x, y)
        x[0] = torch.nan
        assert judged(maker, (8, 8), x, y) == (float("inf"), float("inf")) > worse

    @pytest.mark.parametrize("wrong", [{"hidden": 2.5}, {"iterations": 1.5}, {"mutate": 2}])
    def test_settings(self, wrong):
        net, (x, y) = planted.network("convnet"), planted.inputs("convnet", 12)
        with pytest.raises(ValueError, match="whole number|is a chance"):
            metapruning(net, 0.5, plain_fit(x, y, 1), x, y, **{**self.small, **wrong})

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
