"""One step of training: forward, backward, penalty, update, with nothing that waits for a GPU."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from types import FunctionType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from splinelib.train.distributed import Team
from splinelib.train.speed import GRAPHS, Plan


def measure(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the loss of some images, and count those that are classified right.

    Parameters
    ----------
    net : nn.Module
        Maps ``(b, ...)`` to logits ``(b, C)``.
    x : Tensor (b, ...)
        Inputs.
    y : Tensor (b,) int64
        Labels, 0 to C - 1.

    Returns
    -------
    loss : Tensor ()
        Sum of the cross-entropies, to differentiate.
    sums : Tensor (2,)
        The same sum, and the number of images whose largest logit is that of their label.

    Examples
    --------
    >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    >>> loss, sums = measure(nn.Identity(), logits, torch.tensor([0, 0]))
    >>> round(loss.item(), 3), sums[1].item()
    (0.693, 2.0)
    """
    logits = net(x)
    logits = logits if logits.dtype == torch.float64 else logits.float()  # halves cannot count
    loss = F.cross_entropy(logits, y, reduction="sum")
    right = (logits.argmax(1) == y).sum()
    return loss, torch.stack([loss.detach(), right.to(loss.dtype)])


class Measure:
    """:func:`measure` in the precision and layout of a plan, compiled for full batches.

    Parameters
    ----------
    plan : Plan
    rows : int
        Images of a full batch of this process. Other numbers of rows, such as those of the last
        batch of an epoch, are computed without compiling: each shape would cost a compilation.
    """

    def __init__(self, plan: Plan, rows: int) -> None:
        self.plan, self.rows, self.compiled = plan, rows, None
        if plan.mode:
            # torch compiles one function for at most 8 networks, and lets all later ones go slowly;
            # this copy of the function is one that no other run has used.
            own = FunctionType(measure.__code__.replace(), measure.__globals__)
            self.compiled = torch.compile(own, dynamic=False, mode=plan.mode)

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and sums as from :func:`measure`."""
        fast = self.compiled is not None and len(x) == self.rows
        if fast and self.plan.mode in GRAPHS:
            torch.compiler.cudagraph_mark_step_begin()  # results of the last step may be reused
        with self.plan.autocast():
            return (self.compiled if fast else measure)(net, self.plan.layout(x), y)


def gradients(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    images: int,
    team: Team,
    measure: Callable,
    scaler: torch.amp.GradScaler,
    micro_batch: int | None,
) -> Tensor:
    """Add the gradients of the mean loss of a global batch, of which ``x`` is this process's share.

    Parameters
    ----------
    net : nn.Module
        As ``team.wrap`` returns it.
    x, y : Tensor (b, ...), Tensor (b,)
        This process's images and labels.
    images : int
        Images of the global batch, over all processes.
    team, measure, scaler
        Who takes part, what computes the loss, and what scales it.
    micro_batch : int, optional
        Images that are computed at once; default: all of ``x``.

    Returns
    -------
    Tensor (2,)
        Sum of the losses and number of images classified right, of ``x``.

    Notes
    -----
    Each part's loss is its sum over its images, divided by ``images``, and times the number of
    processes, because ``DistributedDataParallel`` averages their gradients. The sum of all parts is
    the mean over the global batch, however unevenly the batch is cut.
    """
    parts = list(zip(*(value.split(micro_batch or len(x)) for value in (x, y)), strict=True))
    sums = []
    for number, part in enumerate(parts, start=1):
        alone = team.world > 1 and number < len(parts)  # gradients travel once, with the last part
        with net.no_sync() if alone else nullcontext():
            loss, found = measure(net, *part)
            scaler.scale(loss * (team.world / images)).backward()
        sums.append(found)
    return torch.stack(sums).sum(0)


def scales(net: nn.Module) -> list[nn.Parameter]:
    """The scales of all BatchNorms of a network, those that are trained."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.affine]
    return [norm.weight for norm in norms if norm.weight.requires_grad]


def update(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    slimmed: list[nn.Parameter],
    strength: float,
    before_step: Callable[[], object] | None = None,
) -> bool:
    """Take one step of the optimizer, with the L1 penalty of some scales, and clear the gradients.

    Returns
    -------
    bool
        False if the scaler skips this step, as its gradients overflowed. This is asked for, and a
        GPU waited for, only where the scaler is in use and there is a ``before_step``.

    Notes
    -----
    ``before_step`` is called when the gradients are those of the mean loss, before the penalty, and
    not if the step is skipped.
    The penalty ``strength * |scale|`` enters by its subgradient ``strength * sign(scale)``, 0 at 0,
    which is added to the gradients before the optimizer's weight decay: the way of network slimming
    (Liu et al., 2017) and of the public code of early-bird tickets.
    """
    scaler.unscale_(optimizer)
    moves = True
    if before_step:
        moves = not scaler.is_enabled() or finite(_gradients(optimizer))
        with torch.no_grad():
            if moves:
                before_step()
    slimmed = [scale for scale in slimmed if scale.grad is not None]  # those in use
    if slimmed:
        with torch.no_grad():
            signs = torch._foreach_sign(slimmed)
            torch._foreach_add_([scale.grad for scale in slimmed], signs, alpha=strength)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return moves


def finite(values: Iterable[Tensor]) -> bool:
    """Whether all entries of all tensors are finite; this waits for a GPU, once."""
    found = [value.detach().isfinite().all() for value in values]
    return not found or bool(torch.stack(found).all())


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All gradients that an optimizer is about to use."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return [weight.grad for weight in weights if weight.grad is not None]
