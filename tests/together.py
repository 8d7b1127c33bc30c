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

from splinelib.train import own_device, train

STOPS = 3 if os.environ.get("RANK", "0") == "0" else None  # process 0 alone decides when to stop
CALLS = {
    "plain": {"net": convnet(norm=False), "source": source(augment="crop-flip")},
    "adam": {"net": convnet(norm=False), "recipe": replace(SHORT, optimizer="adam", lr=None)},
    "parts": {"net": convnet(norm=False), "source": source(n=39), "micro_batch": 3},
    "norm": {"net": convnet(), "source": source(n=32)},
    "slim": {"net": convnet(), "source": source(n=32), "recipe": replace(SHORT, slimming=0.01)},
    "tested": {"net": convnet(norm=False), "test": source(n=37), "until": Counter(STOPS)},
}


def filled(call):
    return {"source": source(), "recipe": SHORT, **call}


def main(folder):
    faulthandler.dump_traceback_later(100, exit=True)  # a process that waits for ever ends itself
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
