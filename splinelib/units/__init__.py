"""Where the units of a network stand: their layer, BatchNorm, activation, and who reads them.

``walk`` follows the trace of a network from each layer to its readers, ``order`` tells whether a
reader takes the units one by one, and ``weights`` reads the hyperplane of each unit.
"""

from splinelib.units.walk import Reader, Units, find, units
from splinelib.units.weights import Rows, norm_map, rows

__all__ = ["Reader", "Rows", "Units", "find", "norm_map", "rows", "units"]
