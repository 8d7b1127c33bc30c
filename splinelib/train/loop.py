"""The training loop: the paper's recipes, fast on a GPU, and never starting over."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from splinelib.ops import copied
from splinelib.train.distributed import join
from splinelib.train.hook import StepHook
from splinelib.train.keeper import Keeper, keeping
from splinelib.train.progress import Bar, showing
from splinelib.train.recipe import CIFAR, Recipe
from splinelib.train.session import Session
from splinelib.train.speed import Speed
from splinelib.train.watching import Watchers
from splinelib.units.weights import need_numbers


@dataclass(frozen=True)
class Run:
    """What ``train`` gives back.

    Attributes
    ----------
    net : nn.Module
        The trained network, in evaluation mode.
    log : list of dict
        One line an epoch: "epoch" (epochs done, from 1), "lr", "loss" and "accuracy" (means over
        the training images as they were seen, while the network changed), "test_accuracy" (None
        without ``test``), "seconds" (of the steps, a compilation included), "watch_seconds", and
        what each watcher tells.
    epoch : int
        Epochs done, those before ``first_epoch`` included.
    stopped : bool
        Whether ``until`` ended the run.
    seconds : float
        Of the whole run, with tests, watchers and checkpoints; of a run that was interrupted, the
        time whose work was kept.
    """

    net: nn.Module
    log: list[dict]
    epoch: int
    stopped: bool
    seconds: float


def train(
    net: nn.Module,
    source: object,
    recipe: Recipe = CIFAR,
    *,
    test: object | None = None,
    watch: Iterable | Mapping[str, object] = (),
    until: object | None = None,
    first_epoch: int = 0,
    micro_batch: int | None = None,
    speed: Speed | None = None,
    checkpoint: str | Path | None = None,
    save_every: float = 60.0,
    progress: bool | str = False,
    on_epoch: Callable[[nn.Module, dict], object] | None = None,
    hook: StepHook | None = None,
) -> Run:
    """Train a copy of a network on images.

    Parameters
    ----------
    net : nn.Module
        Maps inputs ``(b, ...)`` to logits ``(b, C)``. It stays as it is; the copy is trained on its
        device and in its type.
    source : data.Batches or data.Stream
        The training images, on that device and in that type, in batches of ``recipe.batch``.
    recipe : Recipe
        Epochs, optimizer, learning rates.
    test : data.Batches or data.Stream, optional
        Images whose accuracy goes into the log after each epoch.
    watch : iterable, or mapping of str
        Objects that look at the network before the first epoch and after each one, such as
        ``earlybird.EarlyBird``: ``update(net) -> bool`` gets it in evaluation mode and in the
        precision of the training, ``latest`` is a dict for the log, and ``state_dict()`` and
        ``load_state_dict(state)`` let a checkpoint hold it. Under the names of a mapping, each gets
        a column of its own in the log, with its dict.
    until : object, optional
        One more of the kind, or one of them; training ends when its ``update`` returns True.
    first_epoch : int
        Epoch of the schedule to begin with: a ticket drawn after 30 epochs goes on at 30.
    micro_batch : int, optional
        Images that are computed at once; their gradients are added up to those of a batch, so that
        any memory will do. BatchNorm sees these parts one by one, and its statistics are theirs.
        Default: a whole batch.
    speed : Speed, optional
        Precision, layout, compilation; default: what suits the device.
    checkpoint : str or Path, optional
        File that keeps the run. The same call, made again after an interruption, goes on where the
        file ends, and returns at once when the run was complete.
    save_every : float
        Seconds after which a checkpoint is due, at any step. One is also written after each epoch,
        unless that would take more than a twentieth of the time, and at the end.
    progress : bool or str
        Show a bar for all epochs, with the time that is left, loss and accuracy; a text stands in
        front of it.
    on_epoch : callable, optional
        Called as ``on_epoch(net, row)`` after each epoch with the copy, in evaluation mode, and its
        line of the log, before the checkpoint of that epoch: what it changes in the network is
        kept. It may be called again for an epoch whose end was not yet saved.
    hook : StepHook, optional
        Acts on gradients and weights around each step of the optimizer, and on weights after each
        epoch, before ``on_epoch``, see :class:`splinelib.train.StepHook`.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        Settings that do not fit each other; a loss or weight that is not finite, at the end of the
        epoch; a checkpoint of another run, one that another process is using, or one that cannot be
        read.
    OSError
        A checkpoint cannot be written; the one before stays.

    Notes
    -----
    Each step's images, their augmentation and what the network itself draws (dropout) depend on the
    source's seed, the epoch and the step alone, so there is no random state to save, and the
    caller's is left as it is. An interrupted run ends with the same bits as any other on a CPU; on
    a GPU sums are not always taken in one order. Precision, device, ``micro_batch`` and the number
    of processes may change between the parts of a run, which then goes on, but not to the same
    bits.

    Started by ``torchrun``, each process trains on its share of every batch, and the gradients are
    averaged by ``DistributedDataParallel``. BatchNorm takes its statistics from the share of each
    process (``nn.SyncBatchNorm.convert_sync_batchnorm(net)`` is torch's way to change that), and
    the running ones are those of process 0. All processes return the same run.

    Sec. 4.1 of the paper. Taught in *Drawing the ticket*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> images, _ = data.load("digits")
    >>> net = nets.mlp([64, 32, 10], dtype=torch.float32)
    >>> net = nn.Sequential(nn.Flatten(), net)
    >>> run = train(net, data.Batches(images, batch=64), Recipe(epochs=3, batch=64))
    >>> run.epoch, run.log[-1]["accuracy"] > 0.9
    (3, True)
    """
    _check(net, source, recipe, first_epoch, micro_batch, save_every)
    net, device = copied(net), next(net.parameters()).device
    own = [device.index] if device.type == "cuda" else []
    with join(device) as team, torch.random.fork_rng(own):
        graphs = team.world == 1 and micro_batch is None
        plan = (speed or Speed()).resolve(net, graphs=graphs)
        session = Session(
            net,
            source,
            recipe,
            plan,
            team,
            test=test,
            watchers=Watchers(watch, until),
            first_epoch=first_epoch,
            micro_batch=micro_batch,
            hook=hook,
        )
        with keeping(session, checkpoint, save_every) as keeper, plan.tuned():
            _epochs(session, keeper, on_epoch, team.leads and progress)
        net = net.to(memory_format=torch.contiguous_format) if plan.channels_last else net
    return Run(net.eval(), session.log, session.epoch, session.stopped, session.clock.run)


def trainer(source: object, recipe: Recipe = CIFAR, **options) -> Callable[..., Run]:
    """Fix what all trainings of a comparison have in common.

    Parameters
    ----------
    source, recipe, **options
        As for :func:`train`.

    Returns
    -------
    callable
        ``fit(net, label="", **changes) -> Run``, which calls :func:`train` with these settings and
        the changes. The label is for callers that keep books; here it changes nothing. It is what
        the methods of :mod:`splinelib.pruning` that train are given.

    Notes
    -----
    Taught in *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import data, nets
    >>> images, _ = data.load("digits")
    >>> fit = trainer(data.Batches(images, batch=64), Recipe(epochs=2, batch=64))
    >>> fit(nets.build("mlp", 10, in_shape=(1, 8, 8), hidden=[16])).epoch
    2
    """
    settings = {"source": source, "recipe": recipe, **options}

    def fit(net: nn.Module, label: str = "", **changes) -> Run:
        return train(net, **{**settings, **changes})

    return fit


def _epochs(session: Session, keeper: Keeper, on_epoch, progress: bool | str) -> None:
    """Go through the epochs that are left, with a checkpoint whenever one is due."""
    if not keeper.resume():
        session.look()
    with showing(session, progress) as bar:
        while not session.ended:
            bar.epoch()
            row = session.train_epoch(partial(_after_step, keeper, bar))
            bar.tell(row)
            with torch.no_grad():
                session.hook.after_epoch(session.net, session.epoch)
            if on_epoch:
                on_epoch(session.net, row)
            keeper.after_epoch()


def _after_step(keeper: Keeper, bar: Bar) -> None:
    """Save if it is time, and move the progress bar."""
    keeper.after_step()
    bar.step()


def _check(net, source, recipe, first_epoch, micro_batch, save_every) -> None:
    """Raise unless network, images and settings fit each other."""
    need_numbers(net)
    if next(net.parameters(), None) is None:
        raise ValueError(f"{type(net).__name__} has no parameters to train")
    if source.batch != recipe.batch:
        raise ValueError(
            f"the images come in batches of {source.batch}, but the recipe says {recipe.batch}: "
            f"give the source batch={recipe.batch}"
        )
    if not 0 <= first_epoch <= recipe.epochs:
        raise ValueError(
            f"first_epoch is {first_epoch}, but the recipe has epochs 0 to {recipe.epochs}"
        )
    if (micro_batch is not None and micro_batch < 1) or not save_every >= 0:
        raise ValueError(
            f"micro_batch={micro_batch}, save_every={save_every}: need at least one image and a "
            "time of at least 0 seconds"
        )
