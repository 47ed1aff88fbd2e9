"""One pass over the learning rates."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from lrlib.finder.batches import tensors_of
from lrlib.finder.restore import State
from lrlib.finder.result import REACHED_END, Settings, Sweep
from lrlib.finder.step import Training
from lrlib.finder.stop import NEVER_THE_EXPLOSION, Watch, explosion_reason

# Reading a loss off an accelerator waits for all that was sent to it, so there it is done a few steps at a time.
READ_EVERY = {"cpu": 1}
READ_EVERY_ELSEWHERE = 10


class OneSweep:
    """One pass over the learning rates, and what is known of it so far."""

    def __init__(self, training: Training, state: State, bar: Any) -> None:
        self.training, self.state, self.bar = training, state, bar
        self.settings, self.lrs = training.settings, _lrs(training.settings)
        self.watch = Watch(training.settings)
        # Updates at each rate. Those of a staircase begin from the sweep's first state; a ramp goes on from the last.
        self.held = 1 if self.settings.num_rates is None else self.settings.num_iter // self.settings.num_rates
        self.read_every = 1 if self.held > 1 else READ_EVERY.get(training.device.type, READ_EVERY_ELSEWHERE)
        self.losses: list[float] = []
        self.unread: list[torch.Tensor] = []
        self.val_step: list[int] = []
        self.val: list[float] = []
        self.error: Exception | None = None  # that ended it

    def run(self, begin: Callable[[], Iterator[Any]], val_subset: list[Any], *, seed: int) -> Sweep:
        """Raises the user's exceptions, but those of the explosion, which end the sweep.

        begin() -> batches: makes the sweep's first state out of the one that is kept.
        """
        reason = None
        began = time.perf_counter()
        batches = begin()
        for step in range(len(self.lrs)):
            if step > 0 and self.held > 1:
                self.state.put_back()
                batches = begin()
            try:
                reason = self._step(step, batches, val_subset)
            except Exception as err:
                reason = self._after(err, step)
                self.error = err
            if reason:
                break
        seconds = time.perf_counter() - began
        _check_shapes(self.state)
        return Sweep(
            seed=seed,
            lr=np.array(self.lrs[: len(self.losses)]),
            loss=np.array(self.losses),
            val_step=np.array(self.val_step, dtype=np.int64),
            val=np.array(self.val),
            val_metric=self.settings.val_metric,
            stop_reason=reason or f"{REACHED_END} {self.settings.end_lr:.3g}",
            seconds=seconds,
        )

    def _step(self, step: int, batches: Iterator[Any], val_subset: list[Any]) -> str | None:
        """One update, or all those at one rate, and what is due after; the reason to stop, if there is one."""
        self.training.set_lr(self.lrs[step])
        losses = []
        for _ in range(self.held):
            losses.append(self.training.update(batches))
            self.bar.update()
        last = losses[-max(1, self.held // 4) :]
        self.unread.append(last[0] if len(last) == 1 else torch.stack(last).mean())
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
        return reason

    def _read(self) -> str | None:
        """Read the losses that have not been read; the reason to stop, if one of them gives it."""
        unread, self.unread = self.unread, []
        for loss in self.training.ranks.mean(unread) if unread else ():
            self.losses.append(loss)
            reason = self.watch.stop_reason(loss, self.lrs[len(self.losses) - 1])
            if reason:
                return reason
        return None

    def _after(self, err: Exception, step: int) -> str:
        """The reason why an exception ends the sweep. Raises it if it is not the explosion's."""
        if self.training.ranks.is_alone:
            _explain(err, self.training, step)
            raise err
        if any(self.state.changed_shapes()):
            _check_shapes(self.state, cause=err)
        reason = self._read()  # a loss may have exploded before, and not have been read yet
        if reason is None:
            evidence = None if isinstance(err, NEVER_THE_EXPLOSION) or self.training.is_loading else self._evidence()
            if not self.training.ranks.any(evidence is not None):
                _explain(err, self.training, step)
                raise err
            reason = explosion_reason(err, self.lrs[step], evidence or "another process's loss had exploded")
            if len(self.losses) == step:
                self.losses.append(math.nan)
            else:
                self.val_step.append(step)
                self.val.append(math.nan)
            return reason
        return f"{reason}, and {type(err).__name__} was raised by then"

    def _evidence(self) -> str | None:
        """In words, what shows that the model has exploded; None if nothing does."""
        loss = self.training.loss
        if loss is not None and not bool(torch.isfinite(loss)):
            return f"the loss was {float(loss)}"
        return "the loss had risen" if self.watch.has_risen() else self.state.damage()


def _lrs(settings: Settings) -> list[float]:
    """The rate of every update, or of every stair: a list of num_iter or num_rates floats."""
    n_rates = settings.num_rates or settings.num_iter
    share = np.arange(n_rates) / (n_rates - 1)
    if settings.step_mode == "linear":
        return (settings.start_lr + share * (settings.end_lr - settings.start_lr)).tolist()
    return (settings.start_lr * (settings.end_lr / settings.start_lr) ** share).tolist()


def _explain(err: Exception, training: Training, step: int) -> None:
    """A note of where, for the user's own exceptions."""
    shapes = [tuple(tensor.shape) for tensor in tensors_of(training.batch)]
    err.add_note(
        f"range_test: at step {step}, on a batch of tensors of shapes {shapes}; everything is as it was before"
    )


def _check_shapes(state: State, cause: Exception | None = None) -> None:
    for name, before, now in state.changed_shapes():
        raise ValueError(
            f"parameters must keep their shape, got {name} of {before} turned into {now} between batches; "
            "make the model's shape independent of the batch"
        ) from cause
