"""Masks of whole units, and of single weights."""

from collections.abc import Collection, Iterator, Mapping

from torch import Tensor, nn

from splinelib.masks.mask import Mask, shapes, zero_one
from splinelib.units.walk import Units, known, units


def unit_mask(net: nn.Module, keep: Mapping[str, Tensor]) -> Mask:
    """Build the mask that removes whole units of some layers.

    Parameters
    ----------
    net : nn.Module
        The network, see :func:`splinelib.units.units`.
    keep : mapping of str to Tensor (n,)
        By the path of a layer: 1 (True) for each of its n units that is kept, else 0.

    Returns
    -------
    Mask
        Of the weights, the bias, and scale and shift of the BatchNorm directly behind, so that a
        removed unit puts out 0. The weights that read it are not masked.

    Raises
    ------
    ValueError
        An unknown layer, a wrong shape, an entry other than 0 or 1, a BatchNorm without scale
        and shift behind a unit to be removed, or a weight that is computed from others
        (a parametrization) or shared with a layer before.

    Notes
    -----
    Taught in *What a mask does to a partition*.

    Examples
    --------
    >>> import torch
    >>> from splinelib import nets
    >>> net = nets.mlp([2, 3, 1])
    >>> mask = unit_mask(net, {"0": torch.tensor([True, False, True])})
    >>> mask.counts()
    {'0.weight': (4, 6), '0.bias': (2, 3)}
    >>> mask.apply(net)[0].bias[1].item()
    0.0
    """
    found, fitting, entries = units(net), shapes(net), {}
    for layer in known(found, keep):
        at, kept = found[layer], zero_one(layer, keep[layer])
        if kept.shape != (at.width,):
            raise ValueError(
                f"keep[{layer!r}] has shape {tuple(kept.shape)}, but the layer has {at.width} "
                f"units: give {at.width} entries."
            )
        for name in _rows_of(net, at, fitting, whole=bool(kept.all())):
            ones = [1] * (len(fitting[name]) - 1)
            entries[name] = kept.reshape(-1, *ones).expand(fitting[name])
    return Mask(entries)


def weight_mask(net: nn.Module, keep: Mapping[str, Tensor]) -> Mask:
    """Build a mask of single weights, checked against a network.

    Parameters
    ----------
    net : nn.Module
        The network.
    keep : mapping of str to Tensor
        By the name of a parameter: a tensor of its shape, 1 (True) for each weight that is kept.

    Returns
    -------
    Mask
        Of the parameters named.

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
    >>> from splinelib.masks import select
    >>> net = nets.mlp([2, 3, 1])
    >>> keep = {"0.weight": select(net[0].weight.abs(), 0.5)}
    >>> weight_mask(net, keep).counts()
    {'0.weight': (3, 6)}
    """
    mask = Mask(keep)
    mask.check(net)
    return mask


def _rows_of(net: nn.Module, at: Units, names: Collection[str], whole: bool) -> Iterator[str]:
    """Names of the parameters that hold one row a unit: of the layer, and of its BatchNorm."""
    for path in filter(None, (at.layer, at.norm)):
        module = net.get_submodule(path)
        for name, part in ((f"{path}.{part}", part) for part in ("weight", "bias")):
            if name in names:
                yield name
            elif getattr(module, part) is not None:
                raise ValueError(
                    f"the units of {at.layer!r} cannot be masked: {name!r} is no parameter of its "
                    "own, but computed from others (a parametrization) or shared with a layer "
                    "before; make it one first."
                )
            elif part == "weight" and not whole:
                raise ValueError(
                    f"the units of {at.layer!r} cannot be masked: the BatchNorm '{path}' behind "
                    "has no scale and shift (affine=False) and puts out a constant for a row of "
                    "zeros."
                )
