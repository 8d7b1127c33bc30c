"""Networks and numbers that several tests of networks share."""

import torch
from torch import nn

from splinelib.units.order import NORMS


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def shaken(net, seed=0, *, positive=False):
    """A network in float64, evaluation mode, with BatchNorms that do something."""
    net = net.double().eval()
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, NORMS):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
                if positive:
                    module.weight.data.abs_().add_(0.5)
    return net


def state(net):
    """Copies of all parameters and buffers, by name."""
    return {name: value.clone() for name, value in net.state_dict().items()}


def unchanged(net, before):
    """Whether a network holds the very numbers that ``state`` told."""
    after = net.state_dict()
    return after.keys() == before.keys() and all(map(torch.equal, after.values(), before.values()))


def conv(*args, **options):
    return nn.Conv2d(*args, dtype=torch.float64, **options)


class Written(nn.Module):
    """A network whose forward is the function that it is given."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.function = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def linears(*widths):
    """Linear layers of some widths, by the names fc1, fc2, ..."""
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return {f"fc{i}": nn.Linear(*pair) for i, pair in enumerate(pairs, start=1)}
