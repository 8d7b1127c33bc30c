"""Small networks in which some units draw one hyperplane, and what masks keep of them."""

import copy

import torch
from networks import shaken

from splinelib import nets
from splinelib.surgery import groups
from splinelib.units import units

REDUCE = ("none", "pca", "fa", "svd", "null")
FACTORS = (1.0, 2.5, -1.0, -3.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(form, seed=0):
    """A small network whose BatchNorms do something, and the layer to plant doubles in."""
    if form == "linear":
        return nets.mlp([5, 9, 8, 3], generator=seeded(seed)), "2"
    if form == "conv":
        made = nets.convnet((2, 8, 8), (9, 8), (3, 3), 3, generator=seeded(seed))
        return made, "0"
    if form == "norm":
        made = nets.convnet((2, 8, 8), (9, 8), (3, 3), 3, batch_norm=True, generator=seeded(seed))
        return shaken(made, seed, positive=True), "0"
    made = nets.preresnet(11, 3, width=0.5, generator=seeded(seed))
    return shaken(made, seed, positive=True), "stage2.0.conv1"


def twin(net, layer, source, target, factor):
    """Let unit ``target`` draw the hyperplane of unit ``source``: its row and offset, scaled."""
    net, at = copy.deepcopy(net), units(net)[layer]
    with torch.no_grad():
        for tensor in net.get_submodule(layer).parameters():
            tensor[target] = factor * tensor[source]
        if at.norm:
            norm = net.get_submodule(at.norm)
            for tensor in (norm.weight, norm.running_var):
                tensor[target] = tensor[source]
            for tensor in (norm.bias, norm.running_mean):
                tensor[target] = factor * tensor[source]
    return net


def kept(net, mask, residual="inner"):
    """Number of channels that a mask keeps, by group."""
    found = groups(net, residual).items()
    paths = {name: (g.norms if g.gate else g.writers)[0] for name, g in found}
    return {name: int(rows_of(mask, path).any(1).sum()) for name, path in paths.items()}


def rows_of(mask, path):
    """The entries of a layer's or BatchNorm's weight, one row a channel."""
    entry = mask.entries[f"{path}.weight"]
    return entry.reshape(len(entry), -1)
