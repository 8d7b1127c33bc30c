"""Generative adversarial learning: soft masks that let a student pass for its teacher."""

from collections.abc import Iterator, Mapping
from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.data.steps import mixed_seed
from splinelib.pruning.adversary import Game, own_random_state, reseed
from splinelib.pruning.family import Ticket, check_ratio, exactly, keep_best, targets
from splinelib.pruning.memory import Memory
from splinelib.pruning.soft_masks import fold, masked
from splinelib.surgery.groups import Residual
from splinelib.train.evaluate import check_batch
from splinelib.train.identity import of_images, of_network
from splinelib.train.recipe import Recipe, whole
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
        Steps between two updates of the masks; at least one update fits in the training.
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
    The student's step raises ``E log D(s)`` instead, and D's has a third term, ``-E log D(s)``,
    which draws D(s) to 1/2. The masks move by FISTA: gradient, shrinking, nothing below 0.

    Source: Lin, Ji, Yan, Zhang, Cao, Ye, Huang and Doermann, "Towards optimal structured CNN
    pruning via generative adversarial learning", CVPR 2019; code ShaohuiLin/GAL. Settings there:
    100 epochs, batch 128, lr 0.01 divided by 10 every 30 epochs, weight decay 2e-4, masks every 200
    steps at the same rate, lambda 0.6 and mu 1 (blocks of ResNet-56) or 1e-3 and 0.1 (channels of
    VGG-16).

    Scaled down: only channels are masked, no blocks or branches, and the masks move more often, by
    larger steps, as small networks are trained for few steps. Differs: the source keeps channels
    whose mask is above 0, here an exact number stay. So that the student learns to do without the
    others, behind each update the smallest masks are set to 0: none in the first third of the
    training, all that are to go from the last third on; one comes back when another gets smaller.
    Masks start at 1, where the student is the teacher; the source's as standard normal numbers. D
    has layers of width 128, 256, 128 and 1 with ReLUs, Kaiming-normal weights, and its logit goes
    into the loss; the source's ends with the 128, is affine, and starts at deviation 0.01. The
    penalty enters gradient and shrinking both in the source; here, once. The teacher's BatchNorms
    go by their statistics; in the source, by the batch.

    The loop runs in the type of the network, on its device, without autocast, compilation or
    several processes. It holds two networks, and a step costs a forward pass more than one of
    training. Taught in *A tour of pruning methods*.

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
    rates = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    strength = 0.4 * ratio if sparsity is None else sparsity
    check_ratio(ratio)
    need_eval("gal", net)
    _check(source, epochs, every, rates, sparsity=strength, match=match, mask_lr=mask_lr)
    found = targets(net, residual)
    game = Game(net, found, _logits(net, source), sparsity=strength, seed=seed, **rates)
    _kept(game.masks, ratio)  # a ratio out of reach is better told now
    identity = {"method": "gal", "ratio": ratio, "epochs": epochs, **rates, "sparsity": strength}
    identity |= {"match": match, "mask_lr": mask_lr, "every": every, "residual": residual}
    identity |= {"seed": seed, **of_network(net), **of_images(source)}
    memory, steps = memory or Memory(), epochs * source.steps
    if state := memory.recall(identity):
        game.load_state_dict(state)
    with masked(game.student, found, game.masks), own_random_state(net):
        for step, x in _batches(source, epochs, game.taken):
            fall = 0.1 ** (3 * (step // source.steps) // epochs)
            reseed(net, mixed_seed(seed, step))
            contest(game, x, match, lr * fall)
            if step % every == every - 1:
                _check_alive(game, lr, mask_lr, strength)
                game.fista.step(mask_lr * fall)
                _clear(game.masks, ratio * min(1.0, max(0.0, 3 * step / steps - 1)))
            memory.keep(identity, game.state_dict)
    _check_alive(game, lr, mask_lr, strength)
    _clear(game.masks, ratio)  # where the last update came before the last third
    masks = {name: mask.detach() for name, mask in game.masks.items()}
    fold(game.student, found, masks)
    return Ticket(game.student.eval(), keep_best(net, found, masks, ratio))


def contest(game: Game, x: Tensor, match: float, lr: float) -> None:
    """One step of the discriminator, and one of the student against it; masks get gradients."""
    train_judge, train_student = game.ready(lr)
    with torch.no_grad():
        real = game.teacher(x)
    made = game.student(x)
    train_judge.zero_grad()
    _judges_loss(game.judge, real, made.detach()).backward()
    train_judge.step()
    train_student.zero_grad()
    _students_loss(game.judge, real, made, match).backward()
    train_student.step()
    game.taken += 1


def _judges_loss(judge: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    """What D lowers: ``-log D(t) - log(1 - D(s)) - log D(s)``, of logits ``(b, C)``."""
    told = judge(made)
    return _says(judge(real), 1) + _says(told, 0) + _says(told, 1)


def _students_loss(judge: nn.Module, real: Tensor, made: Tensor, match: float) -> Tensor:
    """What student and masks lower: ``mu |t - s|^2 - log D(s)``; the masks' penalty is FISTA's."""
    return match * F.mse_loss(made, real) + _says(judge(made), 1)


def _says(logits: Tensor, label: float) -> Tensor:
    """Mean cross-entropy of D if it should have said 1 (teacher) or 0 (student)."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _batches(source, epochs: int, start: int) -> Iterator[tuple[int, Tensor]]:
    """Images by the number of their step, from one step on."""
    for epoch in range(start // source.steps, epochs):
        first = max(start, epoch * source.steps)
        batches = source.epoch(epoch, start=first - epoch * source.steps)
        yield from enumerate((x for x, _ in batches), first)


def _kept(masks: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Which masks stay when the smallest go, bool by name; never all of a group go."""
    return exactly({name: mask.detach() for name, mask in masks.items()}, share)


@torch.no_grad()
def _clear(masks: Mapping[str, Tensor], share: float) -> None:
    """Set a share of all masks to 0, the smallest ones, in place; never the last one of a group."""
    for name, kept in _kept(masks, share).items():
        masks[name] *= kept.to(masks[name].device)


def _check_alive(game: Game, lr: float, mask_lr: float, sparsity: float) -> None:
    """Raise if a weight or mask is no number, or no mask is above 0; this waits for a GPU."""
    if not game.finite() or not any(bool(mask.any()) for mask in game.masks.values()):
        raise ValueError(
            "gal has weights or masks that are not finite, or all its masks are 0: lower lr (now "
            f"{lr:g}), mask_lr ({mask_lr:g}) or sparsity ({sparsity:g})."
        )


def _logits(net: nn.Module, source) -> int:
    """How many logits a network has for an image of a source; raise if it cannot be trained."""
    if not any(p.requires_grad for p in net.parameters()):
        raise ValueError(
            f"all weights of {type(net).__name__} are frozen, but gal trains them: call "
            "net.requires_grad_(True) first."
        )
    x = next(iter(source.epoch(0, start=0)))[0]
    return check_batch(net, x, x, source)  # x once more, for the labels, which gal never looks at


def _check(source, epochs: int, every: int, rates: Mapping[str, float], **strengths: float) -> None:
    """Raise unless there are images, and the settings are in range."""
    if not hasattr(source, "epoch"):
        raise ValueError(
            "gal trains a student against its teacher: give source, the training images, such as "
            f"data.Batches(images, batch=64); got {source!r}."
        )
    Recipe(epochs=epochs, **rates)  # raises
    if not whole(every, 1) or every > epochs * source.steps:
        raise ValueError(
            f"every={every}, but the masks need at least 1 step between two updates, a whole "
            f"number, and one update in the {epochs * source.steps} steps of the training."
        )
    for name, value in strengths.items():
        if not 0 <= value < inf or (name == "mask_lr" and not value):
            raise ValueError(f"{name} is {value}; give a number of at least 0 (mask_lr: above 0).")
