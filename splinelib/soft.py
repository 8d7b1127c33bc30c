"""Smooth activations as soft region assignment.

A ReLU unit asks on which side of its hyperplane an input lies and answers yes or no. A smooth unit
answers with a probability, and its output is the mean of the two affine pieces under it. The
temperature sets how soft the answer is; at temperature 0 the hard partition comes back.

Source: Balestriero & Baraniuk, "From Hard to Soft: Understanding Deep Network Nonlinearities via
Vector Quantization and Statistical Inference", ICLR 2019, which the end of Sec. 3.1 cites.
Taught in *Smooth activations*.
"""

import torch
from torch import Tensor, fx, nn

from splinelib.nets import Abs
from splinelib.ops import copied

HARD = ("relu", "leaky_relu", "abs")  # activations that may be called as functions


def _check(temperature: float) -> None:
    """Raise unless the temperature is a number of at least 0."""
    if not temperature >= 0:
        raise ValueError(
            f"temperature is {temperature}, but must be at least 0; 0 gives the hard assignment"
        )


def assignment(z: Tensor, temperature: float) -> Tensor:
    """Probability that each unit is active, given its pre-activation.

    Parameters
    ----------
    z : Tensor, any shape
        Pre-activations ``<w, x> + b``.
    temperature : float, at least 0
        Softness ``T``, in units of ``z``.

    Returns
    -------
    Tensor, shape of ``z``
        ``P(s = +1) = sigmoid(z / T)``, in [0, 1]; at ``T = 0`` the step, 1 where ``z > 0`` and
        else 0.

    Raises
    ------
    ValueError
        If the temperature is negative or NaN.

    Notes
    -----
    It is the probability that ``z`` plus logistic noise of scale ``T`` (standard deviation
    ``pi T / sqrt(3)``) is positive: ``T`` to 0 is the zero-noise limit of Sec. 3.1. The parameter
    ``beta`` of Balestriero & Baraniuk (2019) is ``1 / (1 + T)`` for the ReLU.

    Examples
    --------
    >>> z = torch.tensor([-1.0, 0.0, 1.0])
    >>> assignment(z, 0.5)
    tensor([0.1192, 0.5000, 0.8808])
    >>> assignment(z, 0)
    tensor([0., 0., 1.])
    """
    _check(temperature)
    return torch.sigmoid(z / temperature) if temperature > 0 else (z > 0).to(z.dtype)


def gated(z: Tensor, temperature: float, alpha: float = 0.0) -> Tensor:
    """Soft leaky ReLU: the mean of the pieces ``z`` and ``alpha z`` under the soft assignment.

    Parameters
    ----------
    z : Tensor, any shape
        Pre-activations.
    temperature : float, at least 0
        Softness ``T``, in units of ``z``.
    alpha : float
        Slope of the inactive side: 0 for the ReLU, -1 for the absolute value.

    Returns
    -------
    Tensor, shape of ``z``
        ``z (p + alpha (1 - p))`` with ``p = assignment(z, T)``.

    Raises
    ------
    ValueError
        If the temperature is negative or NaN.

    Notes
    -----
    ``T = 1, alpha = 0`` is the SiLU (swish), ``T = 0`` the leaky ReLU exactly. In between it lies
    below the leaky ReLU by at most ``0.2785 (1 - alpha) T``. For ``alpha != 0`` Balestriero &
    Baraniuk (2019) compare the pieces themselves, ``sigmoid((1 - alpha) z / T)``; here one ``T``
    means the same assignment for every leakiness.

    Examples
    --------
    >>> z = torch.tensor([-1.0, 0.0, 1.0])
    >>> gated(z, 1.0)
    tensor([-0.2689,  0.0000,  0.7311])
    >>> gated(z, 0.0, alpha=0.1)
    tensor([-0.1000,  0.0000,  1.0000])
    """
    p = assignment(z, temperature)
    return z * (p + alpha * (1 - p))


class SoftReLU(nn.Module):
    """The activation :func:`gated` as a module: a ReLU of given leakiness, made smooth.

    Parameters
    ----------
    temperature : float, at least 0
        Softness, in units of the pre-activation. Otherwise a ``ValueError``.
    alpha : float
        Slope of the inactive side.

    Examples
    --------
    >>> SoftReLU(0.5)
    SoftReLU(temperature=0.5, alpha=0.0)
    >>> SoftReLU(1.0)(torch.tensor([2.0]))
    tensor([1.7616])
    """

    def __init__(self, temperature: float, alpha: float = 0.0) -> None:
        super().__init__()
        _check(temperature)
        self.temperature, self.alpha = float(temperature), float(alpha)

    def forward(self, z: Tensor) -> Tensor:
        """Return ``gated(z)``, of the same shape."""
        return gated(z, self.temperature, self.alpha)

    def extra_repr(self) -> str:
        """Name both parameters in the printed network."""
        return f"temperature={self.temperature}, alpha={self.alpha}"


def soften(net: nn.Module, temperature: float) -> nn.Module:
    """Copy a network with every ReLU, LeakyReLU and Abs module made smooth.

    Parameters
    ----------
    net : nn.Module
        Any network that calls its activations as modules. It stays as it is.
    temperature : float, at least 0
        Softness, the same for all units.

    Returns
    -------
    nn.Module
        A copy with the same weights, device, type and mode. Max-pooling stays hard. At temperature
        0 the activations stay as they are, and the copy is piecewise affine.

    Raises
    ------
    ValueError
        If the temperature is negative or NaN, the network has no such module, or it calls an
        activation as a function (``torch.relu``), which would stay hard.

    Examples
    --------
    >>> soften(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), 0.1)[1]
    SoftReLU(temperature=0.1, alpha=0.0)
    """
    # In a parent of one child the root is replaced like any other module.
    parent = nn.ModuleDict({"net": copied(net)})
    # One module may be used under several names: visit each name, not each module.
    found = [
        (name, module, _leakiness(module))
        for name, module in parent.named_modules(remove_duplicate=False)
        if _leakiness(module) is not None
    ]
    if not found:
        raise ValueError(
            f"{type(net).__name__} has no ReLU, LeakyReLU or Abs module to soften: build it with "
            "activation modules, not with calls such as torch.relu"
        )
    _check(temperature)
    _refuse_calls(parent["net"])
    for name, module, alpha in found if temperature > 0 else ():
        owner, _, child = name.rpartition(".")
        setattr(
            parent.get_submodule(owner), child, SoftReLU(temperature, alpha).train(module.training)
        )
    return parent["net"]


def _leakiness(module: nn.Module) -> float | None:
    """Return the slope of the inactive side, or None if the module is no (leaky) ReLU or Abs."""
    if isinstance(module, nn.LeakyReLU):
        return module.negative_slope
    return 0.0 if isinstance(module, nn.ReLU) else -1.0 if isinstance(module, Abs) else None


def _refuse_calls(net: nn.Module) -> None:
    """Raise if a forward calls an activation as a function: it would stay hard."""
    try:
        nodes = fx.symbolic_trace(nn.Sequential(net)).graph.nodes
    except Exception:
        return
    for node in nodes:
        label = getattr(node.target, "__name__", str(node.target)).rstrip("_")
        if node.op not in ("call_function", "call_method") or label not in HARD:
            continue
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        if not stack or not issubclass(stack[-1][1], Abs):
            raise ValueError(
                f"a forward calls {label} as a function, which soften cannot replace: use a module "
                "(nn.ReLU, nn.LeakyReLU or nets.Abs) instead"
            )


def region_probabilities(z: Tensor, temperature: float, codes: Tensor) -> Tensor:
    """Probability with which each input belongs to each region.

    Parameters
    ----------
    z : Tensor (B, K)
        Pre-activations of K units at B inputs.
    temperature : float, at least 0
        Softness, in units of ``z``.
    codes : Tensor (R, K)
        Codes of R regions, entries -1 and +1.

    Returns
    -------
    Tensor (B, R)
        ``prod_k P(s_k)``, in [0, 1]. Over all ``2^K`` codes each row sums to 1, empty regions
        included. At temperature 0: 1 for the input's own region, 0 for the others.

    Raises
    ------
    ValueError
        If the shapes do not match, a code has other entries, or the temperature is negative or NaN.

    Notes
    -----
    Given ``z``, the units decide independently. For one hidden layer the soft network is then the
    mean of the regions' affine maps: ``sum_s P(s) (A_s x + b_s)``. Memory: ``B R K`` numbers.

    Examples
    --------
    >>> z = torch.tensor([[2.0, 0.0]])
    >>> region_probabilities(z, 1.0, torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]))
    tensor([[0.4404, 0.4404, 0.0596, 0.0596]])
    """
    if z.ndim != 2 or codes.ndim != 2 or z.shape[1] != codes.shape[1]:
        raise ValueError(
            f"z has shape {tuple(z.shape)} and codes {tuple(codes.shape)}, but need (B, K) and "
            "(R, K) with one K"
        )
    if not bool((codes.abs() == 1).all()):
        raise ValueError("codes has entries other than -1 and +1; +1 means the unit is active")
    p = assignment(z, temperature)[:, None, :]
    return torch.where(codes > 0, p, 1 - p).prod(dim=-1)
