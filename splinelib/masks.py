"""Masks as values: which weights and units of a network are kept, and how many."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from splinelib.ops import copied
from splinelib.units import current, units

Scores = Tensor | Mapping[str, Tensor]


class Mask:
    """Which entries of a network's parameters are kept: 1 (True) means kept.

    Parameters
    ----------
    entries : mapping of str to Tensor
        By the name of the parameter, as in ``net.named_parameters()``: a tensor of its shape with
        entries 0 and 1 (bool, whole or floating-point numbers). They are copied, to the CPU.

    Raises
    ------
    ValueError
        An entry other than 0 or 1, NaN included.

    Notes
    -----
    A mask is a value: it does not know the network, and two masks are equal if they have the same
    names and entries. ``a & b`` keeps what both keep; a parameter that only one of them names
    counts as kept whole by the other. Eq. 5 of the paper, whose ``Q`` it is; taught in *What a mask
    does to a partition*.

    Examples
    --------
    >>> mask = Mask({"0.weight": torch.tensor([[1, 0], [1, 1]])})
    >>> mask, mask.density
    (Mask(1 parameter, 3 of 4 entries kept), 0.75)
    >>> mask & mask == mask
    True
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, Tensor]) -> None:
        self._entries = {str(name): _zero_one(name, entry) for name, entry in entries.items()}

    @classmethod
    def ones(cls, net: nn.Module) -> "Mask":
        """Build the mask that keeps every parameter of a network whole."""
        return cls({name: torch.ones(shape) for name, shape in _shapes(net).items()})

    @property
    def entries(self) -> Mapping[str, Tensor]:
        """The bool tensors by name of the parameter, read-only."""
        return MappingProxyType(self._entries)

    @property
    def kept(self) -> int:
        """Number of entries that are kept."""
        return sum(kept for kept, _ in self.counts().values())

    @property
    def total(self) -> int:
        """Number of entries, kept or not."""
        return sum(total for _, total in self.counts().values())

    @property
    def density(self) -> float:
        """Share of the entries that is kept, in [0, 1]; 1 for a mask without entries."""
        return self.kept / self.total if self.total else 1.0

    def counts(self) -> dict[str, tuple[int, int]]:
        """Count, for each parameter, the entries kept and all entries."""
        return {name: (int(e.sum()), e.numel()) for name, e in self._entries.items()}

    def check(self, net: nn.Module) -> None:
        """Raise a ``ValueError`` unless each entry fits a parameter of the network."""
        shapes = _shapes(net)
        for name, entry in self._entries.items():
            if name not in shapes:
                raise ValueError(
                    f"the mask names {name!r}, which is no parameter of the network; its "
                    f"parameters: {', '.join(shapes)}"
                )
            if entry.shape != shapes[name]:
                raise ValueError(
                    f"the mask of {name!r} has shape {tuple(entry.shape)}, but the parameter has "
                    f"shape {tuple(shapes[name])}: give one entry for each weight"
                )

    def apply(self, net: nn.Module, *, hold: bool = False) -> nn.Module:
        """Return a copy of a network with all entries that are not kept set to 0.

        With ``hold``, they also stay 0 while the copy is trained, by ``torch.nn.utils.prune``; once
        it has run, ``copy.deepcopy`` refuses such a network, ``fit`` and ``Mask`` do not.
        In a network that is pruned that way already, "weight" names what its layers call
        "weight_orig".
        """
        self.check(net)
        net = copied(net)
        with torch.no_grad():
            for name, entry in self._entries.items():
                path, _, attribute = name.rpartition(".")
                _apply(net.get_submodule(path), attribute, entry, hold)
        return net

    def __and__(self, other: "Mask") -> "Mask":
        if not isinstance(other, Mask):
            return NotImplemented
        both = {**self._entries, **other._entries}
        for name in self._entries.keys() & other._entries.keys():
            mine, its = self._entries[name], other._entries[name]
            if mine.shape != its.shape:
                raise ValueError(
                    f"the masks of {name!r} have shapes {tuple(mine.shape)} and {tuple(its.shape)}:"
                    " only masks of one network can be composed"
                )
            both[name] = mine & its
        return Mask(both)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        same = self._entries.keys() == other._entries.keys()
        return same and all(torch.equal(e, other._entries[n]) for n, e in self._entries.items())

    __hash__ = None

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        plural = "" if len(self) == 1 else "s"
        return f"Mask({len(self)} parameter{plural}, {self.kept} of {self.total} entries kept)"


def unit_mask(net: nn.Module, keep: Mapping[str, Tensor]) -> Mask:
    """Build the mask that removes whole units of some layers.

    Parameters
    ----------
    net : nn.Module
        The network, see :func:`splinelib.units.units`.
    keep : mapping of str to Tensor (D,)
        By the path of a layer: 1 (True) for each of its D units that is kept, else 0.

    Returns
    -------
    Mask
        Of the weights, the bias, and scale and shift of the BatchNorm directly behind, so that a
        removed unit puts out 0. The weights that read it are not masked.

    Raises
    ------
    ValueError
        An unknown layer, a wrong shape, an entry other than 0 or 1, or a BatchNorm without scale
        and shift behind a unit to be removed.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 3, 1])
    >>> mask = unit_mask(net, {"0": torch.tensor([True, False, True])})
    >>> mask.counts()
    {'0.weight': (4, 6), '0.bias': (2, 3)}
    >>> mask.apply(net)[0].bias[1].item()
    0.0
    """
    found, shapes, entries = units(net), _shapes(net), {}
    for layer, kept in keep.items():
        if layer not in found:
            raise ValueError(f"the network has no layer {layer!r}; its layers: {', '.join(found)}")
        kept, width, norm = _zero_one(layer, kept), found[layer].width, found[layer].norm
        if kept.shape != (width,):
            raise ValueError(
                f"keep[{layer!r}] has shape {tuple(kept.shape)}, but the layer has {width} units: "
                f"give {width} entries"
            )
        if norm and f"{norm}.weight" not in shapes and not kept.all():
            raise ValueError(
                f"the units of {layer!r} cannot be masked: the BatchNorm '{norm}' behind has no "
                "scale and shift (affine=False) and puts out a constant for a row of zeros"
            )
        for name in (f"{path}.{part}" for path in (layer, norm) for part in ("weight", "bias")):
            if name in shapes:
                ones = [1] * (len(shapes[name]) - 1)
                entries[name] = kept.reshape(-1, *ones).expand(shapes[name])
    return Mask(entries)


def weight_mask(net: nn.Module, keep: Mapping[str, Tensor]) -> Mask:
    """Build a mask of single weights, checked against a network.

    Parameters
    ----------
    net : nn.Module
        The network.
    keep : mapping of str to Tensor
        By the name of a parameter: a tensor of its shape, 1 (True) for each weight that is kept.

    Raises
    ------
    ValueError
        An unknown parameter, a wrong shape, an entry other than 0 or 1.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 3, 1])
    >>> keep = {"0.weight": select(net[0].weight.abs(), 0.5)}
    >>> weight_mask(net, keep).counts()
    {'0.weight': (3, 6)}
    """
    mask = Mask(keep)
    mask.check(net)
    return mask


def select(scores: Scores, fraction: float, *, scope: str = "layer", least: int = 1) -> Scores:
    """Keep the best-scored units (or weights) and remove an exact number of the others.

    Parameters
    ----------
    scores : Tensor, or mapping of str to Tensor
        One score for each unit or weight, of any shape; the lowest go first, and of equal scores
        the one with the lower index (the earlier layer).
    fraction : float, in [0, 1]
        Of n entries, ``floor(fraction * n + 1/2)`` are removed.
    scope : "layer" or "global"
        Whether n counts the entries of each layer, or of all layers together.
    least : int
        Entries that stay in every layer: with scope "global", its best ones are passed over. To
        empty a layer, ask for it with ``least=0``.

    Returns
    -------
    Tensor or dict of str to Tensor
        As ``scores``, bool: True is kept.

    Raises
    ------
    ValueError
        A fraction outside [0, 1] or out of reach with ``least``, an unknown scope, NaN scores.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> select(torch.tensor([0.3, 0.1, 0.2, 0.1]), 0.5)
    tensor([ True, False,  True, False])
    >>> select({"0": torch.tensor([1.0, 2.0]), "2": torch.tensor([3.0, 4.0])}, 0.5, scope="global")
    {'0': tensor([False,  True]), '2': tensor([False,  True])}
    """
    if scope not in ("layer", "global"):
        raise ValueError(f"scope is {scope!r}, but must be 'layer' or 'global'")
    if not 0 <= fraction <= 1 or least < 0:
        raise ValueError(f"fraction={fraction}, least={least}: need 0 <= fraction <= 1, least >= 0")
    if not isinstance(scores, Mapping):
        return select({"": scores}, fraction, least=least)[""]
    for layer, values in scores.items():
        if values.isnan().any():
            raise ValueError(f"the scores of {layer!r} hold NaN; give every unit a number")
    if scope == "global" and scores:
        return _keep(scores, fraction, least)
    return {layer: _keep({layer: v}, fraction, least)[layer] for layer, v in scores.items()}


def _keep(scores: Mapping[str, Tensor], fraction: float, least: int) -> dict[str, Tensor]:
    """Remove the given fraction of all scores together, but leave ``least`` in each layer."""
    layers = [values.detach().flatten().cpu() for values in scores.values()]
    total = sum(map(len, layers))
    remove = math.floor(fraction * total + 0.5)
    free = [torch.ones(len(values), dtype=torch.bool) for values in layers]
    for values, may_go in zip(layers, free, strict=True):
        best = values.argsort(stable=True)[max(0, len(values) - least) :]
        may_go[best] = False
    free = torch.cat(free).nonzero().flatten()
    if remove > len(free):
        raise ValueError(
            f"fraction={fraction} removes {remove} of {total}, but with least={least} only "
            f"{len(free)} may go; to empty layers on purpose, say least=0"
        )
    lowest = free[torch.cat(layers)[free].argsort(stable=True)][:remove]
    kept = torch.ones(total, dtype=torch.bool)
    kept[lowest] = False
    parts = zip(scores.items(), kept.split([len(values) for values in layers]), strict=True)
    return {layer: part.reshape(v.shape).to(v.device) for (layer, v), part in parts}


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    """Shapes of all parameters, under the names they have without torch's own pruning."""
    held = {name.removesuffix("_mask") for name, _ in net.named_buffers()}
    plain = {name: name.removesuffix("_orig") for name, _ in net.named_parameters()}
    return {
        plain[name] if plain[name] in held else name: parameter.shape
        for name, parameter in net.named_parameters()
    }


def _apply(module: nn.Module, attribute: str, entry: Tensor, hold: bool) -> None:
    """Set the entries of one parameter that are not kept to 0, in place."""
    held = hasattr(module, f"{attribute}_orig")  # torch prunes it already
    parameter = getattr(module, f"{attribute}_orig" if held else attribute)
    parameter.masked_fill_(~entry.to(parameter.device), 0)
    if hold and not entry.all():
        prune.custom_from_mask(module, attribute, entry.to(parameter.device))
    elif held:
        setattr(module, attribute, current(module, attribute))


def _zero_one(name: str, entry: Tensor) -> Tensor:
    """A copy of a tensor of zeros and ones, as bool on the CPU."""
    value = torch.as_tensor(entry).detach().cpu()
    wrong = value[value != value.bool()]  # NaN is unequal to everything
    if len(wrong):
        raise ValueError(f"the mask of {name!r} holds {wrong[0].item()}; its entries are 0 and 1")
    return value.bool().clone()
