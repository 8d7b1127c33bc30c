"""splinelib.boundary: the exact decision boundary for one logit and for C."""

import numpy as np
import pytest
import torch
from exact import cells
from torch import nn

from splinelib import nets
from splinelib.boundary import decision
from splinelib.partition import partition

BOX = ((-1, -1), (1, 1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def outputs(net, u):
    with torch.no_grad():
        return net(torch.from_numpy(u)).numpy()


def centers(d):
    sums = np.add.reduceat(d.vertices[d.mesh.loop_vertex], d.mesh.cell_start[:-1])
    return sums / np.diff(d.mesh.cell_start)[:, None]


@pytest.mark.parametrize("seed", range(4))
def test_one_logit_vanishes_on_the_boundary(seed):
    net = nets.mlp([2, 10, 10, 1], generator=seeded(seed))
    p = partition(net, ((-3, -3), (3, 3)))
    d = decision(p)
    assert np.abs(outputs(net, d.boundary.reshape(-1, 2))).max() < 1e-12
    assert np.abs(outputs(net, d.boundary.mean(axis=1))).max() < 1e-12  # and in between
    f = outputs(net, centers(d))[:, 0]
    assert (d.classes == (f > 0)).all()
    assert len(d.vertices) - len(d.mesh.edges) + d.mesh.num_cells == 1


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_two_largest_logits_tie_on_the_boundary(classes):
    net = nets.mlp([2, 12, 12, classes], generator=seeded(classes))
    p = partition(net, ((-3, -3), (3, 3)))
    d = decision(p)
    assert len(d.boundary) > 0
    for points in (d.boundary.reshape(-1, 2), d.boundary.mean(axis=1)):
        top = np.sort(outputs(net, points), axis=1)
        assert np.abs(top[:, -1] - top[:, -2]).max() < 1e-12
    assert (d.classes == outputs(net, centers(d)).argmax(axis=1)).all()
    assert set(np.unique(d.mesh.parent)) == set(range(p.num_cells))


def test_bisection_finds_the_same_boundary():
    """The second route: where random segments change class, without any geometry."""
    net = nets.mlp([2, 12, 12, 3], generator=seeded(7))
    d = decision(partition(net, ((-3, -3), (3, 3))))
    ends = torch.rand(2, 400, 2, dtype=torch.float64, generator=seeded(1)).numpy() * 6 - 3
    a, b = ends
    first = outputs(net, a).argmax(axis=1)
    changes = first != outputs(net, b).argmax(axis=1)
    a, b, first = a[changes], b[changes], first[changes]
    for _ in range(60):
        middle = (a + b) / 2
        same = outputs(net, middle).argmax(axis=1) == first
        a, b = np.where(same[:, None], middle, a), np.where(same[:, None], b, middle)
    assert len(a) > 50
    start, along = d.boundary[:, 0], d.boundary[:, 1] - d.boundary[:, 0]
    t = ((a[:, None] - start) * along).sum(axis=2) / (along**2).sum(axis=1)
    foot = start + np.clip(t, 0, 1)[:, :, None] * along
    assert np.linalg.norm(a[:, None] - foot, axis=2).min(axis=1).max() < 1e-9


def test_cells_with_ties_are_counted_exactly():
    """Two equal logits tie everywhere: the first wins, and no boundary is drawn between them."""
    weight, bias = [[1, 0], [1, 0], [0, 1], [-1, -1]], [0, 0, 0.25, 0]
    net = nn.Linear(2, 4).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor(weight))
        net.bias.copy_(torch.tensor(bias))
    d = decision(partition(net, BOX))
    assert sorted(np.unique(d.classes)) == [0, 2, 3]
    assert (
        d.mesh.num_cells
        == len(cells([("linear", weight, bias), ("max", [[0, 1, 2, 3]])], BOX))
        == 3
    )


def test_a_constant_decision_has_no_boundary():
    net = nn.Linear(2, 1).double()
    with torch.no_grad():
        net.weight.zero_()
        net.bias.fill_(1.0)
    d = decision(partition(net, BOX))
    assert d.boundary.shape == (0, 2, 2)
    assert d.classes.tolist() == [1]
