"""Experiments as data: one named config, one run, one result file.

``python -m splinelib.experiments`` runs them; chapters read what was recorded:

>>> from splinelib.experiments import get, paper_values, results
>>> get("vgg16/cifar10/dense").recipe.epochs
160
>>> paper_values(table=1, network="VGG-16", dataset="CIFAR-10", method="Unpruned")[0].value
92.71
>>> results("not/run/yet")
[]
"""

from splinelib.experiments.config import Experiment
from splinelib.experiments.job import Job, Outcome
from splinelib.experiments.methods import METHODS, available
from splinelib.experiments.paper import Printed, cell, paper_values
from splinelib.experiments.places import results_folder
from splinelib.experiments.registry import get, matching, registry
from splinelib.experiments.results import (
    column,
    distance_matrix,
    fired,
    layer_distances,
    mean_sd,
    results,
)
from splinelib.experiments.run import run
from splinelib.experiments.telling import kept_units

__all__ = [
    "METHODS",
    "Experiment",
    "Job",
    "Outcome",
    "Printed",
    "available",
    "cell",
    "column",
    "distance_matrix",
    "fired",
    "get",
    "kept_units",
    "layer_distances",
    "matching",
    "mean_sd",
    "paper_values",
    "registry",
    "results",
    "results_folder",
    "run",
]
