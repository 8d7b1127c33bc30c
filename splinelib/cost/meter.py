"""What a run took: seconds, peak memory of the GPU, energy of the GPU."""

import time
from collections.abc import Callable
from types import ModuleType
from typing import Self

import torch

NOT_MEASURED = "not measured"


class Meter:
    """Measure the seconds, the peak GPU memory and the GPU's energy of a ``with`` block.

    Parameters
    ----------
    device : torch.device or str, optional
        Where the block works. Default: the current GPU if there is one, else the CPU.

    Attributes
    ----------
    seconds : float or None
        Elapsed time on a monotonic clock, with all work of the GPU done; None before the block has
        ended.
    peak_memory : int or None
        Largest number of bytes that tensors held at once on the GPU; None on the CPU.
    energy : float or None
        Joules on the counter of the GPU, of everything that ran there, other programs included;
        None where there is no such counter, or it cannot be read.

    Notes
    -----
    The energy counter is NVML's, which GPUs have from Volta on. The paper measured a Jetson TX2
    (Sec. 4.1), so its joules are of another machine. A second meter inside a block restarts the
    peak of the first. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> with Meter("cpu") as meter:
    ...     total = sum(range(1000))
    >>> meter.seconds > 0, meter.to_dict()["energy"]
    (True, 'not measured')
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(default if device is None else device)
        self.seconds: float | None = None
        self.peak_memory: int | None = None
        self.energy: float | None = None

    def __enter__(self) -> Self:
        self.seconds = self.peak_memory = self.energy = None
        self._joules = None
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._joules = energy_counter(uuid_of(self.device))
        self._energy_before = read(self._joules)
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if self.device.type == "cuda" and kind is None:  # after a CUDA error this would raise anew
            torch.cuda.synchronize(self.device)
        self.seconds = time.perf_counter() - self._start
        self.energy = spent(self._energy_before, read(self._joules))
        if self.device.type == "cuda":
            self.peak_memory = torch.cuda.max_memory_allocated(self.device)

    def to_dict(self) -> dict[str, float | int | str]:
        """Return seconds, peak memory (bytes) and energy (joules), or "not measured"."""
        values = {"seconds": self.seconds, "peak_memory": self.peak_memory, "energy": self.energy}
        return {name: NOT_MEASURED if v is None else v for name, v in values.items()}


def uuid_of(device: torch.device) -> str | None:
    """Name of a GPU that does not depend on which GPUs are visible; None if it tells none."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}"


def energy_counter(uuid: str | None, nvml: ModuleType | None = None) -> Callable[[], float] | None:
    """Find the energy counter of a GPU.

    Parameters
    ----------
    uuid : str or None
        As :func:`uuid_of` gives it; a share of a GPU (MIG) has another name and no counter.
    nvml : module, optional
        Default: ``pynvml``.

    Returns
    -------
    callable or None
        Reads the joules since the driver was loaded. None if there is no GPU of that name, no
        counter in it, no driver, or no pynvml.
    """
    try:
        if nvml is None:
            import pynvml as nvml
        nvml.nvmlInit()
        gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)
        nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    except Exception:  # no measurement is worth a run: whatever fails here, there is no counter
        return None
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000  # it counts millijoules


def read(joules: Callable[[], float] | None) -> float | None:
    """Read a counter; None if there is none or it fails now, as when a driver is reloaded."""
    try:
        return None if joules is None else joules()
    except Exception:  # as in energy_counter
        return None


def spent(before: float | None, after: float | None) -> float | None:
    """Difference of two readings; None if one is missing or the counter went back."""
    if before is None or after is None or after < before:
        return None
    return after - before
