"""splinelib.pruning.budget: multiply-adds of a network of any widths."""

import numpy as np
import planted
import pytest
from learning import first

from splinelib import cost, nets, surgery
from splinelib.pruning.budget import macs_by_width
from splinelib.surgery import group_mask, groups

KINDS = [("mlp", "inner"), ("convnet", "inner")]
KINDS += [("preresnet", residual) for residual in ("inner", "select", "joint")]


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
