"""Masks as values: which weights and units of a network are kept, and how many.

``mask`` holds the value itself, ``build`` makes masks of units or of single weights, and
``selection`` chooses what is kept from scores.
"""

from splinelib.masks.build import unit_mask, weight_mask
from splinelib.masks.mask import Mask
from splinelib.masks.selection import select

__all__ = ["Mask", "select", "unit_mask", "weight_mask"]
