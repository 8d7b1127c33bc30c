"""What each of two processes does in the test of several: train, and write down the results.

torchrun --nproc-per-node 2 together.py FOLDER
"""

import faulthandler
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from training import SHORT, Breaking, Counter, InterruptedRunError, Spy, convnet, source

from splinelib.masks import Mask
from splinelib.pruning.c_sgd import CSGD
from splinelib.pruning.gdp import GDP
from splinelib.pruning.held import Held
from splinelib.pruning.rigl import RigL
from splinelib.pruning.sfp import SFP
from splinelib.surgery import groups
from splinelib.train import own_device, train

STOPS = 3 if os.environ.get("RANK", "0") == "0" else None  # process 0 alone decides when to stop
HALF = {"0.weight": (torch.arange(36) % 2 == 0).reshape(4, 1, 3, 3)}
PAIRS = {"0": torch.arange(4) // 2}
HOOKS = {
    "held": lambda net: Held(Mask(HALF)),
    "rigl": lambda net: RigL(HALF, period=2),
    "sfp": lambda net: SFP(0.5),
    "gdp": lambda net: GDP(0.5, period=3),
    "c-sgd": lambda net: CSGD(groups(net), PAIRS, strength=2.0),
}


def hooked(name, **changes):
    net = convnet(**changes)
    return {"net": net, "hook": HOOKS[name](net)}


CALLS = {
    "plain": {"net": convnet(norm=False), "source": source(augment="crop-flip")},
    "without": {"net": convnet(norm=False)},
    "adam": {"net": convnet(norm=False), "recipe": replace(SHORT, optimizer="adam", lr=None)},
    "parts": {"net": convnet(norm=False), "source": source(n=39), "micro_batch": 3},
    "norm": {"net": convnet(), "source": source(n=32)},
    "slim": {"net": convnet(), "source": source(n=32), "recipe": replace(SHORT, slimming=0.01)},
    "tested": {"net": convnet(norm=False), "test": source(n=37), "until": Counter(STOPS)},
    **{name: hooked(name, norm=False) for name in HOOKS},
    **{f"{name}-norm": {"source": source(n=32), **hooked(name)} for name in HOOKS},
}


def filled(call):
    return {"source": source(), "recipe": SHORT, **call}


def main(folder):
    faulthandler.dump_traceback_later(200, exit=True)  # a process that waits for ever ends itself
    rank = int(os.environ["RANK"])
    results = {name: train(**filled(call)) for name, call in CALLS.items()}
    path = folder / "run.pt"
    call = {"net": convnet(dropout=0.5), "recipe": SHORT, "checkpoint": path}
    broken = Breaking(source(), 1, 2)
    results["straight"] = train(convnet(dropout=0.5), source(), SHORT)
    try:
        train(source=broken, save_every=0, **call)
    except InterruptedRunError:
        dist.barrier()
    results["resumed"] = train(source=source(), **call)
    facts = {"device": str(own_device()), "graphs": graphs()}
    facts["refused"] = refusal(source(n=33))
    facts["other"] = refusal(source(seed=1), checkpoint=path)
    kept = {
        name: {"net": run.net.state_dict(), "log": run.log, "stopped": run.stopped}
        for name, run in results.items()
    }
    torch.save({"runs": kept, "facts": facts}, folder / f"{rank}.pt")


def refusal(source, **options):
    """What is said of a call that is refused."""
    try:
        train(convnet(), source, SHORT, **options)
    except ValueError as error:
        return str(error)
    return ""


def graphs():
    """Whether CUDA graphs are allowed to several processes."""
    spy = Spy()
    train(convnet(), source(), replace(SHORT, epochs=1), speed=spy)
    return spy.graphs


if __name__ == "__main__":
    main(Path(sys.argv[1]))
