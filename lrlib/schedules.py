"""Schedules, turned into the learning rate and momentum of every step.

A schedule says how the learning rate moves over a run. `lr_per_step` turns it into two arrays by driving
torch's own scheduler, so torch stays the definition and no formula is written a second time.
"""

import ast
import inspect
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.optim import lr_scheduler


class Schedule:
    """Base of the schedules, which raise ValueError for a value outside its range."""

    def check_epochs(self, epochs: int) -> None:
        """Raise ValueError unless the schedule fits a run of this length."""

    def build(self, optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler of this schedule, to be stepped after each optimizer step; its start lr is set."""
        raise NotImplementedError

    def _require_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, got {value!r}; a learning rate is e.g. 0.1")


@dataclass(frozen=True)
class Constant(Schedule):
    """The same lr at every step; lr > 0."""

    lr: float

    def __post_init__(self) -> None:
        self._require_positive("lr")

    def build(self, optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int) -> lr_scheduler.LRScheduler:
        _set_lr(optimizer, self.lr)
        return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def __str__(self) -> str:
        return f"constant lr {self.lr:g}"


@dataclass(frozen=True)
class MultiStep(Schedule):
    """lr, multiplied by gamma at each milestone; torch's MultiStepLR, stepped once an epoch.

    milestones: epochs, increasing and inside the run; milestone m means that epochs 1 .. m use the lr before it.
    gamma: factor in (0, 1].
    """

    lr: float
    milestones: tuple = (15, 25)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self._require_positive("lr", "gamma")
        milestones = tuple(self.milestones)
        whole = all(isinstance(m, int) and not isinstance(m, bool) and m >= 1 for m in milestones)
        if not milestones or not whole or list(milestones) != sorted(set(milestones)):
            raise ValueError(
                f"milestones must be whole epochs from 1 on in increasing order, got {list(milestones)}; e.g. [15, 25]"
            )
        if self.gamma > 1:
            raise ValueError(f"gamma must be in (0, 1], got {self.gamma!r}; it multiplies lr at each milestone")
        object.__setattr__(self, "milestones", milestones)

    def check_epochs(self, epochs: int) -> None:
        late = [m for m in self.milestones if m > epochs]
        if late:
            raise ValueError(
                f"milestones must not lie past the last epoch, {epochs}, got {list(self.milestones)}; "
                f"lower {late} or train for more epochs"
            )

    def build(self, optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int) -> lr_scheduler.LRScheduler:
        _set_lr(optimizer, self.lr)
        milestones = [m * steps_per_epoch for m in self.milestones]
        return lr_scheduler.MultiStepLR(optimizer, milestones, self.gamma)

    def __str__(self) -> str:
        return f"MultiStep lr {self.lr:g}, milestones {list(self.milestones)}, gamma {self.gamma:g}"


@dataclass(frozen=True)
class OneCycle(Schedule):
    """lr up from max_lr / div_factor to max_lr and down to that start over final_div_factor; torch's OneCycleLR.

    pct_start: fraction of the steps spent rising, in (0, 1). torch peaks at step pct_start * total_steps - 1.
    cycle_momentum: move momentum from max_momentum to base_momentum and back, as torch does by default; the optimizer's
    own momentum is then not used.
    anneal_strategy: "cos" or "linear". three_phase: fall back to the start over the same number of steps as
    the rise, and only then go below it, as Smith's own cycle does.
    """

    max_lr: float
    final_div_factor: float = 1e4
    pct_start: float = 0.3
    div_factor: float = 25.0
    cycle_momentum: bool = True
    anneal_strategy: Literal["cos", "linear"] = "cos"
    three_phase: bool = False
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def __post_init__(self) -> None:
        self._require_positive("max_lr", "final_div_factor", "div_factor")
        if not isinstance(self.pct_start, (int, float)) or not 0 < self.pct_start < 1:
            raise ValueError(f"pct_start must be in (0, 1), got {self.pct_start!r}; it is a fraction of the steps")
        if self.anneal_strategy not in ("cos", "linear"):
            raise ValueError(f'anneal_strategy must be "cos" or "linear", got {self.anneal_strategy!r}; it is torch\'s')
        if not 0 <= self.base_momentum <= self.max_momentum < 1:
            raise ValueError(
                f"base_momentum and max_momentum must be in [0, 1), the first at most the second, got "
                f"{self.base_momentum!r} and {self.max_momentum!r}; momentum is least where the lr is largest"
            )

    def build(self, optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(optimizer, total_steps=epochs * steps_per_epoch, **vars(self))

    def __str__(self) -> str:
        return f"OneCycle max_lr {self.max_lr:g}, final_div_factor {self.final_div_factor:g}"


@dataclass(frozen=True)
class Exponential(Schedule):
    """lr(k) = start_lr * (end_lr / start_lr) ** (k / total_steps): the range test's sweep; torch's ExponentialLR.

    k = 0 .. total_steps - 1, so the last step's lr is one step short of end_lr, as the reproduced report ran it.
    Source: Smith 2017, "Cyclical learning rates", section 3.3, with an exponential in place of its linear rise.
    """

    start_lr: float
    end_lr: float

    def __post_init__(self) -> None:
        self._require_positive("start_lr", "end_lr")
        if self.start_lr >= self.end_lr:
            raise ValueError(
                f"start_lr must be less than end_lr, got {self.start_lr!r} and {self.end_lr!r}; a sweep goes upwards"
            )

    def build(self, optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int) -> lr_scheduler.LRScheduler:
        _set_lr(optimizer, self.start_lr)
        gamma = (self.end_lr / self.start_lr) ** (1 / (epochs * steps_per_epoch))
        return lr_scheduler.ExponentialLR(optimizer, gamma=gamma)

    def __str__(self) -> str:
        return f"range test {self.start_lr:g} to {self.end_lr:g}"


def parse_schedule(text: str) -> Schedule:
    """The schedule that a call stands for, such as "OneCycle(0.1, pct_start=0.2)"; its arguments are literals.

    Raises ValueError for text that is not such a call, or a value outside its range.
    """
    classes = {kind.__name__: kind for kind in Schedule.__subclasses__()}
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a call")
        kind = classes[call.func.id]
        values = [ast.literal_eval(value) for value in call.args]
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        bound = inspect.signature(kind).bind(*values, **named)
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError, MemoryError, RecursionError) as err:
        raise ValueError(
            f"a schedule must be a call of {', '.join(classes)} with numbers, such as OneCycle(0.1, pct_start=0.2), "
            f"got {text!r}"
        ) from err
    return kind(*bound.args, **bound.kwargs)


def lr_per_step(
    schedule: Schedule, *, epochs: int, steps_per_epoch: int, momentum: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Learning rate and momentum that each update uses.

    Driven out of torch's own scheduler on a throw-away optimizer, so torch stays the definition.
    momentum: the optimizer's own (SGD's momentum, Adam's first beta), kept where the schedule leaves it alone.

    Returns lr, momentum: float64 arrays of shape (epochs * steps_per_epoch,).
    Raises ValueError if a milestone lies past the last epoch.
    """
    schedule.check_epochs(epochs)
    optimizer = _Nothing(momentum)
    scheduler = schedule.build(optimizer, epochs=epochs, steps_per_epoch=steps_per_epoch)
    group = optimizer.param_groups[0]
    total_steps = epochs * steps_per_epoch
    lrs, momenta = np.empty(total_steps), np.empty(total_steps)
    for step in range(total_steps):
        lrs[step], momenta[step] = group["lr"], group["momentum"]
        optimizer.step()
        if step + 1 < total_steps:
            scheduler.step()
    return lrs, momenta


class _Nothing(torch.optim.Optimizer):
    """An optimizer of nothing, for a scheduler to drive.

    Optimizer's own __init__ is left out: it imports torch.compile's machinery, which takes as long as torch itself.
    """

    def __init__(self, momentum: float) -> None:
        self.defaults = {"lr": 1.0, "momentum": momentum}
        self.param_groups = [{"params": [], **self.defaults}]
        self.state = defaultdict(dict)

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Done: there are no parameters."""


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
