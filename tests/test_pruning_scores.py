"""splinelib.pruning: the scores of each criterion against independent computations."""

import itertools
import math

import numpy as np
import pytest
import torch
from networks import Written
from planted import HIDDEN, dead_out, duplicated, inputs, network, removed_units
from torch import nn
from torch.func import functional_call
from torchvision import models

from splinelib import nets
from splinelib.pruning.family import keep_best_weights, prunable
from splinelib.pruning.grasp import grasp_scores
from splinelib.pruning.snip import snip_scores
from splinelib.pruning.synflow import flow, magnitudes, synflow
from splinelib.pruning.terms import terms
from splinelib.pruning.thinet import best_subset, factors, thinet, thinet_ticket
from splinelib.units import units


def loss_of(net, weights, x, y, temperature=1.0):
    """The loss with other weights, BatchNorm by the batch."""
    logits = functional_call(net.train(), weights, (x,)) / temperature
    return nn.functional.cross_entropy(logits, y)


@pytest.mark.parametrize("form", ["mlp", "convnet", "preresnet"])
def test_snip_scores_are_derivatives_by_switches(form):
    net, (x, y) = network(form), inputs(form)
    scores, weights = snip_scores(net, x, y), prunable(net)
    assert sum(s.sum() for s in scores.values()).item() == pytest.approx(1)
    found, true = [], []
    for name, weight in weights.items():
        for flat in range(0, weight.numel(), max(1, weight.numel() // 3)):
            change = torch.zeros(weight.numel(), dtype=torch.float64)
            change[flat] = 1e-6
            change = change.reshape(weight.shape) * weight.detach()
            up, down = (loss_of(net, {name: weight + s * change}, x, y) for s in (1, -1))
            true.append(abs((up - down).item()) / 2e-6)
            found.append(scores[name].flatten()[flat].item())
    scale = sum(true) / sum(found)
    np.testing.assert_allclose(np.array(found) * scale, true, atol=1e-6)


def squared_gradient(net, x, y, weights=None, temperature=200.0):
    """Half the squared length of the loss's gradient by the weights of all layers."""
    weights = prunable(net) if weights is None else weights
    weights = {n: w.detach().requires_grad_() for n, w in weights.items()}
    loss = loss_of(net, weights, x, y, temperature)
    return (
        sum(g.square().sum() for g in torch.autograd.grad(loss, list(weights.values()))).item() / 2
    )


@pytest.mark.parametrize("temperature", [1.0, 200.0])
@pytest.mark.parametrize("form", ["mlp", "convnet"])
def test_grasp_scores_are_derivatives_of_the_gradients_length(form, temperature):
    net, (x, y) = network(form), inputs(form)
    scores, weights = grasp_scores(net, x, y, temperature), prunable(net)
    found, true = [], []
    for name, weight in weights.items():
        for flat in range(0, weight.numel(), max(1, weight.numel() // 4)):
            change = torch.zeros(weight.numel(), dtype=torch.float64)
            change[flat] = 1e-5
            change = change.reshape(weight.shape) * weight.detach()
            up, down = (
                squared_gradient(net, x, y, {**weights, name: weight + s * change}, temperature)
                for s in (1, -1)
            )
            true.append((up - down) / 2e-5)
            found.append(scores[name].flatten()[flat].item())
    np.testing.assert_allclose(found, true, atol=1e-4 * np.abs(true).max())


def test_synaptic_flow_is_the_sum_over_all_paths():
    net = nets.mlp([3, 4, 5, 2])
    A, B, C = (np.abs(net[i].weight.detach().numpy()) for i in (0, 2, 4))
    with torch.no_grad():
        for i in (0, 2, 4):
            net[i].bias.zero_()
    scores = flow(magnitudes(net), torch.ones(1, 3, dtype=torch.float64))
    paths = np.einsum("dc,cb,ba->dcba", C, B, A)
    for name, axes in (("4.weight", (2, 3)), ("2.weight", (0, 3)), ("0.weight", (0, 1))):
        np.testing.assert_allclose(scores[name].numpy(), paths.sum(axes))


def bias_free():
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3, stride=2, bias=False), nn.LeakyReLU(0.1), nn.Flatten(),
        nn.Linear(36, 6, bias=False), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3, bias=False),
    ).double()  # fmt: skip


def test_synaptic_flow_is_conserved_from_layer_to_layer():
    net = bias_free()
    for keep in (1.0, 0.3):
        small = synflow(net, 1 - keep, shape=(2, 16, 16), rounds=5).apply(net)
        positive = magnitudes(small)
        ones = torch.ones(1, 2, 16, 16, dtype=torch.float64)
        sums = [s.sum().item() for s in flow(positive, ones).values()]
        np.testing.assert_allclose(sums, positive(ones).sum().item(), rtol=1e-12)
        assert sums[0] > 0


def test_synflow_keeps_what_the_sources_loop_keeps():
    """One round after the other, written out: the density falls by the same factor each time."""
    net = nets.mlp([3, 12, 9, 2], generator=torch.Generator().manual_seed(3))
    weights = [
        layer.weight.detach().abs().requires_grad_()
        for layer in net
        if len(list(layer.parameters()))
    ]
    total, keep, rounds = sum(w.numel() for w in weights), 0.1, 7
    masks = [torch.ones_like(w) for w in weights]
    for k in range(1, rounds + 1):
        h = torch.ones(1, 3, dtype=torch.float64)
        for w, m in zip(weights, masks, strict=True):
            h = h @ (w * m).T
        grads = torch.autograd.grad(h.sum(), weights)
        scores = [(w * g * m).detach() for w, g, m in zip(weights, grads, masks, strict=True)]
        stay = total - math.floor((1 - keep ** (k / rounds)) * total + 0.5)
        threshold = torch.cat([v.flatten() for v in scores]).topk(stay).values[-1]
        masks = [(v >= threshold).double() for v in scores]
    found = synflow(_without_biases(net), 1 - keep, shape=(3,), rounds=rounds).entries.values()
    assert all(torch.equal(a, b.bool()) for a, b in zip(found, masks, strict=True))


def _without_biases(net):
    for module in net:
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
    return net


def test_synflow_scores_a_deep_network_in_float32():
    net = nets.preresnet(29, 10, width=0.25).eval()
    scores = flow(magnitudes(net), torch.ones(1, 3, 16, 16, dtype=torch.float64))
    assert all((s > 0).any() and s.isfinite().all() for s in scores.values())
    assert synflow(net, 0.5, shape=(3, 16, 16), rounds=2).density == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("kind", [
    nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.SiLU, nn.GELU, nn.Hardsigmoid, nn.Softplus,
])  # fmt: skip
def test_synflow_names_an_activation_that_bends_at_more_than_zero(kind):
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3), kind()]
    net = nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Linear(12, 2)).double().eval()
    with pytest.raises(ValueError, match=rf"'0.4' \({kind.__name__}\) is none"):
        synflow(net, 0.5, shape=(1, 6, 6))
    net[0][4] = nn.LeakyReLU()
    assert synflow(net, 0.5, shape=(1, 6, 6)).density == 0.5


def test_synflow_names_where_a_function_bends_and_takes_what_works_in_place():
    block = Written(lambda self, x: x + nn.functional.hardtanh(self.fc(x)), fc=nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r"'1' \(Written\) is none"):
        synflow(nn.Sequential(nn.Linear(2, 4), block).double().eval(), 0.5, shape=(2,))
    block = Written(lambda self, x: nn.functional.relu_(x + self.fc(x)), fc=nn.Linear(4, 4))
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(inplace=True), block).double().eval()
    assert synflow(net, 0.5, shape=(2,)).density == 0.5


def test_synflow_refuses_torchvisions_mobilenet():
    with pytest.raises(ValueError, match=r"'features.0.2' \(ReLU6\) is none"):
        synflow(models.mobilenet_v2().eval(), 0.5, shape=(3, 32, 32))


@pytest.mark.parametrize("bad", [0, 2.5])
def test_synflow_says_what_it_was_given(bad):
    with pytest.raises(ValueError, match=f"rounds is {bad}: need a whole number"):
        synflow(network("mlp"), 0.5, shape=(6,), rounds=bad)
    with pytest.raises(ValueError, match=r"shape=\(3, 32, 32\); got x=\(2, 8, 8\)"):
        synflow(network("mlp"), 0.5, (2, 8, 8))


def cost(Z, removed):
    return float((Z[:, list(removed)].sum(1) ** 2).sum())


@pytest.mark.parametrize("seed", range(4))
def test_thinets_choice_against_all_subsets(seed):
    Z = torch.randn(30, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.3
    gone = []
    for k in range(1, 6):
        removed = (~best_subset(Z, k)).nonzero().flatten().tolist()
        best = min(itertools.combinations(range(7), k), key=lambda s: cost(Z, s))
        step = min(set(range(7)) - set(gone), key=lambda c: cost(Z, [*gone, c]))
        gone.append(step)
        assert sorted(gone) == removed  # the greedy choice, computed anew from the terms
        assert cost(Z, removed) >= cost(Z, best) * (1 - 1e-12)
        if k == 1:
            assert removed == list(best)


@pytest.mark.parametrize("k", range(1, 6))
def test_thinets_choice_is_the_best_where_terms_do_not_interact(k):
    Q = torch.linalg.qr(torch.randn(30, 7, dtype=torch.float64)).Q
    Z = Q * torch.tensor([3.0, 1, 4, 1.5, 9, 2, 6])
    best = min(itertools.combinations(range(7), k), key=lambda s: cost(Z, s))
    assert (~best_subset(Z, k)).nonzero().flatten().tolist() == list(best)


def test_factors_are_least_squares():
    Z = torch.randn(50, 6, dtype=torch.float64)
    keep = torch.tensor([True, False, True, True, False, True])
    w, *_ = np.linalg.lstsq(Z[:, keep].numpy(), Z.sum(1).numpy(), rcond=None)
    np.testing.assert_allclose(factors(Z, keep)[keep], w, atol=1e-12)
    assert (factors(Z, keep)[~keep] == 1).all()
    assert (factors(Z, torch.ones(6, dtype=torch.bool)) == 1).all()
    Z[:, 2], Z[:, 3] = 0, Z[:, 0]  # one that no sample shows, and two that go together
    found = factors(Z, keep)
    w, *_ = np.linalg.lstsq(Z[:, keep].numpy(), Z.sum(1).numpy(), rcond=None)
    error = Z[:, keep] @ (found[keep] - torch.from_numpy(w))
    assert error.abs().max() < 1e-12
    assert found[2].item() == pytest.approx(1)
    assert found[0].item() == pytest.approx(found[3].item())


@pytest.mark.parametrize("form", ["mlp", "convnet", "preresnet"])
def test_terms_add_up_to_outputs_of_the_next_layer(form):
    net, (x, _), layer = network(form), inputs(form, b=2), HIDDEN[form]
    (reader,) = units(net)[layer].readers
    module, seen = net.get_submodule(reader.layer), []
    handle = module.register_forward_hook(lambda m, args, out: seen.append(out))
    net(x)
    handle.remove()
    Z = terms(net, reader, x, 10, torch.Generator().manual_seed(0))
    assert Z.shape == (20, units(net)[layer].width)
    bias = torch.zeros(len(module.weight)) if module.bias is None else module.bias
    outputs = (seen[0].flatten(2) if seen[0].ndim == 4 else seen[0][:, :, None]) - bias[:, None]
    for image in range(2):
        gaps = Z[10 * image : 10 * image + 10].sum(1)[:, None] - outputs[image].flatten()
        assert gaps.abs().min(1).values.max() < 1e-12
    alone = dead_out(net, layer, [c for c in range(Z.shape[1]) if c != 2])
    only = terms(alone, reader, x, 10, torch.Generator().manual_seed(0))
    torch.testing.assert_close(only[:, 2], Z[:, 2])
    assert not only[:, [c for c in range(Z.shape[1]) if c != 2]].any()


def test_terms_of_a_map_laid_flat():
    net, (x, _) = network("convnet"), inputs("convnet", b=3)
    (reader,) = units(net)["4"].readers
    assert reader.positions == 4
    Z = terms(net, reader, x, 50, torch.Generator().manual_seed(0))
    gaps = Z[:50].sum(1)[:, None] - (net(x) - net[9].bias)[0]
    assert gaps.abs().min(1).values.max() < 1e-12
    others = [c for c in range(8) if c != 2]
    only = terms(dead_out(net, "4", others), reader, x, 50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(only[:, 2], Z[:, 2])
    assert not only[:, others].any()


def test_rescaling_makes_up_for_a_copy_that_goes():
    net = duplicated(network("mlp"), "0", 3, 5)
    with torch.no_grad():  # the rest speaks so loudly that one of the copies is missed least
        net[2].weight[:, 3] *= 1e-3
        net[2].weight[:, 5] = net[2].weight[:, 3]
    x, _ = inputs("mlp", b=60)
    ticket = thinet_ticket(net, 1 / 8, x=x, layers=["0"])
    assert removed_units(ticket.mask, "0") == {3}
    torch.testing.assert_close(ticket.net(x), net(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(ticket.net[2].weight[:, 5], 2 * net[2].weight[:, 5])
    assert not torch.allclose(ticket.mask.apply(net)(x), net(x), atol=1e-9)


def test_thinet_lowers_the_error_by_rescaling():
    net, (x, _) = network("convnet"), inputs("convnet", b=32)
    ticket = thinet_ticket(net, 0.5, x=x, layers=["4"], samples=3)
    plain = thinet(net, 0.5, x, layers=["4"], samples=3).apply(net)
    assert (ticket.net(x) - net(x)).square().sum() < (plain(x) - net(x)).square().sum()


def test_grasp_lengthens_the_gradient():
    x, y = inputs("mlp", b=30)
    net = network("mlp")
    flat = torch.cat([s.flatten() for s in grasp_scores(net, x, y).values()])
    lengths = []
    for order in (flat.argsort(), flat.argsort(descending=True)):
        entries = torch.ones(len(flat), dtype=torch.bool)
        entries[order[:5]] = False
        mask = keep_best_weights(net, split(entries, net), 5 / len(flat))
        lengths.append(squared_gradient(mask.apply(net), x, y))
    assert lengths[0] > squared_gradient(net, x, y) > lengths[1]


def split(flat, net):
    weights = prunable(net)
    parts = flat.double().split([w.numel() for w in weights.values()])
    return {n: p.reshape(w.shape) for (n, w), p in zip(weights.items(), parts, strict=True)}


def test_thinets_greedy_choice_cannot_see_what_cancels_either():
    net = duplicated(network("mlp"), "0", 3, 5)
    with torch.no_grad():
        net[2].weight[:, 5] = -net[2].weight[:, 3]
    x, _ = inputs("mlp", b=20)
    Z = terms(net, units(net)["0"].readers[0], x, 10, torch.Generator().manual_seed(0))
    best = min(itertools.combinations(range(8), 2), key=lambda pair: cost(Z, pair))
    assert best == (3, 5)
    assert cost(Z, best) < 1e-24
    gone = removed_units(thinet(net, 0.25, x, layers=["0"]), "0")
    assert gone != {3, 5}
    assert cost(Z, gone) > 1e-3


def test_thinet_sees_many_images_in_parts(monkeypatch):
    net, x = network("convnet"), torch.cat([inputs("convnet", seed=seed)[0] for seed in range(9)])
    seen = []
    net.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    parts = thinet_ticket(net, 0.5, x=x)
    assert max(seen) == 64
    monkeypatch.setattr("splinelib.pruning.terms.AT_ONCE", len(x))
    whole = thinet_ticket(net, 0.5, x=x)
    assert max(seen) == len(x) == 72
    assert parts.mask == whole.mask
    torch.testing.assert_close(parts.net.state_dict(), whole.net.state_dict(), rtol=0, atol=1e-6)
