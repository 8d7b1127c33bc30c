"""How nearly two units of one layer draw the same hyperplane, and in which order they can go.

Row k of a layer draws the hyperplane ``H_k = {x : <w_k, x> + b_k = 0}``.  Its direction is
``u_k = w_k / ||w_k||`` and its signed offset ``o_k = b_k / ||w_k||``; ``(u, o)`` and ``(-u, -o)``
are the same plane.  ``pairs`` compares all pairs of units, ``order`` removes one unit of the
closest pair at a time.
"""

from splinelib.redundancy.order import Removals, greedy, keep, one_shot
from splinelib.redundancy.pairs import has_hyperplane, pair_matrix

__all__ = ["Removals", "greedy", "has_hyperplane", "keep", "one_shot", "pair_matrix"]
