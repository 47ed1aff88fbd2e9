"""The settings of a range test: their defaults, and what they may be."""

import math
import numbers
import operator
from dataclasses import dataclass, replace
from typing import Any

MIN_ITER = 10
VALIDATIONS = 30  # of a sweep, at most
MANY_PASSES = 10  # over the data: 24 and more cost 19 to 41 % in overfitting, which the training loss does not show
MAX_HOLDS, MIN_HOLD_STEPS = 5, 20  # of refine


@dataclass(frozen=True)
class Settings:
    """How the sweeps were made; the names are those of range_test, whose defaults these are.

    None: unknown, in a history that lrlib.read reads. step_mode: "exp" or "linear", the spacing of the learning rates;
    range_test's is "exp". val_metric: "loss", "accuracy", a function's name, or None without val_loader. optimizer: the
    class's name. group_ratios: each parameter group's lr over the lr that the curves show. momentum: each group's
    momentum or first beta, 0 where it has none. passes: how often a sweep goes over the loader, if that has a length.
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
    step_mode: str = "exp"
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

    def overfits(self) -> str | None:
        """Why the training loss may choose another learning rate than a validation loss would, if it may."""
        if self.val_metric is not None or self.passes <= MANY_PASSES:
            return None
        return f"the sweep sees the data {self.passes:.0f} times, and its loss shows no overfitting: pass val_loader"

    def checked(self) -> "Settings":
        """The same with plain Python numbers. Raises TypeError or ValueError for one that cannot be."""
        plain: dict[str, Any] = {
            "start_lr": _positive("start_lr", self.start_lr, "1e-6"),
            "end_lr": _positive("end_lr", self.end_lr, "10"),
            "num_iter": whole("num_iter", self.num_iter, MIN_ITER, "300"),
            "repeats": whole("repeats", self.repeats, 1, "3"),
            "seed": whole("seed", self.seed, 0, "0"),
            "accumulation_steps": whole("accumulation_steps", self.accumulation_steps, 1, "1"),
        }
        for name, example in {"max_seconds": "60", "clip_norm": "1.0"}.items():
            if getattr(self, name) is not None:
                plain[name] = _positive(name, getattr(self, name), f"{example}, or None")
        if self.diverge_th is not None:
            threshold = _number("diverge_th", self.diverge_th, "5, or None to never stop early")
            if not threshold > 1:
                raise ValueError(f"diverge_th must be above 1, got {threshold:g}; it multiplies the lowest loss")
            plain["diverge_th"] = None if threshold == math.inf else threshold
        if not plain["start_lr"] < plain["end_lr"]:
            raise ValueError(
                f"start_lr must be smaller than end_lr, got {plain['start_lr']:g} and {plain['end_lr']:g}; swap them"
            )
        if plain["end_lr"] < 1.01 * plain["start_lr"] or plain["end_lr"] / plain["start_lr"] == math.inf:
            raise ValueError(
                f"end_lr must be between 1.01 and 1e300 times start_lr, got {plain['start_lr']:g} and "
                f"{plain['end_lr']:g}; pass for example 1e-6 and 10"
            )
        if not isinstance(self.refine, bool):
            raise TypeError(f"refine must be True or False, got {self.refine!r}; pass True")
        if plain["seed"] >= 2**62:
            raise ValueError(f"seed must be below 2**62, got {plain['seed']}; pass 0")
        made = replace(self, **plain)
        if made.refine and made.hold_steps < MIN_HOLD_STEPS:
            raise ValueError(
                f"refine needs (repeats - 1) * num_iter of at least {MAX_HOLDS * MIN_HOLD_STEPS} for its held learning "
                f"rates, got {(made.repeats - 1) * made.num_iter}; raise repeats or num_iter"
            )
        return made


def _number(name: str, value: Any, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}; pass {example}")
    return float(value)


def _positive(name: str, value: Any, example: str) -> float:
    number = _number(name, value, example)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {number:g}; pass {example}")
    return number


def whole(name: str, value: Any, least: int, example: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        hint = int(value) if isinstance(value, float) and value.is_integer() else example
        raise TypeError(f"{name} must be an int, got {value!r}; pass {hint}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}; pass {example}")
    return number
