"""The seconds of a run that may be interrupted."""

import time


class Clock:
    """Counts the seconds of a run, and of the steps of one epoch, over all its parts.

    It reads the system's monotonic clock, which setting the time does not change.
    """

    def __init__(self) -> None:
        self._run = self._epoch = time.monotonic()
        self._earlier_run = self._earlier_epoch = 0.0

    @property
    def run(self) -> float:
        """Seconds of the run so far."""
        return self._earlier_run + time.monotonic() - self._run

    @property
    def epoch(self) -> float:
        """Seconds of the steps of this epoch so far."""
        return self._earlier_epoch + time.monotonic() - self._epoch

    def start_epoch(self) -> None:
        """Begin the epoch, or the rest of it."""
        self._epoch = time.monotonic()

    def end_epoch(self) -> float:
        """End the epoch; return the seconds of its steps."""
        seconds, self._earlier_epoch = self.epoch, 0.0
        return seconds

    def restore(self, run: float, epoch: float) -> None:
        """Go on from the seconds of an earlier part."""
        self._run, self._earlier_run, self._earlier_epoch = time.monotonic(), run, epoch
