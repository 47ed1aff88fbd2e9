"""The settings of a range test: their defaults, and what they may be."""

import math
import numbers
from dataclasses import dataclass, replace
from typing import Any

MIN_ITER = 10
VALIDATIONS = 30  # of a sweep, at most
MANY_PASSES = 10  # over the data: 24 and more cost 19 to 41 % in overfitting, which the training loss does not show
MAX_HOLDS, MIN_HOLD_STEPS = 5, 20  # of refine


@dataclass(frozen=True)
class Settings:
    """How the sweeps were made; the names are those of range_test, whose defaults these are.

    val_metric: "loss", "accuracy", a function's name, or None without val_loader. optimizer: the class's name.
    group_ratios: each parameter group's lr over the lr that the curves show. momentum: each group's momentum or first
    beta, 0 where it has none. passes: how often a sweep goes over the loader, if that has a length.
    """

    start_lr: float = 1e-6
    end_lr: float = 10.0
    num_iter: int = 300
    repeats: int = 3
    seed: int = 0
    diverge_th: float | None = 5.0
    max_seconds: float | None = None
    accumulation_steps: int = 1
    clip_norm: float | None = None
    val_metric: str | None = None
    refine: bool = False
    optimizer: str = "unknown optimizer"
    group_ratios: tuple[float, ...] = (1.0,)
    momentum: tuple[float, ...] = (0.0,)
    passes: float = 1.0

    @property
    def val_every(self) -> int:
        """Updates between two validations."""
        return max(1, self.num_iter // VALIDATIONS)

    @property
    def hold_steps(self) -> int:
        """Updates at each learning rate that refine holds: with the sweep, at most repeats * num_iter in all."""
        return (self.repeats - 1) * self.num_iter // MAX_HOLDS

    @property
    def memory(self) -> float:
        """Updates over which the largest momentum averages."""
        return 1 / (1 - max(self.momentum))

    def overfits(self) -> str | None:
        """Why the training loss may choose another learning rate than a validation loss would, if it may."""
        if self.val_metric is not None or self.passes <= MANY_PASSES:
            return None
        return f"the sweep sees the data {self.passes:.0f} times, and its loss shows no overfitting: pass val_loader"

    def checked(self) -> "Settings":
        """The same with plain Python numbers. Raises TypeError or ValueError for one that cannot be."""
        plain: dict[str, Any] = {"diverge_th": None if self.diverge_th == math.inf else self.diverge_th}
        for name, least in {"num_iter": MIN_ITER, "repeats": 1, "seed": 0, "accumulation_steps": 1}.items():
            plain[name] = whole(name, getattr(self, name), least)
        for name, above in {"start_lr": 0, "end_lr": 0, "max_seconds": 0, "clip_norm": 0, "diverge_th": 1}.items():
            value = plain.get(name, getattr(self, name))
            if value is None and name not in ("start_lr", "end_lr"):
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(f"{name} must be a number, got {value!r}; pass a float")
            plain[name] = float(value)
            if not above < plain[name] < math.inf:
                raise ValueError(f"{name} must be above {above} and finite, got {plain[name]:g}; pass such a number")
        low, high = plain["start_lr"], plain["end_lr"]
        if not low < high:
            raise ValueError(f"start_lr must be smaller than end_lr, got {low:g} and {high:g}; swap them")
        if not isinstance(self.refine, bool):
            raise TypeError(f"refine must be True or False, got {self.refine!r}; pass True")
        made = replace(self, **plain)
        if made.refine and made.hold_steps < MIN_HOLD_STEPS:
            needed, n_steps = MAX_HOLDS * MIN_HOLD_STEPS, (made.repeats - 1) * made.num_iter
            raise ValueError(f"refine needs {needed} steps after the sweep, got {n_steps}; raise repeats or num_iter")
        return made


def whole(name: str, value: Any, least: int) -> int:
    """The value as an int. Raises TypeError or ValueError if it is not one, or too small."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an int, got {value!r}; pass a whole number")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}; pass a larger number")
    return int(value)
