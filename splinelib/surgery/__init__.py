"""Surgery: masks become smaller networks with the same outputs.

``groups`` finds which channels go together (``streams``) and makes the mask that removes some of
them; ``planning`` finds out what any mask makes superfluous (``flow`` follows the channels,
``zeros`` what is 0), ``shrink`` cuts a network by such a plan, and ``foreign`` lets torch-pruning
plan. ``cut`` does all of it, and ``files`` saves what is left.
"""

from splinelib.surgery.cut import Backend, Cut, check_optimizer, cut, nonzero_mask
from splinelib.surgery.files import load, save
from splinelib.surgery.groups import Group, Residual, group_mask, groups
from splinelib.surgery.plan import Plan
from splinelib.surgery.planning import plan
from splinelib.surgery.shrink import shrink

__all__ = [
    "Backend",
    "Cut",
    "Group",
    "Plan",
    "Residual",
    "check_optimizer",
    "cut",
    "group_mask",
    "groups",
    "load",
    "nonzero_mask",
    "plan",
    "save",
    "shrink",
]
