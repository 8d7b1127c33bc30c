"""A PruningNet: a network of any widths, whose weights a hyper-network makes from the widths."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.chain import chain
from splinelib.masks import Mask
from splinelib.ops import copied
from splinelib.pruning.family import Ticket, targets
from splinelib.surgery.groups import Group, group_mask

SCALES = tuple((10 + 3 * i) / 100 for i in range(31))
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


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
        self.image = isinstance(layer, nn.Conv2d)
        self.how = (layer.stride, layer.padding, layer.dilation) if self.image else ()
        size, fan_in = layer.weight.numel(), layer.weight[0].numel()
        kind = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        self.fc1 = _drawn(nn.Linear(2, hidden, device="meta"), 1 / math.sqrt(2), generator, kind)
        rows = size + self.biased * self.shape[0]
        bound = 1 / math.sqrt(fan_in)
        self.fc2 = _drawn(nn.Linear(hidden, rows, device="meta"), bound, generator, kind)

    def weights(self, shares: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in full shape, for the shares ``(2,)`` of inputs and outputs kept."""
        flat = self.fc2(F.relu(self.fc1(shares)))
        size = math.prod(self.shape)
        return flat[:size].reshape(self.shape), flat[size:] if self.biased else None

    def forward(self, z: Tensor, shares: Tensor) -> Tensor:
        """What the layer makes of its inputs ``(b, ...)``."""
        weight, bias = self.weights(shares)
        return F.conv2d(z, weight, bias, *self.how) if self.image else F.linear(z, weight, bias)


class PruningNet(nn.Module):
    """A chain of layers without weights of its own.

    Parameters
    ----------
    net : nn.Module
        The network whose layers are to get other widths, see ``splinelib.chain``.
    scales : sequence of float, in (0, 1]
        Shares of a layer's channels that are drawn in training.
    hidden : int
        Width of the hyper-networks.
    generator : torch.Generator, optional
        On the CPU. Default: a fresh one with seed 0.

    Raises
    ------
    ValueError
        A network that is no chain, a layer whose channels cannot be cropped; it is named.

    Notes
    -----
    In training mode each forward pass draws the widths anew, as dropout draws, from torch's default
    generator; ``train.train`` makes that a function of seed, epoch and step. Channels beyond the
    width are set to 0 behind their BatchNorm, which gives the same numbers as cropping the weights,
    with shapes that stay (one compiled function, no wait for a GPU). In evaluation mode all
    channels are there. BatchNorms have no scale and shift, as in the source's ResNet-50.

    Examples
    --------
    >>> from splinelib import nets
    >>> maker = PruningNet(nets.mlp([4, 8, 8, 2]))
    >>> {name: tuple(w.shape) for name, w in maker.weights({"0": 3, "2": 5}).items()}
    {'0.weight': (3, 4), '0.bias': (3,), '2.weight': (5, 3), '2.bias': (5,), '4.weight': (2, 5), \
'4.bias': (2,)}
    """

    def __init__(
        self,
        net: nn.Module,
        scales: Sequence[float] = SCALES,
        hidden: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not scales or not all(0 < scale <= 1 for scale in scales) or hidden < 1:
            raise ValueError(
                f"scales={scales}, hidden={hidden}: need shares in (0, 1] and at least one unit."
            )
        generator = generator or torch.Generator().manual_seed(0)
        leaves = chain(net)
        self.found = targets(net)
        _check(leaves, self.found)
        self.paths = list(leaves)
        whole = torch.tensor([group.width for group in self.found.values()])
        kind = next(net.parameters())
        self.parts = nn.ModuleList(_part(m, kind, hidden, generator) for m in leaves.values())
        self.register_buffer("whole", whole.to(kind.device), persistent=False)
        self.register_buffer("scales", torch.tensor(scales).to(kind), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(b, C)`` for inputs ``(b, ...)``, at random widths in training mode."""
        return self.run(x, self._draw() if self.training else self.whole)

    def run(self, x: Tensor, widths: Tensor) -> Tensor:
        """Logits at widths ``(L - 1,)`` int64, one for each layer but the last."""
        shares, number, ends = self._shares(widths), 0, self._ends()
        for place, part in enumerate(self.parts):
            if isinstance(part, Hyper):
                x, number = part(x, shares[number : number + 2]), number + 1
            else:
                x = part(x)
            if place in ends:
                left = torch.arange(x.shape[1], device=x.device) < widths[number - 1]
                x = x * left.reshape(-1, *[1] * (x.ndim - 2))
        return x

    def weights(self, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """All weights for the widths of some groups (the others whole), cropped to these widths."""
        weights, cropped, before = self._full(widths), {}, None
        for path, (weight, bias) in weights.items():
            after = widths.get(path, weight.shape[0])
            if before is not None:
                whole, last = before
                weight = weight.unflatten(1, (whole, -1))[:, :last].flatten(1, 2)
            cropped[f"{path}.weight"] = weight[:after]
            if bias is not None:
                cropped[f"{path}.bias"] = bias[:after]
            before = weight.shape[0], after
        return cropped

    def filled(self, net: nn.Module, widths: Mapping[str, int]) -> Ticket:
        """The network with the weights for some widths, and the mask that keeps its first channels.

        Its BatchNorms have scale 1, shift 0 and fresh statistics.
        """
        net = copied(net).eval()
        with torch.no_grad():
            for path, (weight, bias) in self._full(widths).items():
                layer = net.get_submodule(path)
                layer.weight.copy_(weight)
                if bias is not None:
                    layer.bias.copy_(bias)
            for norm in (m for m in net.modules() if isinstance(m, NORMS)):
                norm.reset_parameters()
        return Ticket(net, first_channels(net, self.found, widths))

    def _full(self, widths: Mapping[str, int]) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Weight and bias of each layer in full shape, by its path."""
        kept = [widths.get(name, group.width) for name, group in self.found.items()]
        shares = self._shares(torch.tensor(kept, device=self.whole.device))
        hypers = [(p, m) for p, m in zip(self.paths, self.parts, strict=True) if _hyper(m)]
        return {
            path: hyper.weights(shares[number : number + 2])
            for number, (path, hyper) in enumerate(hypers)
        }

    def _draw(self) -> Tensor:
        """Widths drawn at random, ``(L - 1,)``."""
        drawn = torch.randint(len(self.scales), self.whole.shape, device=self.whole.device)
        return (self.scales[drawn] * self.whole).long().clamp(min=1)

    def _shares(self, widths: Tensor) -> Tensor:
        """Shares of the channels kept, ``(L + 1,)``, with those of images and classes, 1."""
        one = self.scales.new_ones(1)
        return torch.cat([one, (widths / self.whole).to(one), one])

    def _ends(self) -> set[int]:
        """Places behind which channels are cropped: a layer, or the BatchNorm that follows it."""
        places = [place for place, part in enumerate(self.parts) if _hyper(part)][:-1]
        return {place + isinstance(self.parts[place + 1], NORMS) for place in places}


def first_channels(net: nn.Module, found: Mapping[str, Group], widths: Mapping[str, int]) -> Mask:
    """The mask that keeps the first channels of groups, as many as their widths."""
    keep = {name: torch.arange(found[name].width) < width for name, width in widths.items()}
    return group_mask(net, found, keep)


def _hyper(module: nn.Module) -> bool:
    return isinstance(module, Hyper)


def _part(module: nn.Module, like: Tensor, hidden: int, generator: torch.Generator) -> nn.Module:
    """What stands in the PruningNet for a layer of the network."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        return Hyper(module, hidden, generator)
    if isinstance(module, NORMS):
        return type(module)(module.num_features, module.eps, affine=False).to(like)
    return copied(module)


def _drawn(layer: nn.Linear, bound: float, generator: torch.Generator, kind: dict) -> nn.Linear:
    """A Linear whose numbers are uniform in +-bound."""
    layer = layer.to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer.to(**kind)


def _check(leaves: Mapping[str, nn.Module], found: Mapping[str, Group]) -> None:
    """Raise unless each layer but the last has channels that can be cropped."""
    layers = [path for path, m in leaves.items() if isinstance(m, (nn.Linear, nn.Conv2d))]
    for path in layers[:-1]:
        if path not in found:
            raise ValueError(f"the channels of {path!r} cannot be cropped: see splinelib.units.")
    for path, module in leaves.items():
        if isinstance(module, nn.Conv2d) and (module.groups > 1 or module.padding_mode != "zeros"):
            raise ValueError(
                f"{path!r} is a convolution with groups={module.groups} and padding "
                f"{module.padding_mode!r}, for which no weights are made: use groups=1 and zeros."
            )
