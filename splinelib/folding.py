"""Moving what a unit does into the layers that read it, so that the unit can go."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from splinelib.ops import copied
from splinelib.units import (
    LAYERS,
    NORMS,
    OUTPUT,
    SHARED,
    Reader,
    Units,
    call,
    is_a,
    norm_map,
    rows,
    units,
)

SCALINGS = ("mul", "truediv", "div", "neg")
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
        The network, see :func:`splinelib.units.units`; it stays as it is.
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
        An unknown layer, or a constant unit that no bias can stand for: it enters a sum or the
        output, or its readers see zeros beside it (padding), for example.

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
    net = working_copy(net)
    found = units(net)
    if layers is None:
        layers = [layer for layer, at in found.items() if at.closed != OUTPUT]
    chosen = set(layers)
    if unknown := chosen - set(found):
        raise ValueError(
            f"the network has no layer {sorted(unknown)}; its layers: {', '.join(found)}"
        )
    for layer in found:
        if layer in chosen:
            _fold(net, found, layer)
    return net


def working_copy(net: nn.Module) -> nn.Module:
    """A copy whose weights may be edited: masks of torch's own pruning are made permanent."""
    net = copied(net)
    for module in net.modules():
        for name in ("weight", "bias"):
            if hasattr(module, f"{name}_orig"):
                prune.remove(module, name)
    for path, module in net.named_modules():
        computed = isinstance(module, (*LAYERS, *NORMS)) and "weight" not in module._parameters
        if computed:
            raise ValueError(
                f"the weight of '{path}' is computed from other parameters (a parametrization), "
                "so it cannot be edited; make it permanent first"
            )
    return net


def output_factor(units: Units, ratio: float) -> float:
    """Relation between the outputs of two units whose pre-activations are proportional.

    Parameters
    ----------
    units : Units
        The layer of both.
    ratio : float
        Number c with ``z_gone = c z_survivor``, BatchNorm folded.

    Returns
    -------
    float
        The factor with ``h_gone = factor * h_survivor``, for all that the readers see.

    Raises
    ------
    ValueError
        If there is none: opposite sides (c < 0) of an activation that is not even, or of a
        max-pooling; a BatchNorm between activation and reader; c zero or not finite.

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.units import units
    >>> output_factor(units(nets.mlp([2, 3, 1], alpha=-1))["0"], -2.0)
    2.0
    """
    if not (math.isfinite(ratio) and ratio):
        raise ValueError(f"the ratio of the pre-activations is {ratio}; it must be a finite number")
    for reader in units.readers:
        if any(is_a(op, NORMS) for op in reader.through):
            raise ValueError(f"a BatchNorm stands between '{units.layer}' and '{reader.layer}'")
    if ratio > 0:
        return ratio
    if units.alpha not in (None, -1):
        raise ValueError(
            f"the two units of '{units.layer}' look to opposite sides of their hyperplane, and an "
            f"activation of leakiness {units.alpha} treats the sides differently (-1 would not)"
        )
    for reader in units.readers:
        kinds = [op.kind for op in reader.through]
        kinds = kinds[: kinds.index("sign")] if "sign" in kinds else kinds
        if "max" in kinds:
            raise ValueError(
                f"the two units of '{units.layer}' have opposite signs, and a max-pooling before "
                f"'{reader.layer}' treats the signs differently"
            )
    return ratio if units.alpha is None else -ratio


def add_columns(net: nn.Module, units: Units, survivor: int, gone: int, factor: float) -> None:
    """Let one unit do the work of another, in place; the network must be a working copy.

    Parameters
    ----------
    net : nn.Module
        From :func:`working_copy`.
    units : Units
        The layer of both units.
    survivor, gone : int
        Two units with ``h_gone = factor * h_survivor``, see :func:`output_factor`.
    factor : float
        ``factor`` times the weights that read ``gone`` are added to those that read ``survivor``;
        then ``gone`` is removed, see :func:`remove_units`.

    Raises
    ------
    ValueError
        If not all that leaves the units goes into readers, with the reason (``units.closed``).

    Examples
    --------
    >>> from splinelib import nets
    >>> from splinelib.units import units
    >>> net = working_copy(nets.by_hand(([[1], [2]], [1, 2]), ([[5, 7]], [0])))
    >>> add_columns(net, units(net)["0"], survivor=0, gone=1, factor=2.0)
    >>> net[0].weight.tolist(), net[2].weight.tolist()
    ([[1.0], [0.0]], [[19.0, 0.0]])
    """
    if units.closed:
        raise ValueError(f"units of '{units.layer}' cannot be merged: {units.closed}")
    for reader in units.readers:
        columns = _columns(net, reader, units.width)
        columns[:, survivor] += factor * columns[:, gone]
    remove_units(net, units, [gone])


def remove_units(net: nn.Module, units: Units, gone: Tensor | list[int]) -> None:
    """Set units and the weights that read them to 0, in place; the network is a working copy.

    ``gone (D,)`` is bool, or a list of units. Slope vector and offset, and scale, shift and running
    mean of the BatchNorm directly behind become 0, so that ``z = 0`` for any input.
    """
    layer = net.get_submodule(units.layer)
    norm = net.get_submodule(units.norm) if units.norm else None
    parts = [layer.weight, layer.bias]
    parts += [norm.weight, norm.bias, norm.running_mean] if norm else []
    with torch.no_grad():
        for part in parts:
            if part is not None:
                part[gone] = 0
        for reader in units.readers:
            _columns(net, reader, units.width)[:, gone] = 0


def _fold(net: nn.Module, found: dict[str, Units], layer: str) -> None:
    """Fold the constant units of one layer of a working copy, in place."""
    here = found[layer]
    W, b = rows(net, here)
    gone = (W == 0).all(1)
    reason, shifts = here.closed, []
    for reader in here.readers:
        values = _constants(net, reader, b)[gone]
        reason = reason or (_padding(net, reader) if values.any() else "")
        columns = _columns(net, reader, here.width)[:, gone].flatten(2).double()
        if values.shape[1] == 1:  # all pixels of a kernel see the same
            columns = columns.sum(2, keepdim=True)
        shifts.append(torch.einsum("okj,kj->o", columns, values))
    moving = (gone & (b != 0)).nonzero().flatten().tolist()
    if reason and moving:
        numbers = ", ".join(map(str, moving))
        raise ValueError(
            f"unit {numbers} of '{layer}' is constant but cannot be folded: {reason}. Name the "
            "layers to fold, without this one"
        )
    if not reason and gone.any():
        for reader, shift in zip(here.readers, shifts, strict=True):
            _shift(net, found[reader.layer], shift)
        remove_units(net, here, gone)


def _columns(net: nn.Module, reader: Reader, width: int) -> Tensor:
    """Weights of a reader by the unit that they read, a view ``(out, width, ...)``."""
    weight = net.get_submodule(reader.layer).weight.detach()
    return weight if weight.ndim == 4 else weight.unflatten(1, (width, -1))


def _constants(net: nn.Module, reader: Reader, b: Tensor) -> Tensor:
    """What a reader sees of units that are constant: offsets b (D,) -> (D, positions)."""
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
    image = torch.ones(1, 1, PIXELS, PIXELS, dtype=torch.float64)
    for op in reader.through:
        if is_a(op, POOLS) and (op.apply(image) - 1).abs().max() > 1e-9:
            return f"'{call(op)}' mixes other numbers into it (padding, for example)"
    return ""


def _shift(net: nn.Module, here: Units, shift: Tensor) -> None:
    """Add ``shift (D,)`` to the pre-activations of a layer of a working copy, in place."""
    module = net.get_submodule(here.layer)
    if module.bias is not None:
        module.bias.data += shift.to(module.bias.dtype)
    elif here.norm and SHARED not in here.closed:
        mean = net.get_submodule(here.norm).running_mean
        mean -= shift.to(mean.dtype)
    else:
        module.bias = nn.Parameter(shift.to(module.weight.dtype))
