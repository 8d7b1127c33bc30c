"""Cutting a network: the masked network, without what its mask makes superfluous."""

from contextlib import suppress
from importlib.util import find_spec
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from splinelib.masks import Mask
from splinelib.masks.mask import shapes
from splinelib.ops import eval_mode, unwrapped
from splinelib.surgery.foreign import example_of, foreign_plan
from splinelib.surgery.plan import Plan
from splinelib.surgery.planning import check_mask, plan, refuse_hooks
from splinelib.surgery.shrink import shrink
from splinelib.units.walk import refuse_bare
from splinelib.units.weights import current

Backend = Literal["splinelib", "torch-pruning"]


class Cut(NamedTuple):
    """A smaller network, and which original channels each of its layers has kept."""

    net: nn.Module
    plan: Plan


def cut(
    net: nn.Module, mask: Mask, *, backend: Backend | None = None, example: Tensor | None = None
) -> Cut:
    """Make a masked network smaller, with the same outputs.

    Parameters
    ----------
    net : nn.Module
        The network, in either mode; it stays as it is.
    mask : Mask
        What of it is kept, see :func:`plan`.
    backend : "splinelib" or "torch-pruning", optional
        Who finds out which channels depend on each other. "splinelib" reads networks of the
        operations listed in ``splinelib.ops``, removes all that a mask makes superfluous, and
        selects channels of residual streams. "torch-pruning" reads many more, and removes whole
        groups of channels only. Default: "torch-pruning" for the networks of torchvision whose mask
        removes whole groups (if it is installed), and for networks that "splinelib" does not read.
    example : Tensor (B, ...), optional
        An input of the network, for torch-pruning. Default: random images of 64 x 64 pixels, or
        rows of features, as the first layer reads them.

    Returns
    -------
    Cut
        ``net``, whose outputs are those of ``mask.apply(net)`` in evaluation mode, up to rounding,
        and ``plan``. Device, type, frozen weights, running statistics and modes (training or
        evaluation) are those of the caller's network. Masks of ``torch.nn.utils.prune`` are made
        permanent; of single weights, those that stay in the network are 0 and may be trained.

    Raises
    ------
    ValueError
        As :func:`plan` and :func:`shrink`; an unknown backend; a network that torch-pruning cannot
        trace, or would cut to one with other outputs.

    Notes
    -----
    ``shrink(mask.apply(net), plan(net, mask))``. What is constant in evaluation mode need not be in
    training mode, so the promise is for evaluation mode alone. An optimizer that was made for
    ``net`` goes on moving the weights of ``net``: make a new one for the smaller network;
    ``check_optimizer(optimizer, small)`` finds out. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets, surgery
    >>> net = nets.convnet()
    >>> found = surgery.groups(net)
    >>> keep = {name: torch.arange(group.width) % 2 == 0 for name, group in found.items()}
    >>> mask = surgery.group_mask(net, found, keep)
    >>> small, made = cut(net, mask)
    >>> x = torch.rand(5, *(1, 8, 8), dtype=torch.float64)
    >>> torch.allclose(small(x), mask.apply(net)(x), atol=1e-12)
    True
    """
    if backend is not None and backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}, but must be one of {get_args(Backend)}.")
    net = unwrapped(net)
    refuse_bare(net)
    check_mask(net, mask)
    if backend == "splinelib":
        return _ours(net, mask)
    if backend == "torch-pruning":
        return _theirs(net, mask, example)
    return _whichever(net, mask, example)


def nonzero_mask(net: nn.Module) -> Mask:
    """Build the mask that keeps all weights of a network but those that are 0.

    Parameters
    ----------
    net : nn.Module
        Any network, such as the one that ``splinelib.folding`` or ``splinelib.merging`` leaves.

    Returns
    -------
    Mask
        Of all its parameters, for :func:`cut`.

    Notes
    -----
    A weight that only starts at 0, to be trained, is 0, too. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import folding, nets
    >>> net = nets.by_hand(([[0, 0], [1, 1]], [2, 0]), ([[3, 1]], [1]))
    >>> folded = folding.fold_constants(net)
    >>> cut(folded, nonzero_mask(folded)).net[0]
    Linear(in_features=2, out_features=1, bias=True)
    """
    net, entries = unwrapped(net), {}
    for name in shapes(net):
        path, _, part = name.rpartition(".")
        entries[name] = current(net.get_submodule(path), part) != 0
    return Mask(entries)


def check_optimizer(optimizer: torch.optim.Optimizer, net: nn.Module) -> None:
    """Raise unless all that an optimizer moves are weights of a network.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimizer.
    net : nn.Module
        The network that it is meant to train.

    Raises
    ------
    ValueError
        The optimizer holds other weights, such as those of the network before a cut.

    Examples
    --------
    >>> net, small = nn.Linear(2, 1), nn.Linear(1, 1)
    >>> check_optimizer(torch.optim.SGD(small.parameters(), lr=0.1), small)
    """
    own = {id(parameter) for parameter in net.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    strange = [tuple(parameter.shape) for parameter in held if id(parameter) not in own]
    if strange:
        kind = type(optimizer).__name__
        raise ValueError(
            f"the optimizer holds {len(strange)} tensors (the first of shape {strange[0]}) that "
            "are no weights of this network, as after a cut, which makes new ones: make a new "
            f"optimizer, {kind}(net.parameters(), ...)."
        )


def _ours(net: nn.Module, mask: Mask) -> Cut:
    """Cut a network that splinelib reads."""
    made = plan(net, mask)
    return Cut(shrink(mask.apply(net), made), made)


def _theirs(net: nn.Module, mask: Mask, example: Tensor | None) -> Cut:
    """Cut a network as torch-pruning says, and try whether its outputs are the masked ones."""
    made, masked = foreign_plan(net, mask, example), mask.apply(net)
    small = shrink(masked, made)
    _check_outputs(masked, small, example)
    return Cut(small, made)


def _whichever(net: nn.Module, mask: Mask, example: Tensor | None) -> Cut:
    """Cut a network by the backend that suits it."""
    refuse_hooks(net)
    try:
        own = plan(net, mask)
    except ValueError as reason:
        try:
            return _theirs(net, mask, example)
        except ValueError as other:
            raise ValueError(f"{reason} Nor does torch-pruning help: {other}") from reason
    if _is_for_torch_pruning(net, mask, own):
        with suppress(ValueError):  # an example that does not fit: ours needs none
            return _theirs(net, mask, example)
    return Cut(shrink(mask.apply(net), own), own)


def _is_for_torch_pruning(net: nn.Module, mask: Mask, own: Plan) -> bool:
    """Whether a network is torchvision's, and its mask removes whole groups of channels."""
    if not type(net).__module__.startswith("torchvision") or not find_spec("torch_pruning"):
        return False
    return not own.emptied and all(
        _is_of_rows(entry, own, name.rpartition(".")[0]) for name, entry in mask.entries.items()
    )


def _is_of_rows(entry: Tensor, own: Plan, path: str) -> bool:
    """Whether the mask of a parameter removes the rows that go, and nothing else."""
    rows = torch.zeros(len(entry), dtype=torch.bool)
    rows[own.kept[path] if path in own.sizes else slice(None)] = True
    return bool((entry == rows.reshape(-1, *[1] * (entry.ndim - 1))).all())


def _check_outputs(masked: nn.Module, small: nn.Module, example: Tensor | None) -> None:
    """Raise unless two networks give the same outputs."""
    x = example_of(masked) if example is None else example
    with eval_mode(masked), eval_mode(small), torch.no_grad():
        try:
            a, b = masked(x), small(x)
        except RuntimeError as error:
            raise ValueError(
                f"torch-pruning leaves a network that does not run ({error}); this one cannot be "
                "cut with this mask."
            ) from error
    (before, shape), (after, other) = tree_flatten(a), tree_flatten(b)
    strange = [value for value in before if not isinstance(value, Tensor)]
    if strange:
        raise ValueError(
            f"{type(masked).__name__} puts out a {type(strange[0]).__name__}, which cannot be "
            "compared before and after the cut; let it return a tensor, or tuples, lists and dicts "
            "of tensors."
        )
    if shape != other or not all(map(_alike, before, after)):
        raise ValueError(
            "torch-pruning leaves a network with other outputs than the masked one, because a "
            "removed channel is not 0 all the way (an activation with f(0) other than 0, for "
            "example); keep such channels."
        )


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two results are the same up to rounding."""
    if a.shape != b.shape or not a.is_floating_point() or not a.numel():
        return torch.equal(a, b)
    size = float(a.abs().max()) * 1e3 * torch.finfo(a.dtype).eps
    return torch.allclose(a, b, rtol=0, atol=size, equal_nan=True)
