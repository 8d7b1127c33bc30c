"""A PruningNet: a network of any widths, whose weights hyper-networks make from the widths."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from splinelib.masks import Mask
from splinelib.ops import copied
from splinelib.pruning.family import targets
from splinelib.surgery.groups import Group, Residual, group_mask
from splinelib.train.recipe import whole as is_whole
from splinelib.units.order import NORMS

SCALES = tuple((10 + 3 * i) / 100 for i in range(31))


class Hyper(nn.Module):
    """Makes the weight and bias of one layer: ``fc2(relu(fc1(v)))`` of the shares v of its widths.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        Gives shapes, type and device.
    hidden : int
        Width in between.
    generator : torch.Generator
        On the CPU. Weights are drawn so that those which come out have the size of fresh ones.
    """

    def __init__(self, layer: nn.Module, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.shape, self.biased = tuple(layer.weight.shape), layer.bias is not None
        size, fan_in = layer.weight.numel(), layer.weight[0].numel()
        kind = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        self.fc1 = _drawn(nn.Linear(2, hidden, device="meta"), 1 / math.sqrt(2), generator, kind)
        rows = size + self.biased * self.shape[0]
        bound = 1 / math.sqrt(fan_in)
        self.fc2 = _drawn(nn.Linear(hidden, rows, device="meta"), bound, generator, kind)

    def forward(self, shares: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in full shape, for the shares ``(2,)`` of inputs and outputs kept."""
        flat = self.fc2(F.relu(self.fc1(shares)))
        size = math.prod(self.shape)
        return flat[:size].reshape(self.shape), flat[size:] if self.biased else None


class PruningNet(nn.Module):
    """A network whose layers of variable width have no weights of their own.

    Parameters
    ----------
    net : nn.Module
        The network whose layers are to get other widths, see ``surgery.groups``.
    scales : sequence of float, in (0, 1]
        Shares of a group's channels that are drawn in training.
    hidden : int
        Width of the hyper-networks.
    generator : torch.Generator, optional
        On the CPU. Default: a fresh one with seed 0.
    residual : "inner" or "joint"
        Which channels have a width, see ``surgery.groups``.

    Attributes
    ----------
    found : dict of str to Group
        The groups of channels that have a width, G of them.
    whole : Tensor (G,) int64
        Their full widths.

    Raises
    ------
    ValueError
        A network without such groups, a setting out of range, ``residual="select"``, a layer whose
        weight is computed from others.

    Notes
    -----
    Each layer that reads or writes a group has a hyper-network, which gets the two widths as shares
    of the full ones, 1 where it reads or writes no group. It makes the full weight, of which the
    rows beyond the width are set to 0. Behind BatchNorms without scale and shift, as in the
    source's ResNet-50, such a channel is 0 up to its readers: the numbers are those of the cropped
    weights, and shapes stay (one compiled function, no wait for a GPU). All other layers have plain
    weights, as the source's classifier has.

    In training mode each forward pass draws the widths anew, as dropout draws, from torch's default
    generator; ``train.train`` makes that a function of seed, epoch and step (and process: of
    several processes, each has widths of its own, the source's share them). In evaluation mode all
    channels are there.

    Examples
    --------
    >>> from splinelib import nets
    >>> maker = PruningNet(nets.mlp([4, 8, 8, 2]))
    >>> made = maker.weights(torch.tensor([3, 5]))
    >>> {name: tuple(values.shape) for name, values in made.items() if "weight" in name}
    {'0.weight': (8, 4), '2.weight': (8, 8), '4.weight': (2, 8)}
    >>> (made["2.weight"] != 0).any(1).tolist()
    [True, True, True, True, True, False, False, False]
    """

    def __init__(
        self,
        net: nn.Module,
        scales: Sequence[float] = SCALES,
        hidden: int = 32,
        generator: torch.Generator | None = None,
        residual: Residual = "inner",
    ) -> None:
        super().__init__()
        if not scales or not all(0 < scale <= 1 for scale in scales) or not is_whole(hidden, 1):
            raise ValueError(
                f"scales={scales}, hidden={hidden}: need shares in (0, 1] and a whole number of "
                "units, at least one."
            )
        generator = generator or torch.Generator().manual_seed(0)
        self.found = targets(net, residual)
        self.ends = _ends(self.found)
        self.net, kind = _bare(net, self.ends), next(net.parameters())
        layers = {path: net.get_submodule(path) for path in self.ends}
        self.hypers = nn.ModuleList(Hyper(m, hidden, generator) for m in layers.values())
        whole = torch.tensor([group.width for group in self.found.values()])
        self.register_buffer("whole", whole.to(kind.device), persistent=False)
        self.register_buffer("scales", torch.tensor(scales).to(kind), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(b, C)`` for inputs ``(b, ...)``, at random widths in training mode."""
        return self.run(x, self._draw() if self.training else self.whole)

    def run(self, x: Tensor, widths: Tensor) -> Tensor:
        """Logits at widths ``(G,)`` int64, one for each group."""
        return functional_call(self.net, self.weights(widths), (x,))

    def weights(self, widths: Tensor) -> dict[str, Tensor]:
        """What the hyper-networks make, by parameter of the network; 0 beyond the widths."""
        shares = torch.cat([(widths / self.whole).to(self.scales), self.scales.new_ones(1)])
        made = {}
        for (path, (into, out)), hyper in zip(self.ends.items(), self.hypers, strict=True):
            weight, bias = hyper(torch.stack([shares[into], shares[out]]))
            if out < len(widths):
                left = torch.arange(len(weight), device=weight.device) < widths[out]
                weight = weight * left.reshape(-1, *[1] * (weight.ndim - 1))
                bias = bias if bias is None else bias * left
            made |= {f"{path}.weight": weight} | ({} if bias is None else {f"{path}.bias": bias})
        return made

    def _draw(self) -> Tensor:
        """Widths drawn at random, ``(G,)``."""
        drawn = torch.randint(len(self.scales), self.whole.shape, device=self.whole.device)
        return (self.scales[drawn] * self.whole).long().clamp(min=1)


def first_channels(net: nn.Module, found: Mapping[str, Group], widths: Mapping[str, int]) -> Mask:
    """The mask that keeps the first channels of groups, as many as their widths."""
    keep = {name: torch.arange(found[name].width) < width for name, width in widths.items()}
    return group_mask(net, found, keep)


def _ends(found: Mapping[str, Group]) -> dict[str, tuple[int, int]]:
    """Numbers of the groups that each layer reads and writes, by its path; len(found) for none."""
    reads, writes = {}, {}
    for number, (name, group) in enumerate(found.items()):
        if group.gate:
            raise ValueError(
                f"{name!r} is a selection from a stream, which stays whole, so no weight can be "
                'cropped to its width: use residual="inner" or "joint".'
            )
        reads |= {reader.layer: number for reader in group.readers}
        writes |= dict.fromkeys(group.writers, number)
    none = len(found)
    return {path: (reads.get(path, none), writes.get(path, none)) for path in {**writes, **reads}}


def _bare(net: nn.Module, made: Mapping[str, object]) -> nn.Module:
    """A copy without the weights that are made, and without scales and shifts of BatchNorms."""
    net = copied(net)
    for path in made:
        layer = net.get_submodule(path)
        if "weight" not in layer._parameters:
            raise ValueError(
                f"the weight of {path!r} is computed from others (torch.nn.utils.prune, a "
                "parametrization); make it permanent first, for example by prune.remove."
            )
        layer.weight = layer.bias = None
    for norm in (module for module in net.modules() if isinstance(module, NORMS)):
        norm.affine, norm.weight, norm.bias = False, None, None
        norm.reset_running_stats()
    return net


def _drawn(layer: nn.Linear, bound: float, generator: torch.Generator, kind: dict) -> nn.Linear:
    """A Linear whose numbers are uniform in +-bound."""
    layer = layer.to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer.to(**kind)
