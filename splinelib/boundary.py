"""The decision boundary: the last spline, drawn by the output itself.

One logit decides by its sign, so its zero line is the boundary; C logits decide by the largest, as
a max-pooling window does.  Either way the boundary is what one more nonlinearity behind the output
would draw, and it is drawn by the same code, exactly and straight inside every cell.
"""

from dataclasses import dataclass

import numpy as np
import torch

from splinelib.grow import draw, free_memory, rounding, states_at
from splinelib.mesh import Mesh
from splinelib.partition import Partition
from splinelib.stages import decision_stage

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Decision:
    """The decisions of a classifier over a partition.

    Attributes
    ----------
    vertices : ndarray (V, 2)
    mesh : Mesh
        The partition's mesh, cut along the decision boundary.
    classes : ndarray (C,)
        The class decided in each of its cells.  One logit: 1 where it is positive, 0 elsewhere.
    boundary : ndarray (n, 2, 2)
        The boundary as segments, from point to point; each is straight and inside one cell.
    """

    vertices: Array
    mesh: Mesh
    classes: Array
    boundary: Array


def decision(partition: Partition, memory: float | None = None) -> Decision:
    """Decision boundary and classes of a network on its partition.

    Parameters
    ----------
    partition : Partition
        Of a network whose outputs are one logit or C logits.
    memory : float, optional
        Bytes that may be used.  By default nine tenths of what is free.

    Returns
    -------
    Decision

    Notes
    -----
    Paper, Fig. 1a and App. L: "splines in the final classification layer are exactly the decision
    boundary" holds for one logit; for C logits the boundary is where the largest two tie.  Taught
    in *The decision boundary is the last spline*.

    Examples
    --------
    >>> from torch import nn
    >>> from splinelib.partition import partition
    >>> net = nn.Linear(2, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = net.weight.copy_(torch.tensor([[1.0, 0.0]]))
    >>> decision(partition(net, box=((-1, -1), (1, 1)))).boundary.tolist()
    [[[0.0, -1.0], [0.0, 1.0]]]
    """
    partition.require_all_layers()
    stages, vertices = partition.stages, partition.vertices
    states = [states[-2:] for states in states_at(stages, partition.plane, vertices)]
    outputs = torch.cat([last[-1] for last in states]).cpu().numpy()
    before = [last[0] if len(last) == 2 else None for last in states]
    if before[0] is None:
        largest = partition.plane.embed(vertices).flatten(1).abs().amax(0)
    else:
        largest = torch.stack([block.abs().amax(0) for block in before]).amax(0)
    memory = free_memory() if memory is None else memory
    stage = decision_stage(stages[-1])
    zero = rounding(stage, largest)
    number = partition.num_layers + 1
    mesh, weights = draw(stage, partition.mesh, outputs, zero, number, memory)
    vertices = np.concatenate([vertices, weights @ vertices])
    winners = stage.codes(_at_centers(mesh, outputs, weights), zero.max() / 64)
    classes = winners.numpy()[:, 0]
    classes = (classes > 0 if stage.switch.kind == "sign" else classes).astype(np.int64)
    left, right = mesh.edge_cells.T
    border = (left >= 0) & (right >= 0) & (classes[left] != classes[right])
    return Decision(vertices, mesh, classes, vertices[mesh.edges[border]])


def _at_centers(mesh: Mesh, outputs: Array, weights) -> torch.Tensor:
    """Outputs at the mean of each cell's corners.  (cells, outputs)"""
    corners = np.concatenate([outputs, weights @ outputs])[mesh.loop_vertex]
    sums = np.add.reduceat(corners, mesh.cell_start[:-1])
    return torch.from_numpy(sums / np.diff(mesh.cell_start)[:, None])
