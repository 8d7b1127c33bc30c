"""What all methods of pruning share: ratios, scopes, and what they give back."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from splinelib.masks import Mask, select, weight_mask
from splinelib.surgery.groups import Group, group_mask

Scope = Literal["layerwise", "global"]


class Ticket(NamedTuple):
    """What a method that trains gives back.

    ``net`` is a network of the original shape, in evaluation mode, whose weights are those to go on
    with, and ``mask`` says what of it is kept: ``splinelib.surgery.cut(*ticket)`` is the small one.
    """

    net: nn.Module
    mask: Mask


def check_ratio(ratio: float, scope: str = "global") -> None:
    """Raise a ``ValueError`` unless 0 <= ratio < 1 and the scope is known."""
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise ValueError(
            f"ratio is {ratio!r}, but is the share of units (or weights) that go, in [0, 1): 0.5 "
            "removes half of them."
        )
    if scope not in get_args(Scope):
        raise ValueError(f"scope is {scope!r}, but must be one of {get_args(Scope)}.")


def keep_best(
    net: nn.Module,
    found: Mapping[str, Group],
    scores: Mapping[str, Tensor],
    ratio: float,
    scope: Scope = "global",
) -> Mask:
    """Remove the channels with the lowest scores: an exact number, and never the last of a group.

    ``scores`` has one number a channel, ``(n,)``, by the name of the group; +inf marks a channel
    that stays. With scope "layerwise" the ratio holds in each group, with "global" for all groups
    together. Of n channels, ``floor(ratio n + 1/2)`` go (fewer where each group's last one stays).
    """
    check_ratio(ratio, scope)
    keep = select(scores, ratio, scope="layer" if scope == "layerwise" else scope)
    return group_mask(net, found, keep)


def keep_best_weights(
    net: nn.Module, scores: Mapping[str, Tensor], ratio: float, scope: Scope = "global"
) -> Mask:
    """Remove the single weights with the lowest scores, by name of the parameter."""
    check_ratio(ratio, scope)
    return weight_mask(net, select(scores, ratio, scope="layer" if scope == "layerwise" else scope))
