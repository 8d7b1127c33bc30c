"""When a device's memory is short: the same training, with fewer images at once."""

import copy
import os
import re
import warnings
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from splinelib.train.hook import StepHook
from splinelib.train.loop import Run, train
from splinelib.train.recipe import CIFAR, Recipe
from splinelib.train.watching import Watchers

# cuDNN and cuBLAS take memory beside PyTorch's own, and have errors of their own for it.
SHORT = re.compile(r"CU\w+_STATUS_\w*ALLOC(ATION)?_FAILED|CUDA error: out of memory")
LEAST = 16  # images at once: BatchNorm's statistics of fewer are too rough to go on with


def train_in_memory(
    net: nn.Module,
    source: object,
    recipe: Recipe = CIFAR,
    *,
    watch: Iterable | Mapping[str, object] = (),
    until: object | None = None,
    hook: StepHook | None = None,
    micro_batch: int | None = None,
    **options: object,
) -> Run:
    """Train as :func:`splinelib.train.train`, and halve the images at once when memory is short.

    Parameters
    ----------
    net, source, recipe, watch, until, hook, micro_batch, **options
        As for ``train``.

    Returns
    -------
    Run
        Epochs that were computed in parts say so in the log: "micro_batch".

    Raises
    ------
    RuntimeError
        Memory is short for 16 images, too (``torch.OutOfMemoryError``, or what cuDNN or cuBLAS
        say); or in one of several processes, which would leave the
        others waiting: give ``micro_batch`` there.
    ValueError, OSError
        As from ``train``.

    Warns
    -----
    RuntimeWarning
        Each time that it goes on with fewer images.

    Notes
    -----
    The parts' gradients add up to those of the batch, so the steps of the optimizer, their number
    and their rate stay. BatchNorm is the exception: it normalises each part by the part's own mean
    and variance. With a checkpoint the training goes on from there, else it starts anew; watchers
    and hook are put back to where they were. Taught in *EB spline pruning on CIFAR*.
    """
    watch = watch if isinstance(watch, Mapping) else list(watch)
    watchers, hook = Watchers(watch, until), hook or StepHook()
    before = copy.deepcopy((watchers.state_dict(), hook.state_dict()))
    asked = {"watch": watch, "until": until, "hook": _given(hook), **options}
    while True:
        try:
            return train(net, source, recipe, micro_batch=micro_batch, **asked)
        except RuntimeError as error:
            if not is_shortage(error):
                raise
            smaller = (micro_batch or recipe.batch) // 2
            if smaller < LEAST or int(os.environ.get("WORLD_SIZE", 1)) > 1:
                raise
        # Behind the handler, whose traceback holds the tensors that must go.
        micro_batch = smaller
        _tell(micro_batch, recipe.batch)
        watchers.load_state_dict(copy.deepcopy(before[0]))
        hook.load_state_dict(copy.deepcopy(before[1]))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_shortage(error: RuntimeError) -> bool:
    """Whether an error says that a device's memory is short.

    >>> is_shortage(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    True
    """
    return isinstance(error, torch.OutOfMemoryError) or bool(SHORT.search(str(error)))


def _given(hook: StepHook) -> StepHook | None:
    """The hook as it was given: a plain one stands for none."""
    return None if type(hook) is StepHook else hook


def _tell(micro_batch: int, batch: int) -> None:
    """Warn of what changes."""
    warnings.warn(
        f"memory is short: going on with {micro_batch} images at once of each batch of {batch}. "
        "Their gradients add up to the same; BatchNorm takes the statistics of these parts",
        RuntimeWarning,
        stacklevel=3,
    )
