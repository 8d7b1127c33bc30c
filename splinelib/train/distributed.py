"""Several processes that train one network: what each of them has to know and to exchange."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """The processes of a run; a single one is a team as well.

    Attributes
    ----------
    rank : int
        Number of this process, from 0. Process 0 alone writes checkpoints and shows progress.
    world : int
        Number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def share(self, count: int) -> int:
        """How many of ``count`` images of a step are this process's."""
        return count // self.world + (self.rank < count % self.world)

    def wrap(self, net: nn.Module) -> nn.Module:
        """The network itself, or a ``DistributedDataParallel`` that averages its gradients."""
        if self.world == 1:
            return net
        device = next(net.parameters()).device
        ids = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=ids)

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def from_lead(self, value: object) -> object:
        """An object as process 0 has it."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def same_buffers(self, net: nn.Module) -> None:
        """Give all processes the buffers (BatchNorm's running statistics) of process 0."""
        if self.world > 1:
            for buffer in net.buffers():
                dist.broadcast(buffer, src=0)


def own_device() -> torch.device:
    """The device of this process: its own GPU under ``torchrun``, the first one, or the CPU.

    Returns
    -------
    torch.device
        ``cuda:LOCAL_RANK`` where there are GPUs, else the CPU. Put network and images there before
        ``train``.

    Examples
    --------
    >>> own_device().type in ("cpu", "cuda")
    True
    """
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


@contextmanager
def join(device: torch.device) -> Iterator[Team]:
    """Join the processes that ``torchrun`` started.

    Parameters
    ----------
    device : torch.device
        Where this process has its network: processes talk by NCCL between GPUs, by Gloo else.

    Yields
    ------
    Team
        Of one process, unless ``torchrun`` started this one or there is a process group already.
        The group stays until the process ends: torch cannot safely make a second one on the
        meeting place of the first.

    Raises
    ------
    ValueError
        Two processes of one machine share a GPU.
    """
    launched = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    if dist.is_available() and launched and not dist.is_initialized():
        _check_own(device)
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        atexit.register(_leave)
    several = dist.is_available() and dist.is_initialized()
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        yield Team(dist.get_rank(), dist.get_world_size()) if several else Team()


def _leave() -> None:
    """Take the process group down, unless somebody has done so."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _check_own(device: torch.device) -> None:
    """Raise if processes of one machine would share a GPU."""
    wanted = own_device()
    if (
        device.type == "cuda"
        and int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1
        and device != wanted
    ):
        raise ValueError(
            f"the network is on {device}, but this process should use {wanted}: move network and "
            "images to splinelib.train.own_device()"
        )
