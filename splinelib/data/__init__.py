"""Data sets: toy sets by formula, scikit-learn's digits, MNIST.

Each function returns ``(x, y)`` as CPU tensors: inputs in float64, one row or image each, and
labels in int64 (targets of a regression in float64). Random numbers come from a ``torch.Generator``
on the CPU, by default a fresh one with seed 0: equal arguments give equal data, and the global
random state is never touched.
"""

from splinelib.data.digits import digits, digits_images
from splinelib.data.mnist import mnist
from splinelib.data.toy import circles, cross, mixture, moons, sawtooth

__all__ = ["circles", "cross", "digits", "digits_images", "mixture", "mnist", "moons", "sawtooth"]
