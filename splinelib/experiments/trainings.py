"""What a method trains, and what it computes in between: both are booked, neither twice."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from torch import nn

from splinelib.experiments.booking import Counting
from splinelib.experiments.job import Job
from splinelib.experiments.starts import STARTS
from splinelib.pruning.memory import Memory
from splinelib.train import Run


class Trainings:
    """All trainings of a run in order: the ``fit`` that methods of ``splinelib.pruning`` take.

    Parameters
    ----------
    job : Job

    Attributes
    ----------
    runs : list of Run
        What was trained so far.
    seconds : float
        What was computed between trainings so far.

    Notes
    -----
    A label that comes again gets a number, since each training has a checkpoint of its own. The
    numbers are the same when an interrupted run is made again, as long as the method asks for its
    trainings in the same order.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.runs: list[Run] = []
        self.seconds = 0.0
        self._labels: Counter[str] = Counter()
        self._account: _Account | None = None

    def start(self) -> nn.Module:
        """The network as the config lets it begin, for evaluation; trainings before are kept."""
        net, before = STARTS[self.job.experiment.start](self.job)
        self.runs += before
        return net.eval()

    def memory(self, name: str) -> Memory:
        """A file for the loop of a method that is no training, with what it cost so far."""
        return Memory(self.job.folder / f"{name}.pt", self.job.save_every, self._account)

    def __call__(self, net: nn.Module, label: str = "", **options) -> Run:
        """Train a copy of a network, as :meth:`Job.train` does."""
        label = re.sub(r"[^\w .-]+", "", label) or "training"  # a file is called after it
        self._labels[label] += 1
        if self._labels[label] > 1:
            label = f"{label} {self._labels[label]}"
        with self._account.paused() if self._account else nullcontext():
            run = self.job.train(net, label, **options)
        self.runs.append(run)
        return run

    @contextmanager
    def analysing(self, what: str) -> Iterator[None]:
        """Book what is computed inside, apart from trainings, under a purpose.

        Convolutions and matrix products count, forward and backward, two operations a
        multiply-add, as in the whole ledger; sorting, and what scikit-learn computes, do not.
        """
        self._account = account = _Account()
        try:
            with account:
                yield
        finally:
            self._account = None
        self.seconds += account.seconds
        if account.flops:
            self.job.ledger.label = "analysis"
            self.job.ledger.other(what, account.flops)


class _Account:
    """A counter of operations and a clock, which can be interrupted."""

    def __init__(self) -> None:
        self.flops, self.seconds, self._counter, self._began = 0, 0.0, None, 0.0

    def __enter__(self) -> None:
        self._counter, self._began = Counting(), time.perf_counter()
        self._counter.__enter__()

    def __exit__(self, *error: object) -> None:
        self._counter.__exit__(*error)
        self.flops, self.seconds = self._so_far()

    def _so_far(self) -> tuple[int, float]:
        clock = time.perf_counter() - self._began
        return self.flops + self._counter.flops, self.seconds + clock

    def state_dict(self) -> dict[str, float]:
        """What was counted, while it is counting."""
        return dict(zip(("flops", "seconds"), self._so_far(), strict=True))

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from there: what was done since the start is in it already."""
        flops, seconds = self._so_far()
        self.flops += state["flops"] - flops
        self.seconds += state["seconds"] - seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens inside."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()
