"""Data sets: toy sets by formula, scikit-learn's digits, MNIST, and labelled images to train on.

The toy sets, ``digits`` and ``mnist`` return ``(x, y)`` as CPU tensors: inputs in float64, one row
or image each, and labels in int64 (targets of a regression in float64). Random numbers come from a
``torch.Generator`` on the CPU, by default a fresh one with seed 0: equal arguments give equal data,
and the global random state is never touched.

``load``, ``folder`` and ``colour`` return a training and a test :class:`ImageSet`, bytes that stay
on one device; ``Batches`` makes a network's inputs of them there. ``Stream`` does the same for
folders that fit into no memory.
"""

from splinelib.data.batches import Batches
from splinelib.data.colour import colour
from splinelib.data.digits import digits, digits_images
from splinelib.data.folders import folder
from splinelib.data.images import ImageSet
from splinelib.data.mnist import mnist
from splinelib.data.official import load
from splinelib.data.stream import Stream
from splinelib.data.toy import circles, cross, mixture, moons, sawtooth

__all__ = [
    "Batches",
    "ImageSet",
    "Stream",
    "circles",
    "colour",
    "cross",
    "digits",
    "digits_images",
    "folder",
    "load",
    "mixture",
    "mnist",
    "moons",
    "sawtooth",
]
