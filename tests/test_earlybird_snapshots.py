"""splinelib.earlybird: packed bits, choices of entries, codes as values, masks as codes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import normal, shaken
from torch import nn

from splinelib import nets
from splinelib.earlybird import Codes, codes, mask_codes
from splinelib.earlybird.bits import pack, popcount, unpack
from splinelib.earlybird.snapshots import Sample

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def stacked(found):
    """All bits of an input in one row."""
    return torch.cat(found.bits, dim=1)


# bits and words


@given(st.integers(1, 4), st.integers(1, 200), st.integers(0, 2**32))
def test_bits_are_packed_and_unpacked(rows, width, seed):
    bits = torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)) < 0.5
    words = pack(bits)
    assert words.shape == (rows, (width + 63) // 64)
    raw = words.view(torch.uint8)
    assert torch.equal(unpack(raw, width), bits)
    assert not unpack(raw, 8 * raw.shape[1])[:, width:].any()  # what fills up is 0
    assert raw[0, 0].item() == sum(2**i for i in range(8) if i < width and bits[0, i])


@pytest.mark.parametrize("width", [64, 100, 128])
def test_views_are_packed_as_their_copies(width):
    bits = torch.rand(140, 140, generator=torch.Generator().manual_seed(0)) < 0.5
    for view in (
        bits[3:9, 5 : 5 + width],
        bits.T[:, 1 : 1 + width],
        bits.flatten()[3:][None, :width],
    ):
        assert torch.equal(pack(view), pack(view.clone(memory_format=torch.contiguous_format)))
        assert torch.equal(unpack(pack(view).view(torch.uint8), width), view)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_ones_are_counted(words):
    counts = popcount(torch.tensor(words))
    assert counts.tolist() == [(word % 2**64).bit_count() for word in words]


@pytest.mark.parametrize("device", DEVICES)
def test_bits_on_every_device(device):
    bits = torch.rand(50, 130, generator=torch.Generator().manual_seed(0)) < 0.3
    words = pack(bits.to(device))
    assert words.device.type == device
    assert torch.equal(words.cpu(), pack(bits))
    assert popcount(words).sum() == bits.sum()


# subsets


def test_a_subset_depends_on_seed_layer_and_width_alone():
    rows = Sample(50, seed=3).rows(2, 1000)
    again = Sample(50, seed=3)
    again.rows(0, 1000)
    assert torch.equal(again.rows(2, 1000), rows)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert rows.min() >= 0
    assert rows.max() < 1000
    others = [Sample(50, 4).rows(2, 1000), Sample(50, 3).rows(1, 1000), Sample(50, 3).rows(2, 999)]
    assert not any(torch.equal(rows, other) for other in others)
    assert rows[:4].tolist() == FIRST  # the same on every machine, for ever


FIRST = [9, 13, 30, 38]


def test_every_entry_is_as_likely():
    n, width, features = 2000, 30, 6
    times = torch.zeros(width)
    for seed in range(n):
        times[Sample(features, seed).rows(0, width)] += 1
    share = features / width
    sigma = (share * (1 - share) / n) ** 0.5
    assert ((times / n - share).abs() < 5 * sigma).all()


def test_sampled_bits_are_some_of_all():
    net, x = shaken(nets.convnet(batch_norm=True, pool="avg")), normal(7, 1, 8, 8)
    full, part = codes(net, x), codes(net, x, features=100, seed=5)
    assert part.widths == full.widths == (512, 128)
    assert part.sizes == (100, 100)
    assert (part.features, part.seed) == (100, 5)
    for layer, (few, all_bits) in enumerate(zip(part.bits, full.bits, strict=True)):
        rows = Sample(100, 5).rows(layer, all_bits.shape[1])
        assert torch.equal(few, all_bits[:, rows])
    enough = codes(net, x, features=512, seed=5)
    assert torch.equal(enough.words, full.words)
    assert (enough.features, enough.seed) == (None, 0)


# the value


def test_codes_hold_one_bit_an_entry():
    found = codes(nets.mlp([3, 70, 8, 2]), normal(10, 3))
    assert [tuple(p.shape) for p in found.packed] == [(10, 9), (10, 1)]
    assert all(p.dtype == torch.uint8 for p in found.packed)
    assert found.nbytes == 10 * 8 * (2 + 1)  # whole words
    bits = [unpack(p, n) for p, n in zip(found.packed, (70, 8), strict=True)]
    assert all(map(torch.equal, bits, found.bits))


def test_codes_survive_a_checkpoint(tmp_path):
    found = codes(nets.mlp([3, 70, 8, 2]), normal(10, 3), features=20, seed=1)
    torch.save(found.state, tmp_path / "codes.pt")
    again = Codes.from_state(torch.load(tmp_path / "codes.pt", weights_only=True))
    assert again.state.keys() == found.state.keys()
    assert torch.equal(again.words, found.words)
    assert (again.layers, again.widths, again.sizes) == (found.layers, found.widths, found.sizes)
    assert (again.features, again.seed) == (20, 1)
    assert found.to("cpu") is found


@pytest.mark.parametrize(
    "layers, widths, words",
    [
        (("a",), (3, 4), torch.zeros(2, 2, dtype=torch.int64)),
        (("a",), (3,), torch.zeros(2, 2, dtype=torch.int64)),
        (("a",), (3,), torch.zeros(2, 1)),
        ((), (), torch.zeros(2, 0, dtype=torch.int64)),
        (("a",), (3,), torch.zeros(0, 1, dtype=torch.int64)),
    ],
)
def test_codes_that_do_not_fit_are_refused(layers, widths, words):
    with pytest.raises(ValueError, match="do not match"):
        Codes(layers, widths, words)


# masks as codes


def test_masks_are_those_of_slimming():
    net = nets.preresnet(11, width=0.5)
    generator = torch.Generator().manual_seed(0)
    norms = {n: m for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for norm in norms.values():
        nn.init.normal_(norm.weight, generator=generator)
    scales = torch.cat([norm.weight.detach().abs() for norm in norms.values()])
    found = mask_codes(net, 0.4)
    assert found.layers == tuple(norms)
    remove = round(0.4 * len(scales))
    threshold = scales.sort().values[remove - 1]
    assert torch.equal(stacked(found)[0], scales > threshold)
    assert (~stacked(found)).sum() == remove
    assert torch.equal(mask_codes(torch.nn.DataParallel(net), 0.4).words, found.words)


def test_masks_of_layers_that_fill_whole_words():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 64), nn.BatchNorm1d(64))
    assert mask_codes(net, 0.5).bits[0].tolist() == [[False] * 3]


def test_a_mask_may_empty_a_layer():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    net[1].weight.data *= 0.1
    assert [b.tolist() for b in mask_codes(net, 0.5).bits] == [[[False] * 3], [[True] * 3]]


def test_masks_need_scales():
    with pytest.raises(ValueError, match="no BatchNorm with a scale"):
        mask_codes(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, affine=False)), 0.5)
    with pytest.raises(ValueError, match="fraction"):
        mask_codes(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), 1.5)
