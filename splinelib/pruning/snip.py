"""SNIP: connections to which the loss is not sensitive go, before training (Lee et al., 2019)."""

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.pruning.family import (
    Scope,
    check_ratio,
    keep_best_weights,
    mean_loss,
    need_images,
    prunable,
    scoring_copy,
)


def snip(
    net: nn.Module,
    ratio: float,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    scope: Scope = "global",
) -> Mask:
    """Remove the weights whose loss the loss would notice least.

    Parameters
    ----------
    net : nn.Module
        The network at its initial weights, in either mode: BatchNorm goes by the batch.
    ratio : float, in [0, 1)
        Share of the weights of all Linear and Conv2d layers, the last one's included, that go.
    x, y : Tensor (b, ...), Tensor (b,) int64
        One batch of training images and labels; the source takes 100 (128 for CIFAR).
    scope : "global" or "layerwise"
        Whether the ratio holds for all layers together, as in the source, or in each.

    Returns
    -------
    Mask

    Raises
    ------
    ValueError
        No images or labels, a ratio outside [0, 1) or out of reach, an unknown scope.

    Notes
    -----
    See ``snip_scores``. Lee et al., *SNIP: Single-shot Network Pruning based on Connection
    Sensitivity* (ICLR 2019); namhoonlee/snip-public and, for PyTorch, mil-ad/snip. Both score
    weights that are drawn for the purpose and then train others (mil-ad/snip issue 3); here the
    weights given are scored. The first also masks biases, and scores with BatchNorm's moving
    statistics as they were made, 0 and 1, which normalise nothing; here, as in the second, biases
    stay and the batch's statistics count. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 3, 2])
    >>> x, y = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    >>> snip(net, 0.5, x, y)
    Mask(2 parameters, 6 of 12 entries kept)
    """
    check_ratio(ratio, scope)
    return keep_best_weights(net, snip_scores(net, x, y), ratio, scope)


def snip_scores(net: nn.Module, x: Tensor | None, y: Tensor | None) -> dict[str, Tensor]:
    """Sensitivity ``|g w|`` of the loss to each weight, divided by the sum of all.

    With a switch ``c`` at each weight, the loss is ``L(c w)``, and ``|dL/dc|`` at ``c = 1`` is
    ``|w dL/dw|``: to first order, what the loss changes by when the weight goes.
    """
    need_images("snip", x, y)
    copy = scoring_copy(net)
    weights = prunable(copy)
    loss = mean_loss(copy, x, y)
    grads = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    pairs = zip(weights.items(), grads, strict=True)
    scores = {name: (weight.detach() * grad).abs() for (name, weight), grad in pairs}
    total = sum(values.sum() for values in scores.values())
    return {
        name: values / total.clamp_min(torch.finfo(total.dtype).tiny)
        for name, values in scores.items()
    }
