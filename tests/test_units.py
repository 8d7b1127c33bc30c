"""splinelib.units: layers, BatchNorm, activations and readers, found in networks of all kinds."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from networks import Written, linears, normal, shaken, state, unchanged
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm

from splinelib import nets, pruning
from splinelib.folding import fold_constants, working_copy
from splinelib.merging import merge_all
from splinelib.units import Reader, find, norm_map, rows, units


def read_by(net, layer):
    return [(reader.layer, reader.positions) for reader in units(net)[layer].readers]


def test_a_plain_network():
    found = units(nets.mlp([2, 5, 4, 3], alpha=-1))
    assert list(found) == ["0", "2", "4"]
    assert [u.width for u in found.values()] == [5, 4, 3]
    assert [u.alpha for u in found.values()] == [-1, -1, None]
    assert [u.norm for u in found.values()] == [None] * 3
    assert found["0"].readers == (Reader("2", 1, ()),)
    assert [u.closed for u in found.values()] == ["", "", "it is the output of the network"]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name, channels", [("resnet18", 4800), ("resnet50", 26560)])
def test_every_convolution_of_a_resnet_has_its_batchnorm(name, channels, mode):
    net = getattr(torchvision.models, name)(weights=None).train(mode)
    found = units(net)
    convs = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    assert set(found) == {*convs, "fc"}
    norms = {layer: u.norm for layer, u in found.items() if layer != "fc"}
    assert sum(net.get_submodule(norm).num_features for norm in norms.values()) == channels
    assert sum(found[layer].width for layer in convs) == channels
    for layer, norm in norms.items():  # torchvision's names
        expected = layer[:-1] + "1" if "downsample" in layer else layer.replace("conv", "bn")
        assert norm == expected
    assert net.training == mode


def test_the_sums_of_a_bottleneck_close_its_units():
    found = units(torchvision.models.resnet50(weights=None))
    block = {name: found[f"layer1.0.{name}"] for name in ("conv1", "conv2", "conv3")}
    assert [u.closed for u in block.values()] == ["", "", "it enters a sum"]
    assert found["layer1.0.downsample.0"].closed == "it enters a sum"
    assert [r.layer for r in block["conv1"].readers] == ["layer1.0.conv2"]
    assert [u.alpha for u in block.values()] == [0, 0, None]
    assert not found["conv1"].closed  # behind conv1 the shortcut has a convolution of its own
    assert len(found["conv1"].readers) == 2
    assert found["fc"].closed == "it is the output of the network"


def test_one_logit_that_is_read_too_is_closed():
    net = Written(lambda m, x: (lambda h: m.fc2(F.relu(h)) + h)(m.fc1(x)), **linears(2, 1, 1))
    assert units(net)["fc1"].closed == "it enters a sum"
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert units(net)["0"].closed == "it is the output of the network"
    assert units(net)["0"].alpha == 0


@pytest.mark.parametrize("pool", ["max", "avg", None])
def test_flatten_spreads_a_unit_over_positions(pool):
    net = nets.convnet((1, 8, 8), (3, 4), (3, 3), pool=pool, batch_norm=True)
    last = list(units(net))[-1]
    assert read_by(net, [*units(net)][1]) == [(last, 64 if pool is None else 4)]


FLATTENING = {
    "flatten": lambda m, x: m.fc(torch.flatten(F.relu(m.conv(x)), 1)),
    "method": lambda m, x: m.fc(m.conv(x).relu().flatten(1)),
    "view": lambda m, x: (lambda h: m.fc(h.view(h.size(0), -1)))(m.conv(x).relu()),
    "fixed": lambda m, x: (lambda h: m.fc(h.view(h.size(0), 3 * 9)))(m.conv(x).relu()),
    "pooled first": lambda m, x: m.fc(F.max_pool2d(m.conv(x), 1).relu().flatten(1)),
}


@pytest.mark.parametrize("way", FLATTENING)
def test_ways_to_flatten(way):
    net = Written(FLATTENING[way], conv=nn.Conv2d(1, 3, 3), fc=nn.Linear(27, 2))
    found = units(net)["conv"]
    assert (found.readers[0].positions, found.alpha, found.closed) == (9, 0, "")


def test_a_mean_over_the_pixels_is_one_position():
    net = Written(
        lambda m, x: m.fc(m.conv(x).relu().mean((2, 3))),
        conv=nn.Conv2d(1, 3, 3),
        fc=nn.Linear(3, 2),
    )
    assert read_by(net, "conv") == [("fc", 1)]
    assert not units(net)["conv"].closed


CLOSED = {
    "a mean over channels": (
        lambda m, x: m.fc(m.conv(x).mean(1).flatten(1)), {"fc": nn.Linear(9, 2)},
        "'fc' does not read it unit by unit",
    ),
    "a mean over one axis": (
        lambda m, x: m.fc(m.conv(x).mean(2)), {"fc": nn.Linear(3, 2)},
        "'fc' does not read it unit by unit",
    ),
    "columns of pixels": (
        lambda m, x: m.fc(m.conv(x)), {"fc": nn.Linear(3, 2)},
        "'fc' does not read it unit by unit",
    ),
    "another reshape": (
        lambda m, x: (lambda h: m.fc(h.view(h.size(0), 9, 3)))(m.conv(x)), {"fc": nn.Linear(3, 2)},
        "'fc' does not read it unit by unit",
    ),
    "a view that makes rows of pixels": (
        lambda m, x: m.fc(m.conv(x).view(-1, 3)), {"fc": nn.Linear(3, 2)},
        "'fc' does not read it unit by unit",
    ),
    "a view that may make rows": (
        lambda m, x: m.fc(m.conv(x).reshape(-1, 27)), {"fc": nn.Linear(27, 2)},
        "'fc' does not read it unit by unit",
    ),
    "a batch laid flat": (
        lambda m, x: m.fc(m.conv(x).flatten(0)), {"fc": nn.Linear(27, 2)},
        "'fc' does not read it unit by unit",
    ),
    "a view of other channels": (
        lambda m, x: (lambda h: m.next(h.view(h.size(0), 3, 2, 8)))(m.conv(x)),
        {"next": nn.Conv2d(3, 1, 1)}, "'next' does not read it unit by unit",
    ),
    "a view that moves the channels": (
        lambda m, x: (lambda h: m.next(h.view(h.size(0), -1, 3, 2)))(m.conv(x)),
        {"next": nn.Conv2d(3, 1, 1)}, "'next' does not read it unit by unit",
    ),
    "a view that may make rows of maps": (
        lambda m, x: m.next(m.conv(x).view(-1, 3, 4, 6)), {"next": nn.Conv2d(3, 1, 1)},
        "'next' does not read it unit by unit",
    ),
    "a mean over channels laid out anew": (
        lambda m, x: (lambda h: m.next(h.view(h.size(0), 3, -1, 1)))(m.conv(x).mean(1)),
        {"next": nn.Conv2d(3, 1, 1)}, "'next' does not read it unit by unit",
    ),
    "pooling of what is flat": (
        lambda m, x: m.fc(F.max_pool2d(m.conv(x).flatten(2), 3).flatten(1)),
        {"fc": nn.Linear(3, 2)}, "'fc' does not read it unit by unit",
    ),
    "groups": (
        lambda m, x: m.next(m.conv(x).relu()), {"next": nn.Conv2d(3, 3, 1, groups=3)},
        "it is read by the grouped convolution 'next'",
    ),
    "a concatenation": (
        lambda m, x: m.next(torch.cat([m.conv(x), m.conv2(x)], 1)),
        {"next": nn.Conv2d(6, 1, 1), "conv2": nn.Conv2d(1, 3, 3)}, "it goes through 'cat'",
    ),
    "a doubled value": (
        lambda m, x: (lambda h: m.next(h + h))(m.conv(x)), {"next": nn.Conv2d(3, 1, 1)},
        "it enters a sum",
    ),
    "a reader used twice": (
        lambda m, x: m.next(m.next(m.conv(x))), {"next": nn.Conv2d(3, 3, 1)},
        "'next', which reads it, is used in several places",
    ),
    "two activations": (
        lambda m, x: (lambda h: m.next(h.relu()) + m.next2(h.abs()))(m.conv(x)),
        {"next": nn.Conv2d(3, 1, 1), "next2": nn.Conv2d(3, 1, 1)},
        "it goes through different activations",
    ),
    "two activations in a row": (
        lambda m, x: m.next(F.leaky_relu(m.conv(x)).abs()), {"next": nn.Conv2d(3, 1, 1)},
        "it goes through different activations",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CLOSED)
def test_reasons_why_units_are_closed(case):
    forward, modules, reason = CLOSED[case]
    net = Written(forward, conv=nn.Conv2d(1, 3, 3), **modules)
    assert units(net)["conv"].closed == reason


FEATURES_ON_AN_AXIS = {  # inputs (B, 1, 4, 4) or (B, 2, 4, 4): what works on maps mixes features
    "max": nn.MaxPool2d((1, 3), 1, (0, 1)),
    "average": nn.AvgPool2d((1, 3), 1, (0, 1)),
    "adaptive": nn.AdaptiveAvgPool2d((4, 4)),
    "padding": nn.ZeroPad2d((1, -1, 0, 0)),
    "BatchNorm2d": nn.BatchNorm2d(4).eval(),
}


@pytest.mark.parametrize("between", FEATURES_ON_AN_AXIS)
@pytest.mark.parametrize("behind", [[], [nn.ReLU()]])
def test_a_linear_in_front_of_what_works_on_maps_is_closed(between, behind):
    net = nn.Sequential(nn.Linear(4, 4), *behind, FEATURES_ON_AN_AXIS[between], nn.Linear(4, 2))
    at = units(net)["0"]
    assert at.norm is None
    assert at.closed == f"'{len(behind) + 2}' does not read it unit by unit"
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = 1
    with pytest.raises(ValueError, match="does not read it unit by unit"):
        fold_constants(net)


def test_functions_that_work_on_maps_close_a_linear():
    for function in (F.avg_pool2d, F.max_pool2d):
        net = Written(lambda m, x, f=function: m.fc2(f(m.fc1(x), 1)), **linears(4, 4, 2))
        assert units(net)["fc1"].closed == "'fc2' does not read it unit by unit"


def test_a_mean_that_keeps_its_axes_in_front_of_a_convolution():
    net = Written(
        lambda m, x: m.next(m.conv(x).relu().mean((2, 3), keepdim=True)),
        conv=nn.Conv2d(1, 3, 3), next=nn.Conv2d(3, 2, 1),
    ).double()  # fmt: skip
    assert read_by(net, "conv") == [("next", 1)]
    assert units(net)["conv"].closed == ""
    with torch.no_grad():
        net.conv.weight[1], net.conv.bias[1] = 0, 1
    folded, x = fold_constants(net), normal(5, 1, 6, 6)
    assert not folded.next.weight[:, 1].any()
    assert torch.allclose(folded(x), net(x), rtol=0, atol=1e-12)


def tied(part):
    """Two layers and two BatchNorms of three units, of which two have one tensor in common."""
    layers = [(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU()) for _ in range(2)]
    net = shaken(nn.Sequential(*layers[0], *layers[1], nn.Linear(3, 1)))
    first, path = part.split(".")
    setattr(net[int(first) + 3], path, getattr(net[int(first)], path))
    return net


@pytest.mark.parametrize("part", ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean"])
def test_any_tensor_in_two_places_is_shared(part):
    net = tied(part)
    for layer in ("0", "3"):
        assert "its weights are used in several places" in units(net)[layer].closed
    with torch.no_grad():
        net[0].weight[:2] = net[0].weight[0]
        net[0].bias[:2] = net[1].bias[:2] = net[1].running_mean[:2] = 1
        net[1].weight[:2] = net[1].running_var[:2] = 2
    merged, done, refused = merge_all(net, ["0"])  # a refusal in words, and the same function
    assert (done, len(refused)) == ([], 1)
    x = normal(5, 3)
    assert torch.equal(merged(x), net(x))


def test_folding_into_a_tied_bias_is_refused():
    net = nets.mlp([2, 3, 3, 3, 1])
    net[4].bias = net[2].bias
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, 1
    with pytest.raises(ValueError, match="'2', which reads it, is used in several places"):
        fold_constants(net)


def test_shared_layers_and_tied_weights():
    net = Written(lambda m, x: m.fc2(m.fc1(m.fc1(x).relu()).relu()), **linears(3, 3, 2))
    found = units(net)
    assert list(found) == ["fc1", "fc2"]
    assert "used in several places" in found["fc1"].closed
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    net[2].weight = net[0].weight
    assert "its weights are used in several places" in units(net)["0"].closed
    norm = nn.BatchNorm1d(3)
    net = nn.Sequential(nn.Linear(3, 3), norm, nn.Linear(3, 3), norm, nn.Linear(3, 1)).eval()
    assert "its weights are used in several places" in units(net)["0"].closed
    # one activation module at many places, and BatchNorms without weights, share nothing
    relu, norms = nn.ReLU(), [nn.BatchNorm1d(3, affine=False) for _ in range(2)]
    net = nn.Sequential(nn.Linear(3, 3), norms[0], relu, nn.Linear(3, 3), norms[1], relu,
                        nn.Linear(3, 1)).eval()  # fmt: skip
    assert [u.closed for u in units(net).values()][:2] == ["", ""]


def test_what_stands_behind_a_layer():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 3),
                        nn.LeakyReLU(1.0), nn.Linear(3, 1))  # fmt: skip
    found = units(net)
    assert found["0"].norm is None  # not directly behind
    assert [op.label for op in found["0"].readers[0].through] == ["1", "2"]
    assert (found["3"].alpha, found["3"].closed) == (None, "")
    net = Written(
        lambda m, x: (lambda h: m.fc2(m.norm(h).relu()) + m.fc3(h))(m.fc1(x)),
        fc1=nn.Linear(2, 3), fc2=nn.Linear(3, 1), fc3=nn.Linear(3, 1), norm=nn.BatchNorm1d(3),
    )  # fmt: skip
    assert units(net)["fc1"].norm is None  # fc3 reads past it


def test_features_on_the_last_axis_have_no_batchnorm_of_their_own():
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(3), nn.Linear(4, 1))
    found = units(net)["0"]  # inputs (B, 3, 2): BatchNorm1d looks at the axis of size 3
    assert found.norm is None
    assert found.closed == "'2' does not read it unit by unit"


def test_training_mode_reads_the_same_and_stays():
    net = shaken(nets.convnet(batch_norm=True)).train()
    before = state(net)
    training = units(net), rows(net, "4")
    assert net.training
    assert all(module.training for module in net.modules())
    net.eval()
    assert training[0] == units(net)
    assert all(map(torch.equal, training[1], rows(net, "4")))
    assert unchanged(net, before)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_rows_give_the_pre_activations(groups, affine):
    conv, norm = nn.Conv2d(4, 8, (3, 2), groups=groups), nn.BatchNorm2d(8, affine=affine)
    net = shaken(nn.Sequential(conv, norm, nn.ReLU()))
    x = normal(5, 4, 3, 2)  # one patch
    W, b = rows(net, "0")
    assert W.shape == (8, 24)
    assert torch.allclose(x.flatten(1) @ W.T + b, norm(conv(x)).flatten(1), rtol=0, atol=1e-12)
    raw, beta = rows(net, "0", bias="beta")
    assert torch.allclose(x.flatten(1) @ raw.T, (conv(x) - conv.bias[:, None, None]).flatten(1))
    assert torch.equal(beta, norm.bias.detach() if affine else torch.zeros(8).double())
    assert torch.equal(rows(net, "0", bias="none").W, raw)
    assert not rows(net, "0", bias="none").b.any()


@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_rows_of_a_linear(seed, own_bias, normed):
    linear = nn.Linear(3, 4, bias=own_bias)
    net = shaken(nn.Sequential(linear, *[nn.BatchNorm1d(4)] * normed), seed % 1000)
    x = normal(6, 3, seed=seed % 1000)
    for layer in ("0", units(net)["0"]):
        W, b = rows(net, layer)
        assert torch.allclose(x @ W.T + b, net(x), rtol=0, atol=1e-12)
    b = rows(net, "0", bias="beta").b
    expected = net[1].bias if normed else linear.bias if own_bias else torch.zeros(4).double()
    assert torch.equal(b, expected)


def test_rows_are_new_float64_tensors_without_gradients():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    W, b = rows(net, "0")
    assert W.dtype == b.dtype == torch.float64
    assert not W.requires_grad
    double = net.double()
    for bias in ("folded", "beta", "none"):
        for value in rows(double, "0", bias=bias):
            value += 1
        assert not torch.equal(rows(double, "0", bias=bias).W, W + 1)
        assert torch.equal(rows(double, "0").W, W)
        assert torch.equal(rows(double, "0").b, b)


def test_weights_pruned_by_torch_count_as_they_are_used():
    net = nets.mlp([2, 3, 1])
    prune.l1_unstructured(net[0], "weight", 2)
    with torch.no_grad():
        net[0].weight_orig *= 2  # as a step of an optimiser: .weight is stale until the next pass
    expected = net[0].weight_orig * net[0].weight_mask
    assert torch.equal(rows(net, "0").W, expected)
    assert int((rows(net, "0").W == 0).sum()) == 2


def test_parametrized_weights_are_read():
    class Double(nn.Module):
        def forward(self, w):
            return 2 * w

    net = nets.mlp([2, 3, 1])
    weight = net[0].weight.detach().clone()
    parametrize.register_parametrization(net[0], "weight", Double())
    assert torch.equal(rows(net, "0").W, 2 * weight)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_a_hook_computes_are_refused():
    for norm in (spectral_norm, nn.utils.weight_norm):
        net = nets.mlp([2, 3, 1])
        norm(net[0])
        with pytest.raises(ValueError, match="weight of Linear.* is computed by a hook"):
            rows(net, "0")
        with pytest.raises(ValueError, match="weight of '0' is computed from other parameters"):
            working_copy(net)
    net = parametrizations.spectral_norm(nn.Linear(2, 3).double())
    net = nn.Sequential(net, nn.ReLU(), nn.Linear(3, 1)).double().eval()
    assert torch.equal(rows(net, "0").W, net[0].weight)


def test_norm_map_is_the_batchnorm():
    net = shaken(nn.Sequential(nn.BatchNorm1d(3)))
    scale, shift = norm_map(net[0])
    x = normal(4, 3)
    assert torch.allclose(scale * x + shift, net(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "last, hint",
    [
        (nn.Softmax(1), "is a Softmax.* take it off"),
        (nn.LogSoftmax(1), "is a LogSoftmax.* take it off"),
        (nn.Sigmoid(), "is a Sigmoid.* take it off"),
        (nn.ReLU6(), "is a ReLU6.* put ReLU in its place"),
        (nn.PReLU(), "is a PReLU.* put LeakyReLU"),
        (nn.SyncBatchNorm(3), r"is a SyncBatchNorm.* BatchNorm2d\(num_features\) takes its state"),
        (nn.GELU(), "is a GELU.* see splinelib.soft"),
        (nn.LazyLinear(2), r"'1' \(LazyLinear\) has no shape yet: run one batch"),
        (nn.BatchNorm1d(3, track_running_stats=False), "track_running_stats=True, and train on"),
        (Written(lambda m, x: F.log_softmax(x, 1)), "calls log_softmax.* take it off"),
    ],
    ids=str,
)
def test_what_is_not_read_is_told_with_what_helps(last, hint):
    with pytest.raises(ValueError, match=hint) as told:
        units(nn.Sequential(nn.Linear(2, 3), last).eval())
    assert ("splinelib.soft" in str(told.value)) == ("soft" in hint.partition("splinelib.")[2])
    assert "net.eval()" not in str(told.value)


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_state_of_a_synchronised_batchnorm_fits_a_plain_one():
    norm = shaken(nn.Sequential(nn.SyncBatchNorm(3)))[0]
    plain = nn.BatchNorm2d(3).double()
    plain.load_state_dict(norm.state_dict())
    x = normal(2, 3, 4, 4)
    assert torch.equal(plain.eval()(x), norm.eval()(x))


def test_lazy_layers_are_asked_to_be_run_first():
    for call in (units, pruning.spline, pruning.magnitude):
        net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.LazyLinear(4))
        with pytest.raises(ValueError, match="'2.* has no shape yet"):
            call(net, *[0.5] * (call is not units))


def test_bad_input():
    with pytest.raises(ValueError, match="bare Linear"):
        units(nn.Linear(2, 3))
    net = nets.mlp([2, 3, 1])
    with pytest.raises(ValueError, match="no layer '1'; its layers: 0, 2"):
        find(net, "1")
    with pytest.raises(ValueError, match="no layer 'fc'"):
        rows(net, "fc")
    with pytest.raises(ValueError, match="bias is 'raw'"):
        rows(net, "0", bias="raw")
    with pytest.raises(ValueError, match="Tanh"):
        units(nn.Sequential(nn.Linear(2, 3), nn.Tanh()))
