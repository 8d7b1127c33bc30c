"""LeGR: one global ranking of all filters, made comparable by an affine map for each layer."""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.masks import Mask, select
from splinelib.pruning.budget import Budget, allowed, check_budget, macs_by_width
from splinelib.pruning.evolution import aging
from splinelib.pruning.family import (
    by_the_batch,
    check_ratio,
    exactly,
    mean_loss,
    need_images,
    need_writers,
    targets,
)
from splinelib.pruning.memory import Known, Memory, fingerprint
from splinelib.surgery import cut
from splinelib.surgery.groups import Group, Residual, group_mask
from splinelib.train.recipe import whole
from splinelib.units.walk import evaluating
from splinelib.units.weights import current, need_eval

AT_ONCE = 256  # images that are judged at once
Groups = Mapping[str, Group]
Keep = dict[str, Tensor]


def legr(
    net: nn.Module,
    ratio: float,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    budget: Budget = "units",
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
    population: int = 64,
    sample: int = 16,
    generations: int = 400,
    mutate: float = 0.1,
    steps: int = 200,
    lr: float = 0.01,
    batch: int = 128,
    held: float = 0.1,
    generator: torch.Generator | None = None,
    memory: Memory | None = None,
) -> Mask:
    """Keep the channels that stand highest in a learned global ranking of filters.

    Parameters
    ----------
    net : nn.Module
        A trained network, in evaluation mode; it stays as it is.
    ratio : float, in [0, 1)
        Share that goes: of the channels (``budget="units"``), or of the multiply-adds ("macs").
    x, y : Tensor (n, ...), Tensor (n,) int64
        Training images and labels, on the device of the network and in its type.
    budget : "units" or "macs"
        "units" removes ``floor(ratio n + 1/2)`` of n channels. "macs", the source's, removes
        channels in the order of the ranking until no more than ``1 - ratio`` of the multiply-adds
        are left: the first count that suffices.
    residual : "inner", "select" or "joint"
        Which channels can go, see ``surgery.groups``.
    layers : collection of str, optional
        Names of the groups to prune; default: all.
    population, sample, generations, mutate
        Of the evolution: how many candidates live, how many enter a tournament, how many are tried
        in all (those of the first population included), and the share of layers that change.
    steps, lr, batch
        Of the short training of each candidate: steps of SGD (momentum 0.9, weight decay 5e-4).
    held : float, in (0, 1)
        Share of the images that judge the candidates and are not trained on.
    generator : torch.Generator, optional
        On the CPU. Default: a fresh one with seed 0.
    memory : pruning.memory.Memory, optional
        Keeps what is known of the candidates in a file, from which the same call goes on after an
        interruption.

    Returns
    -------
    Mask

    Raises
    ------
    ValueError
        A setting out of range, no images, no channel that can go, a budget out of reach or (with
        "select", of "macs") not a matter of widths, another call's memory, no loss that is finite.

    Notes
    -----
    Norms of filters differ from layer to layer for reasons that have nothing to do with their
    importance, so a global ranking by norm empties some layers first. LeGR ranks by

        alpha_l * ||F||^2 + kappa_l

    for a filter F of layer l, and learns the maps (alpha, kappa) by regularised evolution: the
    winner of a tournament is changed at some layers (alpha times exp(N(0, s)), with s falling from
    1 to 0.2; kappa plus N(0, deviation of the layer's norms)) and takes the place of the oldest. A
    candidate's fitness is the loss on held-out images after pruning and ``steps`` steps.

    Chin et al., "Towards efficient model compression via learned global ranking" (CVPR 2020); the
    public code is cmu-enyac/LeGR, whose settings are the defaults (for MobileNetV2; its ResNet-56
    on CIFAR-10 takes ``steps=0``). A network of a few layers is well served by ``population=16,
    sample=4, generations=64, steps=20``. Scaled down: a candidate is trained and judged on the
    images x, which are held in memory and not augmented; the source draws from all training images,
    and holds some out. What differs: with fewer than ten layers the code's ``int(mutate * layers)``
    is 0 and nothing would ever change, here at least one layer does; its safeguard of 10 % of each
    layer is one channel here; all candidates train on the same batches, so that equal masks are
    tried once.

    With the defaults, 400 candidates see 25,600 images each, ten million in all: of ImageNet, eight
    epochs of the small networks. To cut one out of ResNet-50 takes 2 s of a processor. Memory is
    that of training on one batch, and x: 0.6 MB an image of 224 x 224. The short trainings have no
    checkpoints; ``memory`` keeps what each candidate reached. Taught in *A tour of pruning
    methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 8, 8, 2])
    >>> x = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> sizes = {"population": 4, "sample": 2, "generations": 8, "steps": 2}
    >>> mask = legr(net, 0.5, x, (x[:, 0] > 0).long(), **sizes)
    >>> mask.counts()["0.bias"][0] + mask.counts()["2.bias"][0]
    8
    """
    check_ratio(ratio)
    check_budget(budget)
    need_images("legr", x, y)
    found = targets(net, residual, layers)
    need_writers(found)
    need_eval("legr", net)
    mean_loss(evaluating(net), x[:1], y.max()[None])  # network and images fit each other
    norms = squared_norms(net, found)
    pick = picker(net, found, ratio, budget, x.shape[1:])
    generator = generator or torch.Generator().manual_seed(0)
    settings = {"steps": steps, "lr": lr, "batch": batch}
    identity = {"method": "legr", "given": fingerprint(net, x, y), "residual": residual, **settings}
    identity |= {"held": held, "draws": fingerprint(generator.get_state()), "groups": str([*found])}
    known = Known(memory, identity)
    judge = Judge(net, found, x, y, held, generator=generator, known=known, **settings)
    spread = torch.stack([values.std(correction=0) for values in norms.values()]).cpu()
    search = aging(
        lambda maps: judge(pick(ranked(norms, maps))),
        spread,
        population=population,
        sample=sample,
        generations=generations,
        mutate=mutate,
        generator=generator,
    )
    return group_mask(net, found, pick(ranked(norms, search.best)))


def squared_norms(net: nn.Module, found: Groups) -> Keep:
    """Squared norm of the filters of each channel ``(n,)``, float64; summed over its writers."""
    return {
        name: sum(
            current(net.get_submodule(path), "weight").double().square().flatten(1).sum(1)
            for path in group.writers
        )
        for name, group in found.items()
    }


def ranked(norms: Keep, maps: Tensor) -> Keep:
    """Scores ``alpha_l * norm + kappa_l`` of all channels, for maps ``(L, 2)``."""
    return {
        name: float(alpha) * values + float(kappa)
        for (name, values), (alpha, kappa) in zip(norms.items(), maps, strict=True)
    }


def picker(net, found: Groups, ratio: float, budget: Budget, shape) -> Callable[[Keep], Keep]:
    """What turns scores into the channels that are kept, under a budget."""
    if budget == "units":
        return lambda scores: exactly(scores, ratio)
    count = macs_by_width(net, found, shape)
    limit, total = allowed(ratio, count({})), sum(group.width for group in found.values())

    def cheap(scores: Keep, remove: int) -> bool:
        keep = select(scores, remove / total, scope="global")
        return count({name: int(kept.sum()) for name, kept in keep.items()}) <= limit

    def pick(scores: Keep) -> Keep:
        low, high = 0, total - len(found)  # one channel of each group stays
        if not cheap(scores, high):
            raise ValueError(
                f"ratio {ratio} leaves {limit} multiply-adds, which is out of reach: one channel "
                "of each layer stays, and some layers are not pruned. Use a smaller ratio."
            )
        while low < high:  # more removals are never dearer
            middle = (low + high) // 2
            low, high = (low, middle) if cheap(scores, middle) else (middle + 1, high)
        return select(scores, low / total, scope="global")

    return pick


class Judge:
    """The fitness of a choice of channels: held-out loss after a few steps of training."""

    def __init__(
        self, net, found, x, y, held, *, steps, lr, batch, generator, known: Known | None = None
    ) -> None:
        if not (whole(steps, 0) and whole(batch, 1) and 0 < lr < math.inf):
            raise ValueError(
                f"steps={steps}, batch={batch}, lr={lr}: need whole numbers, from 0 and from 1 on, "
                "and a rate above 0."
            )
        count = round(held * len(x))
        if not 0 < count < len(x):
            raise ValueError(
                f"held={held} of {len(x)} images: need some to judge by and some to train on."
            )
        order = torch.randperm(len(x), generator=generator).to(x.device)
        self.net, self.found, self.lr = net, found, lr
        self.x, self.y = x[order[count:]], y[order[count:]]
        self.seen = x[order[:count]], y[order[:count]]
        rows = (steps, min(batch, len(self.x)))
        self.batches = torch.randint(len(self.x), rows, generator=generator).to(x.device)
        self.known = known or Known(None, {})

    def __call__(self, keep: Keep) -> float:
        """The loss of the network that keeps these channels."""
        mask = partial(group_mask, self.net, self.found, keep)
        key = fingerprint(*keep.values())
        return self.known(key, lambda: self._loss(cut(self.net, mask()).net))

    def _loss(self, small: nn.Module) -> float:
        """Train the small network for a while and measure it."""
        # dropout would draw from the global generator, and judge the same choice in two ways
        weights = list(by_the_batch(small).requires_grad_(True).parameters())
        optimizer = torch.optim.SGD(weights, lr=self.lr, momentum=0.9, weight_decay=5e-4)
        with torch.enable_grad():
            for rows in self.batches:
                optimizer.zero_grad()
                F.cross_entropy(small(self.x[rows]), self.y[rows]).backward()
                optimizer.step()
        small.eval()
        with torch.no_grad():
            logits = [small(part) for part in self.seen[0].split(AT_ONCE)]
            return float(F.cross_entropy(torch.cat(logits), self.seen[1]))
