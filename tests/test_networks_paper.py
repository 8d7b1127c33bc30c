"""splinelib.nets: the networks that the paper trains, by counts and by hand-written forwards."""

import pytest
import torch
import torch.nn.functional as F
from networks import normal, shaken
from torch import nn

from splinelib import nets, stages
from splinelib.nets.drawing import drawn
from splinelib.units import units

# Small forms: name, options, shape of an input, nonlinearities called, layers (Conv2d, Linear).
SMALL = {
    "vgg16": ({"width": 0.05}, (3, 16, 16), 13 + 4, 14),
    "preresnet20": ({"width": 0.2}, (3, 8, 8), 19, 23),
    "preresnet101": ({"width": 0.1}, (3, 8, 8), 100, 104),
    "alexnet": ({"width": 0.03, "size": 19}, (3, 19, 19), 7 + 1, 8),
    "resnet18": ({"small": True}, (3, 8, 8), 17, 21),
    "resnet50": ({}, (3, 32, 32), 49 + 1, 54),
    "convnet": ({"in_shape": [3, 8, 8], "batch_norm": True}, (3, 8, 8), 4, 3),
    "mlp": ({"in_shape": [1, 4, 4], "hidden": [6, 5]}, (1, 4, 4), 2, 3),
}
# Layers whose units can go one by one: not the output, not on a stream, not before a group.
FREE = {
    "vgg16": 13, "preresnet20": 2 * 6, "preresnet101": 2 * 33, "alexnet": 4, "resnet18": 8,
    "resnet50": 1 + 2 * 16, "convnet": 2, "mlp": 2,
}  # fmt: skip
PAPER = {
    "vgg16": (10, 14_724_042),
    "preresnet101": (10, 1_054_106),
    "resnet18": (1000, 11_689_512),
    "resnet50": (1000, 25_557_032),
}
AFFINE = (
    nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten,
    nn.Identity,
)  # fmt: skip
KINKED = (nn.ReLU, nn.LeakyReLU, nets.Abs, nn.MaxPool2d)


def small(name, classes=7, **options):
    return nets.build(name, classes, **SMALL[name][0], **options)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def spread(values):
    return values.detach().std().item()


def leaves(net):
    return [module for module in net.modules() if not [*module.children()]]


def of(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


def test_small_forms_cover_all_names():
    assert SMALL.keys() == nets.NAMES.keys()


@pytest.mark.parametrize("name", SMALL)
def test_shapes_types_and_training_mode(name):
    _, shape, _, _ = SMALL[name]
    net = small(name)
    assert net.training
    out = net(torch.zeros(2, *shape))
    assert out.shape == (2, 7)
    assert out.dtype == torch.float32
    assert small(name, dtype=torch.float64).eval()(normal(2, *shape)).dtype == torch.float64


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_a_function_of_the_generator_alone(name):
    rng = torch.random.get_rng_state()
    first, again, other = (small(name, generator=seeded(seed)) for seed in (3, 3, 4))
    default = small(name)
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert same(first, again)
    assert not same(first, other)
    assert same(default, small(name, generator=seeded(0)))
    assert all(torch.isfinite(value).all() for value in first.state_dict().values())
    assert all(p.requires_grad and p.is_leaf for p in first.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_is_not_taken_for_no_generator(name):
    with pytest.raises(AttributeError, match="device"):
        small(name, generator=0)


@pytest.mark.parametrize("name", SMALL)
def test_state_dict_makes_the_round_trip(name):
    net, other = small(name, generator=seeded(1)), small(name, generator=seeded(2))
    other.load_state_dict(net.state_dict())
    assert same(net, other)


@pytest.mark.parametrize("alpha", [0, 0.1, -1])
@pytest.mark.parametrize("name", SMALL)
def test_every_layer_is_piecewise_affine(name, alpha):
    net = small(name, alpha=alpha)
    assert all(isinstance(module, AFFINE + KINKED) for module in leaves(net))
    used = {type(m) for m in leaves(net) if isinstance(m, KINKED)} - {nn.MaxPool2d}
    assert used == {type(nets.activation(alpha))}
    assert all(m.negative_slope == 0.1 for m in of(net, nn.LeakyReLU))


@pytest.mark.parametrize(
    "name, alpha", [(name, alpha) for name in SMALL for alpha in (0, 0.1) if name != "resnet50"]
    + [("resnet50", 0.1)],
)  # fmt: skip
def test_units_and_stages_read_them(name, alpha):
    _, shape, nonlinearities, layers = SMALL[name]
    net = shaken(small(name, alpha=alpha))
    read = stages.read(net, shape)
    assert len(read) == nonlinearities + 1
    x = normal(2, *shape)
    rows = x
    for stage in read:
        rows = stage.advance(rows.flatten(1))
    assert torch.allclose(rows, net(x), rtol=1e-9)
    found = units(net)
    assert len(found) == layers == len(of(net, (nn.Conv2d, nn.Linear)))
    free = [at for at in found.values() if not at.closed]
    assert len(free) == FREE[name]
    assert all(at.alpha == alpha for at in free)


@pytest.mark.parametrize("name", PAPER)
def test_parameters_are_those_of_the_paper(name):
    classes, expected = PAPER[name]
    net = nets.build(name, classes)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize("depth, classes", [(18, 1000), (50, 10)])
def test_resnets_are_torchvision_s(depth, classes):
    models = pytest.importorskip("torchvision.models")
    net = nets.resnet(depth, classes, generator=seeded(5)).eval()
    theirs = getattr(models, f"resnet{depth}")(num_classes=classes).eval()
    theirs.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=seeded(0))
    assert torch.equal(net(x), theirs(x))


def test_resnet_s_start_has_torchvision_s_distribution():
    models = pytest.importorskip("torchvision.models")
    ours, theirs = nets.resnet(18, 200), models.resnet18(num_classes=200)
    for (name, mine), other in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        if mine.numel() > 1 and "num_batches" not in name:
            tolerance = 4 / mine.numel() ** 0.5
            assert spread(mine) == pytest.approx(spread(other), rel=tolerance), name
            assert mine.mean().item() == pytest.approx(
                other.mean().item(), abs=tolerance * spread(mine)
            ), name


def test_small_stem_keeps_the_pixels():
    net = nets.resnet(18, 200, small=True)
    assert (net.conv1.kernel_size, net.conv1.stride) == ((3, 3), (1, 1))
    assert net.conv1(torch.zeros(1, 3, 64, 64)).shape[2:] == (64, 64)
    assert isinstance(net.maxpool, nn.Identity)


def test_vgg_by_hand():
    net = nets.vgg16(7, 0.1, width=0.1, in_channels=2, dtype=torch.float64, generator=seeded(2))
    net = shaken(net)
    convs, norms = of(net, nn.Conv2d), of(net, nn.BatchNorm2d)
    assert [m.out_channels for m in convs] == [6] * 2 + [13] * 2 + [26] * 3 + [51] * 6
    assert not any(m.bias is not None for m in convs)
    z = x = normal(3, 2, 32, 32)
    for number, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        if number in (2, 4, 7, 10):
            z = F.max_pool2d(z, 2)
        z = F.leaky_relu(norm(F.conv2d(z, conv.weight, padding=1)), 0.1)
    assert z.shape[2:] == (2, 2)
    assert torch.allclose(net(x), net.classifier(z.mean((2, 3))))


def test_preresnet_by_hand():
    net = shaken(nets.preresnet(29, 7, dtype=torch.float64, width=0.25))
    assert [len(stage) for stage in (net.stage1, net.stage2, net.stage3)] == [3, 3, 3]
    x = normal(2, 3, 32, 32)
    stream = F.conv2d(x, net.stem.weight, padding=1)
    for number, stage in enumerate((net.stage1, net.stage2, net.stage3)):
        for first, block in zip((True, False, False), stage, strict=True):
            stride = 2 if number and first else 1
            z = F.conv2d(F.relu(block.bn1(stream)), block.conv1.weight)
            z = F.conv2d(F.relu(block.bn2(z)), block.conv2.weight, stride=stride, padding=1)
            z = F.conv2d(F.relu(block.bn3(z)), block.conv3.weight)
            skip = F.conv2d(stream, block.shortcut.weight, stride=stride) if first else stream
            stream = skip + z
    assert stream.shape == (2, 64, 8, 8)
    expected = net.classifier(F.relu(net.bn(stream)).mean((2, 3)))
    assert torch.allclose(net(x), expected)


def test_preresnet_101_has_the_paper_s_batchnorms():
    net = nets.preresnet()
    widths = {name: m.num_features for name, m in net.named_modules() if type(m) is nn.BatchNorm2d}
    stream = [width for name, width in widths.items() if name.endswith(("bn1", "bn"))]
    assert (len(widths), sum(widths.values())) == (100, 7408)
    assert (len(stream), sum(stream)) == (34, 4944)
    assert len(of(net, nn.Conv2d)) == 103


def test_alexnet_has_the_public_shape():
    net = nets.alexnet()
    shapes = [tuple(m.weight.shape) for m in of(net, (nn.Conv2d, nn.Linear))]
    assert shapes == [
        (96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3),
        (4096, 1024), (4096, 4096), (10, 4096),
    ]  # fmt: skip
    assert [m.groups for m in of(net, nn.Conv2d)] == [1, 2, 1, 2, 2]
    odd = nets.alexnet(width=0.013)
    assert all(m.out_channels % 2 == 0 for m in of(odd, nn.Conv2d))


def test_alexnet_by_hand():
    net = shaken(nets.alexnet(7, 0.1, width=0.1, dtype=torch.float64))
    convs, norms = of(net, nn.Conv2d), of(net, nn.BatchNorm2d)
    z = x = normal(2, 3, 32, 32)
    for number, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        stride, padding, groups = (4, 0, 1) if number == 0 else (1, 2 if number == 1 else 1, 2)
        groups = 1 if number == 2 else groups
        z = F.conv2d(z, conv.weight, conv.bias, stride, padding, groups=groups)
        z = F.leaky_relu(norm(z), 0.1)
        z = z if number else F.max_pool2d(z, 3, 2)
    assert z.shape == (2, 26, 2, 2)
    for number, linear in enumerate(of(net, nn.Linear)):
        z = linear(F.leaky_relu(z, 0.1) if number else z.flatten(1))
    assert torch.allclose(net(x), z)


@pytest.mark.parametrize("name", ["vgg16", "preresnet101"])
def test_start_of_the_sources(name):
    net = nets.build(name, 100)
    for conv in of(net, nn.Conv2d):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        tolerance = 4 / conv.weight.numel() ** 0.5
        assert spread(conv.weight) * (fan_out / 2) ** 0.5 == pytest.approx(1, abs=tolerance)
    for norm in of(net, nn.BatchNorm2d):
        assert (norm.weight == 0.5).all()
        assert not norm.bias.any()
        assert not norm.running_mean.any()
        assert (norm.running_var == 1).all()
        assert norm.num_batches_tracked == 0
    bound = net.classifier.in_features**-0.5
    if name == "vgg16":
        assert spread(net.classifier.weight) == pytest.approx(0.01, rel=0.02)
        assert not net.classifier.bias.any()
    else:
        assert net.classifier.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert 0.9 * bound < net.classifier.bias.abs().max() <= bound


def test_alexnet_starts_as_pytorch_s_layers_do():
    for layer in of(nets.alexnet(), (nn.Conv2d, nn.Linear)):
        bound = layer.weight[0].numel() ** -0.5
        for values in (layer.weight, layer.bias):
            assert 0.6 * bound < values.abs().max() <= bound
            assert spread(values) == pytest.approx(bound / 3**0.5, rel=4 / values.numel() ** 0.5)


def test_leaky_convolutions_are_scaled_for_their_slopes():
    plain, leaky = (nets.vgg16(alpha=alpha, width=0.25) for alpha in (0, 0.5))
    ratio = plain.features[0].weight / leaky.features[0].weight
    assert torch.allclose(ratio, torch.tensor(1.25**0.5))


def test_numbers_without_a_rule_are_refused():
    with pytest.raises(ValueError, match="'0' is a LayerNorm that holds numbers"):
        drawn(lambda: nn.Sequential(nn.LayerNorm(3)), generator=None, dtype=torch.float32)


BAD = {
    "name": (lambda: nets.build("vgg17", 10), "no network is called 'vgg17'.*vgg16, preresnet101"),
    "option": (lambda: nets.build("resnet18", 10, width=1), r"'resnet18' .*\['width'\].*width"),
    "missing": (lambda: nets.build("mlp", 10), "'mlp' cannot be built.*in_shape"),
    "depth": (lambda: nets.preresnet(100), r"depth is 100.*9 n \+ 2: use 92 or 101"),
    "low depth": (lambda: nets.preresnet(2), "depth is 2.*use 11 or 20"),
    "resnet": (lambda: nets.resnet(34), "depth is 34.*18 and 50"),
    "classes": (lambda: nets.vgg16(0), r"classes is \(0,\)"),
    "resnet classes": (lambda: nets.resnet(18, 2.5), r"classes is \(2.5,\)"),
    "width": (lambda: nets.vgg16(width=0), "width is 0, .*above 0"),
    "nan width": (lambda: nets.preresnet(11, width=float("nan")), "width is nan"),
    "alpha": (lambda: nets.preresnet(11, alpha=2), "alpha is 2"),
    "resnet alpha": (lambda: nets.resnet(18, alpha=-3), "alpha is -3"),
    "channels": (lambda: nets.alexnet(in_channels=-1), r"in_channels is \(-1,\)"),
    "size": (lambda: nets.alexnet(size=18), "size is 18.*need 19"),
    "half a block": (lambda: nets.preresnet(depth=20.0), r"depth is \(20.0,\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_network_lives_on_its_generator_s_device():
    net = nets.vgg16(width=0.1, generator=torch.Generator("cuda").manual_seed(0))
    assert {value.device.type for value in net.state_dict().values()} == {"cuda"}
