"""Redundancy of units: seconds and memory of splinelib beside plain ways to the same numbers.

    python benchmarks/redundancy.py            # or: python benchmarks/redundancy.py random-2048

A case named "random-2048" is a layer of 2048 units with 2048 inputs, its weights drawn with seed 0;
"equal" gives all units one hyperplane.  "star" and "hubs" are pair matrices that are bad for
greedies: one unit, or always one of those left, is the nearest of all.  "resnet50" is all 53
convolutions of torchvision's network with their BatchNorms folded, 26,560 units.

Matrices: scikit-learn's pairwise cosines, which leave out offsets and cancel near 1.  Orders: the
greedy that looks at all pairs again for each unit, O(n^3), in NumPy.  The ratio compares CPU time
with ours.  Layers run on one core, ResNet-50 on two; a process for each run, so that its peak
memory (with that of Python, torch and the peer) is its own.
"""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

CASES = (
    "random-1024", "random-2048", "random-4096", "equal-2048", "star-2048", "hubs-2048",
    "hubs-4096", "resnet50",
)  # fmt: skip
NAIVE_LIMIT = 2048  # units: O(n^3) on more takes minutes
Layers = list[tuple[torch.Tensor, torch.Tensor]]


def pairs(layers: Layers) -> list[np.ndarray]:
    """Pair matrices by splinelib."""
    from splinelib.redundancy import pair_matrix

    return [pair_matrix(W, b).numpy() for W, b in layers]


def cosines(layers: Layers) -> list[np.ndarray]:
    """The part 1 - |c| alone by scikit-learn."""
    from sklearn.metrics.pairwise import cosine_similarity

    return [1 - np.abs(cosine_similarity(W.double().numpy())) for W, _ in layers]


def ours(matrices: list[np.ndarray]) -> list[list[int]]:
    """Orders by splinelib."""
    from splinelib.redundancy import greedy

    return [greedy(N).order.tolist() for N in matrices]


def naive(matrices: list[np.ndarray]) -> list[list[int]]:
    """Orders by the greedy that looks at all pairs in each step."""
    return [naive_order(N) for N in matrices]


def naive_order(N: np.ndarray) -> list[int]:
    """The order of one layer: a removed unit has infinite distances."""
    N, order = N.copy(), []
    np.fill_diagonal(N, np.inf)
    while len(order) < len(N) - 1:
        low, high = sorted(divmod(int(N.argmin()), len(N)))
        N[low, high] = N[high, low] = np.inf
        gone = low if N[low].min() < N[high].min() else high
        N[gone] = N[:, gone] = np.inf
        order.append(gone)
    return order


def network() -> torch.nn.Module:
    """A ResNet-50 with random weights and statistics."""
    import torchvision

    net = torchvision.models.resnet50()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(value)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net


def folded(net: torch.nn.Module) -> Layers:
    """Rows of all layers that a BatchNorm follows."""
    from splinelib.units import rows, units

    return [tuple(rows(net, at)) for at in units(net).values() if at.norm]


def layer(kind: str, width: int) -> Layers:
    """One layer of random or equal units."""
    W, b = torch.randn(width, width).double(), torch.randn(width).double()
    return [(W, b)] if kind == "random" else [(W[:1].repeat(width, 1), b[:1].repeat(width))]


def bad(kind: str, width: int) -> list[np.ndarray]:
    """One pair matrix that is bad for greedies."""
    first = np.minimum.outer(np.arange(width), np.arange(width))
    N = 1.0 + (np.minimum(first, 1) if kind == "star" else first)
    np.fill_diagonal(N, 0)
    return [N]


def read(case: str) -> Callable[[], Layers]:
    """A function that gives the layers of a case; what it does counts, what is done here not."""
    kind, _, width = case.partition("-")
    if kind == "resnet50":
        net = network()
        return lambda: folded(net)
    layers = layer(kind, int(width))
    return lambda: layers


def timed(run: Callable, *arguments: list) -> tuple[list, float, float]:
    """Result, seconds and CPU seconds of one run."""
    start, cpu = time.perf_counter(), time.process_time()
    result = run(*arguments)
    return result, time.perf_counter() - start, time.process_time() - cpu


def measure(case: str, tool: str) -> tuple[dict[str, tuple[float, float]], list, float]:
    """Seconds and CPU seconds of both parts, the orders, and the peak memory in GB."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    matrix, order = {"splinelib": (pairs, ours), "plain": (cosines, naive)}[tool]
    order(matrix(layer("random", 3)))  # imports
    kind, _, width = case.partition("-")
    times = {}
    if kind in ("star", "hubs"):
        matrices = bad(kind, int(width))
    else:
        layers = read(case)
        matrices, *times["matrix"] = timed(lambda: matrix(layers()))
        if tool == "plain":
            matrices = pairs(layers())  # orders are compared on the same numbers
    orders = []
    if tool == "splinelib" or max(map(len, matrices)) <= NAIVE_LIMIT:
        orders, *times["order"] = timed(order, matrices)
    return times, orders, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main(cases: list[str]) -> None:
    """Print the table."""
    print(f"torch {torch.__version__}, NumPy {np.__version__}, load {os.getloadavg()[0]:.1f}")
    print(f"{'case':12} {'part':7} {'tool':10} {'seconds':>8} {'CPU s':>8} {'ratio':>7} {'GB':>6}")
    spawn = multiprocessing.get_context("spawn")
    for case in cases:
        os.environ["OMP_NUM_THREADS"] = "2" if case == "resnet50" else "1"
        results = {}
        for tool in ("splinelib", "plain"):
            with spawn.Pool(1) as pool:
                results[tool] = pool.apply(measure, (case, tool))
            for part, (seconds, cpu) in results[tool][0].items():
                ratio = cpu / results["splinelib"][0][part][1]
                print(
                    f"{case:12} {part:7} {tool:10} {seconds:8.2f} {cpu:8.2f} {ratio:6.1f}x "
                    f"{results[tool][2]:6.2f}"
                )
        first, second = (results[tool][1] for tool in ("splinelib", "plain"))
        if second:
            print(f"{case:12} orders are {'equal' if first == second else 'DIFFERENT'}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
