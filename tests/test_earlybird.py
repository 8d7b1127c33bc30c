"""splinelib.earlybird.codes: which signs are taken, of what, and that nothing else changes."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from networks import Written, linears, normal, shaken, state, unchanged
from torch import nn

from splinelib import affine, nets
from splinelib.earlybird import codes

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def stacked(found):
    """All bits of an input in one row."""
    return torch.cat(found.bits, dim=1)


def written(function, **modules):
    return Written(function, **modules).double()


class Basic(nn.Module):
    """A residual block that uses one ReLU twice, the second time on the sum."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
        self.bn = nn.BatchNorm1d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.bn(self.b(self.relu(self.a(x)))))


# which signs


CASES = {
    "relu": (nets.mlp([3, 70, 5, 2]), (3,)),
    "leaky": (nets.mlp([3, 8, 8, 2], alpha=0.1), (3,)),
    "abs": (nets.mlp([3, 8, 8, 2], alpha=-1.0), (3,)),
    "no bend": (nn.Sequential(nets.mlp([3, 8, 2], alpha=1.0), nn.ReLU()), (3,)),
    "residual": (nets.residual_mlp(3, 6, 2, 2), (3,)),
    "convnet": (nets.convnet(batch_norm=True, pool="avg"), (1, 8, 8)),
    "shared": (nn.Sequential(nn.Linear(3, 6), Basic(6), Basic(6), nn.Linear(6, 2)), (3,)),
    "preresnet": (nets.preresnet(20, width=0.25), (3, 8, 8)),
    "functions": (
        Written(
            lambda m, x: m.fc3(F.leaky_relu(m.fc2(torch.relu(m.fc1(x).abs())), 0.2)),
            **linears(3, 9, 7, 2),
        ),
        (3,),
    ),
}
IN_PLACE = {"shared"}  # what a trace refuses


def plain(net):
    """A copy in which no ReLU works in place, and none is shared."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return net


@pytest.mark.parametrize("name", CASES)
def test_bits_are_those_of_the_affine_map(name):
    net, shape = CASES[name]
    net = shaken(copy.deepcopy(net))
    x = normal(10, *shape)
    found = codes(net, x, chunk=4)
    assert found.count == 10
    assert torch.equal(stacked(found), affine.codes(plain(net), x) == 1)


def test_zero_is_not_active():
    net = nets.by_hand(([[1.0], [0.0], [-1.0]], [0.0, 0.0, 0.0]), ([[1.0, 1.0, 1.0]], [0.0]))
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert codes(net, x).bits[0].tolist() == [[False] * 3, [True, False, False]]
    assert torch.equal(stacked(codes(net, x)), affine.codes(net, x) == 1)


def test_a_snapshot_needs_no_gradients():
    seen = []
    net = nets.mlp([3, 4, 2])
    net[0].register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    codes(net, normal(2, 3))
    assert seen == [False]


def test_max_pooling_has_no_column():
    net = shaken(nets.vgg16(width=0.125))
    x = normal(4, 3, 32, 32)
    found = codes(net, x)
    assert len(found.layers) == 13
    assert found.layers[:2] == ("features.2", "features.5")
    columns = affine.codes(net, x)
    assert columns.shape[1] > sum(found.widths)  # it has the windows, too


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_dtype_and_device_follow_the_network(dtype, device):
    net = copy.deepcopy(CASES["residual"][0]).to(device, dtype)
    x = normal(9, 3).to(device, dtype)
    seen = []
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda _, args: seen.append(args[0] > 0))
    net(x)
    expected = torch.cat(seen, dim=1)
    found = codes(net, x)
    assert found.device.type == device
    assert torch.equal(stacked(found), expected)


def test_layers_of_several_types():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4).bfloat16(), nn.ReLU())
    net[2].register_forward_pre_hook(lambda _, args: args[0].bfloat16())
    assert codes(net, torch.randn(2, 3)).widths == (4, 4)


def resnet18():
    """torchvision's, with few channels' worth of pixels, and BatchNorms that do something."""
    return shaken(torchvision.models.resnet18(num_classes=10), positive=True)


def test_residual_networks_have_the_shortcut_in_their_signs():
    net, x = resnet18(), normal(3, 3, 32, 32)
    block, seen = net.layer1[0], {}
    block.register_forward_pre_hook(lambda _, args: seen.update(x=args[0].clone()))
    block.bn2.register_forward_hook(lambda _, __, out: seen.update(bn=out.clone()))
    found = codes(net, x)
    assert len(found.layers) == 17
    assert found.layers[:3] == ("relu", "layer1.0.relu", "layer1.0.relu#2")
    second = dict(zip(found.layers, found.bits, strict=True))["layer1.0.relu#2"]
    assert torch.equal(second, (seen["x"] + seen["bn"]).flatten(1) > 0)
    assert not torch.equal(second, seen["bn"].flatten(1) > 0)
    norms = codes(net, x, at="batchnorm")
    assert len(norms.layers) == 20  # three of them on shortcuts
    at_norm = dict(zip(norms.layers, norms.bits, strict=True))
    assert torch.equal(at_norm["layer1.0.bn2"], seen["bn"].flatten(1) > 0)
    assert torch.equal(at_norm["bn1"], found.bits[0])  # here nothing comes in between


def test_names_count_the_calls():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2))
    assert codes(net, torch.randn(2, 3)).layers == ("1", "1#2")
    net = Written(lambda m, x: m.fc2(F.relu(F.relu(m.fc1(x)) - 1)), **linears(3, 4, 2))
    assert codes(net, torch.randn(2, 3)).layers == ("net", "net#2")
    net = Written(lambda m, x: F.relu(1 - m.inner(m.act(x))), inner=net, act=nn.ReLU())
    assert codes(net, torch.randn(2, 3)).layers == ("act", "inner", "inner#2", "net")


@pytest.mark.parametrize(
    "call",
    [
        nn.ReLU(inplace=True), nn.LeakyReLU(0.1, inplace=True), nn.PReLU(), nn.RReLU(), nets.Abs(),
        F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, torch.abs, abs,
        torch.Tensor.abs_, torch.absolute, F.leaky_relu, F.leaky_relu_, F.rrelu,
        torch.ops.aten.relu.default, lambda z: F.relu(input=z), lambda z: F.relu(z, True),
        lambda z: F.prelu(z, torch.tensor([0.3]).to(z)), lambda z: z.clamp(min=0),
        lambda z: z.clamp_(0), lambda z: torch.clamp_min(z, 0), lambda z: torch.clamp(z, min=0.0),
    ],
)  # fmt: skip
def test_every_way_to_write_a_bend(call):
    net = written(lambda m, x: m.fc2(m.call(m.fc1(x))), **linears(3, 8, 2))
    net.call = call
    net, x = net.double(), normal(5, 3)
    found = codes(net, x)
    assert found.widths == (8,)
    assert torch.equal(found.bits[0], net.fc1(x) > 0)


@pytest.mark.parametrize(
    "call",
    [
        nn.GELU(), nn.SiLU(), nn.ELU(), nn.SELU(), nn.CELU(), nn.Sigmoid(), nn.Tanh(), nn.Mish(),
        nn.Softplus(), nn.Softmax(1), nn.LogSoftmax(1), nn.Hardswish(), nn.Hardtanh(), nn.ReLU6(),
        nn.Hardsigmoid(), nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink(), nn.Softshrink(),
        nn.Hardshrink(), nn.GLU(), nn.Threshold(0.1, 0.0), nn.LayerNorm(8), nn.GroupNorm(2, 8),
        torch.sigmoid, torch.tanh, torch.Tensor.sigmoid_, lambda z: z.tanh(), F.silu,
        lambda z: z.clamp(-1, 1), lambda z: z.clamp(min=0, max=6), lambda z: z.clamp(max=0),
        lambda z: torch.maximum(z, z[:1]), lambda z: torch.max(z, -z), lambda z: z.softmax(1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("at", ["activation", "batchnorm"])
def test_other_bends_are_refused_by_name(call, at):
    net = Written(lambda m, x: m.call(m.norm(m.fc1(x))), norm=nn.BatchNorm1d(8), **linears(3, 8))
    net.call = call
    with pytest.raises(ValueError, match="does not bend at zero alone"):
        codes(net, torch.randn(4, 3), at=at)


def test_a_refusal_says_where_and_what():
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.GELU()), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=re.escape("'0.1' calls gelu")):
        codes(net, torch.randn(2, 3))


def test_a_maximum_over_pixels_is_no_bend():
    net = Written(lambda m, x: F.relu(m.fc1(x)).max(dim=1).values[:, None], **linears(3, 4))
    assert codes(net, torch.randn(2, 3)).widths == (4,)


def test_weights_that_are_computed_are_no_units():
    net = Written(lambda m, x: F.linear(F.relu(m.fc1(x)), m.fc2.weight.abs()), **linears(3, 4, 2))
    assert codes(net, torch.randn(2, 3)).widths == (4,)


class Positive(nn.Module):
    def forward(self, weight):
        return F.relu(weight * 1)


def test_parametrized_weights_are_no_units():
    net = nets.mlp([3, 4, 2])
    nn.utils.parametrize.register_parametrization(net[0], "weight", Positive())
    assert codes(net, normal(4, 3)).layers == ("1",)
    nn.utils.parametrize.register_parametrization(net[2], "weight", Positive())
    assert codes(net, normal(2, 3)).layers == ("1",)  # also where its rows are as many as inputs


def test_a_batchnorm_is_read_before_hooks_of_the_user():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()).double()
    expected = codes(net, normal(4, 3), at="batchnorm")
    net[0].register_forward_hook(lambda module, args, out: -out)
    assert torch.equal(codes(net, normal(4, 3), at="batchnorm").words, expected.words)


@pytest.mark.parametrize(
    "net, message",
    [
        (nn.Sequential(nn.Linear(3, 2)), "no call of relu"),
        (nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(1.0)), "abs that bends was seen"),
        (Written(lambda m, x: torch.where(x > 0, x, 0 * x)), "write the nonlinearity as one of"),
        (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False)), "'1'"),
        (Written(lambda m, x: F.relu(x.flatten())), "the first axis must count the 4 inputs"),
        (Written(lambda m, x: F.relu(F.dropout(x))), "training=True"),
        (Written(lambda m, x: F.relu(F.dropout(x, 0.5, True))), "training=True"),
        (Written(lambda m, x: F.rrelu(x, training=True)), "rrelu with training=True"),
        (Written(lambda m, x: torch.rrelu(x, 0.1, 0.3, True)), "rrelu with training=True"),
        (Written(lambda m, x: F.relu(F.batch_norm(x, None, None, training=True))), "batch_norm wi"),
        (
            Written(lambda m, x: torch.batch_norm(x, *[None] * 4, True, 0.1, 1e-5, False).relu()),
            "batch_norm with training=True",
        ),
    ],
)
def test_networks_without_a_code_are_refused(net, message):
    with pytest.raises(ValueError, match=message):
        codes(net, torch.randn(4, 3))


def test_no_batchnorm_has_no_code():
    with pytest.raises(ValueError, match="no BatchNorm module"):
        codes(nets.mlp([3, 4, 2]), normal(2, 3), at="batchnorm")


def test_dropout_that_is_off_is_let_through():
    net = Written(
        lambda m, x: F.relu(m.drop(F.dropout(m.fc1(x), 0.5, m.training))),
        drop=nn.Dropout(0.5),
        **linears(3, 8),
    )
    x = torch.randn(4, 3)
    assert torch.equal(codes(net, x).bits[0], net.fc1(x) > 0)


def test_layers_that_depend_on_the_input_are_refused():
    net = Written(lambda m, x: F.relu(x) if x.sum() > 0 else F.relu(F.relu(x)))
    with pytest.raises(ValueError, match="other nonlinearities for other inputs"):
        codes(net, torch.tensor([[1.0], [-1.0]]), chunk=1)


def test_nan_is_refused_where_it_comes_up():
    net = nets.mlp([3, 4, 4, 2])
    net[2].weight.data[1, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN at '3': the network has diverged"):
        codes(net, normal(2, 3))
    net[2].weight.data[1, 1] = 0
    net[4].bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="NaN at 'the output'"):
        codes(net, normal(2, 3))
    net[4].bias.data[0] = torch.inf  # has a sign
    assert codes(net, normal(2, 3)).count == 2


@pytest.mark.parametrize(
    "x, options, message",
    [
        (normal(2, 3), {"at": "relu"}, "at='relu'"),
        (normal(2, 3), {"chunk": 0}, "chunk=0"),
        (normal(2, 3), {"features": 0}, "features is 0"),
        (normal(2, 3), {"features": 1.5}, "features is 1.5"),
        (normal(2, 3), {"seed": -1}, "seed is -1"),
        (normal(3), {}, r"shape \(3,\)"),
        (normal(0, 3), {}, r"shape \(0, 3\)"),
        (normal(2, 3) * torch.nan, {}, "finite"),
        (torch.ones(2, 3, dtype=torch.uint8), {}, "torch.uint8"),
        (torch.ones(2, 3), {}, "torch.float32 on cpu, the network torch.float64 on cpu"),
    ],
)
def test_bad_probes_and_settings_are_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        codes(nets.mlp([3, 4, 2]), x, **options)


# what stays as it was


class Bad(nn.Module):
    def forward(self, z):
        raise RuntimeError("on purpose")


def draw(module, args, out):
    """A hook that takes from the global random state."""
    torch.rand(1)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("at", ["activation", "batchnorm"])
def test_the_network_is_left_as_it_is(fails, at):
    net = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)
    )
    net.train()
    net[1].eval()  # a mixed state, as of a network that is tuned with fixed statistics
    net[2].register_forward_hook(draw)
    if fails:
        net.append(Bad())
    flags, before = [m.training for m in net.modules()], state(net)
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            codes(net, torch.ones(6, 3), at=at)
    else:
        codes(net, torch.ones(6, 3), at=at)
    assert [m.training for m in net.modules()] == flags
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()] == hooks
    assert unchanged(net, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in net.parameters())


def test_training_goes_on_after_a_snapshot():
    net = nets.convnet(batch_norm=True)
    x = normal(4, 1, 8, 8)
    codes(net, x)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_modes_of_a_caller_do_not_matter():
    net, x = nets.mlp([3, 200, 200, 2], dtype=torch.float32), torch.randn(50, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        low = codes(net, x)
    assert torch.equal(stacked(low), stacked(codes(net, x)))


@pytest.mark.parametrize("wrap", ["compile", "in place", "parallel", "both"])
@pytest.mark.filterwarnings("ignore")  # compiling warns of its own parts
def test_wrappers_are_looked_through(wrap):
    net, x = nets.residual_mlp(3, 6, 2, 2, dtype=torch.float32), torch.randn(9, 3)
    expected = codes(copy.deepcopy(net), x)
    wrapped = {
        "compile": lambda: torch.compile(net, backend="eager"),
        "in place": lambda: net.compile(backend="eager") or net,
        "parallel": lambda: nn.DataParallel(net),
        "both": lambda: torch.compile(nn.DataParallel(net), backend="eager"),
    }[wrap]()
    wrapped(x)
    found = codes(wrapped, x)
    assert found.layers == expected.layers
    assert torch.equal(found.words, expected.words)
    wrapped(x)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_snapshot_makes_nothing_compile_anew(in_place):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    net, x = nets.convnet(batch_norm=True, dtype=torch.float32), torch.randn(9, 1, 8, 8)
    net = Written(lambda m, x: m.body(x), body=net)  # a bare Sequential is not compiled in place
    fast = net
    if in_place:
        net.compile(backend=backend)
    else:
        fast = torch.compile(net, backend=backend)
    for _ in range(2):
        fast(x).sum().backward()
    before = len(compiled)
    for _ in range(2):
        codes(fast, x)
        fast(x).sum().backward()
    assert before
    assert len(compiled) == before
