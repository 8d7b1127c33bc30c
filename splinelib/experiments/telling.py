"""What a pruned run tells: exact counts of what was removed, and what that did."""

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from splinelib import train
from splinelib.experiments import provenance
from splinelib.experiments.job import Job
from splinelib.masks import Mask
from splinelib.surgery import groups

IMAGES = 256  # that go through a network together when its speed is measured
REPEATS = 15


def removed_units(net: nn.Module, mask: Mask, residual: str = "inner") -> dict:
    """Which channels of each group are kept, and how many went of how many.

    Parameters
    ----------
    net : nn.Module
        Of the original shape.
    mask : Mask
        Of whole channels.
    residual : "inner", "select" or "joint"
        Which groups the method could remove from.

    Returns
    -------
    dict
        "removed" and "of"; "widths" with ``[kept, all]``, and "kept" with one bit a channel, by
        group, see :func:`bits`.
    """
    entries, kept = mask.entries, {}
    for name, group in groups(net, residual).items():
        path = (group.norms if group.gate else group.writers)[0]
        entry = entries.get(f"{path}.weight")
        kept[name] = (
            torch.ones(group.width).bool()
            if entry is None
            else entry.reshape(len(entry), -1).any(1)
        )
    widths = {name: [int(k.sum()), len(k)] for name, k in kept.items()}
    return {
        "what": "units",
        **_sums(widths),
        "widths": widths,
        "kept": {name: bits(k) for name, k in kept.items()},
    }


def removed_weights(mask: Mask) -> dict:
    """How many weights of each parameter are kept, and how many went of how many."""
    widths = {name: list(pair) for name, pair in mask.counts().items()}
    return {"what": "weights", **_sums(widths), "widths": widths}


def _sums(widths: Mapping[str, list[int]]) -> dict[str, int]:
    left, total = (sum(column) for column in zip(*widths.values(), strict=True))
    return {"removed": total - left, "of": total}


def bits(kept: Tensor) -> str:
    """Write which channels are kept as hexadecimal digits: the first bit is channel 0.

    >>> bits(torch.tensor([True, False, True, True, True])), unbits("b8", 5).tolist()
    ('b8', [True, False, True, True, True])
    """
    padded = [*kept.tolist(), *[False] * (-len(kept) % 8)]
    return int("".join("01"[k] for k in padded), 2).to_bytes(len(padded) // 8, "big").hex()


def unbits(text: str, width: int) -> Tensor:
    """Read what :func:`bits` wrote: bool ``(width,)``."""
    digits = f"{int(text, 16):0{4 * len(text)}b}"
    return torch.tensor([digit == "1" for digit in digits[:width]])


def kept_units(result: Mapping) -> dict[str, Tensor]:
    """Which units a recorded run kept.

    Parameters
    ----------
    result : dict
        From :func:`splinelib.experiments.results`.

    Returns
    -------
    dict of str to Tensor (n,), bool
        By the name of the layer or BatchNorm that the group is called after.

    Raises
    ------
    ValueError
        The run removed no units.
    """
    pruned = result.get("outcome", {}).get("pruned", {})
    if "kept" not in pruned:
        raise ValueError(f"{result['name']}, seed {result['seed']}, removed no units")
    return {n: unbits(text, pruned["widths"][n][1]) for n, text in pruned["kept"].items()}


def sizes(job: Job, dense: nn.Module, final: nn.Module) -> dict:
    """How large two networks are, and how long images take to go through them.

    Returns
    -------
    dict
        "macs" for one image, "parameters", and, of a run that has the machine for itself,
        "forward_seconds" for up to 256 test images: each ``[dense, final]``; "nonzero", how many
        parameters of the final one are not 0.
    """
    both = (dense, final)
    measured = {"forward_seconds": forward_seconds(job, both)} if provenance.alone() else {}
    return measured | {
        "macs": [job.macs(net) for net in both],
        "parameters": [sum(p.numel() for p in net.parameters()) for net in both],
        "nonzero": sum(int(p.count_nonzero()) for p in final.parameters()),
    }


def forward_seconds(job: Job, nets: Sequence[nn.Module]) -> list[float]:
    """Seconds of a forward pass of test images, one number a network, measured in turns.

    The least of several, after one to warm up: whatever else the machine does makes it longer. On a
    CPU it is what its threads worked, which other programs prolong less than what a clock shows.
    """
    x = next(iter(job.test().epoch(0)))[0][:IMAGES]
    rounds = [[_seconds(net.eval(), x) for net in nets] for _ in range(REPEATS + 1)]
    return [min(column) for column in zip(*rounds[1:], strict=True)]


@torch.no_grad()
def _seconds(net: nn.Module, x: Tensor) -> float:
    """Seconds of one forward pass, until the device has done it."""
    if x.device.type == "cpu":
        start = time.process_time()
        net(x)
        return time.process_time() - start
    torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    net(x)
    torch.cuda.synchronize(x.device)
    return time.perf_counter() - start


def moved(start: nn.Module, net: nn.Module) -> bool:
    """Whether a network has other weights than the start: whether it was trained."""
    pairs = zip(start.parameters(), net.parameters(), strict=True)
    return not all(torch.equal(old, new) for old, new in pairs)


def right(job: Job, net: nn.Module) -> float:
    """Share of the test images that a network gets right."""
    return train.accuracy(net, job.test())
