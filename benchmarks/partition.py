"""Exact partitions: seconds and memory of splinelib beside regioncam, on the same weights.

    python -m pip install regioncam==0.5.2     # the peer; without it only our column is filled
    python benchmarks/partition.py             # or: python benchmarks/partition.py 2-64-64-1

Every run has a process of its own, so that its peak memory is its own; the time is that of drawing
all layers from a given network, imports and start-up left out, best of three for small networks.
regioncam (https://github.com/twanvl/regioncam) is written in Rust and computes in float32, so it
may merge slivers that float64 tells apart; the table shows both counts.
"""

import multiprocessing
import resource
import sys
import time

import torch

NETWORKS = ("2-32-32-32-1", "2-128-128-128-1", "2-256-256-256-1", "2-" + "256-" * 7 + "1")
BOX = ((-1.0, -1.0), (1.0, 1.0))
QUICK = 2.0  # seconds: runs shorter than this are repeated
PEER_LIMIT = 1000  # units: networks with more are left to splinelib alone


def network(name: str) -> torch.nn.Sequential:
    """The MLP of a name like "2-32-32-1", weights drawn with seed 0."""
    from splinelib import nets

    widths = [int(width) for width in name.split("-")]
    return nets.mlp(widths, generator=torch.Generator().manual_seed(0))


def ours(net: torch.nn.Sequential) -> int:
    """Number of cells by splinelib."""
    from splinelib.partition import partition

    return partition(net[:-1], BOX).num_cells


def regioncam(net: torch.nn.Sequential) -> int:
    """Number of cells by regioncam."""
    from regioncam import Regioncam

    drawn = Regioncam(1.0)
    for layer in net[:-1]:
        if isinstance(layer, torch.nn.Linear):
            weight, bias = (v.detach().float().numpy() for v in (layer.weight, layer.bias))
            drawn.linear(weight.T.copy(), bias)
        else:
            drawn.relu()
    return drawn.num_faces


def measure(tool: str, name: str) -> tuple[int, float, float]:
    """Cells, seconds and peak memory in GB of one tool on one network."""
    run, net = {"splinelib": ours, "regioncam": regioncam}[tool], network(name)
    run(network("2-8-8-1"))  # imports
    seconds = []
    while len(seconds) < (3 if not seconds or min(seconds) < QUICK else 1):
        start = time.perf_counter()
        cells = run(net)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return cells, min(seconds), peak


def main(names: list[str]) -> None:
    """Print the table."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'network':24} {'tool':10} {'cells':>10} {'seconds':>9} {'peak GB':>8} {'ratio':>7}")
    spawn = multiprocessing.get_context("spawn")
    for name in names:
        few = sum(int(width) for width in name.split("-")) <= PEER_LIMIT
        mine = None
        for tool in ("splinelib", "regioncam")[: 2 if few else 1]:
            try:
                with spawn.Pool(1) as pool:
                    cells, seconds, peak = pool.apply(measure, (tool, name))
            except ImportError:
                print(f"{name:24} {tool:10} not installed")
                continue
            mine = mine or seconds
            print(
                f"{name:24} {tool:10} {cells:10,} {seconds:9.3f} {peak:8.2f} {seconds / mine:6.1f}x"
            )


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETWORKS))
