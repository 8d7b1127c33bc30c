"""Spline pruning of a ResNet-50: seconds and memory beside torch-pruning's L1 and FPGM pruners.

    python benchmarks/pruning.py            # or: python benchmarks/pruning.py inner joint-null

A case names the channels that may go and how angles are compared: "inner" and "joint" are those of
``splinelib.surgery.groups``, all by the plain distances or by "null".  "joint-close" has layers
whose filters are all nearly one, which is where the pair matrix is slow.  Half of the channels go,
ranked over the whole network; network and images are torchvision's, 224 x 224, with random weights
and statistics (seed 0).

The peers score by L1 norms, and by the sum of the distances to all other filters (FPGM), and cut
the joint groups.  "score" is from the network to the mask, "cut" from the mask to the small
network; a peer does both in one.  The ratio compares CPU time with ours of both parts.  All run on
one core (give OMP_NUM_THREADS for more), in a process each, so that the peak memory (with that of
Python, torch and the peer) is its own.
"""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable

import torch

CASES = ("inner", "joint", "joint-null", "joint-close")
PEERS = ("L1", "FPGM")
RATIO, SHAPE = 0.5, (3, 224, 224)
Times = dict[str, tuple[float, float]]  # seconds and CPU seconds of each part


def network(close: bool) -> torch.nn.Module:
    """A ResNet-50 with random weights and statistics; its filters nearly equal if ``close``."""
    import torchvision

    net = torchvision.models.resnet50().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for value in (module.weight, module.bias, module.running_mean):
                    torch.nn.init.normal_(value)
                torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            elif close and isinstance(module, torch.nn.Conv2d):
                weight = module.weight
                weight.copy_(weight[:1] + 1e-3 * weight)
    return net


def timed(run: Callable) -> tuple[object, tuple[float, float]]:
    """What a function returns, and its seconds and CPU seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, (time.perf_counter() - start, time.process_time() - cpu)


def ours(net: torch.nn.Module, case: str) -> tuple[Times, torch.nn.Module]:
    """Times of both parts, and the small network."""
    from splinelib.pruning.spline import spline
    from splinelib.surgery import cut

    residual, _, kind = case.partition("-")
    reduce = "null" if kind == "null" else "none"
    options = {"scope": "global", "residual": residual, "reduce": reduce}
    mask, scoring = timed(lambda: spline(net, RATIO, **options))
    small, cutting = timed(lambda: cut(net, mask).net)
    return {"score": scoring, "cut": cutting}, small


def peer(net: torch.nn.Module, name: str) -> tuple[Times, torch.nn.Module]:
    """Time of torch-pruning's pruner, which cuts the network in place."""
    import torch_pruning

    importance = {
        "L1": lambda: torch_pruning.importance.MagnitudeImportance(p=1),
        "FPGM": lambda: torch_pruning.importance.FPGMImportance(),
    }[name]()
    options = {"global_pruning": True, "pruning_ratio": RATIO, "ignored_layers": [net.fc]}

    def prune() -> None:
        example = torch.zeros(1, *SHAPE)
        pruner = torch_pruning.pruner.MetaPruner(net, example, importance=importance, **options)
        pruner.step()

    return {"both": timed(prune)[1]}, net


def measure(case: str, tool: str) -> tuple[Times, float, float]:
    """Times of each part, billions of multiply-adds left, and the peak memory in GB."""
    from splinelib.cost import macs

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    net = network(case.endswith("close"))
    times, small = ours(net, case) if tool == "splinelib" else peer(net, tool)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    small(torch.zeros(1, *SHAPE))
    return times, macs(small, SHAPE) / 1e9, peak


def main(cases: list[str]) -> None:
    """Print the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    columns = f"{'seconds':>8} {'CPU s':>8} {'ratio':>7} {'GMACs':>6} {'GB':>6}"
    print(f"{'case':12} {'tool':10} {'part':6} {columns}")
    spawn = multiprocessing.get_context("spawn")
    for case in cases:
        total = None
        for tool in ("splinelib", *PEERS):
            with spawn.Pool(1) as pool:
                times, left, peak = pool.apply(measure, (case, tool))
            total = total or sum(cpu for _, cpu in times.values())
            for part, (seconds, cpu) in times.items():
                print(
                    f"{case:12} {tool:10} {part:6} {seconds:8.2f} {cpu:8.2f} {cpu / total:6.2f}x "
                    f"{left:6.2f} {peak:6.2f}"
                )


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
