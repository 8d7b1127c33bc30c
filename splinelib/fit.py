"""The classroom training loop: a few lines that train a small network while the reader watches."""

from collections.abc import Callable, Iterator
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.ops import copied

LOSSES = {
    "mse": F.mse_loss,
    "bce": F.binary_cross_entropy_with_logits,
    "cross_entropy": F.cross_entropy,
}


def fit(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 500,
    lr: float = 0.01,
    batch: int | None = None,
    weight_decay: float = 0.0,
    loss: str = "auto",
    generator: torch.Generator | None = None,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    callback: Callable[[int, nn.Module], object] | None = None,
) -> nn.Module:
    """Train a copy of a network with Adam and return it in evaluation mode.

    Parameters
    ----------
    net : nn.Module
        The network to start from; it stays as it is. Maps ``(B, ...)`` to ``(B, C)``.
    x : Tensor (n, ...)
        Inputs, of the network's type and on its device.
    y : Tensor (n,) or (n, C)
        Whole-number labels ``(n,)``: 0 and 1 for one logit, ``0, ..., C - 1`` for C logits.
        Floating-point targets, for regression, of shape ``(n, C)``, or ``(n,)`` where C is 1.
    steps : int
        Number of Adam steps, at least 0.
    lr : float
        Learning rate, a constant.
    batch : int, optional
        Examples a step, drawn without replacement until the data are used up, then anew. Default:
        all of them, every step.
    weight_decay : float
        Adam's L2 penalty.
    loss : "auto", "mse", "bce" or "cross_entropy"
        "auto" takes "mse" for floating-point ``y``, else "bce" for one logit, else "cross_entropy".
    generator : torch.Generator, optional
        Draws the batches. Default: a fresh one with seed 0. Unused with full batches.
    penalty : callable, optional
        ``penalty(net)``, a number, is added to the loss at every step: an L1 norm of BatchNorm's
        scales trains a network for slimming.
    callback : callable, optional
        Called as ``callback(step, net)`` before the first step (``step = 0``) and after each one,
        with the copy in evaluation mode. It trains on: ``copy.deepcopy(net)`` keeps a snapshot.

    Returns
    -------
    nn.Module
        The trained copy, in evaluation mode. Equal arguments give equal results on a CPU, unless
        the network itself draws random numbers (dropout).

    Raises
    ------
    ValueError
        Data that do not match each other, the network or the loss; numbers that are not finite; a
        setting out of range; a loss that is not finite at the end.

    Notes
    -----
    Made for networks that train in seconds, with one pass of the whole data a step. First used in
    *The decision boundary is the last spline*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> x, y = data.moons(200, noise=0.1)
    >>> net = fit(nets.mlp([2, 16, 16, 1]), x, y, steps=200)
    >>> bool(((net(x)[:, 0] > 0) == (y == 1)).double().mean() > 0.98)
    True
    """
    net = copied(net).eval()
    _check_settings(net, x, y, steps, lr, batch)
    objective, y = _objective(net, x, y, loss)
    generator = generator or torch.Generator().manual_seed(0)
    batches = repeat(slice(None)) if batch is None else _batches(len(x), batch, generator)
    adam = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    if callback:
        callback(0, net)
    net.train()
    for step in range(1, steps + 1):
        rows = next(batches)
        adam.zero_grad()
        value = objective(net(x[rows]), y[rows])
        if penalty:
            value = value + penalty(net)
        value.backward()
        adam.step()
        if callback:
            callback(step, net.eval())
            net.train()
    if steps and not torch.isfinite(value):
        raise ValueError(f"the loss is {value.item()} after {steps} steps: lower lr (now {lr})")
    return net.eval()


def _batches(n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield rows of the data for ever, pass after pass, each pass in a new order."""
    while True:
        yield from torch.randperm(n, generator=generator, device=generator.device).split(batch)


def _check_settings(net, x, y, steps, lr, batch) -> None:
    """Raise unless network, data and settings can be trained together."""
    weight = next(net.parameters(), None)
    if weight is None:
        raise ValueError(f"{type(net).__name__} has no parameters to train")
    if (x.dtype, x.device) != (weight.dtype, weight.device) or y.device != x.device:
        raise ValueError(
            f"x is {x.dtype} on {x.device}, y on {y.device}, the network {weight.dtype} on "
            f"{weight.device}: move them to one device and x to the type of the network"
        )
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows and y {len(y)}: need one target for each input")
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("x or y holds NaN or infinite numbers: remove those rows")
    if steps < 0 or not lr > 0 or not (batch is None or batch >= 1):
        raise ValueError(
            f"steps={steps}, lr={lr}, batch={batch}: need steps >= 0, lr > 0 and batch None or >= 1"
        )


def _objective(net, x, y, loss) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """Return the loss function and ``y`` in the type and shape that it takes."""
    with torch.no_grad():
        out = net(x[:1])
    logits = out.shape[-1]
    if loss == "auto":
        loss = "mse" if y.is_floating_point() else "bce" if logits == 1 else "cross_entropy"
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}, but must be 'auto', 'mse', 'bce' or 'cross_entropy'")
    if loss == "cross_entropy":
        good = y.ndim == 1 and not y.is_floating_point() and y.min() >= 0 and y.max() < logits
        target = y.long()
    else:
        target = (y[:, None] if y.ndim == 1 else y).to(out.dtype)
        good = target.shape[1:] == out.shape[1:]
        good = good and (loss == "mse" or (logits == 1 and y.min() >= 0 and y.max() <= 1))
    if not good:
        raise ValueError(
            f"y ({y.dtype}, shape {tuple(y.shape)}, from {y.min()} to {y.max()}) does not suit the "
            f"loss {loss!r} of a network with {logits} outputs: 'bce' needs one output and labels "
            "0 and 1; 'cross_entropy' whole-number labels (n,) below the number of outputs; 'mse' "
            "targets of the shape of the output"
        )
    return LOSSES[loss], target
