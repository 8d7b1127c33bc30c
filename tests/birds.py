"""What each of two processes does in the test of a detector that they share."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from splinelib import nets
from splinelib.earlybird import EarlyBird


def watch(rank: int, folder: Path) -> None:
    """Update a detector with networks whose BatchNorm statistics differ between the processes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    net = DistributedDataParallel(nets.convnet(batch_norm=True))
    bird = EarlyBird(torch.rand(8, 1, 8, 8, dtype=torch.float64, generator=torch.Generator()))
    for _ in range(3):
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean += 0.02 * (rank + 1)
        bird.update(net)
    torch.save(bird.means, folder / f"{rank}.pt")
    dist.destroy_process_group()
