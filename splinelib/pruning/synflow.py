"""SynFlow: pruning before training, without any data (Tanaka et al., 2020)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from splinelib.masks import Mask, weight_mask
from splinelib.ops import copied
from splinelib.pruning.family import Scope, check_ratio, exactly, prunable
from splinelib.train.recipe import whole
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
        a BatchNorm in training mode or without running statistics, a flow beyond float64, a layer
        whose output does not grow in proportion to its input, such as ReLU6 or Sigmoid.

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
    if not whole(rounds, 1):
        raise ValueError(
            f"rounds is {rounds}: need a whole number, at least one; the source takes 100."
        )
    weights = prunable(positive)
    need_homogeneous(positive, ones)
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


@torch.no_grad()
def need_homogeneous(positive: nn.Module, ones: Tensor) -> None:
    """Raise a ``ValueError`` that names a layer f, biases aside, without ``f(s z) = s f(z)``.

    Flow is a sum over paths, and conserved, only without such layers. ReLU6 passes no gradient at
    the size that the flow of a deep network has, so that whole layers would go.
    """
    plain, seen = copied(positive), {}
    for module in plain.modules():
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            module.bias.zero_()
    handles = [m.register_forward_pre_hook(_noting(seen)) for m in plain.modules()]
    plain(ones)
    for handle in handles:
        handle.remove()
    bad = [path for path, m in plain.named_modules() if m in seen and _bends(m, seen[m])]
    for path in bad:
        if not any(other.startswith(f"{path}." if path else "") for other in bad if other != path):
            kind = type(plain.get_submodule(path)).__name__
            raise ValueError(
                f"synflow needs layers whose outputs grow in proportion to their inputs, but "
                f"{path!r} ({kind}) is none: take ReLU or LeakyReLU in its place, or prune by snip."
            )


def _noting(seen: dict) -> Callable:
    """A hook that copies what a module is given, if that is tensors alone."""

    def note(module: nn.Module, args: tuple) -> None:
        if args and all(isinstance(z, Tensor) and z.is_floating_point() for z in args):
            seen[module] = [z.clone() for z in args]

    return note


def _bends(module: nn.Module, args: list[Tensor]) -> bool:
    """Whether the output is not in proportion to the input, far up and far down."""
    out = module(*[z.clone() for z in args])
    if not isinstance(out, Tensor) or not out.isfinite().all():
        return False
    for scale in (2.0**20, 2.0**-20):  # powers of 2, so that nothing is rounded
        other = module(*[scale * z for z in args])
        if not torch.allclose(other, scale * out, rtol=1e-9, atol=0.0):
            return True
    return False


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
    if shape is None and not isinstance(x, Tensor):
        raise ValueError(
            "synflow needs no data, but the shape of one input: synflow(net, ratio, x) with any "
            f"batch, or shape=(3, 32, 32); got x={x!r}."
        )
    shape = tuple(x.shape[1:]) if shape is None else tuple(shape)
    return torch.ones(1, *shape, dtype=torch.float64, device=next(net.parameters()).device)
