"""A plan of surgery as a value: which original channels each layer keeps."""

import json
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

FORMAT = "splinelib plan 1"
FIELDS = ("kept", "read", "sizes", "emptied")


class Plan:
    """What is left of each layer of a network.

    Parameters
    ----------
    kept : mapping of str to Tensor (k,)
        By the path of a Linear, Conv2d, BatchNorm or ChannelSelection: the numbers, from 0, of the
        outputs (channels) that stay, ascending.
    read : mapping of str to Tensor (r,)
        The same of its inputs: of the features of a Linear, of the channels of all others. Where a
        BatchNorm keeps fewer than it is offered, a ``ChannelSelection`` is put in front of it.
    sizes : mapping of str to (int, int)
        Numbers of outputs and inputs that the layer had.
    emptied : sequence of str
        Paths of the layers of which nothing would have been left; their first channel stays.

    Notes
    -----
    A plan is a value: it does not know the network, and two plans are equal if they keep the same.
    All numbers refer to the network that the plan was made for; ``first.then(second)`` tells two
    cuts as one. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> cut = {"kept": {"0": [0, 2]}, "read": {"0": [0, 1]}, "sizes": {"0": (3, 2)}}
    >>> plan = Plan(**cut)
    >>> plan.kept["0"], plan
    (tensor([0, 2]), Plan(1 layer, 2 of 3 channels kept))
    >>> Plan.from_json(plan.to_json()) == plan
    True
    """

    __slots__ = ("_emptied", "_kept", "_read", "_sizes")

    def __init__(
        self,
        kept: Mapping[str, Tensor],
        read: Mapping[str, Tensor],
        sizes: Mapping[str, tuple[int, int]],
        emptied: tuple[str, ...] = (),
    ) -> None:
        self._sizes = {str(path): (int(out), int(into)) for path, (out, into) in sizes.items()}
        if not kept.keys() == read.keys() == self._sizes.keys():
            raise ValueError("kept, read and sizes of a plan must name the same layers.")
        self._kept = {p: _numbers(p, kept[p], size) for p, (size, _) in self._sizes.items()}
        self._read = {p: _numbers(p, read[p], size) for p, (_, size) in self._sizes.items()}
        self._emptied = tuple(emptied)

    @property
    def kept(self) -> Mapping[str, Tensor]:
        """Original numbers of the outputs that stay, by path: copies."""
        return MappingProxyType({path: numbers.clone() for path, numbers in self._kept.items()})

    @property
    def read(self) -> Mapping[str, Tensor]:
        """Original numbers of the inputs that stay, by path: copies."""
        return MappingProxyType({path: numbers.clone() for path, numbers in self._read.items()})

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Numbers of outputs and inputs that each layer had."""
        return MappingProxyType(self._sizes)

    @property
    def emptied(self) -> tuple[str, ...]:
        """Layers that keep their first channel only because a layer must have one."""
        return self._emptied

    def then(self, second: "Plan") -> "Plan":
        """Tell this cut and one of the network that it left as one, in the original numbers."""
        inside = {path: self._inside(path, second) for path in self._sizes}
        kept = {p: self._kept[p][second._kept[inside[p][1]]] for p in self._sizes}
        read = {p: self._left(p, second, inside[p][0]) for p in self._sizes}
        outer = {new: path for path, names in inside.items() for new in names}
        emptied = [outer[path] for path in second._emptied]
        return Plan(kept, read, self._sizes, tuple(dict.fromkeys((*self._emptied, *emptied))))

    def _left(self, path: str, second: "Plan", reader: str) -> Tensor:
        """Inputs that are left after both cuts."""
        numbers = self._read[path]
        # of what a selection is offered, a plan may know no more than the part that it takes
        short = len(numbers) > second._sizes[reader][1]
        return numbers if short else numbers[second._read[reader]]

    def _inside(self, path: str, second: "Plan") -> tuple[str, str]:
        """Paths, in the network that is left, of what reads for a layer and of what writes."""
        parts = (path, path) if path in second._sizes else (f"{path}.select", f"{path}.norm")
        left = (len(self._read[path]), len(self._kept[path]))
        sizes = [second._sizes.get(part, (0, 0)) for part in parts]
        offered = left[0] == sizes[0][1] or (parts[0] != path and left[0] > sizes[0][1])
        if not offered or left[1] != sizes[1][0]:
            raise ValueError(
                f"the second plan is not of the network that the first one leaves: '{path}' has "
                f"{left[1]} channels there; make it for the network that was cut."
            )
        return parts

    def to_json(self) -> str:
        """Write the plan as text."""
        lists = {"kept": self._kept, "read": self._read}
        told = {name: {p: n.tolist() for p, n in given.items()} for name, given in lists.items()}
        told |= {"format": FORMAT, "sizes": self._sizes, "emptied": self._emptied}
        return json.dumps(told)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read a plan that ``to_json`` wrote; a ``ValueError`` if it is none."""
        try:
            told = json.loads(text)
            if told["format"] != FORMAT:
                raise ValueError(f"its format is {told['format']!r}, not {FORMAT!r}")
            return cls(*(told[name] for name in FIELDS))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the text is no plan of this version of splinelib: {error}"
            ) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return json.loads(self.to_json()) == json.loads(other.to_json())

    __hash__ = None

    def __repr__(self) -> str:
        kept = sum(map(len, self._kept.values()))
        total = sum(out for out, _ in self._sizes.values())
        plural = "" if len(self._sizes) == 1 else "s"
        return f"Plan({len(self._sizes)} layer{plural}, {kept} of {total} channels kept)"


def _numbers(path: str, given: Tensor, size: int) -> Tensor:
    """Numbers of channels, ascending, below a size and at least one, on the CPU."""
    numbers = torch.as_tensor(given, device="cpu")
    whole = numbers.ndim == 1 and len(numbers) and numbers.dtype == torch.int64
    if not whole or (numbers.diff() <= 0).any() or numbers[0] < 0 or numbers[-1] >= size:
        raise ValueError(
            f"the plan of '{path}' names the channels {numbers.tolist()}; it must name at least "
            f"one, in ascending order, from 0 to {size - 1}."
        )
    return numbers.clone()
