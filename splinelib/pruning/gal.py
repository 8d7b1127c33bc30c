"""Generative adversarial learning: soft masks that let a student pass for its teacher."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from splinelib.data.steps import mixed_seed
from splinelib.pruning.adversary import Game
from splinelib.pruning.family import Ticket, check_ratio, exactly, keep_best, targets
from splinelib.pruning.memory import Memory, fingerprint
from splinelib.pruning.soft_masks import fold, masked
from splinelib.surgery.groups import Residual
from splinelib.units.weights import need_eval


def gal(
    net: nn.Module,
    ratio: float,
    source=None,
    *,
    epochs: int = 20,
    sparsity: float | None = None,
    match: float = 1.0,
    lr: float = 0.01,
    mask_lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 2e-4,
    every: int = 5,
    residual: Residual = "inner",
    seed: int = 0,
    memory: Memory | None = None,
) -> Ticket:
    """Prune by generative adversarial learning, without a look at the labels.

    Parameters
    ----------
    net : nn.Module
        A trained network in evaluation mode, the teacher and the student's start; it stays as it
        is.
    ratio : float, in [0, 1)
        Share of all channels together that goes, never the last one of a layer.
    source : data.Batches or data.Stream
        The training images.
    epochs : int
        Passes through them; learning rates fall to a tenth after each third.
    sparsity : float >= 0, optional
        lambda, strength of the L1 penalty on the soft masks; default: ``0.4 ratio``. With much
        more, some channels that stay have a mask of 0, and their weights are 0, too.
    match : float >= 0
        mu, weight of the squared distance between the logits of student and teacher.
    lr, momentum, weight_decay : float
        Of the SGD that trains student and discriminator.
    mask_lr : float
        Step length eta of the masks.
    every : int
        Steps between two updates of the masks.
    residual : "inner", "select" or "joint"
        Which channels are pruned, see ``splinelib.surgery.groups``.
    seed : int
        Of the discriminator's weights, and of what the student draws (dropout).
    memory : pruning.memory.Memory, optional
        Keeps the loop in a file, from which the same call goes on after an interruption.

    Returns
    -------
    Ticket
        The student, in whose weights the soft masks are folded, and the mask that keeps the
        channels of the largest ones. A finetuning usually follows, see
        ``splinelib.pruning.Held``.

    Raises
    ------
    ValueError
        A setting out of its range, no ``source``, a network without channels to remove; a BatchNorm
        in training mode; weights or masks that are not finite, all masks at 0; a memory of another
        call.

    Notes
    -----
    Idea: multiply each channel by a soft mask ``m_k >= 0`` and let student and masks make the
    logits of the teacher, so well that a discriminator D cannot tell them apart, at the price of
    few masks above 0:
    ``min_{W, m} max_D  E log D(t(x)) + E log(1 - D(s(x; W, m))) + mu E |t - s|^2 + lambda |m|_1``.
    The student's step raises ``E log D(s)`` instead of lowering ``E log(1 - D(s))``. D's loss has a
    third term, ``-E log D(s)``, which holds D back: with it D(s) is drawn to 1/2. The masks move by
    FISTA, accelerated steps of gradient and shrinking, ``m' = max(0, y - eta grad - eta lambda)``.

    Source: Lin, Ji, Yan, Zhang, Cao, Ye, Huang and Doermann, "Towards optimal structured CNN
    pruning via generative adversarial learning", CVPR 2019; code ShaohuiLin/GAL. Settings there:
    100 epochs, batch 128, lr 0.01 divided by 10 every 30 epochs, weight decay 2e-4, masks every 200
    steps at the same rate, lambda 0.6 and mu 1 (blocks of ResNet-56) or 1e-3 and 0.1 (channels of
    VGG-16).

    Scaled down: channels alone are masked (the source also masks blocks and branches), the masks
    move more often and by larger steps, as small networks are trained for few steps. Differs: the
    source keeps each channel whose mask is above a threshold (0), here an exact number stay. So
    that the student learns to do without the others, behind each update the smallest masks are set
    to 0: none in the first third of the training, all that are to go from the last third on; one
    comes back when another gets smaller. All masks start at 1, where the student is the teacher;
    the source's start as standard normal numbers, of which the first update sets about half to 0. D
    has layers of width 128, 256, 128 and 1 with ReLUs between them, Kaiming-normal weights, and its
    logit goes into the loss; the source's ends with the 128, has no activations, so is affine, and
    starts at deviation 0.01. The penalty enters the gradient and the shrinking both in the source;
    here, once. The teacher's BatchNorms go by their statistics; the source leaves the teacher in
    training mode.

    The loop runs in the type of the network, on its device, without autocast, compilation or
    several processes, of which each would do the same work. It holds two networks and one set of
    gradients and momentum: a step costs a forward pass more than one of training. Taught in *A tour
    of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> from splinelib.train import Recipe, train
    >>> images, _ = data.load("digits")
    >>> source = data.Batches(images, batch=64)
    >>> net = nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[16, 16])
    >>> net = train(net, source, Recipe(epochs=2, batch=64)).net
    >>> counts = gal(net, 0.5, source, epochs=1).mask.counts()
    >>> counts["1.bias"][0] + counts["3.bias"][0]
    16
    """
    settings = {"sparsity": sparsity, "match": match, "lr": lr, "mask_lr": mask_lr}
    _check(ratio, source, epochs, every, **{k: v for k, v in settings.items() if v is not None})
    need_eval("gal", net)
    found = targets(net, residual)
    rates = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    strength = 0.4 * ratio if sparsity is None else sparsity
    weights = {"match": match, "sparsity": strength}
    game = Game(net, found, len(source.classes), seed=seed, **weights, **rates)
    identity = {"method": "gal", "network": fingerprint(net), **settings, **rates}
    identity |= {"ratio": ratio, "epochs": epochs, "every": every, "seed": seed}
    identity |= {"residual": residual, "images": str(getattr(source, "fingerprint", None))}
    memory = memory or Memory()
    start, steps = _resumed(game, memory.recall(identity)), epochs * source.steps
    with masked(game.student, found, game.masks), _own_random_state(net):
        for step, x in _batches(source, epochs, start):
            fall = 0.1 ** (3 * (step // source.steps) // epochs)
            _reseed(net, mixed_seed(seed, step))
            game.step(x, lr * fall)
            if step % every == every - 1:
                _check_alive(game, lr, mask_lr, strength)
                game.fista.step(mask_lr * fall)
                _clear(game.masks, ratio * min(1.0, max(0.0, 3 * step / steps - 1)))
            memory.keep(identity, partial(_state, game, step + 1))
    _check_alive(game, lr, mask_lr, strength)
    masks = {name: mask.detach() for name, mask in game.masks.items()}
    fold(game.student, found, masks)
    return Ticket(game.student.eval(), keep_best(net, found, masks, ratio))


def _batches(source, epochs: int, start: int) -> Iterator[tuple[int, Tensor]]:
    """Images by the number of their step, from one step on."""
    for epoch in range(start // source.steps, epochs):
        first = max(start, epoch * source.steps)
        batches = source.epoch(epoch, start=first - epoch * source.steps)
        yield from enumerate((x for x, _ in batches), first)


def _state(game: Game, step: int) -> dict:
    """All that is needed to go on with a step."""
    return {"step": step, "game": game.state_dict()}


def _resumed(game: Game, state: Mapping[str, object] | None) -> int:
    """The step to begin with, in a game that goes on from its state."""
    if state is None:
        return 0
    game.load_state_dict(state["game"])
    return state["step"]


@torch.no_grad()
def _clear(masks: Mapping[str, Tensor], share: float) -> None:
    """Set a share of all masks to 0, the smallest ones, in place; never the last one of a group."""
    for name, kept in exactly({name: m.detach() for name, m in masks.items()}, share).items():
        masks[name] *= kept.to(masks[name].device)


def _check_alive(game: Game, lr: float, mask_lr: float, sparsity: float) -> None:
    """Raise if a weight or mask is no number, or no mask is above 0; this waits for a GPU."""
    if not game.finite() or not any(bool(mask.any()) for mask in game.masks.values()):
        raise ValueError(
            "gal has weights or masks that are not finite, or all its masks are 0: lower lr (now "
            f"{lr:g}), mask_lr ({mask_lr:g}) or sparsity ({sparsity:g})."
        )


@contextmanager
def _own_random_state(net: nn.Module) -> Iterator[None]:
    """Leave torch's random state as it was."""
    device = next(net.parameters()).device
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        yield


def _reseed(net: nn.Module, seed: int) -> None:
    """Make what a network draws in a step (dropout) a function of a seed."""
    torch.default_generator.manual_seed(seed)
    if next(net.parameters()).device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _check(ratio, source, epochs, every, **settings) -> None:
    """Raise unless the settings are in range."""
    check_ratio(ratio)
    if not hasattr(source, "epoch"):
        raise ValueError(
            "gal trains a student against its teacher: give source, the training images, such as "
            f"data.Batches(images, batch=64); got {source!r}."
        )
    if epochs < 1 or every < 1 or any(not value >= 0 for value in settings.values()):
        raise ValueError(
            f"epochs={epochs}, every={every}, {settings}: need at least 1 epoch, at least 1 step "
            "between two updates of the masks, and no negative number."
        )
