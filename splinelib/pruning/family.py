"""What all methods of pruning share: ratios, scopes, what is scored, and what they give back."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from splinelib.masks import Mask, select, weight_mask
from splinelib.ops import copied
from splinelib.surgery.groups import Group, Residual, group_mask, groups, none_found
from splinelib.units.weights import need_numbers

Scope = Literal["layerwise", "global"]


@dataclass(frozen=True, eq=False)
class Ticket:
    """What a method that trains gives back: ``net, mask = ticket``.

    Attributes
    ----------
    net : nn.Module
        A network of the original shape, in evaluation mode, whose weights are those to go on with.
    mask : Mask
        What of it is kept: ``splinelib.surgery.cut(*ticket)`` is the small one.
    epoch : int, optional
        Epochs of dense training behind it, where the method stops by itself.
    fired : bool, optional
        Whether the method's own rule asked for the stop; False if the epochs ran out.
    """

    net: nn.Module
    mask: Mask
    epoch: int | None = None
    fired: bool | None = None

    def __iter__(self) -> Iterator[nn.Module | Mask]:
        """The network, then the mask."""
        return iter((self.net, self.mask))


def check_ratio(ratio: float, scope: str = "global") -> None:
    """Raise a ``ValueError`` unless 0 <= ratio < 1 and the scope is known."""
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= ratio < 1:
        raise ValueError(
            f"ratio is {ratio!r}, but is the share of units (or weights) that go, in [0, 1): 0.5 "
            "removes half of them."
        )
    if scope not in get_args(Scope):
        raise ValueError(f"scope is {scope!r}, but must be one of {get_args(Scope)}.")


def count(ratio: float, n: int) -> int:
    """How many of n channels of one layer go: ``floor(ratio n + 1/2)``, but never all."""
    return min(math.floor(ratio * n + 0.5), n - 1)


def need_fit(method: str, fit: object) -> None:
    """Raise a ``ValueError`` unless a method that trains is given something to train with."""
    if not callable(fit):
        raise ValueError(
            f"{method} trains, so it needs fit: {method}(net, ratio, fit) with "
            f"fit = splinelib.train.trainer(source, recipe); got {fit!r}."
        )


def need_images(method: str, x: Tensor | None, y: Tensor | None) -> None:
    """Raise a ``ValueError`` unless a method that looks at data is given images and labels."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or y.shape != (len(x),) or not len(x):
        got = [tuple(v.shape) if isinstance(v, Tensor) else v for v in (x, y)]
        raise ValueError(
            f"{method} looks at data, so it needs x (b, ...) and y (b,): {method}(net, ratio, x, "
            f"y) with a batch of training images and their labels; got {got[0]} and {got[1]}."
        )
    if y.dtype != torch.int64 or y.min() < 0:
        raise ValueError(f"y holds {y.dtype}, from {y.min()}; labels are int64, 0 to C - 1.")


def targets(
    net: nn.Module, residual: Residual = "inner", layers: Collection[str] | None = None
) -> dict[str, Group]:
    """Find the groups of channels that a method may remove, all or those named by ``layers``.

    Raises a ``ValueError`` if there is none, "select" has nothing to select for, a name is not one
    of them, or weights have no numbers.
    """
    need_numbers(net)
    found = groups(net, residual)
    if not found:
        raise ValueError(none_found(net, residual))
    if residual == "select" and not any(group.gate for group in found.values()):
        raise ValueError(
            f"residual='select' selects for BatchNorms that read a residual stream, and "
            f"{type(net).__name__} has none: that is for pre-activation networks (PreResNets). Use "
            "'joint' for streams with the BatchNorm in front of the sum (the ResNets of "
            "torchvision), or 'inner'."
        )
    if layers is not None:
        found = _named(found, layers, residual)
    ones = {name: torch.ones(group.width, device="cpu") for name, group in found.items()}
    group_mask(net, found, ones)  # refuses now what no mask could remove later
    return found


def _named(
    found: dict[str, Group], layers: Collection[str], residual: Residual
) -> dict[str, Group]:
    """The groups that are named."""
    layers = [layers] if isinstance(layers, str) else list(layers)
    if not layers:
        raise ValueError(f"layers names no layer; there are {', '.join(found)}.")
    for name in layers:
        if name not in found:
            raise ValueError(
                f"layers names {name!r}, but with residual={residual!r} channels can be removed "
                f"from: {', '.join(found)}."
            )
    return {name: group for name, group in found.items() if name in layers}


def need_writers(found: Mapping[str, Group]) -> None:
    """Raise a ``ValueError`` if it is not known which layers write the channels of a group."""
    silent = [name for name, group in found.items() if not group.writers]
    if silent:
        raise ValueError(
            f"{silent[0]!r} reads a selection, in a network that was cut before, so its channels "
            "have no weights of their own: leave it out by layers=[...], or prune it by slimming "
            "or spline."
        )


def prunable(net: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of all Linear and Conv2d layers by name, the last layer's included.

    Biases and BatchNorms are not among them. A weight that two layers share is listed once.
    """
    need_numbers(net)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    found = {}
    for path, module in net.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            if id(module.weight) not in names:
                raise ValueError(
                    f"the weight of {path!r} is computed from others; make it permanent first: of "
                    "torch.nn.utils.prune by prune.remove(layer, 'weight'), of a parametrization "
                    "by parametrize.remove_parametrizations(layer, 'weight')."
                )
            found[names[id(module.weight)]] = module.weight
    if not found:
        raise ValueError(f"{type(net).__name__} has no Linear or Conv2d layer to prune.")
    return found


def scoring_copy(net: nn.Module) -> nn.Module:
    """A copy to take gradients of: BatchNorm goes by the batch, dropout is off, all weights count.

    Dropout would make scores random, so every other layer is in evaluation mode.
    """
    need_numbers(net)
    return by_the_batch(copied(net)).requires_grad_(True)


def by_the_batch(net: nn.Module) -> nn.Module:
    """Put a network into evaluation mode, all but its BatchNorms; in place."""
    net.eval()
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    return net


def check_fits(net: nn.Module, x: Tensor) -> None:
    """Raise a ``ValueError`` unless images are on the network's device and in its type."""
    need_numbers(net)
    weight = next(net.parameters())
    if x.dtype != weight.dtype or x.device != weight.device:
        raise ValueError(
            f"x is {x.dtype} on {x.device}, the network {weight.dtype} on {weight.device}: give "
            "x.to(next(net.parameters()))."
        )


@torch.enable_grad()
def mean_loss(net: nn.Module, x: Tensor, y: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy of some images, of the logits divided by a temperature."""
    check_fits(net, x)
    try:
        logits = net(x)
    except ValueError as error:  # of a BatchNorm in training mode
        if len(x) > 1:
            raise
        raise ValueError(
            "BatchNorm goes by the batch here, and of one image it sees one number a channel, "
            f"which has no spread: give two images or more ({error})."
        ) from error
    if y.max() >= logits.shape[1]:
        raise ValueError(
            f"y holds the label {int(y.max())}, but the network has {logits.shape[1]} classes, "
            "counted from 0."
        )
    return F.cross_entropy(logits / temperature, y)


def keep_best(
    net: nn.Module,
    found: Mapping[str, Group],
    scores: Mapping[str, Tensor],
    ratio: float,
    scope: Scope = "global",
) -> Mask:
    """Remove the channels with the lowest scores: an exact number, and never the last of a group.

    ``scores`` has one number a channel, ``(n,)``, by the name of the group; +inf marks a channel
    that stays. Of n channels, ``floor(ratio n + 1/2)`` go. With scope "layerwise" n counts the
    channels of each group, and at most n - 1 of them go: 0.9 of 4 channels removes 3. With "global"
    n counts all of them, and a number that would empty a group is a ``ValueError``.
    """
    return group_mask(net, found, exactly(scores, ratio, scope, "channels"))


def keep_best_weights(
    net: nn.Module, scores: Mapping[str, Tensor], ratio: float, scope: Scope = "global"
) -> Mask:
    """Remove the single weights with the lowest scores, by name of the parameter.

    Counts are those of ``keep_best``, with the weights of one parameter for a group.
    """
    return weight_mask(net, exactly(scores, ratio, scope, "weights"))


def exactly(
    scores: Mapping[str, Tensor], ratio: float, scope: Scope = "global", what: str = "channels"
) -> dict[str, Tensor]:
    """Which entries are kept, bool by name, when the lowest scores go; see ``keep_best``."""
    check_ratio(ratio, scope)
    sizes = {name: values.numel() for name, values in scores.items()}
    free = {name: _free(values) for name, values in scores.items()}
    if scope == "global":
        goes, most = math.floor(ratio * sum(sizes.values()) + 0.5), sum(free.values())
        if goes > most:
            raise ValueError(
                f"ratio={ratio} removes {goes} of {sum(sizes.values())} {what}, but only {most} "
                f"may go, as each of {len(sizes)} layers keeps one (or more, with scores of +inf);"
                f" ask for less."
            )
        return select(scores, ratio, scope="global")
    return {name: _one(name, values, ratio, free[name]) for name, values in scores.items()}


def _free(values: Tensor) -> int:
    """How many entries of a layer may go: all but one, and none whose score is +inf."""
    return min(values.numel() - 1, int((values != math.inf).count_nonzero()))


def _one(name: str, values: Tensor, ratio: float, free: int) -> Tensor:
    """Which entries of one layer are kept."""
    n = values.numel()
    goes = count(ratio, n)
    if goes > free:
        raise ValueError(
            f"ratio={ratio} removes {goes} of {n} in {name!r}, but the scores let only {free} go: "
            "the others are +inf."
        )
    return select({name: values}, goes / n)[name]
