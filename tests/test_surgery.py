"""splinelib.surgery.cut: the small network gives what the masked one gives, and is small."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from networks import Written, conv, linears, normal, shaken, state, unchanged
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from splinelib import folding, merging, nets, surgery
from splinelib.cost import layer_macs, macs
from splinelib.masks import Mask, unit_mask, weight_mask
from splinelib.selection import ChannelSelection
from splinelib.units import units
from splinelib.units.order import NORMS


def leaky():
    body = [nn.Conv2d(3, 6, 3), nn.LeakyReLU(0.1), nn.AvgPool2d(2), nn.Conv2d(6, 5, 3)]
    body += [nn.BatchNorm2d(5), nn.LeakyReLU(-0.2), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten()]
    body += [nn.Linear(5 * 16, 7), nn.ReLU(), nn.BatchNorm1d(7), nn.Dropout(), nn.Linear(7, 4)]
    return nn.Sequential(*body)


def outside(name):
    return torchvision.models.get_model(name, weights=None, num_classes=5)


NETS = {
    "mlp": lambda: nets.mlp([6, 10, 8, 3], alpha=-1),
    "convnet": lambda: nets.convnet(batch_norm=True),
    "vgg16": lambda: nets.vgg16(width=0.125),
    "preresnet20": lambda: nets.preresnet(20, width=0.25),
    "alexnet": lambda: nets.alexnet(width=0.125),
    "residual mlp": lambda: nets.residual_mlp(4, 8, blocks=2, out=3),
    "leaky": leaky,
    "resnet18": lambda: nets.resnet(18, 5, small=True),
    "mnasnet0_5": lambda: outside("mnasnet0_5"),
    "squeezenet1_1": lambda: outside("squeezenet1_1"),
}
SHAPES = {
    "preresnet20": (3, 16, 16), "vgg16": (3, 16, 16), "mnasnet0_5": (3, 32, 32),
    "mlp": (6,), "residual mlp": (4,), "convnet": (1, 8, 8), "resnet18": (3, 16, 16),
    "leaky": (3, 20, 20), "squeezenet1_1": (3, 40, 40),
}  # fmt: skip
SMALL = ("mlp", "convnet", "leaky", "residual mlp", "vgg16", "preresnet20")
KINDS = ("inner", "select", "joint", "norms", "weights")
PAIRS = [(n, k) for n in NETS for k in KINDS if n in SMALL or k not in ("select", "weights")]
RATIOS = (0, 0.1, 0.5, 0.9, 1)  # 1: all but one channel


def masked_by(net, kind, ratio, seed=0):
    """A mask of a kind, drawn at random."""
    draw = torch.Generator().manual_seed(seed)
    if kind == "norms":
        widths = {p: m.num_features for p, m in net.named_modules() if isinstance(m, NORMS)}
    elif kind == "weights":
        weights = {n: torch.rand(p.shape, generator=draw) for n, p in net.named_parameters()}
        return weight_mask(net, {n: value >= min(ratio, 0.98) for n, value in weights.items()})
    else:
        found = surgery.groups(net, kind)
        widths = {name: group.width for name, group in found.items()}
    keep = {}
    for name, n in widths.items():
        goes = min(math.floor(ratio * n + 0.5), n - 1)
        keep[name] = torch.randperm(n, generator=draw) >= goes
    if kind != "norms":
        return surgery.group_mask(net, found, keep)
    return Mask({f"{path}.{part}": k for path, k in keep.items() for part in ("weight", "bias")})


def agree(small, masked, shape, tolerance=1e-12):
    """Whether two networks give the same outputs, in evaluation mode."""
    x = normal(3, *shape).to(next(small.parameters()).dtype)
    with torch.no_grad():
        a, b = small.eval()(x), masked.eval()(x)
    assert a.isfinite().all()
    return (a - b).abs().max() <= tolerance * max(1, b.abs().max())


def check_macs(net, small, plan, shape):
    """Each layer costs exactly the share of its outputs times the share of its inputs."""
    before, after = layer_macs(net, shape), layer_macs(small, shape)
    assert before.keys() == after.keys()
    for path, count in before.items():
        (out, into), kept, read = plan.sizes[path], len(plan.kept[path]), len(plan.read[path])
        depthwise = getattr(net.get_submodule(path), "groups", 1) == into
        read, into = (1, 1) if depthwise else (read, into)
        assert after[path] * out * into == count * kept * read


@pytest.mark.parametrize("name, kind", PAIRS)
def test_the_small_network_gives_what_the_masked_one_gives(name, kind):
    net, shape = shaken(NETS[name]()), SHAPES.get(name, (3, 32, 32))
    before, sizes = state(net), []
    for ratio in RATIOS if name in SMALL else (0.5,):
        mask = masked_by(net, kind, ratio)
        small, plan = surgery.cut(net, mask, backend="splinelib")
        assert agree(small, mask.apply(net), shape)
        assert all(p.shape.numel() for p in small.parameters())
        if ratio == 0.5:
            check_macs(net, small, plan, shape)
        sizes.append(sum(p.numel() for p in small.parameters()))
        if kind in ("inner", "select", "joint"):
            found = surgery.groups(net, kind)
            entries = mask.entries
            kept = {n: masked_by_channel(entries, group) for n, group in found.items()}
            assert all(torch.equal(plan.kept[n], kept[n].nonzero()[:, 0]) for n in kept)
            assert not plan.emptied
    assert sizes == sorted(sizes, reverse=True)
    assert unchanged(net, before)


def masked_by_channel(entries, group):
    path = group.norms[0] if group.gate else group.writers[0]
    entry = entries[f"{path}.weight"]
    return entry.reshape(len(entry), -1).any(1)


def test_resnet50_in_float32():
    net = nets.resnet(50)
    mask = masked_by(net, "joint", 0.5)
    small, plan = surgery.cut(net, mask, backend="splinelib")
    assert small.training
    assert agree(small, mask.apply(net), (3, 64, 64), 1e-6)
    check_macs(net, small, plan, (3, 64, 64))
    assert macs(small, (3, 64, 64)) < macs(net, (3, 64, 64)) / 2


def test_half_of_every_layer_is_the_network_of_half_the_width():
    net, half = nets.vgg16(width=0.25), nets.vgg16(width=0.125)
    small, plan = surgery.cut(net, masked_by(net, "inner", 0.5))
    assert macs(small, (3, 32, 32)) == macs(half, (3, 32, 32))
    shapes = {name: value.shape for name, value in half.state_dict().items()}
    assert {name: value.shape for name, value in small.state_dict().items()} == shapes
    start = nets.vgg16(width=0.25, generator=torch.Generator().manual_seed(5))
    rewound = surgery.shrink(start, plan)
    kept, read = plan.kept["features.3"], plan.read["features.3"]
    assert torch.equal(read, plan.kept["features.0"])
    expected = start.features[3].weight[kept][:, read]
    assert torch.equal(rewound.features[3].weight, expected)
    assert str(rewound) == str(half)


def test_preresnet101_selects_in_front_of_each_branch():
    net = shaken(nets.preresnet(101, width=0.25))
    mask = masked_by(net, "select", 0.7)
    small, plan = surgery.cut(net, mask)
    assert agree(small, mask.apply(net), (3, 32, 32))
    selects = {p for p, m in small.named_modules() if isinstance(m, ChannelSelection)}
    assert len(selects) == 34
    assert small.stage1[0].conv3.out_channels == net.stage1[0].conv3.out_channels
    assert small.stage1[0].conv1.in_channels == len(plan.kept["stage1.0.bn1"])
    index = small.get_submodule("stage2.3.bn1.select").index
    assert torch.equal(index, plan.kept["stage2.3.bn1"])  # the stream is whole


def test_a_stream_may_be_cut_and_selected_from_at_once():
    net = shaken(nets.preresnet(20, width=0.5))
    mask = masked_by(net, "joint", 0.3) & masked_by(net, "norms", 0.5, seed=1)
    small, plan = surgery.cut(net, mask)
    assert agree(small, mask.apply(net), (3, 32, 32))
    stream, gate = plan.kept["stage1.0.conv3"], plan.kept["stage1.1.bn1"]
    assert len(gate) < len(stream) < 32
    assert torch.equal(stream[small.get_submodule("stage1.1.bn1.select").index], gate)


def test_batchnorms_alone_cut_a_densenet_at_its_concatenations():
    net = shaken(torchvision.models.DenseNet(8, (3, 2), 12, num_classes=5))
    mask = masked_by(net, "norms", 0.5)
    small, plan = surgery.cut(net, mask)
    assert agree(small, mask.apply(net), (3, 32, 32))
    check_macs(net, small, plan, (3, 32, 32))
    assert macs(small, (3, 32, 32)) < macs(net, (3, 32, 32)) * 0.7


def test_cascades_what_only_feeds_what_goes_goes():
    net = nets.mlp([3, 4, 4, 4, 2])
    keep = torch.ones(4, 4)
    keep[:, 1] = 0  # the last hidden layer does not read unit 1
    mask = Mask({"4.weight": keep})
    small, plan = surgery.cut(net, mask)
    assert plan.kept["2"].tolist() == [0, 2, 3]
    assert len(plan.kept["0"]) == 4
    into = torch.zeros(4, 4)
    into[:, 2:] = 1
    into[1] = 1  # only unit 1 of the second layer, unread, reads units 0 and 1
    small, plan = surgery.cut(net, mask & Mask({"2.weight": into}))
    assert plan.kept["0"].tolist() == [2, 3]
    assert agree(small, (mask & Mask({"2.weight": into})).apply(net), (3,))


def test_constant_units_stay_until_they_are_folded():
    net = nets.mlp([3, 4, 2])
    rows = torch.tensor([1, 1, 0, 1])[:, None].expand(4, 3)
    mask = Mask({"0.weight": rows})  # unit 2 puts out the constant relu(bias)
    assert len(surgery.plan(net, mask).kept["0"]) == 4
    folded = folding.fold_constants(mask.apply(net))
    small, plan = surgery.cut(folded, surgery.nonzero_mask(folded))
    assert plan.kept["0"].tolist() == [0, 1, 3]
    assert agree(small, mask.apply(net), (3,))


def test_merged_duplicates_can_be_cut_out():
    net = shaken(nets.convnet(batch_norm=True), positive=True)
    with torch.no_grad():
        for module, *parts in ((net[0], "weight", "bias"), (net[1], *NORM)):
            for part in parts:
                value = getattr(module, part)
                value[1] = value[0]
    merged = merging.merge_all(net).net
    small, plan = surgery.cut(merged, surgery.nonzero_mask(merged))
    assert len(plan.kept["0"]) == len(net[0].weight) - 1
    assert agree(small, net, (1, 8, 8), 1e-9)


NORM = ("weight", "bias", "running_mean", "running_var")


def test_a_zero_that_may_be_trained_stays():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    nn.init.zeros_(net[2].weight)  # a head that starts at zero reads nothing yet
    small, plan = surgery.cut(net, Mask({}))
    assert len(plan.kept["0"]) == 3
    assert str(small) == str(net)


EMPTY = {
    "a hidden layer": (lambda: nets.mlp([2, 4, 3, 2]), ["2.weight", "2.bias"], ("0", "2"), (2,)),
    "a branch": (
        lambda: nets.preresnet(20, width=0.25),
        ["stage1.1.bn2.weight", "stage1.1.bn2.bias"],
        ("stage1.1.conv1", "stage1.1.conv2"),
        (3, 32, 32),
    ),
    "a gate": (
        lambda: nets.preresnet(20, width=0.25),
        ["stage2.1.bn1.weight", "stage2.1.bn1.bias"],
        ("stage2.1.bn1",),
        (3, 32, 32),
    ),
}


@pytest.mark.parametrize("case", EMPTY)
def test_no_layer_is_emptied_and_the_plan_names_it(case):
    build, names, emptied, shape = EMPTY[case]
    net = shaken(build())
    mask = Mask({name: torch.zeros(net.get_parameter(name).shape) for name in names})
    small, plan = surgery.cut(net, mask)
    assert set(emptied) & set(plan.emptied)
    assert all(plan.kept[path].tolist() == [0] for path in plan.emptied)
    assert agree(small, mask.apply(net), shape)


SHARED = nn.Linear(4, 4)
LEFT_WHOLE = {
    "used twice": lambda: Written(
        lambda m, x: m.fc2(F.relu(m.mid(F.relu(m.mid(F.relu(m.fc1(x))))))),
        fc1=nn.Linear(3, 4), mid=nn.Linear(4, 4), fc2=nn.Linear(4, 2),
    ),
    "a sum with the input": lambda: Written(
        lambda m, x: m.fc2(F.relu(m.fc1(x)) + x), **linears(3, 3, 2)
    ),
    "a mean over channels": lambda: Written(
        lambda m, x: m.fc(m.conv(x.view(x.size(0), 1, 1, 3)).mean(1).flatten(1)),
        conv=nn.Conv2d(1, 4, 1), fc=nn.Linear(3, 2),
    ),
    "a number added": lambda: Written(lambda m, x: m.fc2(m.fc1(x) + 1), **linears(3, 4, 2)),
    "fixed sizes": lambda: Written(
        lambda m, x: m.fc2(m.fc1(x).view(-1, 2, 2).flatten(1)), **linears(3, 4, 2)
    ),
    "a fixed view of maps": lambda: Written(
        lambda m, x: (lambda h: m.fc(h.view(h.size(0), 12)))(m.conv(x.view(x.size(0), 1, 1, 3))),
        conv=nn.Conv2d(1, 4, 1), fc=nn.Linear(12, 2),
    ),
    "two channels as one": lambda: Written(
        lambda m, x: m.fc2(m.fc1(x).view(x.size(0), 2, 2).mean(2)),
        fc1=nn.Linear(3, 4), fc2=nn.Linear(2, 2),
    ),
    "grouped": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 4, 1), nn.ReLU(),
        nn.Conv2d(4, 4, 1, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT_WHOLE)
def test_what_channels_cannot_be_told_apart_stays_whole_and_exact(case):
    net = shaken(LEFT_WHOLE[case]())
    mask = Mask(
        {n: torch.arange(len(p)).reshape(-1, *[1] * (p.ndim - 1)).expand(p.shape) % 2
         for n, p in net.named_parameters()}
    )  # fmt: skip
    small, plan = surgery.cut(net, mask, backend="splinelib")
    assert agree(small, mask.apply(net), (3,))
    first = next(iter(plan.sizes))
    assert len(plan.kept[first]) == plan.sizes[first][0]


STREAMS = {
    "two layers summed": lambda: Written(
        lambda m, x: m.fc3(F.relu(m.fc1(x) + m.fc2(x))),
        fc1=nn.Linear(3, 6), fc2=nn.Linear(3, 6), fc3=nn.Linear(6, 2),
    ),
    "laid side by side, then summed": lambda: Written(
        lambda m, x: m.fc4(F.relu(torch.cat([m.fc1(x), m.fc2(x)], 1) + m.fc3(x))),
        fc1=nn.Linear(3, 2), fc2=nn.Linear(3, 4), fc3=nn.Linear(3, 6), fc4=nn.Linear(6, 2),
    ),
    "twice the same, side by side": lambda: Written(
        lambda m, x: (lambda h: m.fc2(torch.cat([h, h.relu()], -1)))(m.fc1(x)),
        fc1=nn.Linear(3, 4), fc2=nn.Linear(8, 2),
    ),
    "in place": lambda: Written(
        lambda m, x: (lambda h: m.fc3(h.add_(m.fc2(x)).relu_()))(m.fc1(x)),
        fc1=nn.Linear(3, 6), fc2=nn.Linear(3, 6), fc3=nn.Linear(6, 2),
    ),
    "flattened behind a BatchNorm": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 4, 3, padding=2), nn.ReLU(), nn.Flatten(),
        nn.BatchNorm1d(36), nn.ReLU(), nn.Linear(36, 2),
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1),
        nn.Flatten(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STREAMS)
def test_channels_that_share_a_place_go_together(case):
    net = shaken(STREAMS[case]())
    names = [n for n, p in net.named_parameters() if len(p) != 2 or "fc1" in n or "fc2" in n]
    last = list(units(net))[-1]
    entries = {}
    for name in (name for name in names if not name.startswith(f"{last}.")):
        parameter = net.get_parameter(name)
        keep = torch.ones(len(parameter))
        keep[: len(parameter) // 2] = 0
        entries[name] = keep.reshape(-1, *[1] * (parameter.ndim - 1)).expand(parameter.shape)
    mask = Mask(entries)
    small, plan = surgery.cut(net, mask)
    assert agree(small, mask.apply(net), (3,))
    assert len(plan.read[last]) < plan.sizes[last][1]
    only = {name: entry for name, entry in entries.items() if name.startswith(names[0][:3])}
    small, _ = surgery.cut(net, Mask(only))
    assert agree(small, Mask(only).apply(net), (3,))


def test_random_masks_of_random_parameters():
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        name = ("preresnet20", "leaky", "convnet", "residual mlp", "alexnet")[seed % 5]
        net = shaken(NETS[name](), seed)
        entries = {}
        for n, p in net.named_parameters():
            rows = torch.rand(len(p), *[1] * (p.ndim - 1), generator=draw) < 0.6
            columns = torch.rand(1, *p.shape[1:2], *[1] * (p.ndim - 2), generator=draw) < 0.8
            either = rows if p.ndim == 1 else rows & columns
            entries[n] = either.expand(p.shape) if torch.rand(1, generator=draw) < 0.8 else None
        mask = Mask({n: entry for n, entry in entries.items() if entry is not None})
        small, _ = surgery.cut(net, mask)
        assert agree(small, mask.apply(net), SHAPES.get(name, (3, 32, 32))), (seed, name)


def test_cutting_twice_is_one_cut_in_the_original_numbers():
    net = shaken(nets.preresnet(20, width=0.5))
    first = surgery.cut(net, masked_by(net, "select", 0.3))
    second = surgery.cut(first.net, masked_by(first.net, "norms", 0.4, seed=2))
    third = surgery.cut(second.net, masked_by(second.net, "joint", 0.2, seed=3))
    both = first.plan.then(second.plan)
    again = surgery.shrink(net, both)
    assert agree(again, second.net, (3, 32, 32), 0)
    assert str(again) == str(second.net)
    whole = surgery.shrink(net, both.then(third.plan))
    assert [p.shape for p in whole.parameters()] == [p.shape for p in third.net.parameters()]
    with pytest.raises(ValueError, match="not of the network that the first one leaves"):
        first.plan.then(first.plan)


def test_prune_of_torch_counts_and_becomes_permanent():
    net = shaken(nets.mlp([3, 6, 2]))
    mask = unit_mask(net, {"0": torch.tensor([1, 0, 1, 0, 1, 1])})
    held = mask.apply(net, hold=True)
    small, plan = surgery.cut(held, Mask({}))
    assert plan.kept["0"].tolist() == [0, 2, 4, 5]
    assert agree(small, held, (3,))
    assert not prune.is_pruned(small)
    assert prune.is_pruned(held)


BAD = {
    "another network": (
        lambda: (nets.mlp([2, 3, 1]), Mask({"7.weight": torch.ones(2)})),
        "no para",
    ),
    "a bare layer": (lambda: (nn.Linear(2, 2), Mask({})), "wrap it"),
    "smooth": (lambda: (nn.Sequential(nn.GELU()), Mask({})), "GELU"),
    "parametrized": (
        lambda: (nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2))), Mask({})),
        r"computed from other parameters.*remove_parametrizations\(layer, 'weight'\)",
    ),
    "a hook": (lambda: (nn.Sequential(spectral_norm(nn.Linear(2, 2))), Mask({})), "make it perm"),
    "NaN": (lambda: (nn.Sequential(nan(nn.Linear(2, 2))), Mask({})), "NaN"),
}


BAD |= {
    "a dict for a mask": (
        lambda: (nets.mlp([2, 3, 1]), {"0": torch.ones(3)}),
        "mask is a dict, but must be a splinelib.masks.Mask: masks.unit_mask",
    ),
    "a name for a network": (lambda: ("vgg16", Mask({})), "net is 'vgg16', but must be a network"),
}


def nan(layer):
    nn.init.constant_(layer.weight, math.nan)
    return layer


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_bad_input_is_refused_in_words(case):
    make, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        surgery.cut(*make())
    with pytest.raises(ValueError, match="backend is 'mine'"):
        surgery.cut(nets.mlp([2, 3, 1]), Mask({}), backend="mine")


def test_a_plan_fits_one_shape():
    net = nets.mlp([3, 4, 2])
    plan = surgery.plan(net, Mask({}))
    with pytest.raises(ValueError, match="'0' has 5 outputs and 3 inputs in it, but 4 and 3"):
        surgery.shrink(nets.mlp([3, 5, 2]), plan)
    with pytest.raises(ValueError, match="'2' is no layer in it"):
        surgery.shrink(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), plan)


def test_a_convolution_behind_two_readers_with_padding_of_its_own():
    net = Written(
        lambda m, x: m.fc((m.b(F.relu(m.a(x))) + m.c(F.relu(m.a(x)))).flatten(1)),
        a=conv(1, 4, 3), b=conv(4, 2, 3), c=conv(4, 2, 3), fc=nn.Linear(8, 2).double(),
    )  # fmt: skip
    mask = Mask({"b.weight": torch.zeros(2, 4, 3, 3), "b.bias": torch.zeros(2)})
    small, plan = surgery.cut(net, mask)
    assert agree(small, mask.apply(net), (1, 6, 6))
    assert len(plan.kept["a"]) == 4  # called twice
