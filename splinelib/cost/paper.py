"""The paper's own accounting: FLOPs as its public code prints them, to 0.01 GFLOPs."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor, nn

from splinelib.cost.ledger import count
from splinelib.cost.macs import run, weightless

IMAGES = {"CIFAR": 50_000, "ImageNet": 1_281_167}  # training images of an epoch
MILLION = 10**6  # GFLOPs in a petaFLOP
COUNTED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d)


def printed_flops(net: nn.Module, shape: Sequence[int]) -> int:
    """Count floating-point operations for one input as the paper's public code does.

    Two for each multiply-add of a convolution or Linear, one for each output with a bias, two for
    each input of a BatchNorm2d, one for each input of a ReLU, and one for each entry of each window
    of a MaxPool2d or AvgPool2d.

    Parameters
    ----------
    net, shape
        As in :func:`splinelib.cost.macs`.

    Returns
    -------
    int
        Its script prints this number to 0.01 G. As there, nothing else counts: no LeakyReLU, no
        adaptive pooling, no sum, no function that is called without a module.

    Raises
    ------
    ValueError
        As :func:`splinelib.cost.macs`.

    Notes
    -----
    For one image, a Linear after a Flatten. The public ``compute_flops.py``, run on torchvision's
    ResNet-18 and ResNet-50, gives exactly these counts (3,637,229,544 and 8,212,012,520); the
    public repository's own ResNet-50 has shortcut convolutions with bias (1,505,280) and an
    AvgPool2d(7) (100,352) in addition: 8213.62 M. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> printed_flops(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (4,))  # 2 * 32 + 8, 8
    80
    """
    net, counted = weightless(net), []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        counted.append(_printed(module, inputs[0].numel(), output.numel()))

    for module in net.modules():
        if isinstance(module, COUNTED):
            module.register_forward_hook(note)
    run(net, shape)
    return sum(counted)


def _printed(module: nn.Module, inputs: int, outputs: int) -> int:
    """Operations of one call of a layer, from the numbers of its inputs and outputs."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        return outputs * (2 * module.weight[0].numel() + (module.bias is not None))
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        kernel = module.kernel_size
        return outputs * (kernel**2 if isinstance(kernel, int) else kernel[0] * kernel[1])
    return 2 * inputs if isinstance(module, nn.BatchNorm2d) else inputs


def total(printed: int, images: int, epochs: int) -> float:
    """Return what the paper calls the total training FLOPs of a network, in petaFLOPs.

    Parameters
    ----------
    printed : int
        Operations of a forward pass, see :func:`printed_flops`; they are rounded to 0.01 GFLOPs.
    images, epochs : int
        Images of an epoch and number of epochs.

    Returns
    -------
    float
        ``3 * printed * images * epochs / 10^15``. A run with several networks is the sum of theirs.

    Raises
    ------
    ValueError
        A number that is not whole, or negative.

    Notes
    -----
    The paper does not state this rule. It was found from its tables: it gives the two unpruned rows
    of Table 3 to the last digit. The exact account is :class:`splinelib.cost.Ledger`. Taught in
    *Drawing the ticket*.

    Examples
    --------
    >>> round(total(3_637_229_544, images=1_281_167, epochs=90), 2)  # ResNet-18 of Table 3
    1259.13
    """
    for name, value in (("printed", printed), ("images", images), ("epochs", epochs)):
        count(name, value)
    return float(petaflops([(epochs, Fraction(round(printed / 10**7), 100))], images))


def petaflops(phases: Sequence[tuple[int, Fraction]], images: int) -> Fraction:
    """Sum up phases of (epochs, printed GFLOPs of a forward pass), exactly, in petaFLOPs."""
    forward = sum((epochs * Fraction(gflops) for epochs, gflops in phases), Fraction(0))
    return 3 * images * forward / MILLION


@dataclass(frozen=True)
class Row:
    """A printed total of the paper, and the sum that gives it.

    Attributes
    ----------
    table, network, method : str
        Where it stands.
    pruned : int or None
        Percent of the channels or weights that are pruned; None if the row says none, or all the
        same.
    published : str
        PetaFLOPs as printed.
    exact : Fraction
        The sum, in petaFLOPs.
    formula : str
        The sum as it is written down.
    decoded : bool
        True if a number of the sum was chosen so that the printed total comes out: then the row
        shows that such a number exists, not that it is the one of the paper.
    note : str
        Where the numbers are from.

    Notes
    -----
    Taught in *Drawing the ticket*.
    """

    table: str
    network: str
    method: str
    pruned: int | None
    published: str
    exact: Fraction
    formula: str
    decoded: bool
    note: str = ""

    @property
    def residual(self) -> Fraction:
        """The sum minus the printed total, in petaFLOPs."""
        return self.exact - Fraction(self.published)

    @property
    def agrees(self) -> bool:
        """Whether the sum, rounded to the printed digits, is the printed total."""
        digits = len(self.published.partition(".")[2])
        return abs(self.residual) <= Fraction(1, 2 * 10**digits)
