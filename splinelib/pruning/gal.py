"""Generative adversarial learning: soft masks that let a student pass for its teacher."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from splinelib.ops import copied
from splinelib.pruning.family import Ticket, check_ratio, keep_best, targets
from splinelib.pruning.fista import FISTA
from splinelib.surgery.groups import Group, Residual
from splinelib.units.weights import need_eval

WIDTHS = (128, 256, 128)  # of the discriminator


def gal(
    net: nn.Module,
    ratio: float,
    source=None,
    *,
    epochs: int = 20,
    sparsity: float = 0.2,
    match: float = 1.0,
    lr: float = 0.01,
    mask_lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 2e-4,
    every: int = 5,
    residual: Residual = "inner",
    seed: int = 0,
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
    sparsity : float >= 0
        lambda, strength of the L1 penalty on the soft masks. It should bring about as many masks to
        0 as channels go: with less, channels go that the student uses; with more, some that stay
        have a mask of 0, and their weights are 0, too.
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
        Of the discriminator's weights.

    Returns
    -------
    Ticket
        The student, in whose weights the soft masks are folded, and the mask that keeps the
        channels of the largest ones. A finetuning usually follows, see
        ``splinelib.pruning.Held``.

    Raises
    ------
    ValueError
        A setting out of its range, no ``source``, a network without channels to remove.

    Notes
    -----
    Idea: multiply each channel by a soft mask ``m_k >= 0`` and let student and masks make the
    logits of the teacher, so well that a discriminator D cannot tell them apart, at the price of
    few masks above 0:
    ``min_{W, m} max_D  E log D(t(x)) + E log(1 - D(s(x; W, m))) + mu E |t - s|^2 + lambda |m|_1``.
    The masks move by FISTA, accelerated steps of gradient and shrinking,
    ``m' = max(0, y - eta grad - eta lambda)``.

    Source: Lin, Ji, Yan, Zhang, Cao, Ye, Huang and Doermann, "Towards optimal structured CNN
    pruning via generative adversarial learning", CVPR 2019; code ShaohuiLin/GAL. Settings there:
    100 epochs, batch 128, lr 0.01 divided by 10 every 30 epochs, weight decay 2e-4, masks every 200
    steps at the same rate, lambda 0.6 and mu 1 (blocks of ResNet-56) or 1e-3 and 0.1 (channels of
    VGG-16).

    Scaled down: channels alone are masked (the source also masks blocks and branches), the masks
    move more often and by larger steps, as small networks are trained for few steps. Differs: the
    source keeps each channel whose mask is above a threshold (0), here an exact number of the
    largest stay; its masks start as standard normal numbers, of which the first update sets about
    half to 0, here all start at 1, where the student is the teacher. Its discriminator has no
    activations between the layers 128, 256 and 128, and so is affine, and puts its probability
    through a second sigmoid; here ReLUs stand between them and D's logit goes into the loss. Its
    penalty enters the gradient and the shrinking both; here, once. Taught in *A tour of pruning
    methods*.

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
    _check(ratio, source, epochs, every, sparsity=sparsity, match=match, lr=lr, mask_lr=mask_lr)
    need_eval("gal", net)
    found = targets(net, residual)
    teacher, student = copied(net).eval().requires_grad_(False), copied(net)
    masks = _ones(student, found)
    judge = discriminator(len(source.classes), next(net.parameters()), seed)
    rates = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    weights = [p for p in student.parameters() if p.requires_grad]
    optimizers = [torch.optim.SGD(p, **rates) for p in (weights, judge.parameters())]
    fista = FISTA(masks, sparsity)
    with _masked(student, found, masks), _own_random_state(student, seed):
        for epoch in range(epochs):
            fall = 0.1 ** (3 * epoch // epochs)
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = lr * fall
            student.train()
            for number, (x, _) in enumerate(source.epoch(epoch)):
                _step(student, teacher, judge, optimizers, x, match)
                if number % every == every - 1:
                    fista.step(mask_lr * fall)
                for mask in masks.values():
                    mask.grad = None  # a mask moves by the gradient of one batch, as in the source
    _fold(student, found, masks)
    best = {name: mask.detach() for name, mask in masks.items()}
    return Ticket(student.eval(), keep_best(net, found, best, ratio))


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


def _step(student, teacher, judge, optimizers, x: Tensor, match: float) -> None:
    """One step of the discriminator, and one of the student against it; masks get gradients."""
    train_student, train_judge = optimizers
    with torch.no_grad():
        real = teacher(x)
    made = student(x)
    told = judge(real), judge(made.detach())
    loss = _says(told[0], 1) + _says(told[1], 0)
    train_judge.zero_grad()
    loss.backward()
    train_judge.step()
    loss = match * F.mse_loss(made, real) + _says(judge(made), 1)
    train_student.zero_grad()
    loss.backward()
    train_student.step()


def _says(logits: Tensor, label: float) -> Tensor:
    """Cross-entropy of a discriminator that should have said 1 (teacher) or 0 (student)."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _ones(net: nn.Module, found: Mapping[str, Group]) -> dict[str, Tensor]:
    """Soft masks of all channels, 1 each."""
    like = next(net.parameters())
    options = {"dtype": like.dtype, "device": like.device, "requires_grad": True}
    return {name: torch.ones(group.width, **options) for name, group in found.items()}


def _places(group: Group) -> tuple[str, ...]:
    """Modules whose output k is channel k, at the end of its group."""
    return group.norms or group.writers


@contextmanager
def _masked(net: nn.Module, found: Mapping[str, Group], masks: Mapping[str, Tensor]) -> Iterator:
    """Multiply channels by their soft masks while the context is open."""
    handles = []
    for name, group in found.items():

        def scaled(module, inputs, z, mask=masks[name]):
            return z * mask.reshape(-1, *[1] * (z.ndim - 2))

        handles += [net.get_submodule(p).register_forward_hook(scaled) for p in _places(group)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _own_random_state(net: nn.Module, seed: int) -> Iterator:
    """Draw what the network draws (dropout) from a seed; the caller's state stays."""
    device = next(net.parameters()).device
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


def _fold(net: nn.Module, found: Mapping[str, Group], masks: Mapping[str, Tensor]) -> None:
    """Multiply the soft masks into the weights, in place."""
    with torch.no_grad():
        for name, group in found.items():
            for path in _places(group):
                module = net.get_submodule(path)
                for weight in (module.weight, module.bias):
                    if weight is not None:
                        weight *= masks[name].reshape(-1, *[1] * (weight.ndim - 1))


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
