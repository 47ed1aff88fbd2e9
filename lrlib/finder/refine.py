"""Held learning rates after a sweep, for `range_test(..., refine=True)`.

A sweep's late steps profit from its early ones, and a sweep is too short for a momentum near 1. Held learning rates do
not suffer from either: each starts from the same state, sees the same batches, and is judged by the loss it reaches.
The search starts at a learning rate that the sweep gives and goes downhill until the loss rises on both sides.

Constants: FACTOR, MAX_HOLDS and PEAK were found on ten tasks outside the benchmark; CLOSE, CAP, the limits
in `first_lr` and the share of steps left to a momentum on thirty other tasks outside its frozen half.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lrlib.finder.settings import Settings
from lrlib.smoothing import Floats, read_curve
from lrlib.suggest import LENGTH_POWER, MANYFOLD, Confidence, Suggestion, smith_bounds, turning_points

if TYPE_CHECKING:
    from lrlib.finder.result import Sweep

FACTOR = 2.5  # between neighbouring held learning rates
CLOSE = 0.02  # of the gain: a difference that noise can make
PEAK = 1.25  # of one cycle, over the best held learning rate
CAP = 3.0  # the larger rise beside the best counts at most CAP times the smaller: a divergence has no size


class Held(NamedTuple):
    """A held learning rate, the loss that it reaches (infinity if it diverged), and that loss's standard error."""

    lr: float
    loss: float
    error: float


def first_lr(lr: Floats, loss: Floats) -> float:
    """The first learning rate to hold: a third of the lowest point's, but at most where the fall slows."""
    finite = np.isfinite(loss)
    lr, loss = lr[finite], loss[finite]
    first = min(turning_points(lr, loss).lowest / 3, smith_bounds(lr, loss).lr)
    if not read_curve(lr, loss).falls():  # then neither is known; where the loss rises is
        n_start = max(10, len(loss) // 4)
        start = np.median(loss[:n_start])
        scatter = 1.4826 * np.median(np.abs(loss[:n_start] - start))
        medians = np.array([np.median(loss[max(0, i - 5) : i + 6]) for i in range(len(loss))])
        # The median of eleven losses has a standard error of 0.38 times their scatter; 1.5 is four of them.
        level = lr[medians <= start + 1.5 * scatter]
        first = float(np.clip(first, level[-1] / 30, level[-1] / 3)) if len(level) else first
    return float(max(first, lr[0]))


def next_exponent(scored: dict[int, float], start: float) -> int | None:
    """The power of FACTOR to hold next: beside the best, lower if all diverged, beyond a close neighbour, or None."""
    if not scored:
        return 0
    best = min(scored, key=lambda exponent: scored[exponent])
    if not math.isfinite(scored[best]):
        return min(scored) - (2 if len(scored) > 1 else 1)
    beside = [best + 1, best - 1]
    if all(exponent in scored for exponent in beside):
        close = scored[best] + CLOSE * (start - scored[best])
        beside = [2 * exponent - best for exponent in beside if scored[exponent] < close]
    return next((exponent for exponent in beside if exponent not in scored), None)


def read_hold(held: "Sweep", sweep: "Sweep", n_steps: int) -> Held:
    """The mean loss over the last quarter of n_steps; infinity if it diverged or ends above the sweep's start."""
    steps = np.arange(len(held.loss)) if held.val_metric is None else held.val_step
    late = held.curve()[1][: len(steps)][steps >= 0.75 * n_steps]
    lr = float(held.lr[0])
    if held.diverged or len(held.loss) < n_steps or not len(late):
        return Held(lr, math.inf, 0.0)
    curve, loss = read_curve(*sweep.curve()), float(late.mean())
    if loss > curve.start + max(0.1 * abs(curve.start), 4 * curve.start_error):
        loss = math.inf
    return Held(lr, loss, float(late.std() / math.sqrt(len(late))))


def best_held(found: Sequence[Held]) -> tuple[float, bool]:
    """The lr at which a parabola in log lr through the best and its neighbours is lowest, and whether it has both."""
    found = sorted(found)
    i = min(range(len(found)), key=lambda k: found[k].loss)
    if not 0 < i < len(found) - 1:
        return found[i].lr, False
    left, right = (found[k].loss - found[i].loss for k in (i - 1, i + 1))
    most = CAP * min(left, right)
    if not 0 < most < math.inf:
        return found[i].lr, True
    left, right = min(left, most), min(right, most)
    return found[i].lr * FACTOR ** ((left - right) / (2 * (left + right))), True


def refined(found: Suggestion, sweep: "Sweep", holds: "Sequence[Sweep]", settings: Settings) -> Suggestion:
    """The suggestion of a sweep and the holds after it: of the best held learning rate, which is for hold_steps."""
    each = [read_hold(held, sweep, settings.hold_steps) for held in holds]
    if not any(math.isfinite(held.loss) for held in each):
        return replace(found, confidence="low", reason=f"none of {len(each)} held learning rates lowers the loss")
    assert found.total_steps is not None
    best, is_enclosed = best_held(each)
    # Until a momentum has its full effect, steps do not count: 0.99 wants less than what wins over 120 steps.
    n_steps = max(settings.hold_steps - settings.memory, settings.hold_steps / 4)
    best *= (n_steps / settings.hold_steps) ** LENGTH_POWER
    lr = min(best * (settings.hold_steps / found.total_steps) ** LENGTH_POWER, PEAK * best)
    lr = min(max(lr, settings.start_lr), settings.end_lr)
    lower, upper = min(found.lower, lr), min(max(PEAK * best, lr), settings.end_lr)
    confidence, reason = _judge(sweep, each, is_enclosed, settings)
    return replace(found, lr=lr, lower=lower, upper=upper, confidence=confidence, reason=reason)


def _judge(sweep: "Sweep", each: Sequence[Held], is_enclosed: bool, settings: Settings) -> tuple[Confidence, str]:
    curve, best = read_curve(*sweep.curve()), min(each, key=lambda held: held.loss)
    if curve.start - best.loss <= 4 * math.hypot(curve.start_error, best.error):
        return "low", "no held learning rate lowers the loss by more than four times its noise; use more steps"
    if not is_enclosed:
        end = "largest" if best.lr == max(each).lr else "smallest"
        return "medium", f"the best of {len(each)} held learning rates is the {end} one"
    if settings.memory > settings.hold_steps / 2:
        averaged = f"momentum averages over {settings.memory:.0f} steps"
        return "medium", f"{averaged}, and each lr was held for {settings.hold_steps}"
    if (doubt := settings.overfits()) is not None:
        return "medium", doubt
    if curve.start > MANYFOLD * best.loss > 0 and settings.val_metric is None:
        fold = f"{curve.start / best.loss:.0f}-fold"
        return "medium", f"the training loss falls {fold}, a test loss may not: pass val_loader"
    if curve.at_once:
        return "medium", "the loss falls at any learning rate (a second optimizer?), but the held ones differ"
    return "high", f"the best of {len(each)} held learning rates lies between worse ones"
