"""The hyperplane of each unit of a layer, from the weights as the next forward pass uses them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from splinelib.ops import unwrapped
from splinelib.units.walk import Units, find


class Rows(NamedTuple):
    """Slopes ``W (n, d)`` and offsets ``b (n,)`` of the n units of a layer, float64."""

    W: Tensor
    b: Tensor


def rows(net: nn.Module, layer: str | Units, bias: str = "folded") -> Rows:
    """Read slope vector and offset of each unit of a layer.

    Parameters
    ----------
    net : nn.Module
        The network, see :func:`splinelib.units.units`; BatchNorm counts with its running
        statistics in either mode.
    layer : str or Units
        Path of the layer, or its entry of ``units(net)`` (faster: the network is not traced anew).
    bias : "folded", "beta" or "none"
        "folded": BatchNorm is folded into both. "beta": the weights as they are, and for offset the
        shift of BatchNorm (the layer's own bias where there is no BatchNorm). "none": the weights
        as they are, offset 0.

    Returns
    -------
    Rows
        ``W (n, d)`` and ``b (n,)``, float64, on the network's device, without gradients. For a
        Conv2d, d counts the pixels of one patch, ``in_channels * height * width`` of the kernel; a
        grouped convolution has zeros at the channels that a unit does not see.

    Raises
    ------
    ValueError
        An unknown layer or ``bias``, or weights that a hook computes.

    Notes
    -----
    With BatchNorm, ``w = gamma / sqrt(var + eps) w'`` and ``b = beta + gamma (b' - mu) /
    sqrt(var + eps)`` (*From layer to CPA map*). The paper does not say what the offset of Eq. 6 is
    behind a BatchNorm: "beta" and "none" are the other readings. Taught in *Redundant units*.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1, eps=0.0))
    >>> _ = net[1].running_var.fill_(4.0)
    >>> bool((2 * rows(net, "0").W == rows(net, "0", bias="none").W).all())
    True
    """
    if bias not in ("folded", "beta", "none"):
        raise ValueError(f"bias is {bias!r}, but must be 'folded', 'beta' or 'none'.")
    at = layer if isinstance(layer, Units) else find(net, layer)
    module = net.get_submodule(at.layer)
    W = _slopes(module)
    own = _offsets(module, W) if bias != "none" else torch.zeros_like(W[:, 0])
    if at.norm is None or bias == "none":
        return Rows(W, own)
    norm = net.get_submodule(at.norm)
    if bias == "beta":
        return Rows(W, _offsets(norm, W))
    scale, shift = norm_map(norm)
    return Rows(scale[:, None] * W, scale * own + shift)


def current(module: nn.Module, name: str) -> Tensor | None:
    """A weight as the next forward pass uses it, detached: times its mask, if torch prunes it."""
    if hasattr(module, f"{name}_mask"):
        value = getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask")
    elif isinstance(vars(module).get(name), Tensor):  # as of the last forward pass, maybe stale
        raise ValueError(
            f"the {name} of {module} is computed by a hook, as the old spectral_norm and "
            "weight_norm do; use torch.nn.utils.parametrizations instead, or make it permanent."
        )
    else:
        value = getattr(module, name)
    return None if value is None else value.detach()


def norm_map(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale ``(n,)`` and shift ``(n,)`` of a BatchNorm in evaluation mode, float64."""
    gamma, beta = current(norm, "weight"), current(norm, "bias")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if gamma is None else gamma.double() * scale
    shift = -scale * norm.running_mean.double()
    return scale, shift if beta is None else beta.double() + shift


def need_numbers(net: nn.Module) -> None:
    """Raise a ``ValueError`` if a weight is on the meta device, or lazy: it has no numbers."""
    net = unwrapped(net)
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(value):
            raise ValueError(
                f"'{name}' has no shape yet (a lazy layer): run one batch through the network "
                "first, net(x)."
            )
        if value.is_meta:
            raise ValueError(
                f"'{name}' is on the meta device, where tensors have a shape and no numbers: make "
                "the network on a real one, or net.to_empty(device='cpu') and load its weights."
            )


def need_eval(method: str, net: nn.Module) -> None:
    """Raise a ``ValueError`` if running statistics that will count are of a BatchNorm in training.

    In training mode its outputs go by the batch; its running statistics go by the batches that it
    has happened to see (none, in a new network), so they may tell of another network.
    """
    for path, module in unwrapped(net).named_modules():
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None:
            raise ValueError(
                f"'{path}' ({type(module).__name__}) is in training mode, where it goes by the "
                f"batch, but {method} reads its running statistics, which count in evaluation mode "
                "alone: call net.eval() first."
            )


def _offsets(module: nn.Module, W: Tensor) -> Tensor:
    """The bias ``(n,)`` of a layer or BatchNorm, a new float64 tensor; zeros if it has none."""
    bias = current(module, "bias")
    return torch.zeros_like(W[:, 0]) if bias is None else bias.to(torch.float64, copy=True)


def _slopes(module: nn.Module) -> Tensor:
    """Slope vectors ``(n, d)`` of a Linear or Conv2d, a new float64 tensor.

    A group of a convolution sees some of the channels: its rows are zero at the others.
    """
    weight = current(module, "weight").to(torch.float64, copy=True)
    groups = getattr(module, "groups", 1)
    if groups == 1:
        return weight.flatten(1)
    n, seen = weight.shape[:2]
    wide = weight.new_zeros(groups, n // groups, groups, seen, *weight.shape[2:])
    group = torch.arange(groups, device=weight.device)
    wide[group, :, group] = weight.unflatten(0, (groups, n // groups))
    return wide.reshape(n, -1)
