"""splinelib.earlybird: Hamming distances, matrices, and the areas that they estimate."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import normal
from torch import nn

from splinelib import nets
from splinelib.earlybird import Codes, codes, distance, distances, hamming, layer_matrices, matrix
from splinelib.earlybird.bits import pack, popcount
from splinelib.earlybird.hamming import mean
from splinelib.partition import partition

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def drawn(widths, count, seed=0, share=0.5):
    """Codes of random bits, and these bits as numbers."""
    generator = torch.Generator().manual_seed(seed)
    bits = [torch.rand(count, width, generator=generator) < share for width in widths]
    words = torch.cat([pack(b) for b in bits], dim=1)
    return Codes(tuple(map(str, range(len(widths)))), tuple(widths), words), bits


def naive(first, second):
    """Shares of unequal numbers, one layer at a time."""
    return [
        float((a.double() - b.double()).abs().mean()) for a, b in zip(first, second, strict=True)
    ]


WIDTHS = st.lists(st.integers(1, 150), min_size=1, max_size=4)


@given(WIDTHS, st.integers(1, 9), st.integers(0, 1000))
def test_distances_are_those_of_the_numbers(widths, count, seed):
    (a, bits_a), (b, bits_b) = drawn(widths, count, seed), drawn(widths, count, seed + 1, 0.2)
    found = distances(a, b)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(naive(bits_a, bits_b), abs=1e-15)
    assert torch.equal(found, distances(b, a))
    assert not distances(a, a).any()
    every = torch.cat([x.flatten() ^ y.flatten() for x, y in zip(bits_a, bits_b, strict=True)])
    assert distance(a, b) == pytest.approx(float(found.mean()))
    assert distance(a, b, "element") == pytest.approx(float(every.double().mean()))


@pytest.mark.parametrize("device", DEVICES)
def test_all_bits_can_differ(device):
    a, _ = drawn((64, 65, 1), 7)
    flipped = Codes(a.layers, a.widths, torch.cat([pack(~b) for b in a.bits], dim=1))
    assert distances(a.to(device), flipped.to(device)).tolist() == [1.0, 1.0, 1.0]
    assert matrix([a.to(device), flipped.to(device)]).tolist() == [[0, 1], [1, 0]]


@given(WIDTHS, st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_matrices_hold_the_distances_of_all_pairs(widths, count, T, seed):
    history = [drawn(widths, count, seed + t, (t + 1) / (T + 1))[0] for t in range(T)]
    found = layer_matrices(history)
    assert found.shape == (len(widths), T, T)
    for i in range(T):
        for j in range(T):
            assert torch.equal(found[:, i, j], distances(history[i], history[j]))
    assert not found.diagonal(dim1=1, dim2=2).any()
    assert torch.equal(found, found.transpose(1, 2))
    for weight in ("layer", "element"):
        D = matrix(history, weight)
        assert float(D[0, -1]) == pytest.approx(distance(history[0], history[-1], weight))
        assert (D[:, :, None] + D[None] - D[:, None] >= -1e-12).all()  # triangles


@pytest.mark.parametrize("device", DEVICES)
def test_long_layers_are_counted_in_blocks(device):
    history = [drawn((70_000, 3), 3, t, 0.1 * t)[0].to(device) for t in range(1, 4)]
    found = layer_matrices(history)
    assert torch.equal(found[:, 0, 2], distances(history[0], history[2]))
    assert torch.equal(found[:, 2, 1], distances(history[1], history[2]))


def test_many_inputs_are_counted_in_blocks(monkeypatch):
    (a, bits_a), (b, bits_b) = drawn((70, 3), 200), drawn((70, 3), 200, 1)
    seen = []
    monkeypatch.setattr(hamming, "popcount", lambda words: seen.append(words) or popcount(words))
    assert distances(a, b).tolist() == pytest.approx(naive(bits_a, bits_b), abs=1e-15)
    assert max(map(len, seen)) == 64


def test_long_histories_are_compared_in_blocks():
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(-(2**63), 2**63 - 1, (160, 64, 400), generator=generator)  # 0.2 MB each
    history = [Codes(("a", "b"), (12_800, 12_800), w) for w in words]
    D = matrix(history)
    assert float(D[3, 77]) == distance(history[3], history[77])
    assert abs(float(D.sum() / (160 * 159)) - 0.5) < 1e-3


def test_matrices_count_exactly_under_autocast():
    history = [drawn((20_000,), 3, t)[0] for t in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = matrix(history)
    assert torch.equal(found, matrix(history))
    assert float(found[0, 1]) == distance(history[0], history[1])


def test_codes_of_other_things_cannot_be_compared():
    net, x = nets.mlp([3, 80, 40, 2]), normal(6, 3)
    a = codes(net, x, features=20)
    others = {
        "layers: 3 and None": codes(nets.mlp([3, 80, 2]), x, features=20),
        "layers: 3 and 4": codes(nn.Sequential(*net[:2], nn.Identity(), *net[2:]), x, features=20),
        "widths: 40 and 41": codes(nets.mlp([3, 80, 41, 2]), x, features=20),
        "inputs: 6 and 5": codes(net, x[:5], features=20),
        "features: 20 and 21": codes(net, x, features=21),
        "features: 20 and None": codes(net, x),
        "seed: 0 and 1": codes(net, x, features=20, seed=1),
    }
    for message, b in others.items():
        for compare in (distances, lambda a, b: matrix([a, a, b])):
            with pytest.raises(ValueError, match=message):
                compare(a, b)
    with pytest.raises(ValueError, match="the history is empty"):
        matrix([])
    for compare in (lambda w: distance(a, a, w), lambda w: matrix([a], w)):
        with pytest.raises(ValueError, match="weight is 'unit'"):
            compare("unit")


def test_weights_of_sampled_layers_are_their_true_widths():
    net, x = nets.mlp([3, 80, 40, 2]), normal(6, 3)
    other = nets.mlp([3, 80, 40, 2], generator=torch.Generator().manual_seed(1))
    a, b = codes(net, x, features=20), codes(other, x, features=20)
    first, second = distances(a, b).tolist()
    assert distance(a, b, "element") == pytest.approx((80 * first + 40 * second) / 120)


# sampling


@pytest.fixture(scope="module")
def trained():
    """Codes of a ConvNet with wide layers before and after a few steps, 64 inputs."""
    x = normal(64, 3, 16, 16).float()
    net = nets.convnet((3, 16, 16), (64, 64), (3, 3), pool=None, dtype=torch.float32)
    before = copy.deepcopy(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    y = torch.arange(64) % 10
    for _ in range(8):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return before, net, x


def test_sampled_distances_are_unbiased_and_as_near_as_promised(trained):
    before, after, x = trained
    full = [codes(net, x) for net in (before, after)]
    truth, features, seeds = distances(*full), 2048, 40
    assert full[0].widths == (16_384, 16_384)
    found = torch.stack(
        [
            distances(*(codes(net, x, features=features, seed=s) for net in (before, after)))
            for s in range(seeds)
        ]
    )
    shares = [(p ^ q).double().mean(0) for p, q in zip(*(c.bits for c in full), strict=True)]
    expected = torch.stack(  # of a sample without replacement
        [(s.var() / features * (1 - features / len(s))).sqrt() for s in shares]
    )
    error = ((found - truth) ** 2).mean(0).sqrt()
    assert ((found.mean(0) - truth).abs() < 4 * expected / seeds**0.5).all()
    assert (error / expected).tolist() == pytest.approx([1, 1], abs=0.4)
    bound = (truth * (1 - truth) / features).sqrt()  # what EarlyBird's docstring says
    assert (expected <= bound).all()
    assert truth.min() > 0.01  # there is something to measure


# what a distance means


def disagreeing_area(first, second, box):
    """Share of a box on which two units are on different sides, by the exact partition of both."""
    both = nets.by_hand((torch.stack([first[0], second[0]]), torch.stack([first[1], second[1]])))
    cells = partition(nn.Sequential(*both, nn.ReLU()), box=box)
    code = cells.codes()
    return cells.areas[code[:, 0] != code[:, 1]].sum() / cells.areas.sum()


def test_distances_converge_to_the_area_that_changed_sides():
    a = nets.mlp([2, 5, 1])
    b = nets.mlp([2, 5, 1], generator=torch.Generator().manual_seed(1))
    box = ((-2.0, -1.0), (2.0, 1.5))
    units = [list(zip(net[0].weight.data, net[0].bias.data, strict=True)) for net in (a, b)]
    exact = np.mean([disagreeing_area(p, q, box) for p, q in zip(*units, strict=True)])
    assert 0.1 < exact < 0.9
    n = 100_000
    low, high = torch.tensor(box, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = low + (high - low) * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    errors = [
        abs(distance(codes(a, x[:m], chunk=m), codes(b, x[:m], chunk=m)) - exact) for m in (1000, n)
    ]
    assert errors[1] < 4 * 0.5 / n**0.5
    assert errors[0] < 4 * 0.5 / 1000**0.5


def test_only_moving_hyperplanes_count():
    net, x = nets.mlp([2, 6, 6, 1]), normal(200, 2)
    scaled = copy.deepcopy(net)
    for layer in (scaled[0], scaled[2]):
        layer.weight.data *= 3
        layer.bias.data *= 3
    scaled[2].bias.data *= 3  # its inputs are three times as large
    assert distance(codes(net, x), codes(scaled, x)) == 0
    scaled[4].weight.data += 1  # the last layer has no nonlinearity behind it
    assert distance(codes(net, x), codes(scaled, x)) == 0


def test_mean_of_layers_follows_the_weights():
    values = torch.tensor([0.25, 1.0], dtype=torch.float64)
    assert float(mean(values, (3, 1), "layer")) == 0.625
    assert float(mean(values, (3, 1), "element")) == 0.4375
    ones = torch.ones(3, dtype=torch.float64)
    assert float(mean(ones, (3, 7, 11), "element")) == float(mean(ones, (3, 7, 11), "layer")) == 1
