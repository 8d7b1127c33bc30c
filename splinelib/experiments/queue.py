"""As many missing runs as fit into a time box, several side by side, each a process of its own."""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from splinelib.experiments.claims import done
from splinelib.experiments.config import Experiment
from splinelib.experiments.methods import available
from splinelib.experiments.places import PACKAGE

NO_DATA = 3  # exit status of a run whose data set is not at hand
GRACE = 20.0  # seconds that a run has to end when it is told to
SHORT = 2.0  # with fewer seconds left, nothing is started any more
UNITS = {"s": 1, "m": 60, "h": 3600}
Say = Callable[[str], object]


def seconds(budget: str) -> float:
    """Read a time such as "90s", "25m" or "2h".

    >>> seconds("25m"), seconds("1.5h")
    (1500.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", budget.strip())
    if not found or float(found[1]) == 0:
        raise ValueError(f"the budget is {budget!r}; give a number with its unit: 90s, 25m, 2h")
    return float(found[1]) * UNITS[found[2]]


def missing(
    experiments: Sequence[Experiment], out: Path, damaged: Say | None = None
) -> list[tuple[Experiment, int]]:
    """The experiments that have fewer results than they want, and how many are missing.

    Parameters
    ----------
    experiments : sequence of Experiment
        In the order of importance, which is kept.
    out : Path
        The folder of all results.
    damaged : callable, optional
        Gets a line of text for each damaged result, which does not count. Default: an error.

    Returns
    -------
    list of (Experiment, int)
        Only those whose method splinelib has.

    Raises
    ------
    ValueError
        A result that is damaged, unless ``damaged`` is given.
    """
    wanted = ((e, e.seeds - len(done(e, out, damaged))) for e in experiments if available(e))
    return [(e, number) for e, number in wanted if number > 0]


@dataclass
class Report:
    """What a queue did: names of experiments, one for each run."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)


@dataclass
class _Child:
    """A run that is going on."""

    experiment: Experiment
    process: subprocess.Popen
    log: Path
    began: float


class Queue:
    """Starts runs while there is time, and stops what is left when there is none.

    Parameters
    ----------
    experiments : sequence of Experiment
        In the order of importance.
    out, work : Path
        Folders of results and of the work of runs.
    budget : float
        Seconds.
    jobs : int
        Runs side by side.
    command : callable
        From an experiment to the command that runs it once, as :class:`subprocess.Popen` takes it.
    say : callable
        Gets one line of text for everything that happens.

    Notes
    -----
    All seeds of an experiment come before the next one. A run that fails is reported, its
    experiment is left alone from then on, and so are all others on a data set that is not at hand.
    Runs that are stopped have their checkpoints: the next queue goes on where they were.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        out: Path,
        work: Path,
        *,
        budget: float,
        jobs: int,
        command: Callable[[Experiment], list[str]],
        say: Say,
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs is {jobs}; give at least 1")
        self.left = dict(missing(experiments, out, say))
        self.work, self.jobs, self.command, self.say = work, jobs, command, say
        self.end = time.monotonic() + budget
        self.running: list[_Child] = []
        self.interrupted = False
        self.report = Report()
        self.told = Counter()

    def run(self) -> Report:
        """Work until all is done or the time is over; whatever happens, no run is left behind."""
        try:
            while not self.interrupted and self._time() > 0 and (self.running or self.left):
                self._start()
                time.sleep(0.1)
                self._collect()
        finally:
            self._stop()
        return self.report

    def interrupt(self, *_signal) -> None:
        """Stop soon, as if the time were over. A handler of signals: it may come at any moment."""
        self.interrupted = True

    def _time(self) -> float:
        return self.end - time.monotonic()

    def _start(self) -> None:
        """Start runs until all places are taken."""
        while self.left and len(self.running) < self.jobs and self._time() > SHORT:
            experiment, number = next(iter(self.left.items()))
            self.left[experiment] = number - 1
            if number == 1:
                del self.left[experiment]
            self.running.append(self._child(experiment))
            self.say(f"started {experiment.name}, {self._time() / 60:.1f} min left")

    def _child(self, experiment: Experiment) -> _Child:
        """Start one run in a session of its own, so that Ctrl-C comes to the queue alone."""
        self.told[experiment.name] += 1
        folder = self.work.joinpath(*experiment.name.split("/"))
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"queue-{self.told[experiment.name]}.log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                self.command(experiment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment(self.jobs),
            )
        return _Child(experiment, process, log, time.monotonic())

    def _collect(self) -> None:
        """See which runs have ended, and how."""
        for child in [c for c in self.running if c.process.poll() is not None]:
            self.running.remove(child)
            name, status = child.experiment.name, child.process.returncode
            last = _last_line(child.log)
            if status == 0:
                self.report.finished.append(name)
                self.say(f"done in {time.monotonic() - child.began:.0f} s: {last}")
                continue
            self.report.failed.append(name)
            self.say(f"FAILED {name}: {last or f'exit status {status}'} (see {child.log})")
            self._drop(child.experiment, status == NO_DATA)

    def _drop(self, bad: Experiment, no_data: bool) -> None:
        """Leave out what would fail in the same way."""
        out = [e for e in self.left if e.name == bad.name or (no_data and e.data == bad.data)]
        for experiment in out:
            del self.left[experiment]
        if len(out) > 1:
            self.say(f"left out {len(out)} experiments on {bad.data}")

    def _stop(self) -> None:
        """End the runs that are left: they have their checkpoints."""
        for child in self.running:
            _signal(child.process, signal.SIGTERM)
        end = time.monotonic() + GRACE
        for child in self.running:
            try:
                child.process.wait(max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                _signal(child.process, signal.SIGKILL)
                child.process.wait()
            self.report.stopped.append(child.experiment.name)
            self.say(f"stopped {child.experiment.name}: the next queue goes on there")
        self.running = []


def environment(jobs: int) -> dict[str, str]:
    """The environment of runs: this package, a share of the cores, how many share the device."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", str(max((cores or 1) // jobs, 1)))
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": threads, "SPLINELIB_SIDE_BY_SIDE": str(jobs)}
    return {**os.environ, **own}


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    """Send a signal to a run and all its helpers."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        process.send_signal(number)


def _last_line(log: Path) -> str:
    """The last line that a run wrote."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
