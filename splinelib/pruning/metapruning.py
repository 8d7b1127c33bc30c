"""MetaPruning: widths found by evolution, judged with weights that a hyper-network makes."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from splinelib.ops import copied
from splinelib.pruning.budget import Budget, allowed, check_budget, macs_by_width
from splinelib.pruning.evolution import elitist, need_finite
from splinelib.pruning.family import (
    Ticket,
    by_the_batch,
    check_ratio,
    mean_loss,
    need_fit,
    need_images,
)
from splinelib.pruning.memory import Known, Memory, fingerprint
from splinelib.pruning.pruningnet import SCALES, PruningNet, first_channels
from splinelib.surgery.groups import Residual
from splinelib.train import Recipe
from splinelib.units.walk import evaluating

Widths = tuple[int, ...]
PART = 256  # images that are judged at once


def metapruning(
    net: nn.Module,
    ratio: float,
    fit=None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    budget: Budget = "units",
    residual: Residual = "inner",
    scales=SCALES,
    hidden: int = 32,
    population: int = 50,
    parents: int = 10,
    iterations: int = 20,
    mutate: float = 0.1,
    recipe: Recipe | None = None,
    generator: torch.Generator | None = None,
    memory: Memory | None = None,
) -> Ticket:
    """Search how wide each layer should be, and keep that many of its first channels.

    Parameters
    ----------
    net : nn.Module
        A network at its random start; it stays as it is.
    ratio : float, in [0, 1)
        Share that goes: of the channels (``budget="units"``), or of the multiply-adds ("macs").
    fit : callable
        Trains the PruningNet once, under the label "pruningnet", see ``train.trainer``.
    x, y : Tensor (n, ...), Tensor (n,) int64
        Images that judge the candidates; best ones that ``fit`` does not train on.
    budget : "units" or "macs"
        "units": exactly ``n - floor(ratio n + 1/2)`` of n channels stay. "macs", the source's:
        at most ``1 - ratio`` of the multiply-adds stay.
    residual : "inner" or "joint"
        Which channels have a width, see ``surgery.groups``. "joint", the source's: those of the
        residual streams, too.
    scales : sequence of float, in (0, 1]
        Shares of a layer's channels that are tried.
    hidden : int
        Width of the hyper-networks.
    population, parents, iterations, mutate
        Of the evolution: candidates an iteration, how many of the best have children, iterations,
        and the chance of a layer to change in a mutant.
    recipe : Recipe, optional
        Of the training of the PruningNet. Default: what ``fit`` has.
    generator : torch.Generator, optional
        On the CPU. Default: a fresh one with seed 0.
    memory : pruning.memory.Memory, optional
        Keeps what is known of the candidates in a file, from which the same call goes on after an
        interruption.

    Returns
    -------
    Ticket
        The network as it was given, and a mask that keeps the first channels of each layer: what
        counts are the widths, to be trained from scratch (``pruning.weights.start`` with
        ``weights="reinit"``).

    Raises
    ------
    ValueError
        A network without channels to remove, a setting out of range, ``residual="select"``, no
        images, a budget out of reach, a memory of another call.

    Notes
    -----
    A PruningNet is trained once, with random widths at each step; its weights ``W_l = fc2(relu(
    fc1(v)))`` come from the two widths v that layer l reads and writes, cropped to their first
    channels. It then gives weights for any widths at no cost, and an evolution finds those with the
    smallest error under the budget. BatchNorm's statistics are taken anew for each candidate.

    Liu et al., "MetaPruning: meta learning for automatic neural network channel pruning" (ICCV
    2019); the public code is liuzechun/MetaPruning: shares 0.10, 0.13, ..., 1, hidden width 32,
    population 50, 10 parents, 20 iterations, PruningNet trained for 32 (ResNet-50) or 64 epochs.

    Scaled down: the candidates are judged by a few images, which also give BatchNorm's statistics;
    the source takes statistics from 100 batches of 1000 training images, and judges by 50,000 that
    it holds out of them. What differs: each group has a width of its own, theirs share one within a
    block, and each hyper-network sees the two widths of its layer, theirs the three of a block; a
    candidate that misses the budget is repaired, channel by channel at layers drawn at random,
    where theirs is thrown away and drawn again, which takes for ever at a tight budget; candidates
    of equal error are told apart by their loss; the first candidates come from all shares, theirs
    from the middle ones, and a share that is drawn anew may be the old one; one BatchNorm serves
    all widths, theirs has one for each share.

    A hyper-network has about ``hidden + 1`` numbers for each weight that it makes, for ResNet-50
    688 million in all ("joint": 842): with gradients and momentum 8.3 GB (10.1 GB) in float32, to
    which come the activations of the whole network. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets, train
    >>> digits, _ = data.load("digits")
    >>> net = nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[8, 8])
    >>> fit = train.trainer(data.Batches(digits, 256), train.Recipe(epochs=1, batch=256, lr=0.01))
    >>> x, y = digits.inputs(range(100)), digits.labels[:100]
    >>> ticket = metapruning(net, 0.5, fit, x, y, population=4, parents=2, iterations=2)
    >>> sum(ticket.mask.counts()[name][0] for name in ("1.bias", "3.bias"))
    8
    """
    check_ratio(ratio)
    check_budget(budget)
    need_fit("metapruning", fit)
    need_images("metapruning", x, y)
    generator = generator or torch.Generator().manual_seed(0)
    mean_loss(evaluating(net), x[:1], y.max()[None])  # network and images fit each other
    maker = PruningNet(net, scales, hidden, generator, residual)
    found = maker.found
    space = Space(net, found, ratio, budget, x.shape[1:], scales, mutate, generator)
    maker = fit(maker, "pruningnet", **({"recipe": recipe} if recipe else {})).net
    known = Known(memory, {"method": "metapruning", "given": fingerprint(maker, x, y)})
    search = elitist(
        lambda widths: tuple(known(str(widths), lambda: list(judged(maker, widths, x, y)))),
        space.fresh,
        space.mutated,
        space.crossed,
        population=population,
        parents=parents,
        iterations=iterations,
        generator=generator,
    )
    need_finite(min(search.tried)[1], len(search.tried))
    return Ticket(copied(net).eval(), first_channels(net, found, space.named(search.best)))


@torch.no_grad()
def judged(maker: PruningNet, widths: Widths, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Error and loss at some widths, with BatchNorm's statistics taken from the images.

    Both are infinite if the loss is not finite.
    """
    at, parts = torch.tensor(widths, device=x.device), x.tensor_split(-(-len(x) // PART))
    norms = [module for module in by_the_batch(maker).modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches alike
    for part in parts if norms else ():
        maker.run(part, at)
    maker.eval()
    logits = torch.cat([maker.run(part, at) for part in parts])
    loss = float(F.cross_entropy(logits, y))
    if not math.isfinite(loss):
        return math.inf, math.inf
    return float((logits.argmax(1) != y).double().mean()), loss


class Space:
    """The widths that a budget allows, and how one comes to others of them."""

    def __init__(self, net, found, ratio, budget, shape, scales, mutate, generator) -> None:
        if not 0 <= mutate <= 1:
            raise ValueError(f"mutate is {mutate}, but is a chance, in [0, 1].")
        self.names, self.whole = list(found), [group.width for group in found.values()]
        self.scales, self.mutate, self.generator = list(scales), mutate, generator
        macs = macs_by_width(net, found, shape)
        self.exact = budget == "units"
        self.cost = sum if self.exact else lambda widths: macs(self.named(widths))
        self.limit = allowed(ratio, self.cost(self.whole))
        if self.cost([1] * len(self.whole)) > self.limit:
            raise ValueError(
                f"ratio {ratio} leaves {self.limit} {budget} of {self.cost(self.whole)}, which is "
                "out of reach: one channel of each layer stays. Use a smaller ratio."
            )

    def named(self, widths: Widths) -> Mapping[str, int]:
        """Widths by the names of their groups."""
        return dict(zip(self.names, widths, strict=True))

    def fresh(self) -> Widths:
        """Widths drawn at random."""
        return self.repaired(self._draw())

    def mutated(self, widths: Widths) -> Widths:
        """Widths of which some are drawn anew."""
        change = torch.rand(len(widths), generator=self.generator) < self.mutate
        rows = zip(widths, self._draw(), change.tolist(), strict=True)
        return self.repaired([new if changed else old for old, new, changed in rows])

    def crossed(self, a: Widths, b: Widths) -> Widths:
        """Widths that are each taken from one of two parents."""
        coins = torch.randint(2, (len(a),), generator=self.generator).tolist()
        return self.repaired([p if coin else q for p, q, coin in zip(a, b, coins, strict=True)])

    def repaired(self, widths) -> Widths:
        """Widths within the budget: single channels go, or come back, at layers drawn at random."""
        widths = list(widths)
        while self.cost(widths) > self.limit:
            widths[self._any(w > 1 for w in widths)] -= 1
        while self.exact and self.cost(widths) < self.limit:
            widths[self._any(w < n for w, n in zip(widths, self.whole, strict=True))] += 1
        return tuple(widths)

    def _draw(self) -> list[int]:
        """One share of each layer's channels, rounded down, at least one channel."""
        drawn = torch.randint(len(self.scales), (len(self.whole),), generator=self.generator)
        return [
            max(1, int(self.scales[i] * n)) for i, n in zip(drawn.tolist(), self.whole, strict=True)
        ]

    def _any(self, may) -> int:
        """A layer of those that may, all alike."""
        places = [i for i, yes in enumerate(may) if yes]
        return places[int(torch.randint(len(places), (), generator=self.generator))]
