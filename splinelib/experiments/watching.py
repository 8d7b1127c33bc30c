"""What a dense run watches: the early-bird detector, and distances between all pairs of epochs."""

from functools import partial

import torch
from torch import Tensor

from splinelib.earlybird import (
    ALGORITHM_1,
    MASK_DISTANCE,
    PUBLIC_CODE,
    EarlyBird,
    codes,
    first_fire,
    layer_matrices,
    mask_codes,
)
from splinelib.earlybird.hamming import mean
from splinelib.experiments.packing import UNIT, pack, pack_pairs

DETECTOR = "detector"  # the tool as anyone would use it: held-out images, 2048 entries a layer
RULES = {"algorithm-1": ALGORITHM_1, "public-code": PUBLIC_CODE, "mask-distance": MASK_DISTANCE}


def watchers(
    probes: dict[str, Tensor], names: tuple[str, ...], features: int
) -> dict[str, EarlyBird]:
    """Make the detectors of a dense run.

    Parameters
    ----------
    probes : dict of str to Tensor
        Inputs by name.
    names : tuple of str
        What to watch; empty: nothing.
    features : int
        Entries of each layer in the comparisons of all pairs.

    Returns
    -------
    dict of str to EarlyBird
        The tool itself, and one for each name that keeps all its snapshots.
    """
    if not names:
        return {}
    made = {DETECTOR: EarlyBird(probes["held-out"])} if "held-out" in probes else {}
    for name in names:
        kept = {"keep": "all", "features": features}
        if name.startswith("mask-"):
            share = int(name.removeprefix("mask-")) / 100
            snapshot, kept["weight"] = partial(mask_codes, fraction=share), "element"
        elif name == "canvas":  # as the public code does it: on BatchNorm's outputs
            snapshot = partial(codes, x=probes[name], at="batchnorm", features=features)
        else:
            snapshot = probes[name]
        made[name] = EarlyBird(snapshot, **kept)
    return made


def distances(watched: dict[str, EarlyBird]) -> dict | None:
    """The section "distances" of a result.

    Parameters
    ----------
    watched : dict of str to EarlyBird
        After the run.

    Returns
    -------
    dict or None
        None if nothing was watched. "probes": of the detector the distances of consecutive epochs
        by layer, of each other the matrix of all pairs; "fired": the epoch at which each rule first
        fires, for each probe and weighting, or None.
    """
    if not watched:
        return None
    probes, fired = {}, []
    for name, bird in watched.items():
        last = bird.history[-1]
        about = {"inputs": last.count, "features": last.features, "weight": bird.weight}
        if name == DETECTOR:
            about |= _consecutive(bird, last)
            fired.append(_fired(name, "algorithm-1", bird.weight, bird.fired))
        else:
            of_layers = layer_matrices(bird.history)
            matrix = mean(of_layers, last.widths, bird.weight)
            about |= {"rows": len(matrix), "matrix": pack_pairs(matrix)}
            fired += _firings(name, of_layers, last.widths)
        probes[name] = about
    return {"unit": UNIT, "probes": probes, "fired": fired}


def inputs(watched: dict[str, EarlyBird]) -> int:
    """Images that go through the network at each update; masks need none."""
    return sum(looked_at(bird) for bird in watched.values())


def looked_at(bird: EarlyBird) -> int:
    """Images that go through the network at each update of one detector.

    Codes of a mask have one row, for no image.
    """
    count = bird.history[-1].count
    return count if count > 1 else 0


def _consecutive(bird: EarlyBird, last) -> dict:
    """The distances between consecutive epochs by layer, and the layers."""
    moved = torch.stack(bird.distances) if bird.distances else torch.zeros(0, len(last.layers))
    return {
        "rows": len(moved) + 1,
        "layers": list(last.layers),
        "widths": list(last.widths),
        "consecutive": pack(moved),
    }


def _firings(probe: str, of_layers: Tensor, widths: tuple[int, ...]) -> list[dict]:
    """When each rule would have fired on a matrix; the rule of masks is for masks only."""
    masks = probe.startswith("mask-")
    rules = ["mask-distance"] if masks else ["algorithm-1", "public-code"]
    found = []
    for weight in ("element",) if masks else ("layer", "element"):
        matrix = mean(of_layers, widths, weight).clamp(0, 1)
        found += [_fired(probe, rule, weight, first_fire(matrix, RULES[rule])) for rule in rules]
    return found


def _fired(probe: str, rule: str, weight: str, epoch: int | None) -> dict:
    return {"probe": probe, "rule": rule, "weight": weight, "epoch": epoch}
