"""Small networks with planted redundancy or importance, and data of which only some inputs matter.

Every planter returns a new network that computes the same function as the one it was given (or says
what it keeps), so a test knows which units a method ought to find.
"""

import copy

import torch
from torch import nn

from splinelib import nets
from splinelib.units import units

FORMS = ("mlp", "convnet", "preresnet")
HIDDEN = {"mlp": "0", "convnet": "0", "preresnet": "stage1.0.conv1"}  # a layer to plant in
SHAPES = {"mlp": (6,), "convnet": (2, 8, 8), "preresnet": (3, 16, 16)}


def network(form, seed=0, dtype=torch.float64):
    """A small network in evaluation mode; its BatchNorms ("mlp" has none) do something."""
    generator = torch.Generator().manual_seed(seed)
    if form == "mlp":
        net = nets.mlp([6, 8, 8, 3], generator=generator, dtype=dtype)
    elif form == "convnet":
        net = nets.convnet(
            (2, 8, 8), (6, 8), (3, 3), 3, batch_norm=True, generator=generator, dtype=dtype
        )
    else:
        net = nets.preresnet(11, 3, width=0.5, generator=generator, dtype=dtype)
    return settled(net.eval(), generator)


def settled(net, generator=None):
    """Give all BatchNorms statistics, scales above 0.5 and shifts, in place."""
    generator = generator or torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(std=0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(std=0.2, generator=generator)
    return net


def inputs(form, b=8, seed=0, dtype=torch.float64):
    """Inputs ``(b, ...)`` and labels ``(b,)`` of 3 classes for the network of a form."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, *SHAPES[form], generator=generator, dtype=dtype)
    return x, torch.arange(b) % 3


def duplicated(net, layer, source, target, scale=1.0):
    """Make unit ``target`` of a layer a copy of unit ``source``, times a scale > 0.

    Behind BatchNorm and activation the copy puts out ``scale`` times what the source does. It is
    read with weights of its own, so the function changes; either can do the other's work.
    """
    net, at = copy.deepcopy(net), units(net)[layer]
    with torch.no_grad():
        module = net.get_submodule(layer)
        scaled = [module] if at.norm is None else [net.get_submodule(at.norm)]
        for tensor in (*module.parameters(), *_rows(net, at)):
            tensor[target] = tensor[source]
        for part in scaled:
            part.weight[target] *= scale
            if part.bias is not None:
                part.bias[target] *= scale
    return net


def rescaled(net, layer, unit, scale):
    """Multiply a unit's output by a scale > 0 and divide in the readers: the function stays."""
    net, at = copy.deepcopy(net), units(net)[layer]
    part = net.get_submodule(layer if at.norm is None else at.norm)
    with torch.no_grad():
        part.weight[unit] *= scale
        if part.bias is not None:
            part.bias[unit] *= scale
        for weight in _columns(net, at, unit):
            weight /= scale
    return net


def dead_in(net, layer, dead):
    """Set all that makes some units to 0 (weights, bias, BatchNorm's scale and shift)."""
    net, at = copy.deepcopy(net), units(net)[layer]
    with torch.no_grad():
        for tensor in (*net.get_submodule(layer).parameters(), *_scales(net, at)):
            tensor[dead] = 0
    return net


def dead_out(net, layer, dead):
    """Set all weights that read some units to 0: alive, but nobody listens."""
    net, at = copy.deepcopy(net), units(net)[layer]
    with torch.no_grad():
        for unit in dead:
            for weight in _columns(net, at, unit):
                weight.zero_()
    return net


def important(net, layer, chosen):
    """A network whose function uses only some units of a layer: nobody listens to the others."""
    rest = [unit for unit in range(units(net)[layer].width) if unit not in chosen]
    return dead_out(net, layer, rest)


def data_of_some_inputs(n=256, d=6, used=(0, 1), seed=0, dtype=torch.float64):
    """Points ``(n, d)`` whose label, 0 or 1, hangs on the sign of the sum of some inputs alone."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    return x, (x[:, list(used)].sum(1) > 0).long()


def kept_units(mask, layer):
    """Which units of a layer a mask keeps, ``(n,)`` bool: those with any weight of their own."""
    return mask.entries[f"{layer}.weight"].flatten(1).any(1)


def removed_units(mask, layer):
    """Numbers of the units of a layer that a mask removes, as a set."""
    return set((~kept_units(mask, layer)).nonzero().flatten().tolist())


def _scales(net, at):
    """Scale and shift of the BatchNorm behind a layer, if any."""
    return [] if at.norm is None else list(net.get_submodule(at.norm).parameters())


def _rows(net, at):
    """All that has one entry a unit behind a layer: the BatchNorm's numbers."""
    if at.norm is None:
        return []
    norm = net.get_submodule(at.norm)
    return [norm.weight, norm.bias, norm.running_mean, norm.running_var]


def _columns(net, at, unit):
    """The weights that read a unit, views into each reader's weight."""
    for reader in at.readers:
        weight = net.get_submodule(reader.layer).weight
        yield weight[:, unit * reader.positions : (unit + 1) * reader.positions]
