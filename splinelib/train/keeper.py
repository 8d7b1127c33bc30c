"""When a session is saved, and how it goes on from what was saved."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from splinelib.train import checkpoint
from splinelib.train.lock import locked
from splinelib.train.session import Session


class Keeper:
    """Writes the checkpoints of a session: process 0 does, the others only read along.

    Parameters
    ----------
    session : Session
    path : Path or None
        The file; None for a run without one, and in all processes but the first.
    every : float
        Seconds after which a checkpoint is due.
    problem : Exception or None
        Why the file cannot be used.
    """

    def __init__(
        self, session: Session, path: Path | None, every: float, problem: Exception | None
    ) -> None:
        self.session, self.path, self.every, self.problem = session, path, every, problem
        self.last, self.cost = time.monotonic(), 0.0

    def resume(self) -> bool:
        """Let the session go on from the file, if there is one; tell whether there was."""
        # What process 0 finds, state or problem, all others do as well: none is left waiting.
        found = self.session.team.from_lead(self.problem or self._found())
        if isinstance(found, Exception):
            raise found
        if found is not None:
            self.session.restore(found)
        elif self.path is not None:  # better told now than after the first hour
            checkpoint.check_plain("the state", self.session.state())
        return found is not None

    def _found(self) -> dict | Exception | None:
        """The state in the file, None if there is no file, or what is wrong with it."""
        if self.path is None or not self.path.exists():
            return None
        try:
            state = checkpoint.load(self.path)
            if "identity" not in state:
                raise ValueError(
                    f"{self.path} is no checkpoint of a run: give this run another file"
                )
            checkpoint.check_same(self.path, state["identity"], self.session.identity)
        except (ValueError, OSError) as problem:
            return problem
        return state

    def after_step(self) -> None:
        """Save if it is time, and only what is finite."""
        if self.path is not None and time.monotonic() - self.last >= self.every:
            self.session.check_finite()
            self._save()

    def after_epoch(self) -> None:
        """Save unless epochs are so short that saving would cost more than a twentieth of them."""
        if self.path is not None:
            waited = time.monotonic() - self.last
            if self.session.ended or waited >= min(self.every, 20 * self.cost):
                self._save()

    def _save(self) -> None:
        start = time.monotonic()
        checkpoint.save(self.path, self.session.state())
        self.last = time.monotonic()
        self.cost = self.last - start


@contextmanager
def keeping(session: Session, path: str | Path | None, every: float) -> Iterator[Keeper]:
    """Yield a keeper, which holds the lock of its file as long as the context is open."""
    path = Path(path) if path is not None and session.team.leads else None
    problem = None
    with ExitStack() as stack:
        if path is not None:
            try:
                stack.enter_context(locked(path))
            except (ValueError, OSError) as error:
                problem = error
        yield Keeper(session, path, every, problem)
