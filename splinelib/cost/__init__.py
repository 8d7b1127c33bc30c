"""What training costs: multiply-adds, an exact ledger, the paper's accounting, and a meter.

``macs`` counts a network, ``ledger`` a run, ``paper`` and ``published`` the printed tables, and
``meter`` measures seconds, memory and energy.
"""

from splinelib.cost.ledger import Ledger
from splinelib.cost.macs import layer_macs, macs
from splinelib.cost.meter import Meter
from splinelib.cost.paper import Row, printed_flops
from splinelib.cost.paper import total as paper_total
from splinelib.cost.published import NOT_REPRODUCED, ROWS

__all__ = [
    "NOT_REPRODUCED",
    "ROWS",
    "Ledger",
    "Meter",
    "Row",
    "layer_macs",
    "macs",
    "paper_total",
    "printed_flops",
]
