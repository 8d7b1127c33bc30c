"""Making a network whose every number comes from one generator.

PyTorch's layers draw their weights from the global random state when they are made. Here they are
made without memory ("meta" device), so nothing is drawn, and then filled by one rule.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from splinelib.nets.small import _whole

Generator = torch.Generator


def drawn(
    make: Callable[[], nn.Module],
    *,
    generator: Generator | None,
    dtype: torch.dtype,
    alpha: float = 0.0,
    fan_out: bool = True,
    gamma: float = 1.0,
    std: float | None = None,
) -> nn.Module:
    """Make a network and fill it from a generator, the global random state untouched.

    Parameters
    ----------
    make : callable
        Builds the network from Conv2d, Linear, BatchNorm2d and layers without numbers.
    generator : torch.Generator or None
        Source of the weights; the network lives on its device. None: a fresh one with seed 0.
    dtype : torch.dtype
        Type of the weights.
    alpha : float, in [-1, 1]
        Leakiness of the activations, for the size of the convolutions' weights.
    fan_out : bool
        Convolutions are Kaiming-normal by fan-out; if False, as Linear without ``std``.
    gamma : float
        Scale of every BatchNorm; its shift is 0.
    std : float, optional
        Linear weights are normal with this standard deviation, their biases 0. Without it both are
        uniform in +-1/sqrt(fan in), PyTorch's own rule.

    Returns
    -------
    nn.Module
        The network, in training mode.

    Raises
    ------
    ValueError
        If the network holds numbers in a layer of another type.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    with torch.device("meta"):
        net = make()
    net = net.to(dtype).to_empty(device=generator.device)
    for path, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.constant_(module.weight, gamma)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d) and fan_out:
            _fan_out(module, alpha, generator)
        elif isinstance(module, nn.Linear) and std is not None:
            nn.init.normal_(module.weight, std=std, generator=generator)
            _zero(module.bias)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            _uniform(module, generator)
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            raise ValueError(
                f"'{path}' is a {type(module).__name__} that holds numbers, and there is no rule "
                "to draw them: use Conv2d, Linear and BatchNorm2d, or give the rule one more case."
            )
    return net


def channels(count: int, width: float, multiple: int = 1) -> int:
    """Scale a number of channels, to the nearest multiple of ``multiple`` that is not 0.

    >>> channels(64, 0.25), channels(10, 0.25), channels(3, 0.01), channels(96, 0.1, multiple=2)
    (16, 2, 1, 10)
    """
    if not 0 < width < math.inf:
        raise ValueError(f"width is {width}, but scales all channels: use a number above 0, as 1")
    return max(1, round(count * width / multiple)) * multiple


def counts(**sizes: int) -> None:
    """Raise a ``ValueError`` that names the first size that is no positive whole number."""
    for name, size in sizes.items():
        _whole(name, [size])


def _fan_out(conv: nn.Conv2d, alpha: float, generator: Generator) -> None:
    """Kaiming-normal weights by fan-out, bias 0."""
    nn.init.kaiming_normal_(conv.weight, a=alpha, mode="fan_out", generator=generator)
    _zero(conv.bias)


def _uniform(layer: nn.Conv2d | nn.Linear, generator: Generator) -> None:
    """Weights and bias uniform in +-1/sqrt(fan in), as PyTorch draws them."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    if layer.bias is not None:
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
