"""How many images a network classifies right."""

import torch
from torch import nn

from splinelib.ops import eval_mode
from splinelib.train.distributed import Team
from splinelib.train.speed import Speed
from splinelib.train.step import Measure


def accuracy(net: nn.Module, source: object, *, speed: Speed | None = None) -> float:
    """Share of the images of a source that a network classifies right.

    Parameters
    ----------
    net : nn.Module
        Maps inputs ``(b, ...)`` to logits ``(b, C)``. It is evaluated in evaluation mode, and each
        of its modules is left in the mode that it had.
    source : data.Batches or data.Stream
        The images, on the device of the network and in its type; without augmentation.
    speed : Speed, optional
        Default: the network's own type, no compilation.

    Returns
    -------
    float, in [0, 1]

    Raises
    ------
    ValueError
        The network or its type does not fit the images.

    Notes
    -----
    The accuracy of the tables of Sec. 4. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> from splinelib import data
    >>> train, test = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> 0 <= accuracy(net, data.Batches(test, batch=100)) <= 1
    True
    """
    plan = (speed or Speed(precision="fp32", compile=False)).resolve(net)
    measure = Measure(plan, source.batch)
    with eval_mode(net):
        return tally(net, source, measure, Team(), check=True)


def tally(net: nn.Module, source: object, measure: Measure, team: Team, *, check: bool) -> float:
    """Accuracy of a network that is in evaluation mode; each process counts its share."""
    sums = measure.plan.zeros(2)
    with torch.no_grad():
        for x, y in source.epoch(0, rank=team.rank, world=team.world):
            if check:
                check_batch(net, x, y, source)
                check = False
            if len(y):
                sums += measure(net, x, y)[1]
    return team.total(sums)[1].item() / source.images


def check_batch(net: nn.Module, x: torch.Tensor, y: torch.Tensor, source: object) -> int:
    """Raise unless a network takes the inputs of a source and tells its classes apart.

    Returns how many logits it puts out for an image.
    """
    weight = next(net.parameters())
    if (x.device, x.dtype) != (weight.device, weight.dtype) or y.device != x.device:
        raise ValueError(
            f"the images come as {x.dtype} on {x.device}, the network is {weight.dtype} on "
            f"{weight.device}: move one of them (images.to(device), net.to(device)), and give the "
            "source the network's dtype"
        )
    with eval_mode(net), torch.no_grad():
        try:
            out = net(x[:1])
        except RuntimeError as error:
            raise ValueError(
                f"the network does not take inputs of shape {tuple(x.shape)}: {error}"
            ) from error
    classes = len(source.classes)
    if out.ndim != 2 or out.shape[1] < classes:
        raise ValueError(
            f"the network puts out {tuple(out.shape)} for one image, but {source.name!r} has "
            f"{classes} classes: give it at least {classes} outputs"
        )
    return out.shape[1]
