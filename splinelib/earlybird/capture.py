"""The codes of inputs: the signs in front of every nonlinearity of a network."""

import torch
from torch import Tensor, nn

from splinelib.earlybird.snapshots import Codes, Sample
from splinelib.earlybird.watch import Watch, check_norms, quiet, watched
from splinelib.ops import unwrapped

PLACES = ("activation", "batchnorm")


def codes(
    net: nn.Module,
    x: Tensor,
    *,
    at: str = "activation",
    features: int | None = None,
    seed: int = 0,
    chunk: int = 256,
) -> Codes:
    """Read which side of its hyperplane each input is on, for every unit of a network.

    Parameters
    ----------
    net : nn.Module
        A network whose nonlinearities bend at zero (ReLU, LeakyReLU, PReLU, abs), as modules or
        as functions, on the device and of the dtype of ``x``. It is run in evaluation mode and
        left as it is, mode, BatchNorm statistics and hooks included; the random state is not
        touched, and autocast is off. Wrappers (DistributedDataParallel, ``torch.compile``) are
        looked through.
    x : Tensor (B, ...)
        The probe set: inputs as the network takes them.
    at : "activation" or "batchnorm"
        Signs of what goes into each nonlinearity, or, as the paper's public code does, of what
        each BatchNorm module puts out. They differ where a shortcut is added in between.
    features : int, optional
        Hold at most so many entries of each layer, a random subset that depends on ``seed``, the
        number of the layer and its width alone. Default: all entries, exactly.
    seed : int
        Of the random subsets.
    chunk : int
        Inputs that are run at a time; bounds the memory, and changes nothing else but rounding.

    Returns
    -------
    Codes
        One bit an entry, packed: 1 where the pre-activation is positive. A layer is named by the
        path of the module that calls the nonlinearity, with ``#2``, ``#3``, ... for further calls.

    Raises
    ------
    ValueError
        A nonlinearity that does not bend at zero alone (named), none at all, a network that has
        diverged (NaN), inputs that do not fit the network, settings out of range.

    Notes
    -----
    The binary codes of Sec. 3.3 of the paper. Windows of max-pooling have no sign and are not
    part of this code, although they cut the input space too; :func:`splinelib.affine.codes` has
    them. What other functions do to the values (a product of two of them, ``torch.where``,
    ``exp``) is not looked at: ``splinelib.ops.trace`` tells whether a network is piecewise affine.
    Taught in *The partition settles early*.

    Examples
    --------
    >>> from splinelib import nets
    >>> net = nets.by_hand(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    >>> found = codes(net, torch.tensor([[1.0, -1.0], [2.0, 3.0]]).double())
    >>> found.layers, found.bits[0].tolist()
    (('1',), [[True, False], [True, True]])
    """
    return captured(net, x, at, Sample(features, seed), chunk)


def captured(net: nn.Module, x: Tensor, at: str, sample: Sample, chunk: int) -> Codes:
    """``codes`` with subsets that may have been drawn before."""
    net = unwrapped(net)
    modules = dict(net.named_modules())
    _check(net, x, at, chunk)
    check_norms(modules)
    words = None
    with quiet(modules, x):
        for start in range(0, len(x), chunk):
            part = x[start : start + chunk]
            watch = watched(modules, part, at, sample)
            if words is None:  # the first chunk shows the layers
                total = sum(bits.shape[1] for bits in watch.packed)
                first, words = watch, watch.packed[0].new_empty(len(x), total)
            _check_same(first, watch)
            torch.cat(watch.packed, dim=1, out=words[start : start + chunk])
            watch.packed.clear()
    whole = sample.features is None or sample.features >= max(first.widths)
    subset = (None, 0) if whole else (sample.features, sample.seed)
    return Codes(tuple(first.names), tuple(first.widths), words, *subset)


def _check_same(first: Watch, watch: Watch) -> None:
    """Raise if the network has other layers for other inputs."""
    if (watch.names, watch.widths) != (first.names, first.widths):
        raise ValueError(
            f"the network calls other nonlinearities for other inputs: {first.names} first, then "
            f"{watch.names}. What it calls must not depend on the values of its inputs."
        )


def _check(net: nn.Module, x: Tensor, at: str, chunk: int) -> None:
    """Raise unless inputs and settings fit the network."""
    if at not in PLACES or chunk < 1:
        raise ValueError(f"at={at!r}, chunk={chunk}: need at in {PLACES} and chunk >= 1.")
    if x.ndim < 2 or not len(x) or not x.is_floating_point() or not torch.isfinite(x).all():
        raise ValueError(
            f"the probe must be a batch (B, ...) of finite floating-point numbers with B >= 1; got "
            f"shape {tuple(x.shape)} of {x.dtype}."
        )
    weight = next(net.parameters(), None)
    if weight is not None and (weight.dtype, weight.device) != (x.dtype, x.device):
        raise ValueError(
            f"the probe is {x.dtype} on {x.device}, the network {weight.dtype} on "
            f"{weight.device}: move the probe, x.to(weight)."
        )
