"""A network read as stages: affine maps with one nonlinearity between each two.

Everything that this library says about a network rests on this reading of it.  A ``Stage`` holds
the operations from one nonlinearity to the next; on each cell of the partition drawn so far it is
an affine map, and this is all that ``affine`` and ``partition`` need to know about a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from splinelib.ops import Op, copied, trace

ROWS = 4  # inputs on which a network is tried when it is read


@dataclass(frozen=True)
class Stage:
    """The affine part of a network that ends at one nonlinearity (or at the output).

    A *state* is one flat row per input point that holds all values which later operations still
    need: the pre-activations of the nonlinearity ahead and, in a residual network, the values on
    the shortcuts around it.

    Attributes
    ----------
    ops : sequence of Op
        The nonlinearity that the stage starts with (none in the first), then affine operations.
    live_in, live_out : dict of str to shape
        The values in a state before and after, by the name of the operation that made them.
    switch : Op or None
        The nonlinearity ahead; None at the output.
    pairs : Tensor (K, 2), optional
        Of a "max" switch: every two entries of each window, as columns of the flat windows.
    """

    ops: Sequence[Op]
    live_in: dict[str, torch.Size]
    live_out: dict[str, torch.Size]
    switch: Op | None
    pairs: Tensor | None = None

    @property
    def width(self) -> int:
        """Size S' of the state that the stage ends with."""
        return sum(shape.numel() for shape in self.live_out.values())

    def advance(self, rows: Tensor, magnitude: bool = False) -> Tensor:
        """Carry states ``(B, S)`` through the stage, to ``(B, S')``."""
        values = _unpack(rows, self.live_in)
        for op in self.ops:
            apply = op.bound if magnitude else op.apply
            values[op.name] = apply(*(values[name] for name in op.inputs))
        if len(self.live_out) == 1:
            return values[next(iter(self.live_out))].flatten(1)
        return torch.cat([values[name].flatten(1) for name in self.live_out], dim=1)

    def scores(self, rows: Tensor) -> Tensor:
        """Values that the switch ahead looks at.  rows (B, S) -> (B, n) or, for max, (B, n, w)."""
        z = _unpack(rows, self.live_out)[self.switch.inputs[0]]
        return z.flatten(1) if self.switch.kind == "sign" else self.switch.windows(z)

    def switches(self, rows: Tensor) -> Tensor:
        """Affine functions whose zero lines cut the cells.  rows (B, S) -> (B, K).

        A sign switch has one a unit, its pre-activation.  A max switch has one for every two
        entries of a window, their difference (columns as in ``pairs``).
        """
        z = self.scores(rows)
        if self.switch.kind == "sign":
            return z
        z = z.flatten(1)
        return z[:, self.pairs[:, 0]] - z[:, self.pairs[:, 1]]

    def switch_bounds(self, rows: Tensor) -> Tensor:
        """Magnitude of the terms of each switch, from magnitudes of the state.  -> (K,)."""
        z = self.scores(rows)
        if self.switch.kind == "sign":
            return z[0]
        z = z.flatten(1)[0].clamp(min=0)  # padding is no magnitude
        return z[self.pairs[:, 0]] + z[self.pairs[:, 1]]

    def codes(self, rows: Tensor, zero: float | Tensor = 0.0) -> Tensor:
        """Code of each unit: +1 active, -1 not; for max, the winning entry.  rows (B, S) -> (B, n).

        int8, or int32 for windows of more than 127 entries.  Values up to ``zero`` are zero, and of
        entries that tie the first wins.
        """
        z = self.scores(rows)
        if self.switch.kind == "max":
            wins = (z >= z.amax(2, keepdim=True) - zero).to(torch.int8).argmax(2)
            return wins.to(torch.int8 if z.shape[2] < 128 else torch.int32)
        return torch.where(z > zero, 1, -1).to(torch.int8)


def read(net: nn.Module, shape: Sequence[int]) -> list[Stage]:
    """Read a network as stages.

    Parameters
    ----------
    net : nn.Module
        Built of the operations listed in ``splinelib.ops``.  It is copied to float64, never
        changed.
    shape : sequence of int
        The shape of one input, without the batch dimension.

    Returns
    -------
    list of Stage
        One for each nonlinearity, in order of evaluation, and a last one that gives the output
        ``(B, C)``.

    Raises
    ------
    ValueError
        For an operation that is not supported, a network that cannot be traced, BatchNorm or
        Dropout in training mode, weights that are not finite, an input of the wrong shape, or a
        network whose output is not what its operations give (in-place changes that are read again).

    Notes
    -----
    Paper, Sec. 3.1; taught in *From layer to CPA map*.

    Examples
    --------
    >>> stages = read(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), shape=(2,))
    >>> [stage.switch.kind if stage.switch else "output" for stage in stages]
    ['sign', 'output']
    """
    net = frozen(net)
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        if not torch.isfinite(value).all():
            raise ValueError(f"'{name}' holds NaN or infinite numbers; finite weights are needed.")
    ops = trace(net)
    for op in ops:
        op.check_windows()
    values = _run_once(ops, net, tuple(shape))
    return _cut(ops, {name: value.shape[1:] for name, value in values.items()})


def frozen(net: nn.Module) -> nn.Module:
    """A float64 copy of a network, without gradients; the network itself stays as it is."""
    net = copied(net).double()
    return net.requires_grad_(False)


def decision_stage(last: Stage) -> Stage:
    """The output stage of a classifier, with its decision as one more nonlinearity behind it.

    The decision is the sign of one logit, or the largest of C.
    """
    (name, shape), *_ = last.live_out.items()
    kind = "sign" if shape.numel() == 1 else "max"
    switch = Op("decision", kind, (name,), torch.sign, torch.abs)
    return Stage(last.ops, last.live_in, last.live_out, switch, _pairs(switch, shape))


def _cut(ops: list[Op], shapes: dict[str, torch.Size]) -> list[Stage]:
    """Cut the list of operations at its nonlinearities."""
    source, body = ops[0], ops[1:]
    cuts = [i for i, op in enumerate(body) if op.kind != "affine"] + [len(body)]
    stages, start, live = [], 0, {source.name: shapes[source.name]}
    for cut in cuts:
        needed = {name for op in body[cut:] for name in op.inputs}
        made = [source, *body[:cut]]
        needed = needed or {made[-1].name}  # at the output: the last result
        after = {op.name: shapes[op.name] for op in made if op.name in needed}
        switch = body[cut] if cut < len(body) else None
        pairs = _pairs(switch, shapes[switch.inputs[0]]) if switch else None
        stages.append(Stage(body[start:cut], live, after, switch, pairs))
        start, live = cut, after
    return stages


def _run_once(ops: list[Op], net: nn.Module, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Every value of the network at a few inputs; the operations must give what it gives."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, *shape, dtype=torch.float64, generator=draw)
    x = x.to(next((p.device for p in net.parameters()), x.device))
    values = {ops[0].name: x}
    for op in ops[1:]:
        inputs = [values[name] for name in op.inputs]
        try:
            value = values[op.name] = op.apply(*inputs)
            fits = value.ndim > 0 and len(value) == ROWS
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ValueError(
                f"an input of shape {shape} does not fit '{op.label or op.name}' ({error}); give "
                "inputs of the shape that the network takes, without the batch dimension."
            ) from error
        if not fits:
            raise ValueError(
                f"'{op.name}' mixes the inputs of a batch: it makes {tuple(value.shape)} of {ROWS} "
                "inputs. Keep the batch dimension first in every step."
            )
        if not torch.isfinite(value).all():
            raise ValueError(
                f"'{op.label or op.name}' overflows float64; smaller weights are needed."
            )
        if op.kind == "affine" and not _is_affine(op, inputs, value):
            raise ValueError(
                f"'{op.label or op.name}' is not an affine map, as it would have to be."
            )
    found, expected = values[ops[-1].name], net(x.clone())
    if not torch.allclose(found, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max())):
        raise ValueError(
            f"{type(net).__name__} does not give what the operations read from it give. It may "
            "change a value in place and read it again: write such steps out of place."
        )
    return values


def _is_affine(op: Op, inputs: list[Tensor], value: Tensor) -> bool:
    """Whether the image of the midpoint of two inputs is the midpoint of their images."""
    middle = op.apply(*((z[:1] + z[1:2]) / 2 for z in inputs))
    size = float(value.abs().max()) + 1e-300
    return bool(((value[:1] + value[1:2]) / 2 - middle).abs().max() <= 1e-6 * size)


def _pairs(switch: Op, shape: torch.Size) -> Tensor | None:
    """For a max switch: every two entries of each window, as columns of the flat windows."""
    if switch.kind != "max":
        return None
    _, n, w = switch.windows(torch.zeros(1, *shape, dtype=torch.float64)).shape
    within = torch.tensor(list(combinations(range(w), 2)), dtype=torch.int64).reshape(-1, 2)
    return (within + w * torch.arange(n).reshape(-1, 1, 1)).reshape(-1, 2)


def _unpack(rows: Tensor, live: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Split flat states ``(B, S)`` into their named values ``(B, ...)``."""
    sizes = [shape.numel() for shape in live.values()]
    parts = rows.split(sizes, dim=1) if len(sizes) > 1 else [rows]
    named = zip(live.items(), parts, strict=True)
    return {name: part.reshape(-1, *shape) for (name, shape), part in named}
