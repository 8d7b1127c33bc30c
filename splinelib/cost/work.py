"""What one step of training does: its operations, and the bytes that they read and write.

The step runs on a copy that holds no numbers, and every operation that PyTorch would start is noted
down with the sizes of its tensors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from splinelib.cost.ledger import count
from splinelib.cost.macs import flops_of, macs, weightless
from splinelib.ops import unwrapped

NO_KERNEL = {torch.ops.aten._unsafe_view, torch.ops.aten.empty, torch.ops.aten.empty_like}
# Bytes a weight moves in a step beside those of the layers: SGD reads weight, gradient and momentum
# and writes weight and momentum, 4 bytes each; a 16-bit copy of the weight (4 read, 2 written) and
# a 32-bit one of its gradient (2, 4) come on top. And bytes it occupies: 4 for each of the three.
UPDATE, CASTS, HELD = 20, 12, 12


@dataclass(frozen=True)
class Operation:
    """One operation of a step.

    Attributes
    ----------
    layer : str
        Path of the innermost module that does it, forward or backward; "" for what no module does
        by itself: the loss, sums of gradients, the optimizer.
    name : str
        PyTorch's own name.
    flops : int
        Floating-point operations, of convolutions and matrix products alone.
    moved : int
        Bytes: all inputs are read once, all outputs are written once.
    """

    layer: str
    name: str
    flops: int
    moved: int


@dataclass(frozen=True)
class Step:
    """One step of training, as :func:`training_step` finds it.

    Attributes
    ----------
    images : int
        Images of the batch.
    operations : tuple of Operation
        In order, forward, backward and the update of the weights.
    kept : int
        Bytes of activations that the forward pass keeps for the backward pass.
    weights : int
        Trained parameters.
    half : bool
        Whether activations have 16 bits.
    """

    images: int
    operations: tuple[Operation, ...]
    kept: int
    weights: int
    half: bool

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of the step."""
        return sum(o.flops for o in self.operations)

    @cached_property
    def moved(self) -> int:
        """Bytes that all operations read and write."""
        return sum(o.moved for o in self.operations)

    @property
    def products(self) -> tuple[Operation, ...]:
        """The convolutions and matrix products, forward and backward."""
        return tuple(o for o in self.operations if o.flops)

    @property
    def memory(self) -> int:
        """Bytes that the step needs at least: weights, gradients, momentum, activations kept."""
        return self.kept + self.weights * (HELD + 2 * self.half)

    def layers(self) -> dict[str, tuple[int, int]]:
        """Operations and bytes by layer, ``{path: (flops, moved)}``, in order of evaluation."""
        sums: dict[str, tuple[int, int]] = {}
        for o in self.operations:
            flops, moved = sums.get(o.layer, (0, 0))
            sums[o.layer] = flops + o.flops, moved + o.moved
        return sums


def training_step(
    net: nn.Module, shape: Sequence[int], batch: int = 256, *, half: bool = True
) -> Step:
    """Note down all operations of one step of training with SGD and momentum.

    Parameters
    ----------
    net : nn.Module
        Maps ``(B, ...)`` to logits ``(B, C)``. It stays as it is; its device computes nothing.
    shape : sequence of int
        Shape of one input, ``(C, H, W)``.
    batch : int
        Images, at least 2: BatchNorm cannot train on one.
    half : bool
        Activations, and weights in products, have 16 bits, as on a GPU (``Speed``); if False, 32.

    Returns
    -------
    Step

    Raises
    ------
    ValueError
        An input that does not fit, a batch of less than 2, nothing to train.

    Notes
    -----
    The model of memory: an operation reads each input once and writes each output once, nothing is
    fused with the next one, no cache keeps anything in between. A BatchNorm in truth reads its
    input twice; ``torch.compile`` fuses activations and sums with their neighbours. So ``moved`` is
    an estimate, and the bytes of ``products`` alone a floor, but for what a cache keeps. One
    backward pass that the ledger books is not made: the gradient of the images. Taught in *What it
    costs*.

    Examples
    --------
    >>> step = training_step(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), (4,), 16)
    >>> step.flops == 16 * 2 * (3 * (32 + 16) - 32)
    True
    >>> [o.name for o in step.operations if o.layer == "1"]
    ['relu', 'threshold_backward']
    """
    if count("batch", batch) < 2:
        raise ValueError(f"batch is {batch}; BatchNorm trains on at least 2 images")
    macs(net, shape)  # refuses an input that does not fit, and says why
    copy = _trainable(net, torch.bfloat16 if half else torch.float32)
    weights = sum(p.numel() for p in copy.parameters() if p.requires_grad)
    if not weights:
        raise ValueError(f"{type(net).__name__} has no parameter that needs a gradient")
    with _Log() as log, torch.enable_grad():
        log.follow(copy)
        with torch.autograd.graph.saved_tensors_hooks(log.keep, lambda held: held):
            _loss(copy, shape, batch).backward()
    mine = {id(p.untyped_storage()) for p in copy.parameters()}
    kept = sum(s.nbytes() for s in log.kept.values() if id(s) not in mine)
    update = Operation("", "update", 0, weights * (UPDATE + CASTS * half))
    return Step(batch, (*log.operations, update), kept, weights, half)


def _trainable(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in training mode that holds no numbers, its weights of one type."""
    copy = weightless(net)
    for old, new in zip(unwrapped(net).modules(), copy.modules(), strict=True):
        for name, value in old._parameters.items():
            if value is not None:
                empty = torch.empty(value.shape, dtype=dtype, device="meta")
                new._parameters[name] = nn.Parameter(empty, requires_grad=value.requires_grad)
    return copy.to(dtype).train()


def _loss(net: nn.Module, shape: Sequence[int], batch: int) -> Tensor:
    """The mean cross-entropy of a batch without numbers."""
    dtype = next(net.parameters()).dtype
    logits = net(torch.empty(batch, *shape, dtype=dtype, device="meta"))
    labels = torch.zeros(batch, dtype=torch.int64, device="meta")
    return F.cross_entropy(logits.float(), labels)


class _Log(TorchDispatchMode):
    """Writes down each operation, on the innermost module that is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.kept: dict[int, torch.UntypedStorage] = {}
        self._at_work, self._read = [""], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet not in NO_KERNEL and not _is_view(func):
            flops = flops_of(packet, args, kwargs, out)
            moved = sum(map(_size, tree_leaves((args, kwargs, out))))
            name = str(packet).removeprefix("aten.")
            self.operations.append(Operation(self._at_work[-1], name, flops, moved))
        return out

    def keep(self, tensor: Tensor) -> Tensor:
        """Note that a tensor is kept for the backward pass; views share what they view."""
        storage = tensor.untyped_storage()
        self.kept[storage._cdata] = storage
        return tensor

    def follow(self, net: nn.Module) -> None:
        """Tell, from now on, which module of a network is at work, forward and backward."""
        for path, module in net.named_modules():
            module.register_forward_pre_hook(self._enter(path))
            module.register_forward_hook(self._leave(path))

    def _enter(self, path: str) -> Callable:
        def enter(_module: object, inputs: tuple) -> None:
            self._at_work.append(path)
            self._read.append([x.grad_fn for x in inputs if isinstance(x, Tensor)])

        return enter

    def _leave(self, path: str) -> Callable:
        def enter_backward(_grads: object) -> None:
            self._at_work.append(path)

        def leave_backward(*_grads: object) -> None:
            self._at_work.pop()

        def leave(module: nn.Module, _inputs: tuple, output: object) -> None:
            self._at_work.pop()
            node, read = getattr(output, "grad_fn", None), self._read.pop()
            if node and not any(node is other for other in read) and not list(module.children()):
                node.register_prehook(enter_backward)
                node.register_hook(leave_backward)

        return leave


def _is_view(func: torch._ops.OpOverload) -> bool:
    """Whether an operation only looks at its input in another way, and starts no kernel."""
    infos = [r.alias_info for r in func._schema.returns]
    return any(info is not None and not info.is_write for info in infos)


def _size(value: object) -> int:
    """Bytes of a tensor; those in memory, where entries are repeated."""
    if not isinstance(value, Tensor):
        return 0
    return min(value.numel() * value.element_size(), value.untyped_storage().nbytes())
