"""One layer as an arrangement of hyperplanes: its regions counted exactly, in any dimension.

Unit k of a layer draws ``H_k = {x : <w_k, x> + b_k = 0}``.  A row of zeros draws nothing, and equal
hyperplanes count once.  Numbers are taken as the rationals they are (floats, too) and each row is
brought to integers without a common factor, so nothing in a count is rounded.

``count`` counts, ``programs`` lists the codes of the regions, ``bounds`` holds Theorem 1 of the
paper; behind them, ``integers`` makes rows of integers and ``modular`` certifies general position.
"""

from splinelib.arrangement.bounds import (
    corrected_bound,
    corrected_maximum,
    printed_bound,
    printed_maximum,
)
from splinelib.arrangement.count import hyperplanes, in_general_position, largest, regions
from splinelib.arrangement.programs import codes

__all__ = [
    "codes",
    "corrected_bound",
    "corrected_maximum",
    "hyperplanes",
    "in_general_position",
    "largest",
    "printed_bound",
    "printed_maximum",
    "regions",
]
