"""The early-bird detector: two lines in a training loop that tell when a partition has settled."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from splinelib.earlybird.capture import captured
from splinelib.earlybird.hamming import check_weight, distances, mean
from splinelib.earlybird.rule import ALGORITHM_1, Rule
from splinelib.earlybird.snapshots import Codes, Sample

AT_ONCE = 2**21  # numbers of the probe set that go through the network together,
LEAST = 32  # but at least so many inputs: 512 images of CIFAR-10 at once, 32 of ImageNet


class EarlyBird:
    """Watch a network train, and tell when its partition has settled.

    Parameters
    ----------
    snapshot : Tensor (B, ...) or callable
        The probe set, of which :func:`codes` are taken; or a function from a network to its
        ``Codes``, for other places, subsets or masks: ``partial(codes, x=probe, at="batchnorm")``.
    rule : Rule
        When to fire: ``ALGORITHM_1``, ``PUBLIC_CODE``, ``MASK_DISTANCE`` or your own.
    weight : "layer" or "element"
        How layers are averaged, see :func:`distance`.
    features : int, optional
        Entries of each layer that are looked at, see :func:`codes`; None: all. Only for a probe
        set.
    keep : None or "all"
        Keep the snapshots that the rule needs, or all of them for :func:`matrix`: on the CPU, and
        in every checkpoint (13 MB each add up to 2 GB in 160 epochs).

    Attributes
    ----------
    fired : int or None
        Updates after the first one at which the rule fired first. With one update before training
        and one after each epoch these are epochs done, the emergence epoch E.
    distances : list of Tensor (L,)
        Layer by layer, between each update and the one before; float64, on the CPU.
    means : list of float
        Their averages.

    Raises
    ------
    ValueError
        Settings out of range.

    Notes
    -----
    Algorithm 1 of the paper. Memory and error of the default: a layer is looked at through 2048 of
    its entries, which costs 13 MB a snapshot of PreResNet-101 with 512 inputs. The distance of a
    layer is then estimated without bias; where it is d, its standard error is at most
    ``sqrt(d (1 - d) / 2048)``, that is 0.008 at d = 0.15, and that of the mean of L such layers is
    smaller by ``sqrt(L)``. Taught in *Drawing the ticket*.

    Examples
    --------
    One snapshot before the loop, and two lines in it:

    >>> from splinelib import nets
    >>> net, probe = nets.mlp([2, 16, 1]), torch.randn(64, 2, dtype=torch.float64)
    >>> bird = EarlyBird(probe)
    >>> bird.update(net)                        # the untrained network
    False
    >>> for epoch in range(1, 11):
    ...     with torch.no_grad():               # stands for an epoch of training
    ...         net[0].bias += 0.5 ** epoch
    ...     if bird.update(net):
    ...         break
    >>> bird.fired == epoch and max(bird.means[-2:]) < 0.15
    True

    The public code's detector: its rule, at BatchNorm's outputs, on a canvas of two images.

    >>> from functools import partial
    >>> from splinelib.earlybird import PUBLIC_CODE, canvas, codes
    >>> grid = canvas(torch.rand(3, 32, 32), torch.rand(3, 32, 32), side=10)
    >>> look = partial(codes, x=grid, at="batchnorm", features=2048)
    >>> EarlyBird(look, PUBLIC_CODE).update(nets.vgg16(width=0.125))
    False
    """

    def __init__(
        self,
        snapshot: Tensor | Callable[[nn.Module], Codes],
        rule: Rule = ALGORITHM_1,
        *,
        weight: str = "layer",
        features: int | None = 2048,
        keep: str | None = None,
    ) -> None:
        if keep not in (None, "all"):
            raise ValueError(f"keep is {keep!r}, but must be None or 'all'.")
        check_weight(weight)
        _check_snapshot(snapshot)
        self.rule, self.weight, self.keep = rule, weight, keep
        self._snapshot = snapshot.detach().clone() if torch.is_tensor(snapshot) else snapshot
        self._probe = checksum(snapshot)
        self._sample = Sample(features) if torch.is_tensor(snapshot) else None
        length = 1 if rule.compare == "consecutive" else rule.length
        self._recent: deque[Codes] = deque(maxlen=length)
        self._history: list[Codes] = []
        self._compared: list[float] = []
        self.distances: list[Tensor] = []
        self.means: list[float] = []
        self.fired: int | None = None

    def update(self, net: nn.Module) -> bool:
        """Take a snapshot of the network and tell whether the rule fires now.

        The first call only stores one: make it before training, and then one after each epoch.
        ``fired`` keeps the first time. Processes that share a ``DistributedDataParallel`` call it
        together, and all decide by the snapshot of process 0.
        """
        new = agreed(net, self._take(net))
        self._recent = deque((old.to(new.device) for old in self._recent), self._recent.maxlen)
        lists = [distances(old, new).cpu() for old in self._recent]
        if lists:
            self.distances.append(lists[-1])
            averages = [float(mean(values, new.widths, self.weight)) for values in lists]
            self.means.append(averages[-1])
            consecutive = self.rule.compare == "consecutive"
            self._compared = self.means[-self.rule.length :] if consecutive else averages
        self._recent.append(new)
        if self.keep == "all":
            self._history.append(new.to("cpu"))
        fires = self.rule.fires(self._compared)
        if fires and self.fired is None:
            self.fired = len(self.means)
        return fires

    @property
    def history(self) -> tuple[Codes, ...]:
        """The snapshots that are kept, oldest first: all, or those that the rule needs."""
        return tuple(self._history if self.keep == "all" else self._recent)

    @property
    def latest(self) -> dict:
        """What the last update found, for a log: plain numbers, None where there are none yet.

        ``distance`` to the snapshot before, ``layer_distances``, the distances that the rule has
        ``compared``, and ``fired``.
        """
        return {
            "distance": self.means[-1] if self.means else None,
            "layer_distances": self.distances[-1].tolist() if self.distances else None,
            "compared": list(self._compared),
            "fired": self.fired,
        }

    @property
    def nbytes(self) -> int:
        """Bytes held between two updates: snapshots, probe set and choice of entries."""
        words = {c.words.data_ptr(): c.nbytes for c in (*self._recent, *self._history)}
        probe = self._snapshot.nbytes if self._sample else 0
        return sum(words.values()) + probe + (self._sample.nbytes if self._sample else 0)

    def state_dict(self) -> dict:
        """All that a checkpoint needs, as tensors, numbers, texts, lists and dicts."""
        return {
            **self._settings(),
            "recent": [c.state for c in self._recent],
            "history": [c.state for c in self._history],
            "compared": list(self._compared),
            "distances": list(self.distances),
            "means": list(self.means),
            "fired": self.fired,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on where another detector with the same settings was; ``ValueError`` for others."""
        for name, mine in self._settings().items():
            if state.get(name) != mine:
                raise ValueError(
                    f"the state is of a detector with {name} = {state.get(name)}, but this one has "
                    f"{name} = {mine}: make it with the same settings, or start it anew."
                )
        try:  # all is read before anything changes
            recent, history = (list(map(Codes.from_state, state[n])) for n in ("recent", "history"))
            numbers = [list(state[name]) for name in ("compared", "means")]
            rows, self.fired = [d.cpu() for d in state["distances"]], state["fired"]
        except KeyError as error:
            raise ValueError(f"the state lacks {error}: it is no state of an EarlyBird.") from error
        self._recent, self._history = deque(recent, self._recent.maxlen), history
        self._compared, self.means, self.distances = *numbers, rows

    def _take(self, net: nn.Module) -> Codes:
        """The codes of a network now."""
        if self._sample:
            chunk = max(LEAST, AT_ONCE // max(1, self._snapshot[0].numel()))
            return captured(net, self._snapshot, "activation", self._sample, chunk)
        new = self._snapshot(net)
        if not isinstance(new, Codes):
            raise ValueError(f"snapshot gave a {type(new).__name__}, but must give Codes.")
        return new

    def _settings(self) -> dict:
        """What must be the same for a state to fit; the probe set by its checksum."""
        features = self._sample.features if self._sample else None
        plain = {"weight": self.weight, "features": features, "keep": self.keep}
        return {"rule": asdict(self.rule), **plain, "probe": self._probe}


def _check_snapshot(snapshot: object) -> None:
    """Raise unless snapshots can be taken with it."""
    if torch.is_tensor(snapshot):
        if snapshot.ndim < 2 or not len(snapshot) or not snapshot.is_floating_point():
            raise ValueError(
                f"the probe is {tuple(snapshot.shape)} of {snapshot.dtype}; give a batch (B, ...) "
                "of floating-point inputs, as the network takes them."
            )
    elif isinstance(snapshot, nn.Module) or not callable(snapshot):
        raise ValueError(
            f"snapshot is a {type(snapshot).__name__}; give a tensor of inputs, or a function from "
            "a network to Codes."
        )


def agreed(net: nn.Module, snapshot: Codes) -> Codes:
    """The snapshot of process 0 for all, whose BatchNorm statistics differ after the last step."""
    net = getattr(net, "_orig_mod", net)
    if isinstance(net, DistributedDataParallel):
        group = net.process_group
        dist.broadcast(snapshot.words, src=dist.get_global_rank(group, 0), group=group)
    return snapshot


def checksum(snapshot: object) -> str:
    """Checksum of what a snapshot looks at: a tensor or a ``partial``; "" for other functions."""
    if isinstance(snapshot, partial):
        parts = (*snapshot.args, *(v for pair in sorted(snapshot.keywords.items()) for v in pair))
        name = getattr(snapshot.func, "__qualname__", "")
        return hashlib.sha256("\n".join([name, *map(checksum, parts)]).encode()).hexdigest()
    if torch.is_tensor(snapshot):
        raw = snapshot.detach().cpu().contiguous().flatten().view(torch.uint8)
        words = f"{tuple(snapshot.shape)} {snapshot.dtype}".encode()
        return hashlib.sha256(words + raw.numpy().tobytes()).hexdigest()
    return repr(snapshot) if isinstance(snapshot, (str, int, float, bool, type(None))) else ""
