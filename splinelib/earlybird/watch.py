"""Watching a forward pass: the sign of what goes into every nonlinearity, wherever it is called.

A function mode of PyTorch sees each call of a nonlinearity, whether a module or a function makes it
and however often. So the second ReLU of a residual block is seen with the shortcut added, and one
ReLU module that serves several layers counts once for each.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.overrides import TorchFunctionMode

from splinelib.earlybird.bits import pack
from splinelib.earlybird.snapshots import Sample
from splinelib.ops import eval_mode

Modules = Mapping[str, nn.Module]
KINKED = {"relu", "leaky_relu", "prelu", "rrelu", "abs", "absolute"}  # at zero alone
CHOICES = {"clamp", "clamp_min", "clip", "max", "min"}  # it depends on what they are called with
REFUSED = {
    "celu", "elu", "gelu", "glu", "group_norm", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "instance_norm", "layer_norm", "local_response_norm", "log_sigmoid", "log_softmax",
    "logsigmoid", "maximum", "minimum", "mish", "multi_head_attention_forward", "relu6", "rms_norm",
    "scaled_dot_product_attention", "selu", "sigmoid", "silu", "softmax", "softmin", "softplus",
    "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
}  # fmt: skip
SEEKS = {  # what a message says where nothing of the kind was seen
    "activation": "no call of relu, leaky_relu, prelu or abs that bends was seen, so there is no "
    "code: write the nonlinearity as one of these (torch.where, exp or torch.jit are not seen).",
    "batchnorm": "no BatchNorm module was called, so there is no code of its output.",
}


class Watch(TorchFunctionMode):
    """The signs that one forward pass shows.

    Attributes
    ----------
    names, widths : lists of str and of int
        The name of each layer, in order of evaluation, and its entries for one input.
    packed : list of Tensor (b, n), int64
        The signs of each layer, packed.
    largest : list of Tensor ()
        The largest of the numbers that were looked at: NaN if one of them is.
    """

    def __init__(self, count: int, at: str, sample: Sample) -> None:
        super().__init__()
        self.count, self.at, self.sample = count, at, sample
        self.names: list[str] = []
        self.widths: list[int] = []
        self.packed: list[Tensor] = []
        self.largest: list[Tensor] = []
        self.path: list[str] = []  # of the modules that are running, the innermost last
        self._calls: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Look at the input of a nonlinearity before it is called, since it may be in place."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").removesuffix(".default").strip("_")
        if name in KINKED or name in CHOICES or name in REFUSED or _may_draw(name):
            self._call(name, args, kwargs)
        return func(*args, **kwargs)

    def _call(self, name: str, args: tuple, kwargs: dict) -> None:
        """Take the signs of a nonlinearity's input, or refuse the nonlinearity."""
        z = _argument(args, kwargs, 0, "input")
        weight = isinstance(z, nn.Parameter) or "parametrizations" in self._path().split(".")
        if weight or not torch.is_tensor(z) or not z.is_floating_point():
            return  # weights that are computed from others are no pre-activations
        if _draws(name, args, kwargs):
            raise ValueError(
                f"{self._here()} calls {name} with training=True in evaluation mode, so codes "
                "would depend on chance or on the other inputs: write training=self.training."
            )
        if name in REFUSED or _bends_elsewhere(name, args, kwargs):
            raise ValueError(
                f"{self._here()} calls {name}, which does not bend at zero alone, so a sign does "
                "not tell its region: the network needs ReLU, LeakyReLU, PReLU or abs (and "
                "BatchNorm). For smooth activations see splinelib.soft."
            )
        if self.at == "activation" and _bends(name, args, kwargs):
            self.see(z)

    def see(self, z: Tensor) -> None:
        """Store the signs of pre-activations ``(b, ...)``."""
        if z.shape[:1] != (self.count,):
            raise ValueError(
                f"{self._here()} has a nonlinearity on a tensor {tuple(z.shape)}, but the first "
                f"axis must count the {self.count} inputs: reshape inside the network so that each "
                "input keeps its row."
            )
        path = self._path() or "net"
        self._calls[path] += 1
        again = self._calls[path]
        z = z.detach().reshape(self.count, -1)
        rows = self.sample.rows(len(self.names), z.shape[1], z.device)
        self.names.append(path if again == 1 else f"{path}#{again}")
        self.widths.append(z.shape[1])
        z = z if rows is None else z.index_select(1, rows)
        self.packed.append(pack(z > 0))
        self.largest.append(z.amax())

    def _path(self) -> str:
        """The module that is running; "" for the network."""
        return (self.path or [""])[-1]

    def _here(self) -> str:
        """What messages call the module that is running."""
        return f"'{self._path()}'" if self._path() else "the network"


def watched(modules: Modules, x: Tensor, at: str, sample: Sample) -> Watch:
    """Run a network once on inputs ``(b, ...)`` and return what was seen; see ``quiet``.

    ``modules`` are all of the network, by path, as ``dict(net.named_modules())``.
    """
    watch = Watch(len(x), at, sample)
    with _hooks(modules, watch), watch:
        out = modules[""](x)
    if not watch.names:
        raise ValueError(SEEKS[at])
    _refuse_nan(watch, out if torch.is_tensor(out) else watch.largest[0])
    return watch


def _refuse_nan(watch: Watch, out: Tensor) -> None:
    """Raise if an entry that counts, or the output, is NaN."""
    nan = torch.stack([*watch.largest, out.amax()]).isnan().tolist()  # waits for the device, once
    if any(nan):
        first = [*watch.names, "the output"][nan.index(True)]
        raise ValueError(
            f"NaN at {first!r}: the network has diverged, so it has no code. Lower the learning "
            "rate, or go back to an earlier checkpoint."
        )


@contextmanager
def quiet(modules: Modules, x: Tensor) -> Iterator[None]:
    """Evaluation mode, no gradients, full precision, eager; all as before at the end."""
    devices = [x.device] if x.device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.autocast(x.device.type, enabled=False))
        if "torch._dynamo" in sys.modules:  # something may be compiled, and hide its calls
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(eval_mode(modules[""]))
        yield


def check_norms(modules: Modules) -> None:
    """Raise if a BatchNorm would take its statistics from the probe."""
    for path, module in modules.items():
        if isinstance(module, _NormBase) and module.running_mean is None:
            raise ValueError(
                f"'{path}' ({type(module).__name__}) keeps no running statistics, so the code of "
                "an input depends on the others in its batch: use track_running_stats=True."
            )


@contextmanager
def _hooks(modules: Modules, watch: Watch) -> Iterator[None]:
    """Tell the watch, for a while, which module is running, and what each BatchNorm gives."""
    handles = []
    try:
        for path, module in modules.items():
            if watch.at == "batchnorm" and isinstance(module, _BatchNorm):
                handles.append(module.register_forward_hook(_look(watch, path), prepend=True))
            else:
                handles.append(module.register_forward_pre_hook(_enter(watch, path)))
                handles.append(module.register_forward_hook(_leave(watch), prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(watch: Watch, path: str) -> Callable[..., None]:
    return lambda module, args: watch.path.append(path)


def _leave(watch: Watch) -> Callable[..., None]:
    def leave(module: nn.Module, args: tuple, out: object) -> None:
        watch.path.pop()  # a hook that returned it would change the result

    return leave


def _look(watch: Watch, path: str) -> Callable[..., None]:
    def look(module: nn.Module, args: tuple, out: Tensor) -> None:
        watch.path.append(path)
        watch.see(out)
        watch.path.pop()

    return look


def _argument(args: tuple, kwargs: dict, place: int, name: str, default: object = None) -> object:
    """An argument of a call, given by place or by name."""
    return kwargs.get(name, args[place] if len(args) > place else default)


def _may_draw(name: str) -> bool:
    """Whether a function has a training form, which depends on chance or on the whole batch."""
    return name in ("rrelu", "batch_norm") or "dropout" in name


def _draws(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether a function is called in its training form."""
    if "dropout" in name:
        return _argument(args, kwargs, 1, "p", 0.5) and _argument(args, kwargs, 2, "training", True)
    place = 3 if name == "rrelu" else 5
    return _may_draw(name) and bool(_argument(args, kwargs, place, "training", False))


def _bends_elsewhere(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether a clamp has other limits than 0 below, or a maximum is taken of two tensors."""
    if name in ("max", "min"):
        return torch.is_tensor(_argument(args, kwargs, 1, "other"))
    if name not in CHOICES:
        return False
    low, high = (_argument(args, kwargs, *at) for at in ((1, "min"), (2, "max")))
    return high is not None or torch.is_tensor(low) or low != 0


def _bends(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether a call bends at zero: no maximum over pixels does, no leaky_relu of slope 1."""
    if name == "leaky_relu":
        return float(_argument(args, kwargs, 1, "negative_slope", 0.01)) != 1
    return name in KINKED or name in CHOICES - {"max", "min"}
