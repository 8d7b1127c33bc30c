"""Global dynamic pruning: filters are ranked over all layers, again and again, and may return."""

import torch
from torch import Tensor, nn

from splinelib.masks import Mask
from splinelib.pruning.family import Ticket, check_ratio, exactly, need_fit, targets
from splinelib.pruning.filters import filters, need_trained
from splinelib.pruning.held import Held, clear
from splinelib.surgery.groups import Group, Residual, group_mask
from splinelib.train.hook import StepHook
from splinelib.train.recipe import whole
from splinelib.train.step import finite


class GDP(StepHook):
    """Train under a mask of filters that is drawn anew every so many steps.

    Parameters
    ----------
    ratio : float, in [0, 1)
        Share of all filters together that is masked, never the last one of a group.
    period : int
        Steps between two masks.
    batches : int
        Steps at the start of each period that are taken with all filters in place, and score them.
    residual : "inner", "select" or "joint"
        Which channels are pruned, see ``splinelib.surgery.groups``.

    Notes
    -----
    The hook has the dense weights; the network has the masked ones when a batch goes through it,
    and the dense ones while the optimizer moves them. Between a step and one that scores, the
    network is left dense. A step whose gradients are not all finite scores nothing, and one that
    does not use a layer, so that it has no gradient, does not score it: the other steps count for
    more. While a group has no score the mask stays as it was.
    """

    def __init__(
        self, ratio: float, *, period: int = 100, batches: int = 1, residual: Residual = "inner"
    ) -> None:
        check_ratio(ratio)
        if not (whole(batches, 1) and whole(period, batches + 1)):
            raise ValueError(
                f"period={period}, batches={batches}: need whole numbers, 1 <= batches < period."
            )
        self.ratio, self.period, self.batches = ratio, period, batches
        self.residual = residual
        self._forget()

    def _forget(self) -> None:
        """Begin anew."""
        self.groups: dict[str, Group] = {}  # once the network is known
        self.keep: dict[str, Tensor] = {}  # by group, once it is drawn
        self.sums: dict[str, Tensor] = {}  # of the scores in this window
        self.times: dict[str, Tensor] = {}  # how many scores that were
        self.dense: dict[str, Tensor] = {}  # by parameter, while the network is masked
        self._gone: dict[str, Tensor] = {}

    def __repr__(self) -> str:
        settings = f"ratio={self.ratio}, period={self.period}, batches={self.batches}"
        return f"GDP({settings}, residual={self.residual!r})"

    def mask(self, net: nn.Module) -> Mask:
        """The mask in force."""
        if not self.keep:
            raise ValueError(
                f"no mask was drawn yet: that takes a window of {self.batches} steps in which each "
                "layer is used and gradients are finite; take more batches."
            )
        return group_mask(net, self.groups, self.keep)

    def begin(self, net: nn.Module, steps: int) -> None:
        """Find the filters of the network, none of which may be frozen."""
        self._forget()
        if steps < self.batches:
            raise ValueError(
                f"no mask would be drawn: the training has {steps} steps, but the first mask comes "
                f"after {self.batches}: train longer, or take fewer batches."
            )
        self.groups = targets(net, self.residual)
        for group in self.groups.values():
            need_trained("gdp", net, filters(net, group))

    def before_step(self, net: nn.Module, step: int) -> None:
        """Score the filters if all are in place; put the dense weights back for the optimizer."""
        if step % self.period < self.batches:
            self._score(net)
        self._bring_back(net)

    def _score(self, net: nn.Module) -> None:
        """Add up the scores of this batch, if they are numbers."""
        found = {name: taylor(net, group) for name, group in self.groups.items()}
        scores = {name: score for name, score in found.items() if score is not None}
        if finite(scores.values()):
            self.sums |= {name: self.sums.get(name, 0) + new for name, new in scores.items()}
            ones = {name: torch.ones_like(score[0]) for name, score in scores.items()}
            self.times |= {name: self.times.get(name, 0) + one for name, one in ones.items()}

    def _bring_back(self, net: nn.Module) -> None:
        """Put the dense weights back."""
        for name, dense in self.dense.items():
            net.get_parameter(name).copy_(dense)

    def skipped_step(self, net: nn.Module, step: int) -> None:
        """Let filters come and go when it is time, though no weight moves."""
        self._bring_back(net)
        self._take_out(net, step)

    def after_step(self, net: nn.Module, step: int) -> None:
        """Draw a new mask if it is time; keep the dense weights and leave the masked ones."""
        self._take_out(net, step)

    def _take_out(self, net: nn.Module, step: int) -> None:
        """Mask the network behind a step, unless the next one scores; if it is time, anew."""
        if step % self.period == self.batches - 1:
            self._draw()
        self.dense = {}
        if self.keep and (step + 1) % self.period >= self.batches:
            gone = self._removed(net)
            self.dense = {name: net.get_parameter(name).detach().clone() for name in gone}
            clear(net, gone)

    def _draw(self) -> None:
        """Draw a mask, if each group was scored; a step that did not use it does not count."""
        if self.sums.keys() == self.groups.keys():
            most = torch.stack(list(self.times.values())).max()
            means = {name: most / self.times[name] * new for name, new in self.sums.items()}
            self.keep, self._gone = exactly(means, self.ratio), {}
        self.sums, self.times = {}, {}

    def _removed(self, net: nn.Module) -> dict[str, Tensor]:
        """What the mask removes, by parameter, on the device of the network."""
        if not self._gone:
            entries = self.mask(net).entries.items()
            self._gone = {n: ~kept.to(net.get_parameter(n).device) for n, kept in entries}
        return self._gone

    def state_dict(self) -> dict:
        """Dense weights, mask and unfinished scores."""
        names = ("keep", "sums", "times", "dense")
        return {name: dict(getattr(self, name)) for name in names}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there."""
        self._gone = {}
        for name, values in state.items():
            setattr(self, name, dict(values))


def gdp(
    net: nn.Module,
    ratio: float,
    fit=None,
    *,
    period: int = 100,
    batches: int = 1,
    residual: Residual = "inner",
    finetune: bool = True,
) -> Ticket:
    """Prune by global dynamic pruning.

    Parameters
    ----------
    net : nn.Module
        A trained network; it stays as it is.
    ratio : float, in [0, 1)
        Share of all filters together that goes, never the last one of a layer.
    fit : callable
        ``fit(net, label, *, hook) -> Run``, see ``splinelib.train.trainer``. It is called with the
        label "gdp", and again with "finetune".
    period, batches
        A new mask is drawn every ``period`` steps, from the scores of ``batches`` of them.
    residual : "inner", "select" or "joint"
        Which channels are pruned, see ``splinelib.surgery.groups``.
    finetune : bool
        Whether the masked network is trained once more, under its last mask.

    Returns
    -------
    Ticket
        The trained network, whose removed filters are 0, and the mask.

    Raises
    ------
    ValueError
        A ratio outside [0, 1) or out of reach, no ``fit``, a training that is too short for a mask,
        a frozen filter.

    Notes
    -----
    Idea: rank the filters of all layers by how much the loss would change without them, mask the
    lowest ones, and repeat while the network is trained, so that a filter masked by mistake
    returns; then train once more under the last mask. The score is the first-order change of the
    loss, ``|sum_i w_i dL/dw_i|`` over the weights i of a filter.

    Source: Lin, Ji, Li, Wu, Huang and Zhang, "Accelerating convolutional networks via global and
    dynamic filter pruning", IJCAI 2018; code ShaohuiLin/GDP, for VGG-16, which has no BatchNorm. It
    keeps ``beta`` 0.5 or 0.7 of the filters, begins with a trained network, learning rate 1e-3
    (1e-4 for the finetuning), batch 32, and draws a mask every 500 steps, with all filters in place
    for the scores. It adds up the scores of 100 batches but then ranks by those of the last one:
    one batch is the default here, too. Weight and bias of a filter enter one sum.

    Behind a BatchNorm the weights of a filter may be scaled at will, so ``sum_i w_i dL/dw_i = 0``
    and the printed score is rounding noise. Here the sum goes over all that the mask removes, scale
    and shift of the BatchNorm included: ``gamma dL/dgamma + beta dL/dbeta`` is the same first-order
    change.

    Gradients are taken at the masked weights and move the dense ones. A masked filter in front of
    a ReLU gets none, so it is the scoring step that moves it and calls it back; in the source it
    waits, and scoring moves nothing. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> from splinelib.train import Recipe, trainer
    >>> images, _ = data.load("digits")
    >>> fit = trainer(data.Batches(images, batch=64), Recipe(epochs=1, batch=64))
    >>> net = fit(nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[16, 16])).net
    >>> counts = gdp(net, 0.5, fit, period=10).mask.counts()
    >>> counts["1.bias"][0] + counts["3.bias"][0]
    16
    """
    hook = GDP(ratio, period=period, batches=batches, residual=residual)
    need_fit("gdp", fit)
    run = fit(net, "gdp", hook=hook)
    mask = hook.mask(run.net)
    masked = mask.apply(run.net)
    if finetune:
        masked = fit(masked, "finetune", hook=Held(mask)).net
    return Ticket(masked, mask)


def taylor(net: nn.Module, group: Group) -> Tensor | None:
    """First-order change ``(n,)`` of the loss without each filter of a group, from gradients.

    None if no filter has a gradient.
    """
    parts = [p.detach() * p.grad for p in filters(net, group).values() if p.grad is not None]
    rows = [part.reshape(group.width, -1).sum(1) for part in parts]
    return torch.stack(rows).sum(0).abs() if rows else None
