"""splinelib.surgery with torch-pruning: as an oracle, and for networks that are not read here."""

import sys

import pytest
import torch
import torchvision
from networks import shaken, state, unchanged
from test_surgery import agree, masked_by
from torch import nn

from splinelib import nets, surgery
from splinelib.masks import Mask
from splinelib.surgery.foreign import foreign_plan
from splinelib.units.order import LAYERS

tp = pytest.importorskip("torch_pruning")


def half(net, residual):
    """Remove every other channel of each group."""
    found = surgery.groups(net, residual)
    keep = {name: torch.arange(group.width) % 2 == 0 for name, group in found.items()}
    return surgery.group_mask(net, found, keep), found


def outside(name):
    return torchvision.models.get_model(name, weights=None, num_classes=5)


BOTH = {
    "vgg16": (lambda: nets.vgg16(width=0.125), (3, 32, 32), "inner"),
    "preresnet20 inner": (lambda: nets.preresnet(20, width=0.25), (3, 16, 16), "inner"),
    "preresnet20 joint": (lambda: nets.preresnet(20, width=0.25), (3, 16, 16), "joint"),
    "resnet18": (lambda: outside("resnet18"), (3, 32, 32), "joint"),
    "densenet121": (lambda: outside("densenet121"), (3, 32, 32), "inner"),
    "mnasnet0_5": (lambda: outside("mnasnet0_5"), (3, 32, 32), "joint"),
    "squeezenet1_1": (lambda: outside("squeezenet1_1"), (3, 40, 40), "inner"),
    "resnext": (
        lambda: torchvision.models.ResNet(
            torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], 5, groups=8, width_per_group=4
        ),
        (3, 32, 32), "joint",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOTH)
def test_torch_pruning_couples_the_same_channels(case):
    build, shape, residual = BOTH[case]
    net = build().eval()
    before = state(net)
    mask, _ = half(net, residual)
    ours, theirs = surgery.plan(net, mask), foreign_plan(net, mask, torch.ones(2, *shape))
    for path, (out, _) in ours.sizes.items():
        assert torch.equal(ours.kept[path], theirs.kept[path]), path
        assert torch.equal(ours.read[path], theirs.read[path]), path
        assert ours.sizes[path] == theirs.sizes[path] or out
    assert unchanged(net, before)


@pytest.mark.parametrize("case", ["vgg16", "preresnet20 inner", "preresnet20 joint", "mnasnet0_5"])
def test_torch_pruning_itself_leaves_the_same_network(case):
    build, shape, residual = BOTH[case]
    net = shaken(build()).float()
    mask, found = half(net, residual)
    small, _ = surgery.cut(net, mask, backend="splinelib")
    theirs = mask.apply(net)
    graph = tp.DependencyGraph().build_dependency(theirs, torch.ones(2, *shape))
    for group in found.values():
        root = theirs.get_submodule(group.writers[0])
        gone = list(range(1, group.width, 2))
        fn = graph.get_pruner_of_module(root).prune_out_channels
        graph.get_pruning_group(root, fn, gone).prune()
    mine, other = small.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def relu6():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 6, 3), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 2),
    )  # fmt: skip


def rows(net, gone):
    """Mask the rows of some outputs of some layers."""
    entries = {}
    for path, numbers in gone.items():
        for name, p in net.get_submodule(path).named_parameters():
            entry = torch.ones(p.shape)
            entry[numbers] = 0
            entries[f"{path}.{name}"] = entry
    return Mask(entries)


def test_networks_that_are_not_read_here():
    net = shaken(relu6())
    mask = rows(net, {"0": [1, 5], "1": [1, 5], "3": [0]})
    with pytest.raises(ValueError, match="ReLU6"):
        surgery.cut(net, mask, backend="splinelib")
    small, plan = surgery.cut(net, mask)
    assert agree(small, mask.apply(net), (3, 16, 16))
    assert plan.kept["0"].tolist() == plan.kept["1"].tolist() == [0, 2, 3, 4, 6, 7]
    assert plan.read["7"].tolist() == [1, 2, 3, 4, 5]
    part = rows(net, {"0": [1]})  # its BatchNorm goes on: a constant
    small, plan = surgery.cut(net, part)
    assert len(plan.kept["0"]) == 8
    output = rows(net, {"9": [1]})
    assert len(surgery.cut(net, output).plan.kept["9"]) == 2


def test_a_channel_that_is_not_zero_behind_its_activation_is_found_out():
    net = shaken(relu6())
    with pytest.raises(ValueError, match="other outputs than the masked one"):
        surgery.cut(net, rows(net, {"7": [2]}))


class Outputs(nn.Module):
    """A network that is not read here, whose result is no single tensor."""

    def __init__(self, make):
        super().__init__()
        self.body, self.make = shaken(relu6()), make

    def forward(self, x):
        h = self.body[:3](x)
        return self.make(h.mean((2, 3)), self.body[3:](h))


TREES = {
    "tuple": lambda a, b: (b, b.argmax(1)),
    "dict": lambda a, b: {"out": b, "all": [b, (2 * b,)]},
}


@pytest.mark.parametrize("tree", TREES)
def test_trees_of_tensors_are_compared(tree):
    net, x = Outputs(TREES[tree]).eval(), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    gone = {"body.0": [1], "body.1": [1]}
    small = surgery.cut(net, rows(net, gone), example=x).net
    assert small.body[0].weight.shape[0] == 7
    torch.testing.assert_close(small(x), net_of(net, gone)(x))
    with pytest.raises(ValueError, match="other outputs than the masked one"):
        surgery.cut(net, rows(net, {"body.7": [2]}), example=x)


def net_of(net, gone):
    return rows(net, gone).apply(net)


class Named(dict):
    """A mapping of its own kind."""


def test_what_is_no_tree_of_tensors_is_told():
    net = Outputs(lambda a, b: Named(out=b)).eval()
    with pytest.raises(ValueError, match=r"puts out a Named, which cannot be compared"):
        surgery.cut(net, rows(net, {"body.0": [1], "body.1": [1]}))


def test_a_hook_is_refused_and_not_handed_on():
    net = relu6()[:2].append(nn.ReLU()).append(nn.Conv2d(8, 2, 1))  # read here, but for the hook
    net[3].register_forward_hook(lambda m, x, y: y + 1)
    with pytest.raises(ValueError, match=r"'3' \(Conv2d\) has a forward hook") as told:
        surgery.cut(net, rows(net, {"0": [1], "1": [1]}))
    assert "torch-pruning" not in str(told.value)


def test_layers_of_which_nothing_would_be_left():
    net = shaken(relu6())
    mask = rows(net, {"0": range(8), "1": range(8), "3": [2]})
    small, plan = surgery.cut(net, mask)
    assert plan.emptied == ("0",)
    assert plan.kept["0"].tolist() == plan.kept["1"].tolist() == [0]
    assert agree(small, mask.apply(net), (3, 16, 16))


def test_mobilenet_v2_goes_through():
    net = shaken(outside("mobilenet_v2")).float()
    first = "features.1.conv"
    gone = {f"{first}.0.0": [3, 4], f"{first}.0.1": [3, 4], "features.0.0": [3, 4]}
    mask = rows(net, gone | {"features.0.1": [3, 4]})
    small, plan = surgery.cut(net, mask)
    assert plan.kept[f"{first}.0.0"].tolist() == [n for n in range(32) if n not in (3, 4)]
    assert small.features[1].conv[0][0].groups == 30
    assert agree(small, mask.apply(net), (3, 32, 32), 1e-4)


def test_what_torch_pruning_would_cut_and_we_do_not_is_named():
    net = nn.Sequential(nn.Linear(3, 6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 2))
    with pytest.raises(ValueError, match=r"GELU.*Nor does torch-pruning help: '2' \(LayerNorm\)"):
        surgery.cut(net, rows(net, {"0": [1]}))
    with pytest.raises(ValueError, match="give an input that the network takes, as cut"):
        surgery.cut(net, rows(net, {"0": [1]}), example=torch.ones(2, 7), backend="torch-pruning")
    small, _ = surgery.cut(shaken(nets.preresnet(20, width=0.25)), masked_by_select())
    with pytest.raises(ValueError, match="selects channels"):
        surgery.cut(small, Mask({}), backend="torch-pruning")


def masked_by_select():
    return masked_by(shaken(nets.preresnet(20, width=0.25)), "select", 0.5)


def test_torchvision_goes_by_way_of_torch_pruning(monkeypatch):
    asked = []

    def spy(*args):
        asked.append(args)
        return foreign_plan(*args)

    monkeypatch.setattr(sys.modules[surgery.cut.__module__], "foreign_plan", spy)
    net = outside("squeezenet1_1").eval()
    mask, _ = half(net, "inner")
    small, plan = surgery.cut(net, mask, example=torch.rand(1, 3, 40, 40))
    assert len(asked) == 1
    assert agree(small, mask.apply(net), (3, 40, 40), 1e-5)
    again, own = surgery.cut(net, mask, backend="splinelib")
    assert own == plan
    assert [p.shape for p in again.parameters()] == [p.shape for p in small.parameters()]
    alone = surgery.cut(net, masked_by(net, "weights", 0.5))  # whole groups do not go
    assert len(asked) == 1
    assert alone.plan.kept["features.0"].shape == (64,)
    wrong = surgery.cut(net, mask, example=torch.rand(1, 5))  # no input of it: ours needs none
    assert wrong.plan == own


def test_without_torch_pruning(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    net = relu6()
    with pytest.raises(ValueError, match="not installed: pip install torch-pruning"):
        surgery.cut(net, Mask({}), backend="torch-pruning")
    assert surgery.cut(outside("squeezenet1_1"), Mask({})).plan.emptied == ()


def test_no_layer_no_cut():
    net = nn.Sequential(nn.Tanh())
    assert not any(isinstance(module, LAYERS) for module in net.modules())
    with pytest.raises(ValueError, match="no Linear or Conv2d"):
        surgery.cut(net, Mask({}), backend="torch-pruning")
