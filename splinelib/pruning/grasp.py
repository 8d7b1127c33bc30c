"""GraSP: connections go that gradient flow can do without (Wang et al., 2020)."""

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


def grasp(
    net: nn.Module,
    ratio: float,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    temperature: float = 200.0,
    scope: Scope = "global",
) -> Mask:
    """Remove the weights without which the gradient gets longest.

    Parameters
    ----------
    net : nn.Module
        The network at its initial weights, in either mode: BatchNorm goes by the batch.
    ratio : float, in [0, 1)
        Share of the weights of all Linear and Conv2d layers, the last one's included, that go.
    x, y : Tensor (b, ...), Tensor (b,) int64
        Training images and labels; the source takes 10 of each class.
    temperature : float, above 0
        What the logits are divided by.
    scope : "global" or "layerwise"
        Whether the ratio holds for all layers together, as in the source, or in each.

    Returns
    -------
    Mask

    Raises
    ------
    ValueError
        No images or labels, a temperature that is not positive, a ratio outside [0, 1) or out of
        reach, an unknown scope.

    Notes
    -----
    See ``grasp_scores``. Wang et al., *Picking Winning Tickets Before Training by Preserving
    Gradient Flow* (ICLR 2020); alecwangcq/GraSP, which by default draws the Linear layers of the
    copy that it scores anew, and sums over two half batches to save memory; here the weights given
    are scored on one batch, with its BatchNorm statistics. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 3, 2])
    >>> x, y = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    >>> grasp(net, 0.5, x, y)
    Mask(2 parameters, 6 of 12 entries kept)
    """
    check_ratio(ratio, scope)
    return keep_best_weights(net, grasp_scores(net, x, y, temperature), ratio, scope)


def grasp_scores(
    net: nn.Module, x: Tensor | None, y: Tensor | None, temperature: float = 200.0
) -> dict[str, Tensor]:
    """What each weight gives to the gradient's length, ``w (H g)``: the lowest go first.

    To first order, removing a weight changes ``|g|^2 / 2`` by ``-w (H g)``, with ``g`` the gradient
    and ``H`` the second derivatives of the loss. The source removes the weights with the highest
    ``-w (H g)``, so that what is left has the longest gradient. The temperature brings the softmax
    near the uniform one: the sizes of the first logits are chance.
    """
    need_images("grasp", x, y)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, but logits are divided by it: give 200.")
    copy = scoring_copy(net)
    names, weights = zip(*prunable(copy).items(), strict=True)
    loss = mean_loss(copy, x, y, temperature)
    g = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
    with torch.enable_grad():
        flow = sum((part * part.detach()).sum() for part in g)
    products = torch.autograd.grad(flow, weights, materialize_grads=True)
    pairs = zip(names, weights, products, strict=True)
    return {name: weight.detach() * product for name, weight, product in pairs}
