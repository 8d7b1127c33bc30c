"""ThiNet: channels that the next layer's output can do without go (Luo et al., 2017)."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.ops import copied
from splinelib.pruning.family import Ticket, check_fits, check_ratio, count, targets
from splinelib.pruning.held import Held
from splinelib.pruning.terms import column_scaled, terms
from splinelib.surgery.groups import Residual, group_mask
from splinelib.train.recipe import whole
from splinelib.units.weights import need_eval


def thinet(
    net: nn.Module,
    ratio: float,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    samples: int = 10,
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
    generator: torch.Generator | None = None,
) -> Mask:
    """Remove in each layer the channels that the next layer misses least.

    The mask of ``thinet_ticket``, which tells what its parameters are; for the rescaled weights, or
    to train between the layers, call that. ``y`` is not looked at.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 4, 4, 1])
    >>> thinet(net, 0.5, torch.eye(2, dtype=torch.float64)).counts()["0.bias"]
    (2, 4)
    """
    options = {"samples": samples, "residual": residual, "layers": layers}
    return thinet_ticket(net, ratio, x=x, generator=generator, **options).mask


def thinet_ticket(
    net: nn.Module,
    ratio: float,
    fit: Callable | None = None,
    *,
    x: Tensor | None = None,
    samples: int = 10,
    residual: Residual = "inner",
    layers: Collection[str] | None = None,
    generator: torch.Generator | None = None,
) -> Ticket:
    """Remove the channels of one layer after the other, and rescale those that are left.

    Parameters
    ----------
    net : nn.Module
        The trained network, in evaluation mode.
    ratio : float, in [0, 1)
        Share of the channels of each layer that go; at most n - 1 of n.
    fit : callable, optional
        Trains a copy between the layers, see ``splinelib.train.trainer``; it is called for each
        as "thinet: <layer>", with all that is removed held at 0. The source trains 1 or 2 epochs.
    x : Tensor (b, ...)
        Training images; the source takes 10 of each class.
    samples : int, at least 1
        Outputs of the next layer that are drawn in each image, position and channel at random.
    residual : "inner", "select" or "joint"
        Which channels of a residual network may go, see ``splinelib.surgery.groups``.
    layers : collection of str, optional
        Names of the groups to prune; default: all.
    generator : torch.Generator, optional
        Source of the samples; default: a fresh one with seed 0.

    Returns
    -------
    Ticket
        The network with its readers rescaled (and trained), of the original shape, and the mask.

    Raises
    ------
    ValueError
        No images, a ratio outside [0, 1), fewer samples than one, an unknown layer, nothing to
        remove, a reader that pads by other than zeros, a BatchNorm in training mode.

    Notes
    -----
    An output of the next layer, its bias aside, is a sum of terms ``z_c``, one a channel. The
    removed set T is grown one by one so that ``sum (sum_(c in T) z_c)^2`` over the samples stays
    smallest; then each kept channel gets the factor ``w_c`` that makes ``sum (sum_c w_c z_c - sum
    z)^2`` least, worked into the next layer's weights.

    Luo et al., *ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression* (ICCV
    2017), Sec. 3.2; Roll920/ThiNet publishes Caffe models without the method. They keep the
    residual stream whole, as "inner" does. Factors that the samples leave open stay nearest to 1.
    Taught in *A tour of pruning methods*.
    """
    check_ratio(ratio)
    found = targets(net, residual, layers)
    need_x(x, samples)
    check_fits(net, x)
    need_eval("thinet", net)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    net, mask = copied(net).eval(), Mask({})
    for name, group in found.items():
        parts = [terms(net, reader, x, samples, generator) for reader in group.readers]
        if not all(Z.isfinite().all() for Z in parts):
            raise ValueError(
                f"what {name!r} passes on holds NaN or infinity: give every weight and pixel a "
                "number first."
            )
        keep = best_subset(torch.cat(parts), count(ratio, group.width))
        for reader, Z in zip(group.readers, parts, strict=True):
            column_scaled(net, reader, factors(Z, keep))
        mask = mask & group_mask(net, found, {name: keep})
        net = mask.apply(net)
        if fit is not None:
            net = fit(net, f"thinet: {name}", hook=Held(mask)).net
    return Ticket(net, mask)


def best_subset(Z: Tensor, remove: int) -> Tensor:
    """Which channels stay, ``(n,)`` bool, when those are removed one by one that are missed least.

    ``Z (m, n)`` holds the terms of m outputs. With the products ``G = Z^T Z``, adding channel c to
    the removed set T costs ``G_cc + 2 sum_(t in T) G_ct``.
    """
    G = (Z.T @ Z).cpu()
    keep, cost = torch.ones(len(G), dtype=torch.bool), G.diagonal().clone()
    for _ in range(remove):
        gone = int(cost.argmin())
        keep[gone] = False
        cost += 2 * G[gone]
        cost[gone] = torch.inf
    return keep


def factors(Z: Tensor, keep: Tensor) -> Tensor:
    """Factors ``(n,)`` of the kept channels for the least squared error; 1 for the removed ones.

    The step away from 1 is the shortest of those that are best: a channel that no sample shows, or
    one of two that go together, is not moved further than the samples ask for.
    """
    Z, keep = Z.cpu(), keep.cpu()
    missing = Z[:, ~keep].sum(1, keepdim=True)
    found = torch.ones(len(keep), dtype=Z.dtype)
    found[keep] += torch.linalg.lstsq(Z[:, keep], missing, driver="gelsd").solution[:, 0]
    return found


def need_x(x: Tensor | None, samples: int) -> None:
    """Raise a ``ValueError`` unless there are images, and outputs to draw in each."""
    if not isinstance(x, Tensor) or not len(x) or not whole(samples, 1):
        got = tuple(x.shape) if isinstance(x, Tensor) else x
        raise ValueError(
            "thinet looks at the outputs of layers, so it needs images x (b, ...) and a whole "
            "number of samples, at least 1, in each: thinet(net, ratio, x); got x "
            f"{got}, samples {samples}."
        )
