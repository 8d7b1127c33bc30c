"""splinelib.pruning.spline: layers of unlike dimension, streams, and networks that are cut."""

import copy
import math

import pytest
import torch
import torchvision
from doubles import FACTORS, REDUCE, kept, network, rows_of, seeded, twin
from networks import normal, shaken
from planted import removed_units
from torch import nn

from splinelib import nets
from splinelib.cost import macs
from splinelib.masks import Mask
from splinelib.merging import merge_all
from splinelib.pruning.hyperplanes import hyperplanes
from splinelib.pruning.reduce import chance, distances, project
from splinelib.pruning.spline import spline, spline_scores
from splinelib.redundancy import pair_matrix
from splinelib.surgery import Group, cut, groups
from splinelib.units import Rows, rows, units

# ------------------------------------------------- layers with inputs of different dimension


def test_chance_is_what_random_directions_do():
    for d in (2, 3, 7):
        u = normal(20_000, d, seed=d)
        cosines = (u[:, 0] / u.norm(dim=1)).abs()
        for c in (0.1, 0.5, 0.8):
            table = torch.tensor([[0.0, 1 - c], [1 - c, 0.0]]).double()
            assert chance(table, d)[0, 1].item() == pytest.approx(
                (cosines >= c).double().mean().item(), abs=0.02
            )


@pytest.mark.parametrize("d", [2, 3, 27, 4608])
def test_chance_keeps_the_order_also_where_it_underflows(d):
    t = torch.cat([torch.zeros(1), torch.logspace(-14, -0.01, 60)]).double()
    p = chance((t[:, None] - t).abs(), d)[0]
    assert p[0] == 0
    assert (p[1:] > 0).all()
    assert (p.diff() >= 0).all()
    assert (p[p < 0.5].diff() > 0).all()
    assert p.max() <= 1


def test_one_input_says_nothing_about_angles():
    here = Rows(
        torch.tensor([[1.0], [-2.0], [3.0]]).double(), torch.tensor([1.0, -2.0, 0.0]).double()
    )
    N = distances(here, reduce="null")
    assert N[0, 1] == 0
    assert N[0, 2].item() == pytest.approx(1 + 0.05 * 1)


def test_a_grouped_convolution_counts_the_inputs_that_a_unit_sees():
    conv = nn.Conv2d(8, 4, 1, groups=2, dtype=torch.float64)
    net = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(4, 2, 1, dtype=torch.float64))
    here = rows(net, "0")
    alone = pair_matrix(conv.weight[:2].flatten(1), torch.zeros(2))[0, 1]
    assert here.W.shape == (4, 8)
    N = distances(Rows(here.W, torch.zeros(4).double()), reduce="null")
    expected = chance(torch.tensor([[0, alone], [alone, 0]]).double(), 4)[0, 1]
    assert N[0, 1].item() == pytest.approx(expected.item())
    assert N[0, 3] == 1


@pytest.mark.parametrize("by", ["pca", "fa", "svd"])
def test_projections_do_not_depend_on_scales_and_repeat_themselves(by):
    W = normal(12, 30)
    R = project(W, 5, by)
    assert R.shape == (12, 5)
    assert torch.equal(R, project(W, 5, by))
    scaled = project(W * torch.linspace(0.1, 9, 12).double()[:, None], 5, by)
    assert torch.allclose((R @ R.T).abs(), (scaled @ scaled.T).abs(), atol=1e-6)


def test_svd_and_pca_against_their_definitions():
    u = nn.functional.normalize(normal(12, 30))
    R = project(u, 12, "svd")
    assert torch.allclose(R @ R.T, u @ u.T)  # nothing is lost at full rank
    v = u - u.mean(0)
    eigen = torch.linalg.eigh(v @ v.T)
    best = eigen.eigenvectors[:, -4:] * eigen.eigenvalues[-4:].sqrt()
    R = project(u, 4, "pca")
    assert torch.allclose(R @ R.T, best @ best.T)


def test_svd_of_full_rank_is_the_plain_criterion():
    net = nets.mlp([20, 6, 5, 2], generator=seeded())
    whole = spline_scores(net)
    for name, scores in spline_scores(net, reduce="svd", rank=5).items():
        assert name == "0" or torch.allclose(scores, whole[name])
    assert all(s[s < math.inf].max() < 2 for s in whole.values())


@pytest.mark.parametrize("reduce", ["pca", "fa", "svd"])
def test_offsets_are_those_of_whole_rows(reduce):
    """At rank 1 all directions are parallel: distances are those of the offsets alone."""
    here = Rows(normal(6, 9), normal(6, seed=1))
    N = distances(here, 0.5, reduce=reduce, rank=1)
    o = (here.b / here.W.norm(dim=1)).abs()
    near, far = 0.5 * (o[:, None] - o).abs(), 0.5 * (o[:, None] + o)
    off = ~torch.eye(6, dtype=torch.bool)
    assert (torch.isclose(N, near) | torch.isclose(N, far))[off].all()


def test_directions_that_centring_loses_are_compared_whole():
    W = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [1, 1, 1]]).double()
    W[3] = W[:3].mean(0) * 4  # the mean of all directions may lose a row, but no pair
    N = distances(Rows(W[[0, 0, 0]], torch.tensor([0.0, 1.0, 3.0]).double()), reduce="pca", rank=2)
    assert N[0].tolist() == pytest.approx([0, 0.05, 0.15])
    assert torch.isfinite(distances(Rows(W, torch.zeros(4).double()), reduce="pca", rank=3)).all()


def test_global_ranking_needs_comparable_angles():
    """A narrow random VGG-16: raw distances empty the early layers, all cures do not."""
    net = nets.vgg16(width=0.25).eval()
    left = {
        r: list(kept(net, spline(net, 0.5, scope="global", reduce=r)).values())
        for r in ("none", "pca", "svd", "null")
    }
    widths = [group.width for group in groups(net).values()]
    shares = {r: [k / n for k, n in zip(v, widths, strict=True)] for r, v in left.items()}
    assert max(shares["none"][:4]) < 0.35
    assert min(shares["none"][-5:]) > 0.6
    assert all(min(shares[reduce]) > 0.3 for reduce in ("pca", "svd", "null"))
    assert {sum(v) for v in left.values()} == {sum(widths) - math.floor(sum(widths) / 2 + 0.5)}


# ------------------------------------------------------------------------- residual streams


def test_the_hyperplane_of_a_stream_channel():
    """At a gate, the BatchNorm of a sum of layers: the folded map of all their inputs."""
    norm = nn.BatchNorm2d(8).double().eval()
    both = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(5, 8, 1)).double()
    net = shaken(nn.ModuleDict({"a": both[0], "b": both[1], "bn": norm}))
    found = {n: units(nn.Sequential(net[n], nn.ReLU(), nn.Conv2d(8, 1, 1)))["0"] for n in "ab"}
    found = {n: type(at)(n, *list(vars(at).values())[1:]) for n, at in found.items()}
    gate = Group("bn", 8, ("a", "b"), ("bn",), (), gate=True)
    x, y = normal(4, 3, 1, 1), normal(4, 5, 1, 1)
    W, b = hyperplanes(net, found, gate, "folded")
    z = net["bn"](net["a"](x) + net["b"](y))[..., 0, 0]
    assert torch.allclose(z, torch.cat([x, y], 1)[..., 0, 0] @ W.T + b)
    stream = Group("a", 8, ("a", "b"), (), ())
    W, b = hyperplanes(net, found, stream, "folded")
    z = (net["a"](x) + net["b"](y))[..., 0, 0]
    assert torch.allclose(z, torch.cat([x, y], 1)[..., 0, 0] @ W.T + b)
    assert torch.equal(hyperplanes(net, found, gate, "beta").b, net["bn"].bias)
    assert not hyperplanes(net, found, gate, "none").b.any()


def test_a_depthwise_convolution_counts_by_its_kernels():
    """Two channels alike in the layer before and in the depthwise one are doubles."""
    layers = [nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6)]
    net = shaken(nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(6, 2, 1)))
    (group,) = groups(net).values()
    assert group.writers == ("0", "2")
    W = hyperplanes(net, units(net), group, "none").W
    assert torch.equal(W, torch.cat([net[0].weight.flatten(1), net[2].weight.flatten(1)], 1))
    with torch.no_grad():
        for tensor in (*net[0].parameters(), *net[2].parameters(), *net[3].state_dict().values()):
            if tensor.ndim:
                tensor[4] = tensor[1]
    assert (spline_scores(net)["0"] == 0).nonzero().flatten().tolist() in ([1], [4])


def test_a_gate_whose_writers_are_unknown_compares_offsets_alone():
    net = nn.ModuleDict({"bn": nn.BatchNorm2d(3)}).double().eval()
    with torch.no_grad():
        net["bn"].bias.copy_(torch.tensor([1.0, 2.0, 4.0]))
    here = hyperplanes(net, {}, Group("bn", 3, (), ("bn",), (), gate=True), "folded")
    expected = torch.tensor([[0, 1.05, 1.15], [1.05, 0, 1.1], [1.15, 1.1, 0]]).double()
    assert torch.allclose(pair_matrix(*here), expected, atol=1e-5)


def stream_doubles(residual, factor):
    """A network two channels of whose stream are written alike, and their group."""
    net, _ = network("preresnet")
    found = groups(net, residual)
    gates = [g for g in found.values() if (g.gate if residual == "select" else len(g.writers) > 1)]
    group = gates[-1]
    with torch.no_grad():
        for writer in group.writers:
            weight = net.get_submodule(writer).weight
            weight[5] = factor * weight[1]
        for path in group.norms:
            norm = net.get_submodule(path)
            for tensor in (norm.weight, norm.running_var):
                tensor[5] = tensor[1]
            for tensor in (norm.bias, norm.running_mean):
                tensor[5] = factor * tensor[1]
    return net, group


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("residual", ["select", "joint"])
def test_doubles_in_a_stream_are_found(residual, factor):
    net, group = stream_doubles(residual, factor)
    scores = spline_scores(net, residual=residual)[group.name]
    assert (scores == 0).nonzero().flatten().tolist() in ([1], [5])
    assert int((spline_scores(net, residual=residual, reduce="pca")[group.name] == 0).sum()) == 1
    mask = spline(net, 1 / group.width, residual=residual)
    gone = {n: g.width - kept(net, mask, residual)[n] for n, g in groups(net, residual).items()}
    assert gone[group.name] == 1
    path = (group.norms if group.gate else group.writers)[0]
    assert set((~rows_of(mask, path).any(1)).nonzero().flatten().tolist()) <= {1, 5}


# ------------------------------------------------------------------- cutting, and any network


@pytest.mark.parametrize(
    ("form", "residual"),
    [
        ("linear", "inner"),
        ("norm", "inner"),
        ("preresnet", "inner"),
        ("preresnet", "select"),
        ("preresnet", "joint"),
    ],
)
def test_the_cut_network_computes_what_the_masked_one_does(form, residual):
    net, _ = network(form)
    x = normal(4, *{"linear": (5,), "norm": (2, 8, 8), "preresnet": (3, 16, 16)}[form])
    for options in ({}, {"scope": "global", "reduce": "null"}):
        mask = spline(net, 0.5, residual=residual, **options)
        expected = mask.apply(net)(x)
        assert torch.allclose(cut(net, mask).net(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("residual", ["inner", "select", "joint"])
def test_a_network_that_was_cut_can_be_pruned_again(residual):
    net, _ = network("preresnet")
    x = normal(4, 3, 16, 16)
    small = cut(net, spline(net, 0.3, residual=residual)).net
    mask = spline(small, 0.3, residual=residual)
    expected = mask.apply(small)(x)
    assert torch.allclose(cut(small, mask).net(x), expected, rtol=1e-12, atol=1e-12)


def ten_lines(net, shape):
    """The README's: what a researcher writes."""
    mask = spline(net, 0.5)
    small, plan = cut(net, mask)
    return mask, small, plan, macs(net, shape), macs(small, shape)


def chain(activation):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), activation, nn.MaxPool2d(2), nn.Conv2d(8, 12, 3),
        activation, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 16), activation,
        nn.Dropout(), nn.Linear(16, 5),
    )  # fmt: skip


OUTSIDE = {
    "relu": lambda: chain(nn.ReLU()),
    "leaky": lambda: chain(nn.LeakyReLU(0.2)),
    "abs": lambda: chain(nets.Abs()),
    "squeezenet": lambda: torchvision.models.squeezenet1_1(num_classes=5),
    "mnasnet": lambda: torchvision.models.mnasnet0_5(num_classes=5),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_ten_lines_prune_networks_from_outside(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = OUTSIDE[name]().eval()
        x = torch.randn(2, 3, 64, 64)
    mask, small, plan, before, after = ten_lines(net, (3, 64, 64))
    widths = {name: group.width for name, group in groups(net).items()}
    assert kept(net, mask) == {n: w - math.floor(w / 2 + 0.5) for n, w in widths.items()}
    assert {n: len(plan.kept[n]) for n in widths} == kept(net, mask)
    assert after < 0.6 * before
    with torch.no_grad():
        expected, found = mask.apply(net)(x), small(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_doubles_that_are_merged_first_cost_nothing():
    net, layer = network("norm")
    net = twin(net, layer, 0, 1, 2.0)
    net = twin(net, layer, 3, 5, 0.5)
    merged = merge_all(net)
    assert [pair for _, *pair in merged.merged] == [[0, 1], [3, 5]]
    mask = spline(merged.net, 2 / 9)
    assert removed_units(mask, layer) == {1, 5}
    only = Mask({name: entry for name, entry in mask.entries.items() if name[0] in "01"})
    x = normal(4, 2, 8, 8)
    assert torch.allclose(only.apply(merged.net)(x), net(x))
    assert not torch.allclose(only.apply(net)(x), net(x))


def test_a_wrapped_network_is_read_through():
    net, _ = network("linear")
    assert spline(nn.DataParallel(net), 0.5) == spline(net, 0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("reduce", REDUCE)
def test_a_gpu_removes_the_same_units(reduce):
    net, _ = network("preresnet")
    assert spline(copy.deepcopy(net).cuda(), 0.5, reduce=reduce) == spline(net, 0.5, reduce=reduce)
    scores = spline_scores(copy.deepcopy(net).cuda(), reduce=reduce)
    assert all(values.is_cuda for values in scores.values())
