"""Early birds: how far a partition moves while a network trains, and when it has settled.

``codes`` reads on which side of every hyperplane a probe set lies, in one bit each; ``distances``
and ``matrix`` compare such snapshots; a ``Rule`` says when they are near enough; ``EarlyBird`` does
all that inside a training loop, in two lines. ``probes`` holds the inputs to watch, and
``mask_codes`` the contrast: masks that a pruning would draw (You et al., 2020).
"""

from splinelib.earlybird.capture import codes
from splinelib.earlybird.detector import EarlyBird
from splinelib.earlybird.gamma import mask_codes
from splinelib.earlybird.hamming import distance, distances, layer_matrices, matrix
from splinelib.earlybird.probes import canvas, held_out, random_inputs
from splinelib.earlybird.rule import ALGORITHM_1, MASK_DISTANCE, PUBLIC_CODE, Rule, first_fire
from splinelib.earlybird.snapshots import Codes

__all__ = [
    "ALGORITHM_1",
    "MASK_DISTANCE",
    "PUBLIC_CODE",
    "Codes",
    "EarlyBird",
    "Rule",
    "canvas",
    "codes",
    "distance",
    "distances",
    "first_fire",
    "held_out",
    "layer_matrices",
    "mask_codes",
    "matrix",
    "random_inputs",
]
