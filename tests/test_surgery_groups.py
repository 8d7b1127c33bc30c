"""splinelib.surgery.groups: which channels go together, by names that are known beforehand."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from networks import Written, normal, shaken, state, unchanged
from test_surgery import masked_by
from torch import nn
from torch.nn.utils import parametrizations, prune

from splinelib import nets, surgery
from splinelib.masks import Mask, unit_mask
from splinelib.surgery import cut, group_mask, groups
from splinelib.units import units
from splinelib.units.order import NORMS


def summary(net, residual="inner"):
    return {n: (g.width, g.writers, g.norms) for n, g in groups(net, residual).items()}


def test_preresnet101_has_the_channels_of_the_paper():
    net = nets.preresnet(101)
    before = state(net)
    inner, select = groups(net), groups(net, "select")
    assert sum(group.width for group in inner.values()) == 2464
    assert not any(group.gate for group in inner.values())
    assert sum(group.width for group in select.values()) == 7408
    norms = [norm for group in select.values() for norm in group.norms]
    assert len(norms) == len(set(norms)) == 100
    assert set(norms) == {p for p, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    gates = {name: group for name, group in select.items() if group.gate}
    assert len(gates) == 34
    assert sum(group.width for group in gates.values()) == 4944
    assert net.training
    assert unchanged(net, before)


def test_gates_know_who_wrote_the_stream():
    net = nets.preresnet(20, width=0.25)
    gates = {n: g for n, g in groups(net, "select").items() if g.gate}
    assert {name: group.writers for name, group in gates.items()} == {
        "stage1.0.bn1": ("stem",),
        "stage1.1.bn1": ("stage1.0.conv3", "stage1.0.shortcut"),
        "stage2.0.bn1": ("stage1.0.conv3", "stage1.0.shortcut", "stage1.1.conv3"),
        "stage2.1.bn1": ("stage2.0.conv3", "stage2.0.shortcut"),
        "stage3.0.bn1": ("stage2.0.conv3", "stage2.0.shortcut", "stage2.1.conv3"),
        "stage3.1.bn1": ("stage3.0.conv3", "stage3.0.shortcut"),
        "bn": ("stage3.0.conv3", "stage3.0.shortcut", "stage3.1.conv3"),
    }
    assert [reader.layer for reader in gates["bn"].readers] == ["classifier"]
    assert gates["bn"].readers[0].positions == 1
    assert all(group.norms == (name,) for name, group in gates.items())
    order = list(groups(net, "select"))
    assert order.index("stage1.0.bn1") < order.index("stage1.0.conv1") < order.index("bn")


def test_joint_streams_of_resnets():
    streams = {n: g for n, g in groups(nets.resnet(18), "joint").items() if len(g.writers) > 1}
    assert streams["conv1"].writers == ("conv1", "layer1.0.conv2", "layer1.1.conv2")
    assert streams["conv1"].norms == ("bn1", "layer1.0.bn2", "layer1.1.bn2")
    assert [reader.layer for reader in streams["conv1"].readers] == [
        "layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "layer2.0.downsample.0",
    ]  # fmt: skip
    last = streams["layer4.0.conv2"]
    assert last.writers == ("layer4.0.conv2", "layer4.0.downsample.0", "layer4.1.conv2")
    assert [reader.layer for reader in last.readers] == ["layer4.1.conv1", "fc"]
    found = groups(nets.resnet(50), "joint")
    widths = {n: g.width for n, g in found.items() if len(g.writers) > 1}
    assert widths == {f"layer{i}.0.conv3": 128 * 2**i for i in range(1, 5)}
    assert len(found) == 33 + 4


@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18", "squeezenet1_1", "densenet121"])
def test_inner_groups_are_the_closed_units(name):
    net = torchvision.models.get_model(name, weights=None)
    found = units(net)
    closed = {layer: u for layer, u in found.items() if not u.closed}
    inner = groups(net)
    assert list(inner) == list(closed)
    for layer, group in inner.items():
        at = closed[layer]
        assert (group.width, group.writers, group.readers) == (at.width, (layer,), at.readers)
        assert group.norms == ((at.norm,) if at.norm else ())


def test_depthwise_convolutions_belong_to_what_they_read():
    net = torchvision.models.mnasnet0_5(weights=None)
    found = summary(net)
    assert found["layers.0"] == (16, ("layers.0", "layers.3"), ("layers.1", "layers.4"))
    first = "layers.8.0.layers"
    assert found[f"{first}.0"][1:] == (
        (f"{first}.0", f"{first}.3"), (f"{first}.1", f"{first}.4"),
    )  # fmt: skip
    assert f"{first}.3" not in found
    stream = groups(net, "joint")["layers.8.0.layers.6"]
    assert stream.writers == tuple(f"layers.8.{i}.layers.6" for i in range(3))


def test_grouped_convolutions_are_left_alone():
    net = nets.alexnet(width=0.125)
    assert list(groups(net, "joint")) == ["features.4", "classifier.0", "classifier.2"][1:]


BEHIND_FIXED_NUMBERS = {  # what stands in front of the layers "a" and "b"
    "a view": lambda m, x: F.max_pool2d(m.conv(x).relu(), 2).view(-1, 400),
    "a reshape": lambda m, x: F.max_pool2d(m.conv(x).relu(), 2).reshape(-1, 16 * 5 * 5),
    "rows to maps to rows": lambda m, x: m.fc(x.flatten(1)).view(-1, 16, 25).flatten(1),
}


@pytest.mark.parametrize("case", BEHIND_FIXED_NUMBERS)
def test_a_layer_behind_a_reshape_by_fixed_numbers_has_channels_of_its_own(case):
    net = Written(
        lambda m, x: m.c(m.b(m.na(m.a(BEHIND_FIXED_NUMBERS[case](m, x))).relu()).relu()),
        conv=nn.Conv2d(1, 16, 3), fc=nn.Linear(144, 400), a=nn.Linear(400, 12),
        na=nn.BatchNorm1d(12), b=nn.Linear(12, 8), c=nn.Linear(8, 3),
    )  # fmt: skip
    net = shaken(net)
    found = groups(net)
    assert list(found) == ["a", "b"] == [n for n, u in units(net).items() if not u.closed][-2:]
    mask = group_mask(net, found, {"a": torch.arange(12) % 3 > 0, "b": torch.arange(8) < 5})
    small, plan = cut(net, mask, backend="splinelib")
    x = normal(2, 1, 12, 12)
    assert torch.allclose(small(x), mask.apply(net)(x), rtol=0, atol=1e-12)
    assert (small.a.weight.shape, small.b.weight.shape) == ((8, 400), (5, 8))
    assert "conv" not in plan.kept or len(plan.kept["conv"]) == 16


def test_maps_that_an_unflatten_makes_are_read_whole():
    net = nn.Sequential(
        nn.Linear(6, 32), nn.ReLU(), nn.Unflatten(1, (8, 2, 2)), nn.Conv2d(8, 6, 1), nn.ReLU(),
        nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    net = shaken(net)
    assert list(groups(net)) == ["3", "5"]
    mask = masked_by(net, "inner", 0.5)
    small, x = cut(net, mask, backend="splinelib").net, normal(3, 6)
    assert torch.allclose(small(x), mask.apply(net)(x), rtol=0, atol=1e-12)
    assert small[3].weight.shape == (3, 8, 1, 1)


def test_a_linear_along_the_pixels_stays_whole():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(),
        nn.Linear(4, 3), nn.Flatten(1), nn.Linear(12, 2),
    )  # fmt: skip
    net = shaken(net)  # the BatchNorm looks at the channels of the convolution
    assert "2" not in groups(net)
    entries = {f"{path}.{name}": torch.arange(4).reshape(4, *[1] * (p.ndim - 1)).expand(p.shape) > 1
               for path in "23" for name, p in net[int(path)].named_parameters()}  # fmt: skip
    mask = Mask(entries)
    small, x = cut(net, mask, backend="splinelib").net, normal(3, 1, 4, 4)
    assert torch.allclose(small(x), mask.apply(net)(x), rtol=0, atol=1e-12)


def test_a_conv1d_is_named():
    net = nn.Sequential(
        nn.Conv1d(2, 10, 3), nn.ReLU(), nn.Flatten(), nn.Linear(240, 16), nn.ReLU(),
        nn.Linear(16, 2),
    )  # fmt: skip
    for residual in ("inner", "joint"):
        with pytest.raises(ValueError, match=r"'0' is a Conv1d, .* make it a Conv2d"):
            groups(net, residual)


def branching(m, x):
    h = m.conv(x)
    return m.fc((m.a(F.relu(m.na(h))) + m.b(F.relu(m.nb(h)))).flatten(1))


def test_batchnorms_on_the_way_are_part_of_a_group():
    net = Written(
        branching, conv=nn.Conv2d(1, 4, 3), na=nn.BatchNorm2d(4), nb=nn.BatchNorm2d(4),
        a=nn.Conv2d(4, 2, 3), b=nn.Conv2d(4, 2, 3), fc=nn.Linear(8, 2),
    )  # fmt: skip
    assert summary(net)["conv"] == (4, ("conv",), ("na", "nb"))
    assert groups(net, "joint")["a"].writers == ("a", "b")
    behind = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2)
    )
    group = groups(behind)["0"]
    assert (group.norms, group.readers[0].positions) == (("3",), 4)
    mask = group_mask(behind, groups(behind), {"0": torch.tensor([1, 0, 1, 1])})
    assert mask.entries["3.bias"].tolist() == [True] * 4 + [False] * 4 + [True] * 8


def test_a_gate_masks_its_batchnorm_and_a_stream_everything_on_it():
    net = nets.preresnet(20, width=0.25)
    found = groups(net, "select")
    keep = torch.arange(16) % 2 == 0
    mask = group_mask(net, found, {"stage1.1.bn1": keep})
    assert set(mask.entries) == {"stage1.1.bn1.weight", "stage1.1.bn1.bias"}
    mask = group_mask(net, groups(net, "joint"), {"stage1.0.conv3": keep})
    written = ("stage1.0.conv3", "stage1.0.shortcut", "stage1.1.conv3")
    norms = ("stage1.1.bn1", "stage2.0.bn1")
    assert set(mask.entries) == {f"{w}.weight" for w in written} | {
        f"{n}.{part}" for n in norms for part in ("weight", "bias")
    }
    for name, entry in mask.entries.items():
        assert torch.equal(entry.reshape(16, -1).all(1), keep), name
        assert torch.equal(entry.reshape(16, -1).any(1), keep), name


def test_groups_of_a_network_that_was_cut():
    net = shaken(nets.preresnet(20, width=0.5))
    norms = {p: m.num_features for p, m in net.named_modules() if isinstance(m, NORMS)}
    found = groups(net, "select")
    small, plan = surgery.cut(net, masked_by(net, "select", 0.3))
    again = groups(small, "select")
    assert len(again) == len(found)
    assert sum(group.width for group in again.values()) == sum(
        len(plan.kept[norm]) for norm in norms
    )
    gates = [group for group in again.values() if group.gate]
    assert len(gates) == 7
    assert all(group.name.endswith(".norm") for group in gates)
    assert not any(group.writers for group in gates)


def test_what_no_branch_selects_leaves_the_stream():
    net = shaken(nets.preresnet(20, width=0.5))
    found = groups(net, "select")
    drop = torch.arange(128) > 5
    mask = group_mask(net, found, {"stage3.1.bn1": drop, "bn": drop & (torch.arange(128) != 9)})
    small, plan = surgery.cut(net, mask)
    assert len(plan.kept["stage3.0.conv3"]) == len(plan.kept["stage3.1.bn1"]) == 122
    assert isinstance(small.stage3[1].bn1, nn.BatchNorm2d)
    assert small.bn.select.index.tolist() == [n for n in range(122) if n != 3]


def test_layers_that_are_used_twice_are_no_group():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), shared, nn.ReLU(), shared, nn.Linear(4, 2))
    assert not groups(net, "joint")


MISTAKES = {
    "a name": ({"7": torch.ones(4)}, "no group is called '7'; the groups: 0"),
    "a length": ({"0": torch.ones(5)}, r"has shape \(5,\), but the group has 4 channels"),
    "nothing": ({"0": torch.zeros(4)}, r"keep\['0'\] keeps none of its 4 channels"),
    "a half": ({"0": torch.full((4,), 0.5)}, "holds 0.5"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(case):
    net = nets.mlp([3, 4, 2])
    keep, message = MISTAKES[case]
    with pytest.raises(ValueError, match=message):
        group_mask(net, groups(net), keep)
    with pytest.raises(ValueError, match="residual is 'outer', but must be one of"):
        groups(net, "outer")


def test_what_cannot_be_masked_is_refused():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
    keep = {"0": torch.tensor([1, 1, 0, 1])}
    with pytest.raises(ValueError, match="'1' cannot be masked: it is a BatchNorm without scale"):
        group_mask(net, groups(net), keep)
    group_mask(net, groups(net), {"0": torch.ones(4)})
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="'0.weight' is no parameter of its own"):
        group_mask(net, groups(net), keep)


class Looking(nn.Module):
    """Calls a layer for a look, and drops out by a function."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
        self.head, self.look = nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, x):
        h = F.relu(self.first(x))
        self.look(h)
        h = F.dropout(F.relu(self.second(h)), 0.5, training=self.training)
        return self.head(h)


def test_what_a_layer_reads_for_a_look_stays_whole():
    net, x = Looking().double(), normal(5, 4)
    assert list(groups(net)) == ["second"]
    entries = {name: torch.ones_like(p, dtype=torch.bool) for name, p in net.named_parameters()}
    for name in ("first.weight", "first.bias", "second.weight", "second.bias"):
        entries[name][:3] = False
    mask = Mask(entries)
    small, plan = cut(net.train(), mask)
    assert len(plan.kept["first"]) == 6
    assert len(plan.kept["second"]) == 3
    assert torch.equal(small.eval()(x), mask.apply(net).eval()(x))
    assert small.train()(x).shape == (5, 2)


def test_a_hook_that_may_change_results_is_named():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    mask = unit_mask(net, {"0": torch.arange(6) < 3})
    hooks = {
        net[1].register_forward_hook: lambda _module, _inputs, output: output + 1,
        net[1].register_forward_pre_hook: lambda _module, inputs: (inputs[0] + 1,),
    }
    for register, hook in hooks.items():
        handle = register(hook)
        with pytest.raises(ValueError, match=r"'1' \(ReLU\) has a forward hook"):
            cut(net, mask)
        handle.remove()
    prune.l1_unstructured(net[2], "weight", 0.3)
    assert cut(net, mask).net[0].out_features == 3


def test_a_layer_without_units_is_named():
    with pytest.warns(UserWarning, match="zero-element"):
        net = nn.Sequential(nn.Linear(4, 0), nn.ReLU(), nn.Linear(0, 2))
    with pytest.raises(ValueError, match="'0' has no weight at all"):
        groups(net)
