"""What the checks of the book's assignments are made of.

``own`` refuses a function that hands its work to splinelib or to a specification, ``within`` stops
one that is too slow, ``same`` compares tensors and says what came and what is wanted.
"""

from splinelib.classroom.checks import same, within
from splinelib.classroom.reading import own

__all__ = ["own", "same", "within"]
