"""Methods of pruning, one file each: what goes, and how it is found.

``ratio`` in [0, 1) is the share that goes, and an entry 1 of a mask is kept. The methods differ in
what they need to see, so there are three shapes.

From the network alone, ``method(net, ratio, ...) -> Mask``:

==================  ===============================================================================
``spline``          units whose hyperplanes nearly coincide, one of the closest pair at a time
``slimming``        units with the smallest BatchNorm scales (network slimming)
``l1``              units with the smallest weights
``random_units``    units at random, the control
``magnitude``       single weights, the smallest (the mask of a lottery ticket)
``synflow``         single weights that carry the least flow, in a hundred rounds
==================  ===============================================================================

From the network and images, ``method(net, ratio, x, y, ...) -> Mask``:

==================  ===============================================================================
``snip``            single weights that the loss hardly notices
``grasp``           single weights without which gradients stay large
``thinet``          units that the next layer can best do without
``legr``            units by a ranking whose scale in each layer is learnt by evolution
==================  ===============================================================================

While networks train, ``method(net, ratio, fit, ...) -> Ticket``, a network and its mask, where
``fit`` is ``splinelib.train.trainer(source, recipe)`` (``gal``, whose loss is its own, takes the
source itself):

==================  ===============================================================================
``lottery``         train, mask the smallest weights, go back to the start
``eb_spline``       stop when the partition has settled, then ``spline``
``eb_train``        stop when the mask has settled, then ``slimming``
``iterative``       ``slimming`` in rounds
``sfp``             the weakest filters are emptied after each epoch, and may come back
``gdp``             a mask of all filters that is drawn anew on the way
``rigl``            single weights: the mask of a sparse network moves
``c_sgd``           filters of a cluster are pulled together, then merged without loss
``gal``             soft masks, learnt against a discriminator
``metapruning``     widths searched with a network that makes weights for any widths
==================  ===============================================================================

``splinelib.surgery.cut(net, mask)`` then makes the smaller network, and ``start`` gives it weights:
inherited, rewound or drawn anew.
"""

from splinelib.pruning.c_sgd import CSGD, c_sgd
from splinelib.pruning.eb_spline import eb_spline
from splinelib.pruning.eb_train import eb_train
from splinelib.pruning.family import Scope, Ticket
from splinelib.pruning.gal import gal
from splinelib.pruning.gdp import GDP, gdp
from splinelib.pruning.grasp import grasp
from splinelib.pruning.held import Held
from splinelib.pruning.iterative import iterative
from splinelib.pruning.l1 import l1
from splinelib.pruning.legr import legr
from splinelib.pruning.lottery import lottery, magnitude
from splinelib.pruning.metapruning import metapruning
from splinelib.pruning.random_units import random_units
from splinelib.pruning.rigl import RigL, rigl
from splinelib.pruning.sfp import SFP, sfp
from splinelib.pruning.slimming import slimming
from splinelib.pruning.snip import snip
from splinelib.pruning.spline import spline, spline_scores
from splinelib.pruning.synflow import synflow
from splinelib.pruning.thinet import thinet, thinet_ticket
from splinelib.pruning.weights import first_epoch, start

__all__ = [
    "CSGD",
    "GDP",
    "SFP",
    "Held",
    "RigL",
    "Scope",
    "Ticket",
    "c_sgd",
    "eb_spline",
    "eb_train",
    "first_epoch",
    "gal",
    "gdp",
    "grasp",
    "iterative",
    "l1",
    "legr",
    "lottery",
    "magnitude",
    "metapruning",
    "random_units",
    "rigl",
    "sfp",
    "slimming",
    "snip",
    "spline",
    "spline_scores",
    "start",
    "synflow",
    "thinet",
    "thinet_ticket",
]
