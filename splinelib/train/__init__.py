"""The training engine: recipes, speed, checkpoints, several processes.

Read them in this order: ``recipe`` says what is done and ``speed`` how it is made fast; ``step`` is
one step, and ``hook`` what a method may do around it; ``session`` is a run in progress (with its
``clock`` and those who are ``watching``), and ``loop`` goes through its epochs; ``keeper`` says
when it is saved, ``checkpoint`` and ``lock`` how, and ``progress`` shows how far it is;
``distributed`` spreads it over processes, ``shortage`` makes do with little memory, ``evaluate``
counts what is right; ``adversarial`` makes images to start badly from, and ``layerwise`` weights
that were trained layer by layer.
"""

from splinelib.train.adversarial import corrupted
from splinelib.train.checkpoint import load, save
from splinelib.train.distributed import own_device
from splinelib.train.evaluate import accuracy
from splinelib.train.hook import StepHook
from splinelib.train.layerwise import Layerwise, layerwise
from splinelib.train.loop import Run, train, trainer
from splinelib.train.recipe import CIFAR, IMAGENET, Recipe, learning_rate
from splinelib.train.shortage import train_in_memory
from splinelib.train.speed import Speed

__all__ = [
    "CIFAR",
    "IMAGENET",
    "Layerwise",
    "Recipe",
    "Run",
    "Speed",
    "StepHook",
    "accuracy",
    "corrupted",
    "layerwise",
    "learning_rate",
    "load",
    "own_device",
    "save",
    "train",
    "train_in_memory",
    "trainer",
]
