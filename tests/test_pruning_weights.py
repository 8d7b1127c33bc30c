"""splinelib.pruning.weights: with which weights, and how long, a small network goes on."""

from itertools import product

import planted
import pytest
import torch
import training
from learning import normed, seeded
from torch import nn

from splinelib import nets, surgery
from splinelib.pruning.l1 import l1
from splinelib.pruning.slimming import slimming
from splinelib.pruning.weights import first_epoch, put_back, start
from splinelib.train import trainer

KINDS = [("mlp", "inner"), ("convnet", "inner")]
KINDS += [("preresnet", residual) for residual in ("inner", "select", "joint")]


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
