"""What a long search has found so far, in a file: it goes on after an interruption."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from splinelib.train import checkpoint
from splinelib.train.identity import digest


class Memory:
    """Keeps the state of a method whose own loop is no training.

    Parameters
    ----------
    path : str or Path, optional
        The file, see ``train.checkpoint``. Without one, nothing is kept.
    every : float
        Seconds after which a state is written.
    account : object, optional
        What counts the costs of the method: its ``state_dict()`` is kept along, and given back by
        ``load_state_dict``, so that work whose result was kept is counted once.

    Notes
    -----
    A method takes ``memory=Memory(path)``. The same call, made again after an interruption, goes on
    from the file. Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Memory(f"{folder}/search.pt", every=0).keep({"seed": 0}, lambda: {"tried": 3})
    ...     Memory(f"{folder}/search.pt").recall({"seed": 0})
    {'tried': 3}
    """

    def __init__(self, path: str | Path | None = None, every: float = 60.0, account=None) -> None:
        self.path, self.every, self.account = path and Path(path), every, account
        self.last = time.monotonic()

    def recall(self, identity: Mapping[str, object]) -> dict | None:
        """The state that was kept; None if there is none, ``ValueError`` if it is of another call.

        ``identity`` is what makes the call this one and no other: numbers and texts.
        """
        if self.path is None or not self.path.exists():
            return None
        found = checkpoint.load(self.path)
        checkpoint.check_same(self.path, found.get("identity", {}), identity)
        if self.account is not None:
            self.account.load_state_dict(found["account"])
        return found["state"]

    def keep(self, identity: Mapping[str, object], state: Callable[[], dict]) -> None:
        """Write what ``state()`` returns, if it is time."""
        if self.path is None or time.monotonic() - self.last < self.every:
            return
        account = {} if self.account is None else self.account.state_dict()
        kept = {"identity": dict(identity), "state": state(), "account": account}
        checkpoint.save(self.path, kept)
        self.last = time.monotonic()


class Known:
    """Values that are found once, by the text of their key, and kept in a memory.

    Examples
    --------
    >>> known = Known(Memory(), {})
    >>> known("2", lambda: 2 * 2), known("2", lambda: None)
    (4, 4)
    """

    def __init__(self, memory: Memory | None, identity: Mapping[str, object]) -> None:
        self.memory, self.identity = memory or Memory(), identity
        self.values = (self.memory.recall(identity) or {"values": {}})["values"]

    def __call__(self, key: str, find: Callable[[], object]) -> object:
        """The value of a key."""
        if key not in self.values:
            self.values[key] = find()
            self.memory.keep(self.identity, lambda: {"values": self.values})
        return self.values[key]


def fingerprint(*given: nn.Module | Tensor) -> str:
    """A text that differs for networks, or tensors, that differ in a number."""
    named = (v.state_dict() if isinstance(v, nn.Module) else {"": v} for v in given)
    return digest(pair for tensors in named for pair in tensors.items())
