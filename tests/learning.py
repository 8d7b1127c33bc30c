"""What the tests of methods that train share: images for the planted networks, and trainings."""

import planted
import torch
from torch import nn

from splinelib import data, nets
from splinelib.data.images import ImageSet
from splinelib.surgery import groups
from splinelib.train import Recipe, trainer

SHORT = Recipe(epochs=3, batch=16, lr=0.05, drops=(2,))
PLAIN = Recipe(epochs=25, batch=16, lr=0.05, momentum=0.0, drops=())


def images(form="convnet", n=48, classes=3, seed=0):
    """Random images of the shape that a planted network takes, with labels in turn."""
    shape = planted.SHAPES[form]
    shape = shape if len(shape) == 3 else (1, 1, *shape)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, *shape), generator=generator).to(torch.uint8)
    numbers = ((0.5,) * shape[0], (0.3,) * shape[0])
    return ImageSet("noise", pixels, torch.arange(n) % classes, tuple("abc"[:classes]), *numbers)


def source(form="convnet", **options):
    return data.Batches(images(form, **options), batch=16, dtype=torch.float64)


def network(form="convnet"):
    net = planted.network(form)
    return nn.Sequential(nn.Flatten(), *net).eval() if form == "mlp" else net


def fit(form="convnet", recipe=SHORT):
    return trainer(source(form), recipe)


def halves(net):
    return {name: torch.arange(group.width) // 2 for name, group in groups(net).items()}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def first(found, widths):
    return {name: torch.arange(found[name].width) < width for name, width in widths.items()}


def normed(channels=4, dtype=torch.float64):
    return nets.convnet((1, 6, 6), (channels,), (3,), 3, batch_norm=True, dtype=dtype)
