"""The mask of a network as a value."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from splinelib.ops import copied
from splinelib.units.weights import current


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
        self._entries = {str(name): zero_one(name, entry) for name, entry in entries.items()}

    @classmethod
    def ones(cls, net: nn.Module) -> "Mask":
        """Build the mask that keeps every parameter of a network whole."""
        return cls({name: torch.ones(shape, device="cpu") for name, shape in shapes(net).items()})

    @property
    def entries(self) -> Mapping[str, Tensor]:
        """The bool tensors by name of the parameter: copies, so that the mask stays as it is."""
        return MappingProxyType({name: entry.clone() for name, entry in self._entries.items()})

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
        fitting = shapes(net)
        for name, entry in self._entries.items():
            if name not in fitting:
                raise ValueError(
                    f"the mask names {name!r}, which is no parameter of the network; its "
                    f"parameters: {', '.join(fitting)}."
                )
            if entry.shape != fitting[name]:
                raise ValueError(
                    f"the mask of {name!r} has shape {tuple(entry.shape)}, but the parameter has "
                    f"shape {tuple(fitting[name])}: give one entry for each weight."
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
                    " only masks of one network can be composed."
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


def shapes(net: nn.Module) -> dict[str, torch.Size]:
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


def zero_one(name: str, entry: Tensor) -> Tensor:
    """A copy of a tensor of zeros and ones, as bool on the CPU."""
    value = torch.as_tensor(entry, device="cpu").detach()
    wrong = value[value != value.bool()]  # NaN is unequal to everything
    if len(wrong):
        raise ValueError(f"the mask of {name!r} holds {wrong[0].item()}; its entries are 0 and 1.")
    return value.bool().clone()
