"""One pass over the learning rates, and when it ends."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lrlib import suggest as heuristics
from lrlib.finder.batches import tensors_of
from lrlib.finder.settings import Settings
from lrlib.finder.step import Training

Floats = NDArray[np.float64]
REACHED_END = "reached end_lr"  # how the stop_reason of a sweep begins that nothing ended before
# Reading a loss off an accelerator waits for all that was sent to it, so there it is done a few steps at a time.
READ_EVERY = {"cpu": 1}
READ_EVERY_ELSEWHERE = 10
SMOOTH_F = 0.05  # weight of the newest loss in the running mean that tells divergence
N_START = 20  # losses from which the noise is estimated; none of the first half of them ends a sweep


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over the learning rates.

    lr, loss: float64 of shape (n_steps,), the learning rate that each step used and its training loss before the step;
    the last loss may be NaN or infinite. val_step: int64 of shape (n_val,), the steps (from 0) after which it was
    validated; val: float64 of shape (n_val,). seconds: of the steps. seed, seconds: None of a history that lrlib.read
    has read. fault: why no learning rate can be read from it, where its curve does not say so itself.
    """

    seed: int | None
    lr: Floats
    loss: Floats
    val_step: NDArray[np.int64]
    val: Floats
    val_metric: str | None
    stop_reason: str
    seconds: float | None
    fault: str | None = None

    def __post_init__(self) -> None:
        for name, dtype in (("lr", np.float64), ("loss", np.float64), ("val_step", np.int64), ("val", np.float64)):
            array = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def curve(self) -> tuple[Floats, Floats]:
        """(lr, loss) that suggestions are read from: validation where there is any, accuracy as 1 - accuracy.

        Where a validated sweep diverged between two validations, its last loss is NaN.
        """
        if self.val_metric is None:
            return self.lr, self.loss
        step, val = self.val_step, 1 - self.val if self.val_metric == "accuracy" else self.val
        last = len(self.lr) - 1
        if not self.stop_reason.startswith(REACHED_END) and (len(step) == 0 or step[-1] < last):
            step, val = np.append(step, last), np.append(val, np.nan)
        return self.lr[step], val

    @property
    def diverged(self) -> bool:
        """Whether the loss diverged or was not finite."""
        finite = np.isfinite(self.loss).all() and np.isfinite(self.val).all()
        return not finite or "diverged" in self.stop_reason

    @cached_property
    def smoothed(self) -> Floats:
        """The training loss without its noise, float64 of shape (n_steps,)."""
        return heuristics.smooth(self.lr, self.loss)

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f" seed {self.seed}:"
        return f"<Sweep{seed} {len(self.lr)} steps, lr {self.lr[0]:.3g} to {self.lr[-1]:.3g}, {self.stop_reason}>"


class OneSweep:
    """One pass over the learning rates, and what is known of it so far."""

    def __init__(
        self, training: Training, bar: Any, *, seed: int, deadline: float, lrs: list[float] | None = None
    ) -> None:
        self.training, self.bar, self.seed, self.deadline = training, bar, seed, deadline
        self.settings, self.lrs = training.settings, lrs or lrs_of(training.settings)
        self.watch = Watch(training.settings.diverge_th)
        self.read_every = READ_EVERY.get(training.device.type, READ_EVERY_ELSEWHERE)
        self.losses: list[float] = []
        self.unread: list[torch.Tensor] = []
        self.val_step: list[int] = []
        self.val: list[float] = []
        self.error: Exception | None = None  # that ended it
        self.is_late = False  # max_seconds were over

    def run(self, begin: Callable[[], Iterator[Any]], val_subset: list[Any]) -> Sweep:
        """Raises the user's exceptions, except one after a divergence, which ends the sweep.

        begin() -> batches: makes the sweep's first state out of the one that is kept.
        """
        reason = None
        began = time.perf_counter()
        batches = begin()
        with self.training.watched():
            for step in range(len(self.lrs)):
                try:
                    reason = self._step(step, batches, val_subset)
                except Exception as err:
                    reason = self._after(err, step)
                    self.error = err
                if reason:
                    break
        return Sweep(
            seed=self.seed,
            lr=np.array(self.lrs[: len(self.losses)]),
            loss=np.array(self.losses),
            val_step=np.array(self.val_step, dtype=np.int64),
            val=np.array(self.val),
            val_metric=self.settings.val_metric,
            stop_reason=reason or f"{REACHED_END} {self.lrs[-1]:.3g}",
            seconds=time.perf_counter() - began,
            fault=self._fault(),
        )

    def _step(self, step: int, batches: Iterator[Any], val_subset: list[Any]) -> str | None:
        """One update and what is due after it. Returns the reason to stop, if there is one."""
        self.unread.append(self.training.update(batches, self.lrs[step]))
        self.bar.update()
        is_last = step + 1 == len(self.lrs)
        val_due = val_subset and ((step + 1) % self.settings.val_every == 0 or is_last)
        if len(self.unread) < self.read_every and not is_last and not val_due:
            return None
        reason = self._read()
        if reason is None and val_due:
            value = self.training.validate(val_subset)
            self.val_step.append(step)
            self.val.append(value)
            if not math.isfinite(value):
                return f"the validation {self.settings.val_metric} was {value} at lr {self.lrs[step]:.3g}"
        if reason is None and not is_last and self.deadline < math.inf:
            self.is_late = self.training.ranks.total(time.perf_counter() > self.deadline)[0] > 0
        return f"max_seconds ended it at lr {self.lrs[step]:.3g}" if self.is_late else reason

    def _read(self) -> str | None:
        """Read the losses that have not been read. Returns the reason to stop, if one of them gives it."""
        unread, self.unread = self.unread, []
        for loss in self.training.ranks.mean(unread) if unread else ():
            self.losses.append(loss)
            lr = self.lrs[len(self.losses) - 1]
            reason = self.watch.stop_reason(loss, lr)
            if reason:
                return reason
        if self.losses:
            self.bar.set_postfix_str(
                f"lr {self.lrs[len(self.losses) - 1]:.2g}, loss {self.losses[-1]:.3g}", refresh=False
            )
        return None

    def _after(self, err: Exception, step: int) -> str:
        """The reason why an exception ends the sweep. Raises it unless something is not finite."""
        if self.training.ranks.n == 1:
            reason = self._read()  # a loss may have exploded before, and not have been read yet
            if reason is not None:
                return f"{reason}, and {type(err).__name__} was raised after it"
            evidence = self.training.evidence()
            if evidence is not None:
                if len(self.losses) == step:
                    self.losses.append(math.nan)
                else:  # it was raised in the validation
                    self.val_step.append(step)
                    self.val.append(math.nan)
                said = (str(err).splitlines() or [""])[0][:200]
                return f"{evidence} at lr {self.lrs[step]:.3g}, where {type(err).__name__} was raised: {said}"
        shapes = [tuple(tensor.shape) for tensor in tensors_of(self.training.batch)]
        err.add_note(f"range_test: at step {step}, on a batch of tensors of shapes {shapes}; everything is restored")
        raise err

    def _fault(self) -> str | None:
        """Why no learning rate can be read from this sweep, if its curve does not say so itself."""
        if self.losses and not math.isfinite(self.losses[0]):
            return f"the loss is {self.losses[0]} before any update: check the model, the loss and the data"
        if 0 < len(self.losses) <= self.training.n_skipped:
            return "the GradScaler skipped every update, so nothing was trained: lower its init_scale"
        if self.is_late:
            return "max_seconds ended the sweep: allow more seconds, or lower num_iter"
        return None


class Watch:
    """Tells when a loss has diverged."""

    def __init__(self, diverge_th: float | None) -> None:
        self.diverge_th = diverge_th
        self.mean = 0.0
        self.losses: list[float] = []
        self.first = self.best = math.nan

    def stop_reason(self, loss: float, lr: float) -> str | None:
        """None to go on."""
        if not math.isfinite(loss):
            return f"the loss was {loss} at lr {lr:.3g}"
        self.losses.append(loss)
        self.mean += SMOOTH_F * (loss - self.mean)
        corrected = self.mean / (1 - (1 - SMOOTH_F) ** len(self.losses))
        if len(self.losses) == 1:
            self.first = self.best = corrected
        self.best = min(self.best, corrected)
        if self.diverge_th is None or len(self.losses) <= N_START // 2:
            return None
        # The scale of the loss: its lowest value; near or below zero what it has fallen by, or its noise at the start.
        noise = float(np.median(np.abs(np.diff(self.losses[:N_START])))) * 1.4826 / math.sqrt(2)
        scale = max(abs(self.best), (self.first - self.best) / 10, noise)
        if corrected > self.best + (self.diverge_th - 1) * scale:
            return f"the loss diverged at lr {lr:.3g}: its running mean went from {self.best:.3g} to {corrected:.3g}"
        return None


def lrs_of(settings: Settings) -> list[float]:
    """The learning rates: start_lr * (end_lr / start_lr) ** (k / (num_iter - 1)), as far as float32 goes."""
    share = np.arange(settings.num_iter) / (settings.num_iter - 1)
    lrs = settings.start_lr * (settings.end_lr / settings.start_lr) ** share
    return lrs[lrs <= np.finfo(np.float32).max].tolist()
