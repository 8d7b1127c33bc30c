"""Methods of pruning, one file each."""

from splinelib.pruning.family import Scope, Ticket

__all__ = ["Scope", "Ticket"]
