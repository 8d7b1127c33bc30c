"""Grow a partition layer by layer: the paper's recursion, with states carried at the vertices.

Between two nonlinearities a network is affine on every cell drawn so far.  So the state of a new
vertex is the same combination of old vertices as its position, and one matrix product a layer
brings all vertices to the next nonlinearity.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from splinelib.cutting import cut
from splinelib.mesh import Mesh, rectangle, require, straighten
from splinelib.plane import Plane
from splinelib.stages import Stage

Array = np.ndarray
ROUNDING = 2.0**-44  # a value this much smaller than the terms it is the sum of counts as zero
REUSE = 2**29  # bytes of states from which on memory counts more than the time to grow an array
BLOCK = 2**18  # numbers in one block of states: small enough for the cache


def grow(stages: Sequence[Stage], state: Tensor, corners: Array, memory: float):
    """Cut a rectangle by all nonlinearities of a network, one after another.

    Parameters
    ----------
    stages : sequence of Stage
    state : Tensor (4, D)
        The corners in the input space.
    corners : ndarray (4, 2)
        The corners in the plane, counter-clockwise.
    memory : float
        Bytes that may be used.

    Returns
    -------
    vertices : ndarray (V, 2)
    layers : tuple of Mesh
        The rectangle, then the mesh after each nonlinearity.
    zeros : tuple of Tensor
        For each nonlinearity, up to which magnitude a unit's value counted as zero.
    """
    device, state = state.device, state.cpu().numpy().copy()
    vertices, layers, zeros = corners, [rectangle()], []
    weights, largest = csr_array((0, 4)), torch.from_numpy(np.abs(state).max(axis=0)).to(device)
    for number, stage in enumerate(stages[:-1], start=1):
        zero = rounding(stage, largest)
        state, largest = advance(stage, state, weights, memory, device)
        mesh, weights = draw(stage, layers[-1], state, zero, number, memory - state.nbytes)
        vertices = np.concatenate([vertices, weights @ vertices])
        layers.append(mesh)
        zeros.append(
            torch.from_numpy(zero if stage.switch.kind == "sign" else zero.max(keepdims=True)).to(
                device
            )
        )
    return vertices, tuple(layers), tuple(zeros)


def rounding(stage: Stage, largest: Tensor) -> Array:
    """Up to which magnitude each switch counts as zero.

    largest (S,): the largest magnitudes of the state before the stage -> (K,)
    """
    bounds = stage.switch_bounds(stage.advance(largest[None], magnitude=True))
    return ROUNDING * bounds.cpu().numpy()


def advance(
    stage: Stage, state: Array, weights: csr_array, memory: float, device: torch.device
) -> tuple[Array, Tensor]:
    """States of old and new vertices at the next nonlinearity, and their largest magnitudes.

    state (V, S), weights (new, V) -> (V + new, S'), (S',).  Where states are large and keep their
    size, the memory of the old ones is used again: the caller must not look at them any more.
    """
    old, width, before = len(state), stage.width, state.shape[1]
    rows = old + weights.shape[0]
    needed = 8 * rows * width
    reuse = width == before and needed > REUSE
    require(needed + (0 if reuse else state.nbytes), memory, f"the states of {rows:,} vertices")
    if reuse:
        state.resize((rows, width), refcheck=False)
    result = state if reuse else np.empty((rows, width))
    largest = torch.zeros(width, dtype=torch.float64, device=device)
    step = max(1, BLOCK // max(width, before, 1))
    # the new vertices first: their states are combinations of old ones, which are overwritten next
    for start in [*range(old, rows, step), *range(0, old, step)]:
        stop = min(start + step, rows if start >= old else old)
        block = state[start:stop]
        if start >= old:
            block = weights[start - old : stop - old] @ state[:old]
        block = stage.advance(torch.from_numpy(block).to(device))
        lowest, highest = torch.aminmax(block, dim=0)
        largest = torch.maximum(largest, torch.maximum(highest, -lowest))
        result[start:stop] = block.cpu().numpy()
    if not torch.isfinite(largest).all():
        raise ValueError("the network's values overflow float64 in this box; choose a smaller one.")
    return result, largest


def draw(stage: Stage, mesh: Mesh, state: Array, zero: Array, number: int, memory: float):
    """Cut a mesh by the switches of a stage; returns the finer mesh and its new vertices."""
    rows = torch.from_numpy(state)
    if stage.switch.kind == "max":
        need = 24 * len(state) * len(stage.pairs)  # the differences, and both their terms
        require(need, memory, f"{len(stage.pairs):,} pairs of pooled entries at each vertex")
    values = stage.switches(rows).numpy()
    memory -= values.nbytes if stage.switch.kind == "max" else 0
    if stage.switch.kind == "sign":
        return cut(mesh, values, zero, number, memory)
    scores = stage.scores(rows).numpy()
    size, flat = scores.shape[2], scores.reshape(len(scores), -1)
    pairs = stage.pairs.numpy()

    def relevant(weights: csr_array, tail: Array, head: Array, switch: Array) -> Array:
        """Whether the two entries that tie along a segment are the largest of their window."""
        points = len(flat) + weights.shape[0]
        require(16 * points * flat.shape[1], memory, f"the pooled entries of {points:,} vertices")
        at = np.concatenate([flat, weights @ flat])
        i, j = pairs[switch].T
        window = (i // size * size)[:, None] + np.arange(size)
        largest = (at[tail[:, None], window] + at[head[:, None], window]).max(axis=1)
        return at[tail, i] + at[head, i] >= largest - 2 * zero[switch]

    fine, weights = cut(mesh, values, zero, number, memory, relevant)
    fine, kept = straighten(fine, mesh.num_vertices)
    return fine, weights[kept[mesh.num_vertices :] - mesh.num_vertices]


def states_at(stages: Sequence[Stage], plane: Plane, points: Array) -> Iterator[list[Tensor]]:
    """For blocks of points (B, 2): the state at each nonlinearity and, last, the output."""
    for block in blocks(stages, len(points)):
        state, states = plane.embed(points[block]).flatten(1), []
        for stage in stages:
            state = stage.advance(state)
            states.append(state)
        yield states


def blocks(stages: Sequence[Stage], count: int) -> list[slice]:
    """Slices of ``count`` points whose states fit into the cache."""
    width = max(stage.width for stage in stages)
    step = max(1, BLOCK // max(width, 1))
    return [slice(start, start + step) for start in range(0, count, step)]


def free_memory() -> float:
    """Nine tenths of the memory that is free now, in bytes; 4 GB where the system cannot tell."""
    free = []
    with suppress(OSError, ValueError):  # Linux
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free.append(1024 * int(lines["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError):  # a container may hold less than its machine
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        free.append(int(limit) - int(used))
    return 0.9 * min(free, default=4e9)
