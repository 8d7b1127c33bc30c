"""What a pruned network starts from, and where in the schedule it goes on."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from splinelib.ops import copied
from splinelib.selection import ChannelSelection
from splinelib.surgery import Plan, shrink
from splinelib.units import units

Weights = Literal["inherit", "rewind", "reinit"]
Schedule = Literal["continue", "full"]
LAYERS = (nn.Linear, nn.Conv2d)
RULES = {  # how convolutions and Linears are drawn
    "fan-out": ("fan-out", "uniform"),
    "fan-out, 0.01": ("fan-out", "0.01"),
    "fan-in": ("fan-in", "fan-in"),
    "uniform": ("uniform", "uniform"),
}
DRAWN = {  # the rules of splinelib.nets.build
    "vgg16": "fan-out, 0.01",
    "preresnet101": "fan-out",
    "preresnet20": "fan-out",
    "alexnet": "uniform",
    "resnet18": "fan-out",
    "resnet50": "fan-out",
    "convnet": "fan-in",
    "mlp": "fan-in",
}


def start(
    net: nn.Module,
    initial: nn.Module,
    plan: Plan,
    weights: Weights = "inherit",
    generator: torch.Generator | None = None,
    *,
    rule: str | None = None,
) -> nn.Module:
    """Make the small network that is trained on.

    Parameters
    ----------
    net : nn.Module
        The trained network, in the original shape.
    initial : nn.Module
        The same network before its training.
    plan : surgery.Plan
        What is kept, from ``surgery.plan`` or ``surgery.cut``.
    weights : "inherit", "rewind" or "reinit"
        "inherit" takes the kept weights of ``net``, "rewind" those of ``initial`` at the same
        places, as a lottery ticket. "reinit" draws new ones, as for a network of these widths.
    generator : torch.Generator, optional
        On the CPU; for "reinit". Default: a fresh one with seed 0.
    rule : str, optional
        How "reinit" draws, which no network tells: a name of ``nets.build``, or "fan-out"
        (convolutions Kaiming-normal by fan-out with bias 0, Linears uniform in +-1/sqrt(fan in)),
        "fan-out, 0.01" (Linears normal with deviation 0.01 and bias 0 instead), "fan-in" (both
        Kaiming-normal by fan-in, biases uniform), or "uniform" (torch's own rule for both).

    Returns
    -------
    nn.Module
        On the device and in the type of ``net``, in evaluation mode.

    Raises
    ------
    ValueError
        An unknown choice, "reinit" without a rule, a plan of another network.

    Notes
    -----
    The paper's text inherits; its table 8 speaks of a lottery's start; the public scripts of
    early-bird tickets build a new network and train that, although they load the trained one. What
    is compared decides the conclusion, so all are here. BatchNorms of a new network are those of
    ``initial``: their scales are no random numbers. A network drawn by rules of its own (residual
    branches scaled by depth, orthogonal weights) is yours to redraw, after ``surgery.shrink``.
    Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets, surgery
    >>> from splinelib.pruning.l1 import l1
    >>> net = nets.mlp([2, 4, 1])
    >>> small, plan = surgery.cut(net, l1(net, 0.5))
    >>> bool((start(net, net, plan)[0].weight == small[0].weight).all())
    True
    >>> start(net, net, plan, "reinit", rule="mlp")[0].weight.shape
    torch.Size([2, 2])
    """
    if weights not in get_args(Weights):
        raise ValueError(f"weights is {weights!r}, but must be one of {get_args(Weights)}.")
    if weights == "inherit":
        return shrink(net, plan).eval()
    small = shrink(initial, plan).to(next(net.parameters()).device).eval()
    if weights == "reinit":
        generator = generator or torch.Generator().manual_seed(0)
        _redraw(small, DRAWN.get(rule, rule), generator)
    return small


def first_epoch(epoch: int | None, schedule: Schedule = "continue") -> int:
    """The epoch of the schedule at which a ticket's training begins.

    Parameters
    ----------
    epoch : int or None
        Epochs of dense training behind the ticket, see ``Ticket.epoch``.
    schedule : "continue" or "full"
        "continue" goes on where the dense training was, with all drops of the learning rate
        behind it that were due; "full" begins at 0.

    Returns
    -------
    int
        For ``train.train(..., first_epoch=...)``.

    Raises
    ------
    ValueError
        An unknown schedule; "continue" without an epoch.

    Notes
    -----
    For ImageNet the paper's totals fit E + (90 - E) epochs, for VGG-16 on CIFAR E + 160. Taught in
    *A tour of pruning methods*.

    Examples
    --------
    >>> first_epoch(30), first_epoch(30, "full")
    (30, 0)
    """
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule is {schedule!r}, but must be one of {get_args(Schedule)}.")
    if schedule == "full":
        return 0
    if epoch is None:
        raise ValueError(
            "the ticket has no epoch to go on from: its method trains to the end, or not at all. "
            "Use schedule='full'."
        )
    return epoch


def put_back(small: nn.Module, plan: Plan, whole: nn.Module) -> nn.Module:
    """Write the numbers of a small network into a copy of the whole one, where they came from.

    ``whole`` has the shape that the plan was made for; what was cut keeps its numbers.
    """
    whole, kept, read = copied(whole), plan.kept, plan.read
    with torch.no_grad():
        for path in plan.sizes:
            module, part = whole.get_submodule(path), small.get_submodule(path)
            part = part.norm if isinstance(part, nn.Sequential) else part  # behind a selection
            if isinstance(module, ChannelSelection):
                continue
            for name, value in (*module.named_parameters(), *module.named_buffers()):
                _scatter(
                    value,
                    part.get_parameter(name)
                    if name in dict(part.named_parameters())
                    else part.get_buffer(name),
                    kept[path],
                    read[path],
                )
    return whole


def _scatter(value: Tensor, new: Tensor, kept: Tensor, read: Tensor) -> None:
    """Write new numbers into the kept rows, and columns, of a tensor, in place."""
    kept, read = kept.to(value.device), read.to(value.device)
    if value.ndim == 0:
        value.copy_(new)
    elif value.ndim == 1 or len(read) > value.shape[1]:  # a depthwise filter reads one channel
        value[kept] = new
    else:
        value[kept[:, None], read] = new


def _redraw(net: nn.Module, rule: str | None, generator: torch.Generator) -> None:
    """Draw all Linear and Conv2d layers of a network anew, in place."""
    if rule not in RULES:
        raise ValueError(
            f"rule is {rule!r}, but 'reinit' has to be told how the network was drawn: a network "
            f"of splinelib.nets ({', '.join(DRAWN)}), or one of {tuple(RULES)}."
        )
    for _, module, alpha in _layers(net):
        law = _law(module, rule)
        deviation, bound = _deviation(module, law, alpha), 1 / math.sqrt(module.weight[0].numel())
        _fill(module.weight, deviation, generator, uniform=law == "uniform")
        if module.bias is not None:
            spread = bound / math.sqrt(3) if law in ("fan-in", "uniform") else 0.0
            _fill(module.bias, spread, generator, uniform=True)


def _layers(net: nn.Module):
    """Path, module and leakiness behind it of each Linear and Conv2d."""
    found = units(net)
    for path, module in net.named_modules():
        if isinstance(module, LAYERS):
            yield path, module, (found[path].alpha if path in found else None) or 0.0


def _law(module: nn.Module, rule: str) -> str:
    return RULES[rule][isinstance(module, nn.Linear)]


def _deviation(module: nn.Module, law: str, alpha: float) -> float:
    """The standard deviation that a law gives to the weights of a layer."""
    fan_in = module.weight[0].numel()
    fan_out = fan_in * module.weight.shape[0] / module.weight.shape[1]
    gain = 2 / (1 + alpha**2)
    squares = {"fan-out": gain / fan_out, "fan-in": gain / fan_in, "uniform": 1 / (3 * fan_in)}
    return math.sqrt(squares[law]) if law in squares else float(law)


def _fill(value: Tensor, deviation: float, generator: torch.Generator, *, uniform: bool) -> None:
    """Draw numbers of a deviation on the CPU and write them, in place."""
    drawn = torch.empty(value.shape, dtype=value.dtype)
    bound = deviation * math.sqrt(3)
    if uniform:
        drawn.uniform_(-bound, bound, generator=generator)
    else:
        drawn.normal_(std=deviation, generator=generator)
    with torch.no_grad():
        value.copy_(drawn)
