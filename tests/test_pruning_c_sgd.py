"""splinelib.pruning.c_sgd: filters drawn together, and merged without loss."""

from dataclasses import replace

import planted
import pytest
import torch
from learning import PLAIN, fit, halves, network
from torch import nn

from splinelib import merging
from splinelib.pruning.c_sgd import CSGD, c_sgd, merged
from splinelib.pruning.clusters import clusters, first, means
from splinelib.surgery import cut, groups


def test_distances_inside_a_cluster_shrink_by_one_factor_whatever_the_gradient():
    net = network()
    found, labels = groups(net), halves(net)
    hook = CSGD(found, labels, strength=0.8, vectors=0.5)
    hook.begin(net, 20)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)

    def away(p):
        return p.detach() - means(p.detach(), labels["4"])

    start = {n: away(net.get_parameter(n)) for n in ("4.weight", "4.bias", "5.weight", "5.bias")}
    centre = means(net[4].weight.detach(), labels["4"])
    total = torch.zeros_like(centre)
    for _ in range(20):
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        total -= 0.1 * means(net[4].weight.grad, labels["4"])
        with torch.no_grad():
            hook.before_step(net, 0)
        optimizer.step()
    for name, first_ in start.items():
        factor = 1 - 0.1 * 0.8 * (1 if name == "4.weight" else 0.5)
        assert torch.allclose(away(net.get_parameter(name)), factor**20 * first_, atol=1e-12)
    assert torch.allclose(means(net[4].weight.detach(), labels["4"]), centre + total)


@pytest.mark.parametrize(("form", "residual"), [
    ("mlp", "inner"), ("convnet", "inner"), ("preresnet", "inner"), ("preresnet", "joint"),
])  # fmt: skip
def test_merging_equal_filters_changes_nothing(form, residual):
    net = network(form)
    found = groups(net, residual)
    labels = {name: torch.arange(group.width) // 2 for name, group in found.items()}
    with torch.no_grad():  # make them equal by hand
        for group in found.values():
            for path in (*group.writers, *group.norms):
                module = net.get_submodule(path)
                parts = [module.weight, module.bias, *module.buffers()]
                for part in (p for p in parts if p is not None and p.ndim):
                    part[1::2] = part[::2]
    x, _ = planted.inputs(form)
    small = merged(net, found, labels)
    mask = CSGD(found, labels).mask(small)
    assert (small(x) - net(x)).abs().max() < 1e-10
    assert (mask.apply(small)(x) - net(x)).abs().max() < 1e-10
    assert (cut(small, mask).net(x) - net(x)).abs().max() < 1e-10
    assert all(
        len(planted.removed_units(mask, g.writers[0])) == g.width // 2 for g in found.values()
    )
    if residual == "inner":  # the book's own way finds the same pairs
        pairs = {(g, 2 * k, 2 * k + 1) for g in found for k in range(found[g].width // 2)}
        own = merging.merge_all(net, found)
        assert set(own.merged) == pairs
        assert (own.net(x) - small(x)).abs().max() < 1e-10


def test_what_is_left_of_the_differences_is_averaged():
    net, labels = network(), halves(network())
    small = merged(net, groups(net), labels)
    for part in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        old, new = net.state_dict()[part], small.state_dict()[part]
        assert torch.allclose(new[::2], (old[::2] + old[1::2]) / 2)
        assert torch.equal(new[::2], new[1::2])


def test_c_sgd_merges_planted_duplicates():
    net = network()
    for source_, target in ((0, 5), (2, 7), (3, 4)):
        net = planted.duplicated(net, "4", source_, target)
    net = planted.duplicated(planted.duplicated(net, "0", 1, 4), "0", 2, 5)
    ticket = c_sgd(net, 3 / 8, fit(recipe=PLAIN), strength=8.0)
    assert planted.removed_units(ticket.mask, "4") == {5, 7, 4}
    assert planted.removed_units(ticket.mask, "0") == {4, 5}


class Stream(nn.Module):
    """Two layers write a stream: channels k and k + 4 are equal in both, all others in one only."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = (nn.Linear(*size).double() for size in ((6, 8), (6, 8), (8, 3)))
        rows, k = torch.eye(2, 6).double(), torch.arange(8)
        self.a.weight.data, self.b.weight.data = rows[k % 2], rows[k // 2 % 2]
        for layer in (self.a, self.b):
            layer.bias.data.zero_()

    def forward(self, x):
        x = x.flatten(1)
        return self.last(torch.relu(self.a(x) + self.b(x)))


def test_a_stream_is_clustered_by_all_that_write_it():
    ticket = c_sgd(Stream(), 0.5, fit("mlp", PLAIN), strength=8.0, residual="joint")
    for path in ("a", "b"):
        assert planted.removed_units(ticket.mask, path) == {4, 5, 6, 7}


def test_c_sgd_is_lossless():
    kept = []

    def noted(net, label, **changes):
        run = fit(recipe=replace(PLAIN, epochs=60))(net, label, **changes)
        kept.append(run.net)
        return run

    net, (x, _) = network(), planted.inputs("convnet")
    ticket = c_sgd(net, 0.5, noted, strength=8.0, tolerance=1e-7)
    assert (kept[0](x) - net(x)).abs().max() > 0.01
    assert (ticket.net(x) - kept[0](x)).abs().max() < 1e-6
    assert (ticket.mask.apply(ticket.net)(x) - kept[0](x)).abs().max() < 1e-6


def test_there_are_as_many_clusters_as_asked_for():
    points = torch.tensor([0.0, 0, 0, 0, 5, 5, 5, 9])[:, None]
    for count in range(1, 9):
        for kind in ("kmeans", "even"):
            labels = clusters(points, count, kind)
            assert labels.unique().tolist() == list(range(count))
            assert first(labels).sum() == count
    near = clusters(points, 3)
    assert len({tuple(near[:4].tolist())} | {tuple(near[4:7].tolist())}) == 2
    assert len(near[:4].unique()) == len(near[4:7].unique()) == 1
