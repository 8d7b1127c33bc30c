"""One look for every picture of a partition: ``Axes`` in, ``Axes`` out.

Nothing here shows a figure, changes a network or draws a random number.  Two colours are reserved
in the whole book, ``BOUNDARY`` (thick, solid) and ``UNIT`` (dashed); cells are pastel, coloured by
their code alone; classes differ by marker as well as by colour.
"""

from splinelib.viz.look import (
    BOUNDARY,
    CLASSES,
    EDGE_NEW,
    EDGE_OLD,
    MARKERS,
    UNIT,
    code_colors,
    style,
    use_style,
)
from splinelib.viz.plane import (
    plot_boundary,
    plot_edges,
    plot_layers,
    plot_partition,
    plot_pieces,
    plot_points,
)
from splinelib.viz.space import plot_surface

__all__ = [
    "BOUNDARY", "CLASSES", "EDGE_NEW", "EDGE_OLD", "MARKERS", "UNIT",
    "code_colors", "plot_boundary", "plot_edges", "plot_layers", "plot_partition",
    "plot_pieces", "plot_points", "plot_surface", "style", "use_style",
]  # fmt: skip
