"""One bar for a whole training: the time that is left, the epoch, and how it goes."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from splinelib.train.session import Session


class Bar:
    """Shows how far a training is, over all its epochs.

    Parameters
    ----------
    session : Session
        As it goes on: from the start, or from a checkpoint.
    bar : tqdm
        Where it is shown; a disabled one shows nothing.
    name : str
        What stands in front of the epoch.
    """

    def __init__(self, session: Session, bar: tqdm, name: str) -> None:
        self.session, self.bar, self.name = session, bar, name

    def epoch(self) -> None:
        """Say which epoch begins."""
        self.bar.set_description(_about(self.session, self.name))

    def step(self) -> None:
        """Move on."""
        self.bar.update()

    def tell(self, row: dict) -> None:
        """Show loss and accuracies of the epoch that has ended, a line of the log."""
        told = f"loss {row['loss']:.3g}, accuracy {row['accuracy']:.1%}"
        tested = row["test_accuracy"]
        self.bar.set_postfix_str(told if tested is None else f"{told}, test {tested:.1%}")


@contextmanager
def showing(session: Session, wanted: bool | str) -> Iterator[Bar]:
    """Yield the bar of a session; it shows nothing unless that is wanted and there is work left.

    The time that is left is counted at the mean pace so far, with tests, watchers and checkpoints,
    and until the last epoch of the recipe: a run that ``until`` ends is over before.
    """
    name = wanted if isinstance(wanted, str) else ""
    steps = session.source.steps
    with tqdm(
        desc=_about(session, name),
        total=session.recipe.epochs * steps,
        initial=session.epoch * steps + session.step,
        smoothing=0,
        unit="step",
        disable=not wanted or session.ended,
    ) as bar:
        yield Bar(session, bar, name)


def _about(session: Session, name: str) -> str:
    """Which training it is, and which epoch of it."""
    about = f"epoch {session.epoch + 1} of {session.recipe.epochs}"
    return f"{name}: {about}" if name else about
