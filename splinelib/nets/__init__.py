"""The networks of the book and of the paper.

``small`` holds networks whose partitions fit on a page, in float64; ``cifar``, ``alexnet`` and
``imagenet`` hold those that the paper trains, in float32; ``build`` finds a network by its name.
"""

from splinelib.nets.alexnet import alexnet
from splinelib.nets.build import NAMES, build
from splinelib.nets.cifar import Bottleneck, preresnet, vgg16
from splinelib.nets.imagenet import resnet
from splinelib.nets.small import (
    Abs,
    Residual,
    activation,
    by_hand,
    convnet,
    mlp,
    paper_toy,
    residual_mlp,
    sawtooth_net,
)

__all__ = [
    "NAMES",
    "Abs",
    "Bottleneck",
    "Residual",
    "activation",
    "alexnet",
    "build",
    "by_hand",
    "convnet",
    "mlp",
    "paper_toy",
    "preresnet",
    "residual_mlp",
    "resnet",
    "sawtooth_net",
    "vgg16",
]
