"""The operations of a network, each of a kind that is known to be piecewise affine.

``trace`` turns any ``nn.Module`` into a list of operations and sorts each of them into one of
three kinds:

* ``"affine"``: Linear, Conv2d, BatchNorm in eval mode, average pooling, Flatten, sums, ...
* ``"sign"``:   an activation with one kink at zero (ReLU, LeakyReLU, abs),
* ``"max"``:    max-pooling, whose windows choose their largest entry.

Anything else is refused by name.
"""

import copy
import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.modules.lazy import LazyModuleMixin

from splinelib.selection import ChannelSelection

AFFINE_MODULES = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d,
    nn.ZeroPad2d, ChannelSelection,
)  # fmt: skip
SUMS = ("add", "sub")
SCALINGS = ("mul", "truediv", "div", "neg")
RESHAPINGS = ("flatten", "cat", "mean", "avg_pool2d", "adaptive_avg_pool2d", "reshape", "view")
OUT_OF_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub}  # keep all values
VIEWS = (
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "permute", "getitem",
    "Flatten", "Unflatten", "Identity", "Dropout",
)  # fmt: skip
KNOWN = (
    "Linear, Conv2d, BatchNorm (eval), ReLU, LeakyReLU, abs, MaxPool2d, AvgPool2d, Flatten, "
    "Dropout (eval), sums and concatenations"
)
LOGITS = "If it is the last step, take it off, as pruning and cells are those of the logits."
INSTEAD = {  # of what is not supported, by the lower-case name of its module or function
    "softmax": LOGITS,
    "logsoftmax": LOGITS,
    "sigmoid": LOGITS,
    "relu6": "It bends twice: put ReLU in its place, and train on.",
    "prelu": "Its slopes are trained: put LeakyReLU with one of them in its place.",
    "syncbatchnorm": "BatchNorm2d(num_features) takes its state_dict as it is: put that in its "
    "place.",
}
SMOOTH = "For smooth activations see splinelib.soft."


@dataclass(frozen=True)
class Op:
    """One operation of a network.

    Attributes
    ----------
    name : str
        Its name in the traced graph.
    kind : {"affine", "sign", "max", "input", "shape"}
    inputs : tuple of str
        The names of the operations whose results it takes.
    apply : callable
        Tensors ``(B, ...)`` in, tensor ``(B, ...)`` out.
    bound : callable
        The same on magnitudes: every weight replaced by its absolute value.  Fed with the largest
        magnitudes of the inputs it gives the size of the terms that are summed into each result,
        hence how far rounding can move it.
    label : str
        What messages call it: the path of its module, such as ``"body.1"``, if it has one.
    alpha : float
        Slope of a ``"sign"`` operation where its unit is inactive.
    pool : MaxPool2d, optional
        The window of a ``"max"`` operation.
    function : str
        The function or method that is called, such as ``"add"``; empty for a module.
    spied : bool
        Whether something whose result is not used takes this result, too: a layer that is called
        for a look, say.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    apply: Callable[..., Tensor]
    bound: Callable[..., Tensor]
    label: str = ""
    alpha: float = 0.0
    pool: nn.MaxPool2d | None = None
    function: str = ""
    spied: bool = False

    def check_windows(self) -> None:
        """Raise a ``ValueError`` for a max-pooling whose windows are not read."""
        if self.pool is not None and self.pool.ceil_mode:
            raise ValueError(
                f"'{self.label or self.name}' is a MaxPool2d with ceil_mode, which is not "
                "supported where its windows are needed; use padding instead."
            )

    def windows(self, z: Tensor) -> Tensor:
        """Entries that compete in each window of a max-pooling.  z (B, C, H, W) -> (B, n, w)."""
        if self.pool is None:
            return z.flatten(1).unsqueeze(1)
        self.check_windows()
        k, s, p, d = self.pool.kernel_size, self.pool.stride, self.pool.padding, self.pool.dilation
        if p not in (0, (0, 0)):  # padding never wins: it counts as minus infinity
            p = (p, p) if isinstance(p, int) else p
            z = F.pad(z, (p[1], p[1], p[0], p[0]), value=torch.finfo(z.dtype).min / 4)
        w = k * k if isinstance(k, int) else k[0] * k[1]
        patches = F.unfold(z, k, dilation=d, stride=s)
        return patches.unflatten(1, (z.shape[1], w)).transpose(2, 3).flatten(1, 2)


class Tracer(fx.Tracer):
    """torch.fx's tracer, which takes a ChannelSelection for one step."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        """Whether a module is one step of the trace."""
        return isinstance(module, ChannelSelection) or super().is_leaf_module(module, path)


def trace(net: nn.Module) -> list[Op]:
    """All operations of the network in order of evaluation, each of a known kind."""
    if not isinstance(net, nn.Sequential) and type(net).__module__.startswith("torch.nn"):
        net = nn.Sequential(net)  # a bare layer of torch.nn would be traced into its weights
    try:
        graph = Tracer().trace(net)
    except Exception as error:
        raise ValueError(
            f"{type(net).__name__} could not be traced by torch.fx ({error}). Its forward must be "
            f"free of data-dependent Python; operations understood: {KNOWN}."
        ) from error
    modules = dict(net.named_modules())
    _refuse_aliasing(graph, modules)
    ops = [_op(node, modules) for node in graph.nodes if node.op != "output"]
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(result, fx.Node):
        raise ValueError(f"{type(net).__name__} must return one tensor; it returns {result}.")
    needed = {result.name}
    for op in reversed(ops):
        needed |= set(op.inputs) if op.name in needed else set()
    spied = {name for op in ops if op.name not in needed for name in op.inputs}
    ops = [replace(op, spied=op.name in spied) for op in ops if op.name in needed]
    kinds = [op.kind for op in ops]
    if kinds.count("input") != 1:
        raise ValueError(f"{type(net).__name__} must be a function of one input tensor.")
    if "shape" in kinds:
        raise ValueError(
            f"{type(net).__name__} computes with shapes in a way that is not supported; write "
            "reshapes as x.flatten(1) or x.view(x.size(0), ...)."
        )
    return ops


def copied(net: nn.Module) -> nn.Module:
    """A deep copy of a network; also of one whose weights are masked by torch's own pruning."""
    # tensors that a mask or a norm computed are no leaves, and cannot be copied as they are
    memo = {
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor)
    }
    return copy.deepcopy(net, memo)


def unwrapped(net: nn.Module) -> nn.Module:
    """The network itself, out of DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            net = net.module
        elif isinstance(getattr(net, "_orig_mod", None), nn.Module):
            net = net._orig_mod
        elif isinstance(net, nn.Module):
            return net
        else:
            raise ValueError(f"net is {net!r}, but must be a network, a torch.nn.Module.")


@contextmanager
def eval_mode(net: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its modules back into its own mode after.

    Flags are set one by one: a ``train`` of the network's own might do more than that.
    """
    training = [module for module in net.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def _refuse_aliasing(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Raise if a value is changed in place and may be read again: a trace cannot show that."""
    for node in graph.nodes:
        if not _is_in_place(node, modules):
            continue
        operand, seen = node.all_input_nodes[0], True
        while seen:
            if len(operand.users) > 1:
                raise ValueError(
                    f"{node.name} may change a value in place that is read again; write it out of "
                    "place (no trailing underscore, no inplace=True, y = y + x for y += x)."
                )
            seen = _name(operand, modules) in VIEWS
            operand = operand.all_input_nodes[0] if seen else operand


def _is_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    inplace = (
        getattr(modules.get(node.target), "inplace", False)
        if node.op == "call_module"
        else (node.kwargs.get("inplace", False) or node.target in OUT_OF_PLACE)
    )
    called = node.op in ("call_function", "call_method")
    return bool(inplace or (called and _name(node, modules).endswith("_")))


def _name(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """The function, method or class that a node calls."""
    if node.op == "call_module":
        return type(modules[node.target]).__name__
    return getattr(node.target, "__name__", str(node.target))


def _op(node: fx.Node, modules: dict[str, nn.Module]) -> Op:
    """The operation that a node of the traced graph stands for."""
    inputs = tuple(n.name for n in node.all_input_nodes)
    if node.op == "placeholder":
        return Op(node.name, "input", (), lambda: None, lambda: None)
    if node.op == "get_attr":
        raise ValueError(f"'{node.target}' is used as a bare tensor; put it into a layer.")
    if node.op == "call_module":
        return _module_op(node.target, modules[node.target], node.name, inputs)
    if node.target in ("size", "dim", getattr, operator.getitem):
        return Op(node.name, "shape", inputs, lambda *t: None, lambda *t: None)
    target = getattr(Tensor, node.target.rstrip("_")) if node.op == "call_method" else node.target
    target = OUT_OF_PLACE.get(target, target)
    function = getattr(target, "__name__", str(target)).rstrip("_")
    return replace(_function_op(node, target, function, inputs), function=function)


def _module_op(label: str, module: nn.Module, name: str, inputs: tuple[str, ...]) -> Op:
    """An operation written as a module of torch.nn."""
    if isinstance(module, (nn.ReLU, nn.LeakyReLU)):
        return _sign_op(name, inputs, getattr(module, "negative_slope", 0.0), label)
    if isinstance(module, nn.MaxPool2d):
        return _max_op(name, inputs, module, label)
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        raise ValueError(
            f"'{label}' ({type(module).__name__}) has no shape yet: run one batch through the "
            "network first, net(x)."
        )
    if not isinstance(module, AFFINE_MODULES):
        raise ValueError(
            f"'{label}' is a {type(module).__name__}, which is not supported; operations "
            f"understood: {KNOWN}. {_instead(type(module).__name__)}"
        )
    norm = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
    random = isinstance(module, (nn.Dropout, nn.Dropout2d)) and module.p > 0
    if norm and module.running_mean is None:
        raise ValueError(
            f"'{label}' ({type(module).__name__}) keeps no running statistics, so it goes by the "
            "batch in either mode, and is no fixed affine map; make it with "
            "track_running_stats=True, and train on."
        )
    if module.training and (random or norm):
        raise ValueError(
            f"'{label}' ({type(module).__name__}) is in training mode, where it is no fixed affine "
            "map; call net.eval() first."
        )
    positive = {k: -v.abs() if k == "running_mean" else v.abs() for k, v in _numbers(module)}
    return Op(
        name, "affine", inputs, module, lambda *t: functional_call(module, positive, t), label
    )


def _numbers(module: nn.Module) -> list[tuple[str, Tensor]]:
    named = (*module.named_parameters(), *module.named_buffers())
    return [(k, v) for k, v in named if v.is_floating_point()]


def _max_op(name: str, inputs: tuple[str, ...], pool: nn.MaxPool2d, label: str = "") -> Op:
    if pool.return_indices:
        raise ValueError(
            f"'{label or name}' is a MaxPool2d with return_indices, which is not supported; leave "
            "return_indices off."
        )
    return Op(name, "max", inputs, pool, pool, label, pool=pool)


def _sign_op(name: str, inputs: tuple[str, ...], alpha: float, label: str = "") -> Op:
    if not math.isfinite(alpha):
        raise ValueError(f"'{label or name}' has slope {alpha}; a finite slope is needed.")
    steep = max(1.0, abs(alpha))
    if alpha == 1.0:  # both slopes alike: no kink
        return Op(name, "affine", inputs, nn.Identity(), nn.Identity(), label)
    activate = F.relu if alpha == 0.0 else lambda z: torch.where(z > 0, z, alpha * z)
    return Op(name, "sign", inputs, activate, lambda z: steep * z, label, alpha=alpha)


def _function_op(node: fx.Node, target: Callable, label: str, inputs: tuple[str, ...]) -> Op:
    """An operation written as a function or a method rather than as a module."""
    if label == "relu":
        return _sign_op(node.name, inputs, 0.0)
    if label == "abs":
        return _sign_op(node.name, inputs, -1.0)
    if label == "leaky_relu":
        slope = node.kwargs.get("negative_slope", (*node.args, 0.01)[1])
        return _sign_op(node.name, inputs, float(slope))
    if label in ("max_pool2d", "boolean_dispatch"):
        return _pool_op(node, inputs)
    if label in ("view", "reshape") and _keeps_batch(node):
        rest = node.args[2:]
        return Op(node.name, "affine", inputs[:1], *[lambda t: t.reshape(len(t), *rest)] * 2)
    if label == "dropout" and node.kwargs.get("training", (*node.args, 0.5, True)[2]) is False:
        return Op(node.name, "affine", inputs, nn.Identity(), nn.Identity())
    apply = _with_constants(node, target)
    if label in SUMS:
        constants = [abs(v) for v in node.args if not isinstance(v, fx.Node)]
        scale, shift = max(1.0, abs(node.kwargs.get("alpha", 1))), sum(constants)
        return Op(
            node.name, "affine", inputs, apply, lambda *t: scale * sum(v.abs() for v in t) + shift
        )
    if label in RESHAPINGS or (label in SCALINGS and _scales(node)):
        return Op(node.name, "affine", inputs, apply, lambda *t: apply(*t).abs())
    raise ValueError(
        f"{_caller(node)} calls {label}, which is not supported; operations understood: {KNOWN}. "
        f"{_instead(label)}"
    )


def _instead(name: str) -> str:
    """What helps with a module or function that is not supported."""
    return INSTEAD.get(name.replace("_", "").lower(), SMOOTH)


def _caller(node: fx.Node) -> str:
    """The module whose forward makes a call, for messages."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return "the network"
    path, kind = list(stack.values())[-1]
    return f"'{path}' ({kind.__name__})"


def _keeps_batch(node: fx.Node) -> bool:
    """Whether a reshape is written ``x.view(x.size(0), ...)`` or ``x.view(x.shape[0], ...)``."""
    sizes = node.args[1:]
    first = sizes[0] if sizes else None
    constant = not any(isinstance(size, fx.Node) for size in sizes[1:])
    return isinstance(first, fx.Node) and first.target in ("size", operator.getitem) and constant


def _scales(node: fx.Node) -> bool:
    """Whether a product or quotient multiplies one tensor by a constant."""
    first, *rest = node.args
    constant = [not isinstance(arg, fx.Node) for arg in rest]
    quotient = "div" in str(node.target)
    if node.kwargs.get("rounding_mode"):
        return False
    return all(constant) if isinstance(first, fx.Node) else not quotient


def _pool_op(node: fx.Node, inputs: tuple[str, ...]) -> Op:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    options = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    return _max_op(
        node.name, inputs, nn.MaxPool2d(**{k: options[k] for k in names if k in options})
    )


def _with_constants(node: fx.Node, target: Callable) -> Callable:
    """The node's function of its tensor arguments alone, all other arguments filled in."""
    names = [n.name for n in node.all_input_nodes]

    def apply(*tensors: Tensor) -> Tensor:
        values = dict(zip(names, tensors, strict=True))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n.name])
        return target(*args, **kwargs)

    return apply
