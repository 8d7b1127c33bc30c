"""Methods that train more than once, or stop by themselves: early birds, rounds of slimming."""

from itertools import product

import planted
import pytest
import torch
import training
from learning import normed
from torch import nn

from splinelib import surgery
from splinelib.earlybird import Rule, mask_codes
from splinelib.pruning.eb_spline import eb_spline
from splinelib.pruning.eb_train import eb_train
from splinelib.pruning.iterative import iterative
from splinelib.pruning.slimming import slimming
from splinelib.pruning.spline import spline
from splinelib.train import Recipe, Run, train, trainer


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
        with pytest.raises(ValueError, match=r"rule is 3, but is an earlybird.Rule"):
            eb_train(normed(), 0.5, self.fit(), rule=3)
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
        with pytest.raises(ValueError, match="rounds is 2.5: need a whole number"):
            iterative(normed(), 0.5, lambda net: None, rounds=2.5)
