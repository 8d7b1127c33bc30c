"""Small networks whose partitions fit on a page.

Every builder returns a fresh network made only of piecewise affine layers, float64 by default, so
that the rest of splinelib can treat it exactly. Weights come from a ``torch.Generator``: the global
random state is neither read nor changed, and equal arguments give equal networks.
"""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

Generator = torch.Generator


class Abs(nn.Module):
    """The absolute value ``|z|``: slope 1 where ``z > 0``, slope -1 elsewhere (leakiness -1).

    Taught in *From layer to CPA map*.

    >>> Abs()(torch.tensor([-2.0, 0.0, 3.0]))
    tensor([2., 0., 3.])
    """

    def forward(self, z: Tensor) -> Tensor:
        """Return ``|z|`` entry by entry, of the same shape."""
        return torch.abs(z)


class Residual(nn.Module):
    """A residual sum ``x + body(x)``, where ``body`` keeps the shape.

    A sum of two CPA maps is CPA, so a residual network has an exact partition too. Taught in *The
    partition, layer after layer*.

    >>> Residual(nn.ReLU())(torch.tensor([-1.0, 2.0]))
    tensor([-1.,  4.])
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + body(x)``, of the same shape."""
        return x + self.body(x)


def activation(alpha: float = 0.0) -> nn.Module:
    """Build the activation with slope 1 where ``z > 0`` and slope ``alpha`` elsewhere.

    Parameters
    ----------
    alpha : float, in [-1, 1]
        Leakiness: 0 is the ReLU, -1 the absolute value, 1 the identity. Anything else raises a
        ``ValueError``.

    Notes
    -----
    The slopes {1, alpha} fill the diagonal of Eq. 4, as the book corrects it. Taught in *From layer
    to CPA map*.

    Examples
    --------
    >>> activation(0), activation(-1), activation(0.1)
    (ReLU(), Abs(), LeakyReLU(negative_slope=0.1))
    """
    if not -1 <= alpha <= 1:
        raise ValueError(
            f"alpha is {alpha}, but a leakiness lies in [-1, 1]: "
            "use 0 for the ReLU, -1 for the absolute value"
        )
    if alpha == 0:
        return nn.ReLU()
    return Abs() if alpha == -1 else nn.LeakyReLU(float(alpha))


def _whole(name: str, values: Sequence[int], least: int = 1) -> None:
    """Raise unless ``values`` holds at least ``least`` positive whole numbers."""
    if len(values) < least or not all(isinstance(v, Integral) and v > 0 for v in values):
        raise ValueError(
            f"{name} is {tuple(values)}, but needs at least {least} whole numbers, each at least 1"
        )


def _drawn(layer: type, *sizes: int, alpha: float, generator: Generator, **options) -> nn.Module:
    """Make a Linear or Conv2d: Kaiming-normal weights, biases uniform in +-1/sqrt(fan in)."""
    # skip_init leaves the memory unset, so PyTorch's own draw from the global state never happens.
    made = skip_init(layer, *sizes, device=generator.device, **options)
    nn.init.kaiming_normal_(made.weight, a=alpha, generator=generator)
    bound = 1 / math.sqrt(made.weight[0].numel())
    nn.init.uniform_(made.bias, -bound, bound, generator=generator)
    return made


def mlp(
    widths: Sequence[int],
    alpha: float = 0.0,
    *,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    """Build a fully connected network: Linear, activation, ..., Linear.

    Parameters
    ----------
    widths : sequence of int
        ``(D^0, D^1, ..., D^L)``: input dimension, hidden widths, number of outputs.
    alpha : float, in [-1, 1]
        Leakiness of every activation, see :func:`activation`.
    generator : torch.Generator, optional
        Source of the weights; the network lives on its device. Default: a fresh one with seed 0.
    dtype : torch.dtype
        Type of the weights. Geometry wants the default.

    Returns
    -------
    nn.Sequential
        Maps ``(B, D^0)`` to ``(B, D^L)``; no activation after the last Linear.

    Raises
    ------
    ValueError
        Fewer than two widths, a width that is no positive whole number, a bad ``alpha``.

    Notes
    -----
    Weights are Kaiming-normal for the slopes {1, alpha}; biases are uniform in +-1/sqrt(fan in), so
    the hyperplanes do not all pass through the origin. The network of Sec. 2; taught in *From layer
    to CPA map*.

    Examples
    --------
    >>> net = mlp([2, 6, 6, 1])
    >>> net(torch.zeros(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """
    _whole("widths", widths, least=2)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    layers: list[nn.Module] = []
    for size in zip(widths[:-1], widths[1:], strict=True):
        linear = _drawn(nn.Linear, *size, alpha=alpha, generator=generator, dtype=dtype)
        layers += [linear, activation(alpha)]
    return nn.Sequential(*layers[:-1])


def by_hand(*layers: tuple[Sequence, Sequence], alpha: float = 0.0) -> nn.Sequential:
    """Build a network from weights that you give, layer by layer.

    Parameters
    ----------
    *layers : (weight (D^l, D^{l-1}), bias (D^l,))
        Nested lists or tensors, one pair a Linear.
    alpha : float, in [-1, 1]
        Leakiness of the activations between them, see :func:`activation`.

    Returns
    -------
    nn.Sequential
        As from :func:`mlp`, in float64.

    Raises
    ------
    ValueError
        If a layer's weight and bias, or two layers in a row, do not fit each other.

    Notes
    -----
    For the small examples that every chapter starts with.

    Examples
    --------
    >>> net = by_hand(([[1, 0], [0, 1]], [0, 0]), ([[1, 1]], [-1]))  # max(0, x) + max(0, y) - 1
    >>> net(torch.tensor([[3.0, -2.0]]).double()).item()
    2.0
    """
    pairs = [[torch.as_tensor(v, dtype=torch.float64) for v in layer] for layer in layers]
    widths = [pairs[0][0].shape[-1], *(len(bias) for _, bias in pairs)]
    net = mlp(widths, alpha)
    for number, (linear, pair) in enumerate(zip(net[::2], pairs, strict=True), start=1):
        for value, given in zip((linear.weight, linear.bias), pair, strict=True):
            if value.shape != given.shape:
                raise ValueError(
                    f"layer {number} has a weight of shape {tuple(pair[0].shape)} and a bias of "
                    f"shape {tuple(pair[1].shape)}, but comes after {linear.in_features} values: "
                    f"give a weight ({len(pair[1])}, {linear.in_features}) and its bias"
                )
            value.data.copy_(given)
    return net


def residual_mlp(
    width_in: int,
    width: int,
    blocks: int,
    out: int,
    alpha: float = 0.0,
    *,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    """Build a fully connected residual network.

    Linear, activation, then ``blocks`` times (``x + body(x)``, activation), then Linear, where each
    body is Linear, activation, Linear.

    Parameters
    ----------
    width_in, width, blocks, out : int
        Input dimension, width of the stream and of each body, number of residual blocks, outputs.
    alpha, generator, dtype
        As in :func:`mlp`.

    Returns
    -------
    nn.Sequential
        Maps ``(B, width_in)`` to ``(B, out)``, with ``1 + 2 * blocks`` nonlinearity layers.

    Raises
    ------
    ValueError
        A size that is no positive whole number, a bad ``alpha``.

    Notes
    -----
    The fully connected relative of the ResNets of Sec. 4. Taught in *The partition, layer after
    layer*.

    Examples
    --------
    >>> net = residual_mlp(2, 8, blocks=2, out=1)
    >>> net(torch.zeros(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """
    _whole("(width_in, width, blocks, out)", (width_in, width, blocks, out))
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    options = {"alpha": alpha, "generator": generator, "dtype": dtype}
    layers = [*mlp([width_in, width], **options), activation(alpha)]
    for _ in range(blocks):
        layers += [Residual(mlp([width] * 3, **options)), activation(alpha)]
    return nn.Sequential(*layers, *mlp([width, out], **options))


def convnet(
    in_shape: tuple[int, int, int] = (1, 8, 8),
    channels: Sequence[int] = (8, 8),
    kernels: Sequence[int] = (3, 3),
    classes: int = 10,
    alpha: float = 0.0,
    pool: str | None = "max",
    batch_norm: bool = False,
    *,
    padded: bool = True,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    """Build a small ConvNet: (Conv2d, [BatchNorm2d], activation, [pool]) blocks, Flatten, Linear.

    Parameters
    ----------
    in_shape : (C, H, W)
        Channels, height and width of one image, in pixels.
    channels, kernels : sequences of int, of one length
        Output channels and (square) kernel size of each convolution, stride 1.
    classes : int
        Number of logits.
    alpha : float, in [-1, 1]
        Leakiness, see :func:`activation`.
    pool : "max", "avg" or None
        Pooling over 2 x 2 pixels, stride 2, at the end of each block.
    batch_norm : bool
        BatchNorm before each activation. It is affine in evaluation mode only: call ``net.eval()``
        before any geometry (:func:`splinelib.fit.fit` has done so).
    padded : bool
        Zero-pad so that convolutions keep height and width (odd kernels only).
    generator, dtype
        As in :func:`mlp`.

    Returns
    -------
    nn.Sequential
        Maps ``(B, C, H, W)`` to ``(B, classes)``.

    Raises
    ------
    ValueError
        Sizes that are no positive whole numbers or do not match, an even padded kernel, an unknown
        ``pool``, a bad ``alpha``, or an image used up before the last block.

    Notes
    -----
    ``convnet((1, 28, 28), (20, 20), (21, 5), pool=None, batch_norm=True, padded=False)`` is the net
    of Fig. 3. Used in *The decision boundary is the last spline*.

    Examples
    --------
    >>> convnet()(torch.zeros(3, 1, 8, 8, dtype=torch.float64)).shape
    torch.Size([3, 10])
    """
    _whole("classes", [classes])
    if pool not in _POOLS:
        raise ValueError(f"pool is {pool!r}, but must be 'max', 'avg' or None")
    height, width = _output_size(in_shape, channels, kernels, pool, padded)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    options = {"alpha": alpha, "generator": generator, "dtype": dtype}
    layers: list[nn.Module] = []
    for c, out, k in zip([in_shape[0], *channels], channels, kernels, strict=False):
        layers += [_drawn(nn.Conv2d, c, out, k, padding=k // 2 if padded else 0, **options)]
        if batch_norm:
            layers += [nn.BatchNorm2d(out, device=generator.device, dtype=dtype)]
        layers += [activation(alpha), *(make(2) for make in _POOLS[pool])]
    layers += [nn.Flatten(), *mlp([channels[-1] * height * width, classes], **options)]
    return nn.Sequential(*layers)


_POOLS = {"max": (nn.MaxPool2d,), "avg": (nn.AvgPool2d,), None: ()}


def _output_size(in_shape, channels, kernels, pool, padded) -> tuple[int, int]:
    """Check the sizes of a ConvNet and return height and width after its last block."""
    _whole("in_shape", in_shape, least=3)
    _whole("channels", channels)
    _whole("kernels", kernels)
    if len(in_shape) != 3 or len(channels) != len(kernels):
        raise ValueError(
            f"in_shape {tuple(in_shape)}, channels {tuple(channels)}, kernels {tuple(kernels)}: "
            "need (C, H, W) and one kernel size for each entry of channels"
        )
    if padded and any(k % 2 == 0 for k in kernels):
        raise ValueError(f"kernels is {tuple(kernels)}, but padding needs odd sizes; padded=False?")
    size = in_shape[1:]
    for k in kernels:
        size = [(n if padded else n - k + 1) // (2 if pool else 1) for n in size]
        if min(size) < 1:
            raise ValueError(
                f"an image of {in_shape[1]} x {in_shape[2]} pixels is used up before the last "
                "block: use fewer blocks, smaller kernels, padding or no pooling"
            )
    return size[0], size[1]


def sawtooth_net(peaks: int = 2, *, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Build the one-hidden-layer ReLU net with ``2 * peaks`` units that equals the sawtooth.

    Parameters
    ----------
    peaks : int
        Number of teeth, at least 1. Unit ``k = 1, ..., 2 * peaks`` bends the graph at ``x = k``.
    dtype : torch.dtype
        Type of the weights.

    Returns
    -------
    nn.Sequential
        Maps ``(B, 1)`` to ``(B, 1)``: 0 for ``x <= 1``, the teeth of
        :func:`splinelib.data.sawtooth` on ``[1, 2 * peaks + 1]``, slope -1 from there on.

    Raises
    ------
    ValueError
        If ``peaks`` is no positive whole number.

    Notes
    -----
    ``W1 = 1, b1 = -k, W2 = 1`` for ``k = 1`` and ``2 (-1)^(k-1)`` for ``k >= 2``. App. K of the
    paper prints ``(-2)^((k-1) % 2)``, which misses the second tooth (``f(4) = 0, f(5) = -2``).
    Taught in *Why start wide*; an exercise of *From layer to CPA map*.

    Examples
    --------
    >>> x = torch.arange(1.0, 6.0, dtype=torch.float64)[:, None]
    >>> sawtooth_net(2)(x).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0, 0.0]
    """
    _whole("peaks", [peaks])
    k = torch.arange(1, 2 * peaks + 1, dtype=dtype)
    slope_change = 2 * (-1) ** (k - 1)
    slope_change[0] = 1
    hidden = (torch.ones_like(k)[:, None], -k)
    return by_hand(hidden, (slope_change[None], torch.zeros_like(k[:1])))


def paper_toy() -> nn.Sequential:
    """Build the book's running example: a 2-6-6-1 ReLU net with hand-checkable weights.

    Returns
    -------
    nn.Sequential
        Maps ``(B, 2)`` to ``(B, 1)``, float64. Look at it on the box ``[-1, 1]^2``: each of the
        twelve units draws a line there, the first layer makes 17 cells and both layers 51, and the
        decision boundary bends its way across, beside one island.

    Notes
    -----
    The shape of the paper's Fig. 1a, whose weights are not published. Ours are multiples of 1/8, so
    they are exact in floating point and in ``fractions``; they were searched for a legible picture.
    Taught in *The partition, layer after layer*.

    Examples
    --------
    >>> net = paper_toy()
    >>> net[0].weight[1].tolist(), net[0].bias[1].item()
    ([0.75, 0.75], 0.25)
    >>> net(torch.tensor([[0.0, 0.0]], dtype=torch.float64)).item()
    0.09375
    """
    return by_hand(*_PAPER_TOY)


# Weights (out, in) and biases (out,) of each layer.
_PAPER_TOY = (
    (
        [[1.75, 0], [0.75, 0.75], [0.25, 1.5], [0.25, 1.25], [-1, 1.5], [-1.25, 0.75]],
        [0.5, 0.25, -1, 0.5, -1, 0.75],
    ),
    (
        [
            [-0.5, -0.25, 0.75, 0.5, -0.25, 0.25],
            [-1.25, 0.25, 1.25, 0.25, -0.25, 1],
            [0.25, 0.75, -1.75, 1.25, -0.75, -0.25],
            [-0.5, 0.75, 2, -0.25, -0.5, 0.25],
            [-1.5, 0.75, 2, 0.5, 0.25, 0.5],
            [-1.75, 0.5, -1.25, -0.5, 0.5, 0.25],
        ],
        [0.375, -0.5, -0.625, 0.5, 0.25, -0.25],
    ),
    ([[-0.75, -0.25, -0.5, 0.25, 0.5, 0.25]], [0.25]),
)
