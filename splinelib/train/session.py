"""A run in progress: its parts, one epoch of it, and all of it as a plain value."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from splinelib.data.steps import mixed_seed
from splinelib.train.checkpoint import moved
from splinelib.train.clock import Clock
from splinelib.train.distributed import Team
from splinelib.train.evaluate import check_batch, tally
from splinelib.train.hook import StepHook
from splinelib.train.identity import identity
from splinelib.train.recipe import Recipe, learning_rate, make_optimizer, restore_optimizer
from splinelib.train.speed import Plan
from splinelib.train.step import Measure, finite, gradients, scales, update
from splinelib.train.watching import Watchers


class Session:
    """The network that is trained, with all that changes while it is.

    Parameters
    ----------
    net : nn.Module
        Changed in place.
    source, test
        Images to train on, and to test on or None.
    recipe, plan, team
        What is done, how it is made fast, and who takes part.
    watchers : Watchers
        They look at the network before the first epoch and after each one.
    first_epoch : int
    micro_batch : int or None
    hook : StepHook or None
        Acts around each step of the optimizer, and after each epoch.
    """

    def __init__(
        self,
        net: nn.Module,
        source: object,
        recipe: Recipe,
        plan: Plan,
        team: Team,
        *,
        test: object | None,
        watchers: Watchers,
        first_epoch: int,
        micro_batch: int | None,
        hook: StepHook | None = None,
    ) -> None:
        self.net, self.source, self.recipe, self.plan, self.team = net, source, recipe, plan, team
        self.test, self.watchers, self.micro_batch = test, watchers, micro_batch
        self.hook = hook or StepHook()
        self.identity = identity(net, source, recipe, test, watchers, first_epoch)
        self.identity["hook"] = repr(hook) if hook else None
        self.slimmed = scales(net) if recipe.slimming else []
        self._check()
        self.hook.begin(net, recipe.epochs * source.steps)
        self.wrapped = team.wrap(plan.layout(net))
        self.optimizer = make_optimizer(recipe, net, fused=plan.fused)
        self.scaler = plan.scaler()
        rows = team.share(recipe.batch)
        self.measure = Measure(plan, min(rows, micro_batch or rows))
        self.measure_test = Measure(plan, team.share(test.batch)) if test else None
        self.epoch, self.step, self.sums = first_epoch, 0, plan.zeros(2)
        self.log: list[dict] = []
        self.stopped = False
        self.fits = False  # whether network and images were seen to fit each other
        self.clock = Clock()

    def _check(self) -> None:
        """Raise if penalty or hook cannot do their work, or a process would get no image."""
        if self.recipe.slimming and not self.slimmed:
            raise ValueError(
                f"slimming is {self.recipe.slimming}, but the network has no BatchNorm whose "
                "scales are trained: set slimming=0"
            )
        if self.hook.optimizer not in (None, self.recipe.optimizer):
            raise ValueError(
                f"{type(self.hook).__name__} works with the optimizer {self.hook.optimizer!r} "
                f"alone, but the recipe has {self.recipe.optimizer!r}: train with Recipe(optimizer="
                f"{self.hook.optimizer!r}, ...)"
            )
        last = self.source.images - (self.source.steps - 1) * self.source.batch
        if last < self.team.world:
            raise ValueError(
                f"the last batch of an epoch has {last} image{'s' * (last > 1)}, fewer than the "
                f"{self.team.world} processes: take another batch size, or leave out {last}"
            )

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.stopped or self.epoch >= self.recipe.epochs

    def look(self) -> None:
        """Let all watchers look at the network, and see whether it is time to stop."""
        self._reseed()
        self.net.eval()
        with self.plan.autocast():
            stop = self.watchers.look(self.net)
        self.stopped = self.team.from_lead(stop)

    def train_epoch(self, after_step: Callable[[], object]) -> dict:
        """Finish the epoch that the session is in; return its line of the log."""
        rate = learning_rate(self.recipe, self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.clock.start_epoch()
        self._steps(after_step)
        self.check_finite()
        loss, right = (self.sums / self.source.images).tolist()
        seconds = self.clock.end_epoch()
        self.epoch, self.step, self.sums = self.epoch + 1, 0, self.sums.zero_()
        self.team.same_buffers(self.net)
        row = {"epoch": self.epoch, "lr": rate, "loss": loss, "accuracy": right}
        row |= {"test_accuracy": self._tested(), "seconds": seconds}
        if self.micro_batch is not None:  # BatchNorm's statistics are those of the parts
            row["micro_batch"] = self.micro_batch
        self._watched(row)
        self.log.append(row)
        return row

    def _steps(self, after_step: Callable[[], object]) -> None:
        """Take the steps of this epoch that are left."""
        self.wrapped.train()
        place = {"rank": self.team.rank, "world": self.team.world}
        for x, y in self.source.epoch(self.epoch, start=self.step, **place):
            if not self.fits:
                check_batch(self.net, x, y, self.source)
                self.fits = True
            self._reseed()
            found = gradients(self.wrapped, x, y, images=self._images(), **self._tools())
            self.sums += self.team.total(found)  # what process 0 saves is complete at every step
            self._update()
            self.step += 1
            after_step()

    def _update(self) -> None:
        """Move the weights, with the hook around it."""
        now, acts = self.epoch * self.source.steps + self.step, type(self.hook) is not StepHook
        before = partial(self.hook.before_step, self.net, now) if acts else None
        moves = update(self.optimizer, self.scaler, self.slimmed, self.recipe.slimming, before)
        with torch.no_grad():
            (self.hook.after_step if moves else self.hook.skipped_step)(self.net, now)

    def _images(self) -> int:
        """Images of the batch that is next, over all processes."""
        return min(self.source.batch, self.source.images - self.step * self.source.batch)

    def _tools(self) -> dict:
        """What ``gradients`` works with."""
        names = ("team", "measure", "scaler", "micro_batch")
        return {name: getattr(self, name) for name in names}

    def _reseed(self) -> None:
        """Make what the network draws (dropout) a function of seed, epoch, step and process."""
        place = (getattr(self.source, "seed", 0), self.epoch, self.step, self.team.rank)
        seed = mixed_seed(*place)
        torch.default_generator.manual_seed(seed)
        if self.plan.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _tested(self) -> float | None:
        """Accuracy on the test images, if there are any."""
        self.net.eval()
        if self.test is None:
            return None
        first = not self.log
        return tally(self.net, self.test, self.measure_test, self.team, check=first)

    def _watched(self, row: dict) -> None:
        """Let the watchers look, and put what they tell into a line of the log."""
        start = time.monotonic()
        self.look()
        row["watch_seconds"] = time.monotonic() - start
        self.watchers.tell(row)

    def check_finite(self) -> None:
        """Raise unless the summed loss and all weights are finite; this waits for a GPU."""
        if not finite((self.sums, *self.net.parameters())):
            rate = learning_rate(self.recipe, self.epoch)
            raise ValueError(
                f"loss or weights are not finite in epoch {self.epoch + 1}, at learning rate "
                f"{rate:g}: lower lr (now {self.recipe.lr:g}); a checkpoint keeps the last state "
                "in which all was finite"
            )

    def state(self) -> dict:
        """All that a run needs to go on from here, as tensors, numbers and texts."""
        return {
            "identity": self.identity,
            "torch": str(torch.__version__),
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "scaler": self.scaler.state_dict(),
            "watchers": self.watchers.state_dict(),
            "hook": self.hook.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "stopped": self.stopped,
            "log": self.log,
            "seconds": self.clock.run,
            "epoch_seconds": self.clock.epoch if self.step else 0.0,
        }

    def restore(self, state: dict) -> None:
        """Go on from a state."""
        self.net.load_state_dict(state["net"])
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.watchers.load_state_dict(state["watchers"])
        self.hook.load_state_dict(moved(state["hook"], self.plan.device))
        self.epoch, self.step, self.stopped = (state[n] for n in ("epoch", "step", "stopped"))
        self.sums.copy_(state["sums"])
        self.log = state["log"]
        self.clock.restore(state["seconds"], state["epoch_seconds"])
