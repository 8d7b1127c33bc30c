"""splinelib.selection, and what can be done with a network that selects channels."""

import pytest
import torch
from networks import normal, shaken
from test_surgery import agree, masked_by
from torch import nn

from splinelib import nets, surgery
from splinelib.affine import affine_map
from splinelib.cost import macs
from splinelib.masks import Mask
from splinelib.ops import trace
from splinelib.partition import partition
from splinelib.selection import ChannelSelection
from splinelib.units import units


def test_a_cut_network_is_a_network():
    net = shaken(nets.preresnet(20, width=0.5)).train()
    net.stem.weight.requires_grad_(False)
    net.stage1[0].bn1.eval()
    small, _ = surgery.cut(net, masked_by(net, "select", 0.5))
    assert not small.stem.weight.requires_grad
    assert small.stage1[1].bn1.training
    assert not any(module.training for module in small.stage1[0].bn1.modules())
    found, ops = units(small), trace(small.eval())
    assert found["stem"].closed == "it goes through 'stage1.0.bn1.select'"
    assert {op.kind for op in ops} == {"input", "affine", "sign"}
    copy = nets.preresnet(20, width=0.5)
    assert agree(surgery.shrink(copy.double(), surgery.plan(net, Mask({}))), copy, (3, 32, 32), 0)
    optimizer = torch.optim.SGD(small.parameters(), lr=0.01)
    surgery.check_optimizer(optimizer, small)
    x, before = normal(4, 3, 32, 32), small.stage1[0].conv1.weight.clone()
    small.train()(x).square().mean().backward()
    optimizer.step()
    assert not torch.equal(before, small.stage1[0].conv1.weight)
    with pytest.raises(ValueError, match=r"make a new optimizer, SGD\(net.parameters"):
        surgery.check_optimizer(torch.optim.SGD(net.parameters(), lr=0.1), small)


def test_channels_last_weights_stay_so():
    net = nets.vgg16(width=0.125).to(memory_format=torch.channels_last)
    small, _ = surgery.cut(net, masked_by(net, "inner", 0.5))
    assert small.features[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert not small.features[3].weight.is_contiguous()


def test_a_selection_selects_and_is_refused_where_it_cannot():
    layer = ChannelSelection(torch.tensor([2, 0]))
    x = normal(2, 3, 4, 4)
    assert torch.equal(layer(x), x[:, [2, 0]])
    last = layer(x.to(memory_format=torch.channels_last))
    assert torch.equal(last, x[:, [2, 0]])
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.fx.symbolic_trace(nn.Sequential(layer))(x), layer(x))
    assert torch.equal(torch.vmap(layer)(x[None])[0], layer(x))
    assert list(layer.state_dict()) == ["index"]
    assert not list(layer.parameters())
    for index in ([], [-1], [0.5], [[1]], [True]):
        with pytest.raises(ValueError, match="give the numbers, from 0"):
            ChannelSelection(index)


def test_a_selection_is_affine_and_partitions():
    net = nn.Sequential(nn.Linear(2, 4), ChannelSelection([3, 1]), nn.ReLU(), nn.Linear(2, 1))
    plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    net = net.double()
    with torch.no_grad():
        plain[0].weight.copy_(net[0].weight[[3, 1]])
        plain[0].bias.copy_(net[0].bias[[3, 1]])
    plain[2] = net[3]
    x = normal(5, 2)
    assert torch.allclose(affine_map(net, x).A, affine_map(plain, x).A)
    box = ((-3, -3), (3, 3))
    assert len(partition(net, box).codes()) == len(partition(plain, box).codes())
    assert macs(net, (2,)) == 2 * 4 + 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    net = shaken(nets.preresnet(20, width=0.5)).cuda()
    mask = masked_by(net, "select", 0.5)
    small, _ = surgery.cut(net, mask)
    assert {p.device.type for p in (*small.parameters(), *small.buffers())} == {"cuda"}
    x = normal(2, 3, 32, 32).cuda()
    assert torch.allclose(small(x), mask.apply(net)(x), atol=1e-9)


@pytest.mark.parametrize("residual", ["select", "joint"])
def test_a_cut_network_learns_in_channels_last(residual):
    net = nets.preresnet(20, width=0.25)
    small, _ = surgery.cut(net, masked_by(net, residual, 0.5))
    x = normal(4, 3, 16, 16).float()
    expected = small(x)
    laid = small.to(memory_format=torch.channels_last)
    found = laid(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert all(p.grad.isfinite().all() for p in laid.parameters())


def test_pooling_with_ceil_mode_is_read_but_not_partitioned():
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten())
    net = shaken(net.extend([nn.Linear(16, 2)]))
    assert units(net)["0"].readers[0].positions == 4
    mask = surgery.group_mask(net, surgery.groups(net), {"0": torch.tensor([1, 0, 1, 1])})
    assert agree(surgery.cut(net, mask).net, mask.apply(net), (1, 3, 3))
    with pytest.raises(ValueError, match="'1' is a MaxPool2d with ceil_mode"):
        affine_map(net, normal(2, 1, 3, 3))


class TwoBranches(nn.Module):
    """Both read a flattened map; one of them behind a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm1d(4 * 9)
        self.one, self.other = nn.Linear(4 * 9, 2), nn.Linear(4 * 9, 2)

    def forward(self, x):
        y = self.conv(x).flatten(1)
        return self.other(y) + self.one(self.norm(y).relu())


def test_two_cuts_compose_where_a_selection_stands_behind_a_flatten():
    """What such a selection is offered is not known to the second plan."""
    net, stays = TwoBranches().double().eval(), torch.tensor([True, False, True, False])
    pixels = stays.repeat_interleave(9)
    first = surgery.cut(net, Mask({"norm.weight": pixels, "norm.bias": pixels}))
    assert len(first.net.norm.select.index) == 18
    rows = torch.tensor([[True], [True], [False], [True]])[:, :, None, None].expand(4, 1, 3, 3)
    second = surgery.cut(first.net, Mask({"conv.weight": rows}))
    both = surgery.shrink(net, first.plan.then(second.plan))
    assert [p.shape for p in both.parameters()] == [p.shape for p in second.net.parameters()]
