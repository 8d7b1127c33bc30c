"""What the tests of splinelib.train share: few images, a small network, watchers, interruptions."""

import os

import torch
from torch import nn

from splinelib import data
from splinelib.data.images import ImageSet
from splinelib.pruning.memory import Memory
from splinelib.train import Recipe, Speed

# For processes of their own: a fork after a backward pass works only where torch sees no GPU.
PLAIN = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
SHORT = Recipe(epochs=3, batch=16, lr=0.05, drops=(1, 2), factor=0.5)


def images(n=40, size=6, classes=3, seed=0):
    """Images whose brightness tells their class, with noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    noise = torch.randint(60, (n, 1, size, size), generator=generator)
    pixels = (noise + 60 * labels[:, None, None, None]).to(torch.uint8)
    return ImageSet("steps", pixels, labels, tuple("abc"[:classes]), (0.4,), (0.3,))


def source(n=40, batch=16, seed=0, dtype=torch.float64, **options):
    return data.Batches(images(n), batch=batch, seed=seed, dtype=dtype, **options)


def convnet(norm=True, dropout=0.0, dtype=torch.float64):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1, bias=not norm)]
    layers += [nn.BatchNorm2d(4)] if norm else []
    layers += [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(36, 3)).to(dtype)


def gap(a, b):
    """Largest difference between the floating-point tensors of two networks."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs if x.is_floating_point())


class Counter:
    """Counts its looks at a network, and says yes at one of them."""

    def __init__(self, yes_at=None, column="looks"):
        self.looks, self.yes_at, self.column, self.modes = 0, yes_at, column, []

    def update(self, net):
        self.looks += 1
        self.modes.append(net.training)
        return self.looks == self.yes_at

    @property
    def latest(self):
        return {self.column: self.looks}

    def state_dict(self):
        return {"looks": self.looks}

    def load_state_dict(self, state):
        self.looks = state["looks"]


class Spy(Speed):
    """Speed that remembers whether CUDA graphs were allowed."""

    def resolve(self, net, *, graphs=True):
        object.__setattr__(self, "graphs", graphs)
        return super().resolve(net, graphs=graphs)


class InterruptedRunError(Exception):
    pass


class Interrupted(Memory):
    """A memory that breaks off when it has kept some states."""

    def __init__(self, path, states):
        super().__init__(path, every=0)
        self.left = states

    def keep(self, identity, state):
        super().keep(identity, state)
        self.left -= 1
        if not self.left:
            raise InterruptedRunError


class Breaking:
    """A source that breaks off before one step of one epoch."""

    def __init__(self, source, epoch, step):
        self.source, self.at = source, (epoch, step)

    def __getattr__(self, name):
        return getattr(self.source, name)

    def epoch(self, epoch, start=0, **place):
        for step, batch in enumerate(self.source.epoch(epoch, start=start, **place), start):
            if (epoch, step) == self.at:
                raise InterruptedRunError
            yield batch
