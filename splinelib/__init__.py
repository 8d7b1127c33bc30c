"""Deep networks as affine splines: exact codes, affine maps and partitions.

Import each thing from the room it lives in; lower rooms know nothing of higher ones.

====================  =============================================================================
``stages``            a network read as affine stages between nonlinearities
``affine``            codes, slopes and the map ``(A, b)`` around each input
``units``             where the units stand: their layer, BatchNorm, activation, readers
``masks``             which weights and units are kept, as a value
``folding``           moving what a unit does into the layers that read it
``soft``              smooth activations: each input belongs to each region with a probability
``nets``, ``data``    the networks and data sets of the book and of the paper
``fit``               trains a small network, in the time that a page has
``plane``             a plane through three points of the input space
``mesh``, ``cutting`` planar meshes of convex cells, and how lines cut them
``grow``              the recursion from layer to layer
``partition``         the exact partition of a box or slice
``boundary``          the decision boundary on it
``segments``          joining segments into lines, distances to them
``arrangement``       exact numbers of regions of one layer, in any dimension
``redundancy``        how near the hyperplanes of two units are; the order of removal
``merging``           coincident units merged without loss
``surgery``           masks become smaller networks with the same outputs
``earlybird``         how far a partition moves while a network trains, and when it has settled
``train``             the training engine: recipes, speed, checkpoints, several processes
``cost``              multiply-adds, a ledger of FLOPs, seconds, memory and energy
``pruning``           methods of pruning, one file each
``experiments``       named configs, and one result file a run
``viz``, ``explore``  one look for all figures; sliders for a page and for a running kernel
``tables``            a table that the reader of a page can sort
``classroom``         what the checks of assignments are made of
====================  =============================================================================

>>> from torch import nn
>>> from splinelib.partition import partition
>>> partition(nn.Sequential(nn.Linear(2, 1), nn.ReLU()), box=((-9, -9), (9, 9)))
Partition(2 cells, 1 layer)
"""

__version__ = "0.1.0"
