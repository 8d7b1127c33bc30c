"""What training costs: multiply-adds, an exact ledger, the paper's accounting, and a meter.

``macs`` counts a network, ``ledger`` a run, ``paper`` and ``published`` the printed tables, and
``meter`` measures seconds, memory and energy. ``work`` lists the operations of a training step with
the bytes they move, ``cards`` what graphics cards can do, and ``bound`` makes seconds of the two;
``measured`` has seconds on the device at hand.
"""

from splinelib.cost.bound import Estimate, bound, estimate, seconds_by_layer
from splinelib.cost.cards import CARDS, Card
from splinelib.cost.ledger import Ledger
from splinelib.cost.macs import layer_macs, macs
from splinelib.cost.measured import hours, measured_card, throughput
from splinelib.cost.meter import Meter
from splinelib.cost.paper import Row, printed_flops
from splinelib.cost.paper import total as paper_total
from splinelib.cost.published import NOT_REPRODUCED, ROWS
from splinelib.cost.work import Operation, Step, training_step

__all__ = [
    "CARDS",
    "NOT_REPRODUCED",
    "ROWS",
    "Card",
    "Estimate",
    "Ledger",
    "Meter",
    "Operation",
    "Row",
    "Step",
    "bound",
    "estimate",
    "hours",
    "layer_macs",
    "macs",
    "measured_card",
    "paper_total",
    "printed_flops",
    "seconds_by_layer",
    "throughput",
    "training_step",
]
