"""Objects that look at a network between epochs, and write into the log what they see."""

from collections.abc import Iterable, Mapping

from torch import nn


class Watchers:
    """The watchers of a run, one of which may end it.

    Parameters
    ----------
    watch : iterable or mapping of str
        Objects with ``update(net) -> bool``, ``latest`` (a dict, or None), ``state_dict()`` and
        ``load_state_dict(state)``. What they tell goes into the log column by column; those of a
        mapping get one column each, under their names.
    until : object, optional
        One more, or one of them: the run ends when its ``update`` returns True.
    """

    def __init__(self, watch: Iterable | Mapping[str, object], until: object | None) -> None:
        named = watch.items() if isinstance(watch, Mapping) else ((None, each) for each in watch)
        self.named, self.until = list(named), until
        if until is not None and all(each is not until for _, each in self.named):
            self.named.append((None, until))

    @property
    def names(self) -> str:
        """What they are called, in order: for an identity."""
        return ", ".join(name or type(each).__name__ for name, each in self.named)

    @property
    def ending(self) -> str | None:
        """What the one that may end the run is called."""
        return next((name or type(e).__name__ for name, e in self.named if e is self.until), None)

    def look(self, net: nn.Module) -> bool:
        """Let all of them look; tell whether the run shall end."""
        answers = {id(each): each.update(net) for _, each in self.named}
        return bool(answers.get(id(self.until), False))

    def tell(self, row: dict) -> None:
        """Write what they saw into a line of the log."""
        for name, each in self.named:
            told = dict(each.latest or {})
            told = told if name is None else {name: told}
            if both := sorted(told.keys() & row.keys()):
                raise ValueError(
                    f"two columns of the log would be called {both[0]!r}, one of them from "
                    f"{type(each).__name__}: give watch a dict, which names each watcher's column"
                )
            row.update(told)

    def state_dict(self) -> list:
        """All that a checkpoint needs, watcher after watcher."""
        return [each.state_dict() for _, each in self.named]

    def load_state_dict(self, states: list) -> None:
        """Go on from states."""
        for (_, each), state in zip(self.named, states, strict=True):
            each.load_state_dict(state)
