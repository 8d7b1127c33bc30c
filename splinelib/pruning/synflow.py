"""SynFlow: pruning before training, without any data (Tanaka et al., 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from splinelib.masks import Mask, weight_mask
from splinelib.ops import copied
from splinelib.pruning.family import Scope, check_ratio, exactly, prunable
from splinelib.units.weights import need_eval


def synflow(
    net: nn.Module,
    ratio: float,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    shape: Sequence[int] | None = None,
    rounds: int = 100,
    scope: Scope = "global",
) -> Mask:
    """Remove, round by round, the weights through which least synaptic flow passes.

    Parameters
    ----------
    net : nn.Module
        The network at its initial weights, in evaluation mode.
    ratio : float, in [0, 1)
        Share of the weights of all Linear and Conv2d layers, the last one's included, that go.
    x, y : Tensor (b, ...), Tensor (b,), optional
        Images, of which only the shape counts; ``y`` is not looked at.
    shape : sequence of int, optional
        Shape of one input, in the place of ``x``.
    rounds : int, at least 1
        After round k, the share ``(1 - ratio)^(k / rounds)`` of the weights is left.
    scope : "global" or "layerwise"
        Whether the ratio holds for all layers together, as in the source, or in each.

    Returns
    -------
    Mask

    Raises
    ------
    ValueError
        Neither ``x`` nor ``shape``, a ratio outside [0, 1) or out of reach, fewer rounds than one,
        a BatchNorm in training mode or without running statistics, a flow beyond float64.

    Notes
    -----
    See ``flow``. Tanaka et al., *Pruning neural networks without any data by iteratively
    conserving synaptic flow* (NeurIPS 2020); ganguli-lab/Synaptic-Flow, BatchNorm in evaluation
    mode. Scored once, whole layers would go; scored again after each small cut, a layer that gets
    thin gets strong. That code scores in float32, which has no room for the flow of deep networks
    (about 1e76 in ``nets.preresnet(101)``; see its issue 11); here it is float64. It also takes
    absolute values of running means, and subtracts them; here they are left out. At the start they
    are 0. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> synflow(nets.mlp([2, 3, 2]), 0.5, shape=(2,))
    Mask(2 parameters, 6 of 12 entries kept)
    """
    check_ratio(ratio, scope)
    positive, ones = magnitudes(net), _ones(net, x, shape)
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}, but at least one is needed; the source takes 100.")
    weights = prunable(positive)
    kept = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    for k in range(1, rounds + 1):
        scores = flow(positive, ones)
        for name, values in scores.items():
            values[~kept[name]] = -1  # gone: below those that no flow passes
        now = ratio if k == rounds else 1 - (1 - ratio) ** (k / rounds)
        kept = exactly(scores, now, scope, "weights")
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(kept[name])
    return weight_mask(net, kept)


def magnitudes(net: nn.Module) -> nn.Module:
    """A float64 copy in evaluation mode whose parameters are replaced by their absolute values."""
    need_eval("synflow", net)
    positive = copied(net).double().eval().requires_grad_(True)
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
    for name, module in positive.named_modules():
        if isinstance(module, _BatchNorm):
            if module.running_mean is None:
                raise ValueError(
                    f"the BatchNorm {name!r} keeps no running statistics, but synflow needs them: "
                    "one input has no statistics of its own."
                )
            module.running_mean.zero_()
    return positive


@torch.enable_grad()
def flow(positive: nn.Module, ones: Tensor) -> dict[str, Tensor]:
    """Synaptic flow ``w dR/dw`` through each weight of a network of absolute values.

    ``R`` is the sum of its outputs for an input of ones ``(1, ...)``: the sum over all paths of the
    product of their weights. Without biases each layer's scores add up to ``R`` (its paths all pass
    each layer once), so no layer can be starved by the others.
    """
    weights, total = prunable(positive), positive(ones).sum()
    if total.isnan():
        raise ValueError("the synaptic flow is NaN: give every weight a number first.")
    if not total.isfinite():
        raise ValueError(f"the synaptic flow is {total.item()}, beyond float64: scale the weights.")
    grads = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)
    pairs = zip(weights.items(), grads, strict=True)
    return {name: weight.detach() * grad for (name, weight), grad in pairs}


def _ones(net: nn.Module, x: Tensor | None, shape: Sequence[int] | None) -> Tensor:
    """One input of ones ``(1, ...)`` in float64 on the network's device."""
    if x is None and shape is None:
        raise ValueError(
            "synflow needs no data, but the shape of one input: synflow(net, ratio, x) with any "
            "batch, or shape=(3, 32, 32)."
        )
    shape = tuple(x.shape[1:]) if shape is None else tuple(shape)
    return torch.ones(1, *shape, dtype=torch.float64, device=next(net.parameters()).device)
