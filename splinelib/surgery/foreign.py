"""Plans by torch-pruning, for networks whose operations splinelib does not read."""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.folding import working_copy
from splinelib.masks import Mask
from splinelib.selection import ChannelSelection
from splinelib.surgery.plan import Plan
from splinelib.surgery.shrink import size_of
from splinelib.surgery.zeros import with_held
from splinelib.units.order import LAYERS, NORMS

SIDE = 64  # pixels of an example image: enough for the poolings of torchvision's networks


def foreign_plan(net: nn.Module, mask: Mask, example: Tensor | None = None) -> Plan:
    """Plan to remove each channel that a mask removes everywhere, as torch-pruning couples them.

    Parameters
    ----------
    net : nn.Module
        Any network that torch-pruning traces; it stays as it is.
    mask : Mask
        A channel goes if the mask holds no 1 for it in any Linear and Conv2d that writes it, nor in
        any BatchNorm on its way.
    example : Tensor (B, ...), optional
        An input that the network takes. Default: one image of 64 x 64 pixels, or one row of
        features, as the first layer reads them.

    Returns
    -------
    Plan
        In the numbers of ``net``: torch-pruning only tells which channels depend on each other, and
        nothing is renumbered. A layer keeps its first channel where none would be left.

    Raises
    ------
    ValueError
        torch-pruning is missing or cannot trace the network, or a channel goes through something
        that is cut nowhere here (a LayerNorm, a grouped convolution, a bare parameter).

    Notes
    -----
    Fang et al. 2023, *DepGraph* (Torch-Pruning 1.6.1).
    """
    mask.check(net)
    if any(isinstance(module, ChannelSelection) for module in net.modules()):
        raise ValueError(
            'the network selects channels, which torch-pruning cannot cut; use backend="splinelib".'
        )
    copy = working_copy(net).eval().requires_grad_(True)
    graph = _graph(copy, example_of(copy) if example is None else example)
    gone = _Gone(copy, with_held(net, mask))
    for module in gone.paths:
        if isinstance(module, LAYERS) and module in graph.module2node:
            gone.take(graph, module)
    return gone.plan()


def example_of(net: nn.Module) -> Tensor:
    """An input for a network, by what its first layer reads: random numbers, always the same."""
    first = next((m for m in net.modules() if isinstance(m, LAYERS)), None)
    if first is None:
        raise ValueError("the network has no Linear or Conv2d; nothing of it can be cut.")
    image = isinstance(first, nn.Conv2d)
    shape = (first.in_channels, SIDE, SIDE) if image else (first.in_features,)
    draw = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, generator=draw).to(first.weight)


def torch_pruning() -> ModuleType:
    """The package torch_pruning, or a ``ValueError`` that tells how to get it."""
    try:
        return importlib.import_module("torch_pruning")
    except ImportError as error:
        raise ValueError(
            "this network is cut by way of torch-pruning, which is not installed: pip install "
            "torch-pruning."
        ) from error


def _graph(net: nn.Module, example: Tensor):
    """torch-pruning's graph of a network; it may change the network, which is a copy."""
    graph = torch_pruning().DependencyGraph()
    try:
        with torch.enable_grad():
            return graph.build_dependency(net, example_inputs=example, verbose=False)
    except Exception as error:  # whatever the network and the tracing raise
        raise ValueError(
            f"torch-pruning cannot trace {type(net).__name__} on an input of shape "
            f"{tuple(example.shape)} ({error}); give an input that the network takes, as "
            "cut(net, mask, example=x)."
        ) from error


class _Side(NamedTuple):
    """Outputs or inputs of one layer in a group: which ones, and the root's channel of each."""

    path: str
    out: bool
    idxs: np.ndarray
    roots: np.ndarray


class _Gone:
    """What goes of each layer, outputs and inputs, collected group by group."""

    def __init__(self, net: nn.Module, mask: Mask) -> None:
        self.paths = {module: path for path, module in net.named_modules()}
        cut = {path: m for m, path in self.paths.items() if isinstance(m, (*LAYERS, *NORMS))}
        self.layers = {path for path, module in cut.items() if isinstance(module, LAYERS)}
        self.masked = {path: _masked(module, path, mask) for path, module in cut.items()}
        self.sizes = {path: size_of(module) for path, module in cut.items()}
        self.out = {path: np.zeros(out, bool) for path, (out, _) in self.sizes.items()}
        self.into = {path: np.zeros(into, bool) for path, (_, into) in self.sizes.items()}
        self.seen = {path: np.zeros(out, bool) for path, (out, _) in self.sizes.items()}
        self.emptied: list[str] = []

    def take(self, graph: object, root: nn.Module) -> None:
        """Take what the mask removes out of the group of channels that a layer writes."""
        path = self.paths[root]
        goes = self.masked[path] & ~self.seen[path]
        if not goes.any():
            return
        fn = graph.get_pruner_of_module(root).prune_out_channels
        group = graph.get_pruning_group(root, fn, goes.nonzero()[0].tolist())
        items = [item for item in group if not _is_dummy(item)]
        sides = [self._side(graph, item) for item in items if self._is_cut(item)]
        for side in (side for side in sides if side.out):
            np.logical_and.at(goes, side.roots, self.masked[side.path][side.idxs])
            self.seen[side.path][side.idxs] = True
        if not goes.any() or all(side.out for side in sides):  # the output of the network
            return
        self._check(items)
        self._spare(sides, goes)
        for side in sides:
            self._of(side)[side.idxs] |= goes[side.roots]

    def plan(self) -> Plan:
        """What stays of each layer."""
        for module, path in self.paths.items():  # one filter a channel: what goes in, goes out
            if path in self.sizes and (isinstance(module, NORMS) or _depthwise(module)):
                self.into[path] = self.out[path]
        kept, read = (
            {path: torch.from_numpy((~gone).nonzero()[0]) for path, gone in side.items()}
            for side in (self.out, self.into)
        )
        return Plan(kept, read, self.sizes, tuple(self.emptied))

    def _is_cut(self, item: object) -> bool:
        """Whether torch-pruning speaks of a layer that is cut here."""
        module = item.dep.target.module
        return isinstance(module, nn.Module) and self.paths.get(module) in self.sizes

    def _side(self, graph: object, item: object) -> _Side:
        """What torch-pruning says of one layer."""
        out = graph.is_out_channel_pruning_fn(item.dep.handler)
        path = self.paths[item.dep.target.module]
        return _Side(path, out, np.array(item.idxs, int), np.array(item.root_idxs, int))

    def _of(self, side: _Side) -> np.ndarray:
        return (self.out if side.out else self.into)[side.path]

    def _check(self, items: Sequence[object]) -> None:
        """Raise if channels that go pass through something that is cut nowhere here."""
        for item in items:
            module = item.dep.target.module
            grouped = getattr(module, "groups", 1) > 1 and not _depthwise(module)
            if not self._is_cut(item) or grouped:
                named = isinstance(module, nn.Module)
                path = self.paths[module] if named else "a bare parameter"
                raise ValueError(
                    f"'{path}' ({type(module).__name__}) would have to be cut with channels that "
                    "the mask removes, and is not Linear, Conv2d (grouped only as depthwise) or "
                    "BatchNorm: keep these channels."
                )

    def _spare(self, sides: Sequence[_Side], goes: np.ndarray) -> None:
        """Keep the first channel of each layer of which nothing would be left, in place."""
        empty = [side for side in sides if not self._left(side, goes).any()]
        named = [side.path for side in empty if side.out and side.path in self.layers]
        self.emptied += [path for path in named if path not in self.emptied]
        for side in empty:
            if not self._left(side, goes).any():
                new = goes[side.roots]
                goes[side.roots[new][side.idxs[new].argmin()]] = False

    def _left(self, side: _Side, goes: np.ndarray) -> np.ndarray:
        """Whether each output or input of a layer would stay."""
        left = ~self._of(side)
        left[side.idxs] &= ~goes[side.roots]
        return left


def _masked(module: nn.Module, path: str, mask: Mask) -> np.ndarray:
    """Whether a mask holds no 1 for each output of a layer."""
    gone, entries = np.ones(size_of(module)[0], bool), mask.entries
    for part in ("weight", "bias"):
        if f"{path}.{part}" in entries:
            gone &= ~entries[f"{path}.{part}"].reshape(len(gone), -1).any(1).numpy()
        else:
            gone &= part == "bias" and module.bias is None
    return gone


def _depthwise(module: nn.Module) -> bool:
    """Whether a layer has one filter a channel."""
    groups = getattr(module, "groups", 1)
    return groups > 1 and groups == module.in_channels == module.out_channels


def _is_dummy(item: object) -> bool:
    """Whether torch-pruning speaks of an operation without weights."""
    module = item.dep.target.module
    return isinstance(module, nn.Module) and type(module).__module__.startswith("torch_pruning")
