"""Multiply-adds of a network, counted layer by layer on a copy that holds no numbers."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from splinelib.ops import unwrapped


def macs(net: nn.Module, shape: Sequence[int]) -> int:
    """Count the multiply-adds of a network's convolutions and matrix products for one input.

    Parameters
    ----------
    net : nn.Module
        The network; it stays as it is, and nothing is computed on its device. One that is wrapped
        for several devices or compiled is counted by what is inside.
    shape : sequence of int
        Shape of one input, without the batch dimension: ``(C, H, W)``.

    Returns
    -------
    int
        Exact; one multiply-add is two floating-point operations. Biases, BatchNorm, activations and
        pooling do not count. Weights that a mask has set to 0 do.

    Raises
    ------
    ValueError
        An input that does not fit, or a forward that needs the values of its tensors.

    Notes
    -----
    By ``torch.utils.flop_counter``; a training step costs three times a forward pass, in the
    paper's totals, too. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> macs(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (3, 10, 10))  # 8 * 8 * 8 * 27
    13824
    """
    return sum(layer_macs(net, shape).values())


def layer_macs(net: nn.Module, shape: Sequence[int]) -> dict[str, int]:
    """Count multiply-adds as :func:`macs` does, by the path of the module that does them.

    Parameters
    ----------
    net, shape
        As in :func:`macs`.

    Returns
    -------
    dict of str to int
        In order of evaluation. A convolution that is called as a function counts for the module
        whose forward calls it, and the network itself is called ``""``.

    Raises
    ------
    ValueError
        As :func:`macs`.

    Notes
    -----
    Taught in *Drawing the ticket*.

    Examples
    --------
    >>> from splinelib import nets
    >>> layer_macs(nets.mlp([4, 8, 2]), (4,))
    {'0': 32, '2': 16}
    """
    net, account = weightless(net), _Account()
    for path, module in net.named_modules():
        account.watch(path, module)
    with account.counter:
        run(net, shape)
    return {path: flops // 2 for path, flops in account.flops.items() if flops}


class _Account:
    """What a counter counts, booked on the innermost module that is at work."""

    def __init__(self) -> None:
        self.counter = FlopCounterMode(display=False)
        self.flops, self._booked, self._at_work = Counter(), 0, [""]

    def watch(self, path: str, module: nn.Module) -> None:
        """Book on a path what is counted while the module runs and none inside it does."""

        def enter(*_call: object) -> None:
            self._book()
            self._at_work.append(path)

        def leave(*_call: object) -> None:
            self._book()
            self._at_work.pop()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)

    def _book(self) -> None:
        counted = self.counter.get_total_flops()
        self.flops[self._at_work[-1]] += counted - self._booked
        self._booked = counted


def flops_of(packet: Callable, args: tuple, kwargs: Mapping, out: object) -> int:
    """Floating-point operations of one call of a PyTorch operation, 0 if it does no products."""
    if packet is torch.ops.aten.convolution_backward:
        # PyTorch's own formula takes a gradient of grouped weights as if there were no groups. Each
        # gradient takes the products of the forward pass: the weights once at every output pixel.
        (grad, x, weight, *_, transposed, _, _, wanted) = args
        pixels = (x if transposed else grad).shape[2:].numel()
        return 2 * sum(wanted[:2]) * grad.shape[0] * pixels * weight.numel()
    if packet not in flop_registry:
        return 0
    return int(flop_registry[packet](*args, **kwargs, out_val=out))


def weightless(net: nn.Module) -> nn.Module:
    """Copy a network to the "meta" device, where tensors have shapes but no numbers; eval mode."""
    net, memo = unwrapped(net), {}
    for module in net.modules():
        held = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        memo |= {id(v): v.detach().to("meta") for v in held if isinstance(v, Tensor)}
    return copy.deepcopy(net, memo).eval()


def run(net: nn.Module, shape: Sequence[int]) -> None:
    """Run a weightless network on one input of a shape, for its hooks."""
    if not isinstance(shape, Sequence) or not all(isinstance(n, Integral) and n > 0 for n in shape):
        raise ValueError(f"shape is {shape!r}; give whole sizes of at least 1, as (3, 32, 32).")
    dtypes = (v.dtype for v in (*net.parameters(), *net.buffers()) if v.is_floating_point())
    x = torch.empty(1, *shape, dtype=next(dtypes, None), device="meta")
    try:
        with torch.no_grad():
            net(x)
    except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"{type(net).__name__} does not run on an input of shape {tuple(shape)} without values "
            f"({error}); give the shape of one input, as (3, 32, 32), and keep the forward free of "
            ".item() and .numpy()."
        ) from error
