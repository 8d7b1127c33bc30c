"""What each channel adds to the outputs of the layer that reads it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.units.walk import Reader

AT_ONCE = 64  # images in one pass through the network


@torch.no_grad()
def terms(
    net: nn.Module, reader: Reader, x: Tensor, samples: int, generator: torch.Generator
) -> Tensor:
    """Terms ``(b samples, n)``, float64, of which outputs of a layer, without its bias, are sums.

    In each of the b images, ``samples`` outputs of the layer are drawn: an output channel, and for
    a Conv2d a position.
    """
    layer = net.get_submodule(reader.layer)
    rows = []
    for z in (z for part in x.split(AT_ONCE) for z in _inputs(net, layer, part)):
        drawn = _draw(layer.weight.shape[0], samples, generator).to(z.device)
        if isinstance(layer, nn.Linear):
            pixels = reader.positions
            rows.append((layer.weight[drawn] * z).unflatten(1, (-1, pixels)).sum(2).double())
            continue
        maps = _maps(layer, reader.layer, z, drawn)
        position = _draw(maps.shape[2], samples, generator).to(z.device)
        rows.append(maps[torch.arange(samples), :, position].double())
    return torch.cat(rows)


@torch.no_grad()
def column_scaled(net: nn.Module, reader: Reader, scale: Tensor) -> None:
    """Multiply the weights that read channel k by entry k of a scale ``(n,)``, in place."""
    weight = net.get_submodule(reader.layer).weight
    columns = scale.to(weight).repeat_interleave(reader.positions)
    weight.mul_(columns.reshape(-1, *[1] * (weight.ndim - 2)))


def _inputs(net: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer is given when the network sees x."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        net(x)
    finally:
        handle.remove()
    return seen[0]


def _draw(n: int, samples: int, generator: torch.Generator) -> Tensor:
    """Numbers ``(samples,)`` from 0 to n - 1."""
    return torch.randint(n, (samples,), generator=generator, device=generator.device)


def _maps(layer: nn.Conv2d, path: str, z: Tensor, drawn: Tensor) -> Tensor:
    """Maps ``(samples, n, pixels)`` of the terms of some output channels, for one image."""
    if layer.padding_mode != "zeros" or layer.groups != 1:
        raise ValueError(
            f"{path!r} has padding_mode={layer.padding_mode!r} and groups={layer.groups}; its terms"
            " are known for padding by zeros and one group only: leave its writers out by layers=."
        )
    n, samples = layer.in_channels, len(drawn)
    kernels = layer.weight[drawn].transpose(0, 1).flatten(0, 1)[:, None]
    maps = F.conv2d(z[None], kernels, None, layer.stride, layer.padding, layer.dilation, groups=n)
    return maps[0].unflatten(0, (n, samples)).transpose(0, 1).flatten(2)
