"""A student that is trained to pass for its teacher before a discriminator."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from splinelib.ops import copied
from splinelib.pruning.fista import FISTA
from splinelib.pruning.soft_masks import ones
from splinelib.surgery.groups import Group
from splinelib.train.recipe import restore_optimizer

WIDTHS = (128, 256, 128)  # of the discriminator


class Game:
    """Teacher, student with soft masks, and discriminator, with what moves each of them.

    Parameters
    ----------
    net : nn.Module
        The teacher, and the student's start.
    found : mapping of str to Group
        Whose channels have masks. They act while ``soft_masks.masked`` is open.
    classes : int
        Number of logits.
    sparsity : float
        Weight of the masks' L1 penalty.
    seed : int
        Of the discriminator.
    rates
        Of the SGD that trains student and discriminator.
    """

    def __init__(
        self, net: nn.Module, found: Mapping[str, Group], classes: int, *, sparsity: float,
        seed: int, **rates: float
    ) -> None:  # fmt: skip
        self.teacher, self.student = copied(net).eval().requires_grad_(False), copied(net).train()
        self.judge = discriminator(classes, next(net.parameters()), seed)
        self.masks, self.taken = ones(self.student, found), 0  # steps taken
        self.fista = FISTA(self.masks, sparsity)
        weights = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizers = [torch.optim.SGD(p, **rates) for p in (self.judge.parameters(), weights)]

    def ready(self, lr: float) -> list[torch.optim.Optimizer]:
        """What trains the discriminator, and the student, at a learning rate, for one step."""
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = lr
        for mask in self.masks.values():
            mask.grad = None  # a mask moves by the gradient of one batch, as in the source
        return self.optimizers

    def finite(self) -> bool:
        """Whether all weights and masks are numbers; this waits for a GPU."""
        values = [*self.student.parameters(), *self.judge.parameters(), *self.masks.values()]
        return bool(torch.stack([value.detach().isfinite().all() for value in values]).all())

    def state_dict(self) -> dict:
        """All that changes, as tensors and numbers."""
        return {
            "taken": self.taken,
            "student": self.student.state_dict(),
            "judge": self.judge.state_dict(),
            "optimizers": [optimizer.state_dict()["state"] for optimizer in self.optimizers],
            "fista": self.fista.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from there."""
        self.taken = state["taken"]
        for name in ("student", "judge", "fista"):
            getattr(self, name).load_state_dict(state[name])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            restore_optimizer(optimizer, values)


def discriminator(classes: int, like: Tensor, seed: int = 0) -> nn.Sequential:
    """A small network that tells the teacher's logits from the student's: (b, C) -> (b, 1)."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    widths = (classes, *WIDTHS, 1)
    for size in zip(widths[:-1], widths[1:], strict=True):
        layer = skip_init(nn.Linear, *size, device="cpu", dtype=torch.float64)
        nn.init.kaiming_normal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(like)


@contextmanager
def own_random_state(net: nn.Module) -> Iterator[None]:
    """Leave torch's random state as it was."""
    device = next(net.parameters()).device
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        yield


def reseed(net: nn.Module, seed: int) -> None:
    """Make what a network draws in a step (dropout) a function of a seed."""
    torch.default_generator.manual_seed(seed)
    if next(net.parameters()).device.type == "cuda":
        torch.cuda.manual_seed(seed)
