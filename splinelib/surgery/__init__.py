"""Surgery: masks become smaller networks with the same outputs."""

from splinelib.surgery.groups import Group, Residual, group_mask, groups

__all__ = ["Group", "Residual", "group_mask", "groups"]
