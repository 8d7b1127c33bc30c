"""Moving what a unit does into the layers that read it, so that the unit can go."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from splinelib.ops import SCALINGS, copied
from splinelib.units.order import LAYERS, NORMS, is_a
from splinelib.units.walk import OUTPUT, SHARED, Reader, Units, call, known, units
from splinelib.units.weights import need_eval, need_numbers, norm_map, rows

POOLS = (nn.AvgPool2d, nn.ZeroPad2d, "avg_pool2d")  # what may mix zeros into a constant image
PIXELS = 256  # side of the image on which that is tried


def fold_constants(net: nn.Module, layers: Iterable[str] | None = None) -> nn.Module:
    """Move the units that put out a constant into the layers that read them.

    A unit whose slope vector is zero puts out ``sigma(b_k)`` whatever the input. What its readers
    make of that is added to their bias (to the running mean of the BatchNorm behind a reader
    without bias; one that has neither gets a bias), and the unit and the weights that read it are
    set to 0.

    Parameters
    ----------
    net : nn.Module
        The network, see :func:`splinelib.units.units` (the inputs of a Linear are ``(B,
        features)``), its BatchNorms in evaluation mode; it stays as it is.
    layers : iterable of str, optional
        Paths of the layers whose constant units are folded. Default: all but the output.

    Returns
    -------
    nn.Module
        A copy that computes the same function in evaluation mode, up to rounding. Masks of
        ``torch.nn.utils.prune`` are made permanent in it.

    Raises
    ------
    ValueError
        An unknown layer, a BatchNorm in training mode, a weight that is NaN or infinite or would
        become so, or a constant unit that no bias can stand for: it enters a sum or the output, or
        its readers see zeros beside it (padding), for example.

    Notes
    -----
    With ``b_k`` after folding BatchNorm, ``sum_j v_jk sigma(b_k)`` goes into the reader's bias
    ``j``. Units are taken in order of evaluation, so that what becomes constant on the way is
    folded, too. Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.by_hand(([[0, 0], [1, 1]], [2, 0]), ([[3, 1]], [1]))
    >>> folded = fold_constants(net)
    >>> folded[0].bias.tolist(), folded[2].weight.tolist(), folded[2].bias.tolist()
    ([0.0, 0.0], [[0.0, 1.0]], [7.0])
    """
    need_eval("fold_constants", net)
    net = working_copy(net)
    found = units(net)
    if layers is None:
        layers = [layer for layer, at in found.items() if at.closed != OUTPUT]
    chosen = known(found, layers)
    for layer in found:
        if layer in chosen:
            _fold(net, found, layer)
    return net


def working_copy(net: nn.Module) -> nn.Module:
    """A copy whose weights may be edited: masks of torch's own pruning are made permanent."""
    need_numbers(net)
    net = copied(net)
    for path, module in net.named_modules():
        for name in ("weight", "bias"):
            if hasattr(module, f"{name}_mask"):
                prune.remove(module, name)
        if isinstance(module, (*LAYERS, *NORMS)) and "weight" not in module._parameters:
            raise ValueError(
                f"the weight of '{path}' is computed from other parameters (a parametrization, or "
                "a norm), so it cannot be edited; make it permanent first: of a parametrization by "
                "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')."
            )
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        if not value.isfinite().all():
            raise ValueError(f"'{name}' holds NaN or infinity; give every weight a number first.")
    return net


def remove_units(net: nn.Module, at: Units, gone: Tensor | list[int]) -> None:
    """Set units and the weights that read them to 0, in place; the network is a working copy.

    ``gone (n,)`` is bool, or a list of units. Slope vector and offset, and scale, shift and running
    mean of the BatchNorm directly behind become 0, so that ``z = 0`` for any input.
    """
    layer = net.get_submodule(at.layer)
    norm = net.get_submodule(at.norm) if at.norm else None
    parts = [layer.weight, layer.bias]
    parts += [norm.weight, norm.bias, norm.running_mean] if norm else []
    with torch.no_grad():
        for part in parts:
            if part is not None:
                part[gone] = 0
        for reader in at.readers:
            columns(net, reader, at.width)[:, gone] = 0


def columns(net: nn.Module, reader: Reader, width: int) -> Tensor:
    """Weights of a reader by the unit that they read, a view ``(out, width, ...)``."""
    weight = net.get_submodule(reader.layer).weight.detach()
    return weight if weight.ndim == 4 else weight.unflatten(1, (width, -1))


def rounded(values: Tensor, weight: Tensor, name: str) -> Tensor:
    """Float64 values in the type of a weight; a ``ValueError`` if they are too large for it."""
    values = values.to(weight.dtype)
    if not values.isfinite().all():
        raise ValueError(
            f"{name} would overflow {str(weight.dtype).removeprefix('torch.')}; a wider type is "
            "needed, such as net.double()."
        )
    return values


def _fold(net: nn.Module, found: dict[str, Units], layer: str) -> None:
    """Fold the constant units of one layer of a working copy, in place."""
    at = found[layer]
    W, b = rows(net, at)
    gone = (W == 0).all(1)
    seen = [_constants(net, reader, b)[gone] for reader in at.readers]
    reason = _obstacle(net, at, seen)
    moving = (b[gone] != 0) & bool(at.closed)
    for values in seen:
        moving |= values.any(1)
    if reason and moving.any():
        numbers = ", ".join(map(str, gone.nonzero().flatten()[moving].tolist()))
        raise ValueError(
            f"unit {numbers} of '{layer}' is constant but cannot be folded: {reason}. Name the "
            "layers to fold, without this one."
        )
    if not reason and gone.any():
        for reader, values in zip(at.readers, seen, strict=True):
            read = columns(net, reader, at.width)[:, gone].flatten(2)
            _shift(net, found[reader.layer], _sums(read.double(), values))
        remove_units(net, at, gone)


def _obstacle(net: nn.Module, at: Units, seen: list[Tensor]) -> str:
    """Why no bias can stand for what readers see of constant units, in words; "" if it can."""
    read = zip(at.readers, seen, strict=True)
    reasons = (_padding(net, reader) for reader, values in read if values.any())
    return at.closed or next(filter(None, reasons), "")


def _sums(read: Tensor, values: Tensor) -> Tensor:
    """What weights (out, n, ...) make of constants (n, positions): one number an output."""
    if values.shape[1] == 1:  # all pixels of a kernel see the same
        read = read.sum(2, keepdim=True)
    return torch.einsum("okj,kj->o", read, values)


def _constants(net: nn.Module, reader: Reader, b: Tensor) -> Tensor:
    """What a reader sees of units that are constant: offsets b (n,) -> (n, positions)."""
    values = b[:, None].expand(-1, reader.positions)
    for op in reader.through:
        if op.kind == "sign" or is_a(op, SCALINGS):
            values = op.apply(values)
        elif is_a(op, NORMS):
            scale, shift = norm_map(net.get_submodule(op.label))
            values = scale.reshape(len(b), -1) * values + shift.reshape(len(b), -1)
    return values


def _padding(net: nn.Module, reader: Reader) -> str:
    """Where zeros come in beside a constant unit, in words; "" if nowhere."""
    module = net.get_submodule(reader.layer)
    padding = getattr(module, "padding", 0)
    if padding == "same":
        padding = [size - 1 for size in module.kernel_size]
    zeros = getattr(module, "padding_mode", "zeros") == "zeros" and padding != "valid"
    if zeros and any(padding if isinstance(padding, Sequence) else [padding]):
        return f"'{reader.layer}' reads it beside the zeros of its padding"
    image = torch.ones(1, 1, PIXELS, PIXELS, dtype=torch.float64, device="cpu")
    for op in reader.through:
        if is_a(op, POOLS) and (op.apply(image) - 1).abs().max() > 1e-9:
            return f"'{call(op)}' mixes other numbers into it (padding, for example)"
    return ""


def _shift(net: nn.Module, at: Units, shift: Tensor) -> None:
    """Add ``shift (n,)`` to the pre-activations of a layer of a working copy, in place."""
    module, name = net.get_submodule(at.layer), f"the bias of '{at.layer}'"
    if module.bias is not None:
        module.bias.data = rounded(module.bias.double() + shift, module.bias, name).detach()
    elif at.norm and SHARED not in at.closed:
        mean = net.get_submodule(at.norm).running_mean
        mean.copy_(rounded(mean.double() - shift, mean, f"the running mean of '{at.norm}'"))
    else:
        bias = rounded(shift, module.weight, name)
        module.bias = nn.Parameter(bias, requires_grad=module.weight.requires_grad)
