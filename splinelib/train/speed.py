"""How a run is made fast on the device at hand, without changing what is computed."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
GRAPHS = ("reduce-overhead", "max-autotune")  # the modes of torch.compile that take CUDA graphs
MODES = ("default", "max-autotune-no-cudagraphs", *GRAPHS)


@dataclass(frozen=True)
class Speed:
    """What may be done for speed.

    Attributes
    ----------
    precision : "auto", "fp32", "bf16" or "fp16"
        Type in which convolutions and products are computed (``torch.autocast``); weights,
        BatchNorm's statistics, the loss and the optimizer stay in the type of the network. "auto"
        is bf16 on a GPU with compute capability 8 or more, fp16 with a gradient scaler on an older
        one, and "fp32" elsewhere and for networks of another type than float32. "fp32" means no
        autocast: the network computes in its own type.
    channels_last : bool
        Lay out images and filters with the channels innermost, on a GPU. Values stay the same.
    compile : "auto", bool or str
        Whether ``torch.compile`` fuses forward and backward pass, or its mode. "auto" is
        "reduce-overhead" (CUDA graphs: one launch for all kernels of a pass) on a GPU, and False
        elsewhere; True is torch's own "default". Graphs hold the gradients in memory of their own,
        which is written over in the next pass, so with ``micro_batch`` or several processes a mode
        with graphs gives way to the same mode without.
    fused : bool
        One kernel for the update of many tensors, where torch has one.

    Raises
    ------
    ValueError
        An unknown precision or mode.

    Notes
    -----
    torch's own switches (TF32, deterministic algorithms) are left as the caller set them: by
    default convolutions in float32 use TF32 on GPUs that have it, matrix products do not. Nothing
    in a step waits for the GPU, with two exceptions, both in fp16. RMSprop and (on a GPU) Adagrad
    have no fused form that could skip a step with infinite gradients by itself, so the scaler asks
    once a step; and a ``StepHook`` is told of such steps, for which all gradients are looked at
    once a step. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> Speed().resolve(nn.Linear(2, 1))
    Plan(device=device(type='cpu'), precision='fp32', channels_last=False, mode=None, fused=True)
    """

    precision: str = "auto"
    channels_last: bool = True
    compile: str | bool = "auto"
    fused: bool = True

    def __post_init__(self) -> None:
        if self.precision not in ("auto", *PRECISIONS):
            raise ValueError(
                f"precision is {self.precision!r}; there are auto, {', '.join(PRECISIONS)}"
            )
        if self.compile not in ("auto", True, False, *MODES):
            raise ValueError(
                f"compile is {self.compile!r}; there are 'auto', True, False, {', '.join(MODES)}"
            )

    def resolve(self, net: nn.Module, *, graphs: bool = True) -> "Plan":
        """Decide for a network, on its device; without ``graphs``, no CUDA graphs are taken."""
        weight = next(net.parameters())
        device, major = weight.device, 0
        if device.type == "cuda":
            major = torch.cuda.get_device_capability(device)[0]
        return self.decide(device, major, weight.dtype, graphs=graphs)

    def decide(
        self, device: torch.device, major: int, dtype: torch.dtype, *, graphs: bool = True
    ) -> "Plan":
        """Decide for a device, the first number of its compute capability, and a type."""
        cuda, precision, mode = device.type == "cuda", self.precision, self.compile
        if precision == "auto":
            half = "bf16" if major >= 8 else "fp16"
            precision = half if cuda and dtype == torch.float32 else "fp32"
        if precision == "fp16" and not cuda:
            raise ValueError(f"precision 'fp16' needs a GPU, but the network is on {device}")
        if mode == "auto":  # Triton, which compiles for GPUs, needs capability 7 or more
            mode = "reduce-overhead" if major >= 7 and importlib.util.find_spec("triton") else False
        mode = {True: "default", False: None}.get(mode, mode)
        if mode in GRAPHS and not (graphs and cuda):
            mode = "max-autotune-no-cudagraphs" if mode == "max-autotune" else "default"
        return Plan(device, precision, self.channels_last and cuda, mode, self.fused)


@dataclass(frozen=True)
class Plan:
    """What is done for speed: the decisions of :meth:`Speed.resolve`."""

    device: torch.device
    precision: str
    channels_last: bool
    mode: str | None
    fused: bool

    def autocast(self) -> torch.autocast:
        """A context in which the network computes in the precision of the plan."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """The scaler that keeps small fp16 gradients from vanishing; inert for other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def layout(self, value: nn.Module | Tensor) -> nn.Module | Tensor:
        """A network, or its inputs, in the memory layout of the plan."""
        if self.channels_last and (isinstance(value, nn.Module) or value.ndim == 4):
            return value.to(memory_format=torch.channels_last)
        return value

    def zeros(self, count: int) -> Tensor:
        """Zeros to sum into, float64 where the device has it."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.zeros(count, dtype=dtype, device=self.device)

    @contextmanager
    def tuned(self) -> Iterator[None]:
        """Let cuDNN try which algorithm is fastest for each shape; the switch is set back after."""
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = before or self.device.type == "cuda"
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = before
