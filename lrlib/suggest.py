"""A learning rate from a range test: pure functions on two arrays, (lr, loss) -> Suggestion.

They work on the history of any tool: `lr` increasing, `loss` beside it, NaN or infinity where the loss
had no value. Everything is measured over log10 of the learning rate, in decades.

What all of them share:

Smoothing has no lag. At every point a parabola in log10 lr is fitted to the points on both sides (tricube
weights; Cleveland 1979, "Robust locally weighted regression"), so a smoothed value looks ahead as far as
back; a running mean looks back only, and puts every mark of the curve too late. The width of the window
is not a setting: it is the widest whose leave-one-out error is within 5 % of the least.

Noise is dealt with in three steps. A loss that stands out from the running median of five by more than
five times the local scatter, and by more than a tenth of the curve's height, is a spike and is replaced by that
median (Hampel 1974). Losses above the starting level plus a quarter of the fall are drawn in to that
level, so that an explosion does not bend the curve before it. Where the bottom is flat to within four
standard errors of the smoothed curve, the point two thirds into it is taken and not the luckiest. A curve without
noise (scatter under a thousandth of its fall) is read as it stands.

Pass raw losses: `lrlib.read` undoes the running means of other tools. A running mean lags, and it can fall although the
loss is level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lrlib.smoothing import FALL_FRACTION, MIN_POINTS, SMALL, Curve, Floats, falls, read_curve

# Where a loss falls more than so many-fold, most of that can lie behind where 95 % of it is made on a linear scale:
MANYFOLD = 20
# Decades from there to where the loss is within 1 % of the fall, or its noise, of the least; and, where
# there is next to no noise, to the least itself.
STILL_FALLING, FAR = 1.4, 1.9
LENGTH_POWER = 0.32  # by which a constant rate falls with the length of the training (`suggest_lr`)


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, the range around it, and whether the curve supports it.

    lr: the learning rate to use.
    lower, upper: learning rates, the range in which training works, lower <= lr <= upper; which rule, each heuristic
        says. All three lie within what was swept.
    spread_decades: log10 of the largest over the smallest lr that several sweeps suggest; None for one.
    reliable: False where the curve does not show what the heuristic looks for.
    reason: in words, why it is reliable or not.
    heuristic: the name of the function that made it.
    """

    lr: float
    lower: float
    upper: float
    spread_decades: float | None
    reliable: bool
    reason: str
    heuristic: str


@dataclass(frozen=True)
class TurningPoints:
    """Where the loss starts to fall and where it is lowest.

    start_of_fall, lowest: learning rates.
    loss_at_start: the plateau's level before the fall; loss_at_lowest: the smoothed loss at the bottom.
    reliable, reason: as in Suggestion.
    """

    start_of_fall: float
    lowest: float
    loss_at_start: float
    loss_at_lowest: float
    reliable: bool
    reason: str


def smooth(lr: ArrayLike, loss: ArrayLike) -> Floats:
    """The loss without its noise, without lag.

    Returns float64 of shape (n,): NaN where `loss` is not finite; losses above the starting level plus
    a quarter of the fall come out at that level (see the head of this module).
    Raises ValueError if lr is not positive and increasing, or the shapes differ.
    """
    lr, loss = _check(lr, loss)
    finite = np.isfinite(loss)
    smoothed = np.full(loss.shape, np.nan)
    if finite.any():
        curve = read_curve(lr, loss)
        smoothed[finite] = np.interp(np.log10(lr[finite]), curve.x, curve.level)
    return smoothed


def slope(lr: ArrayLike, loss: ArrayLike) -> Floats:
    """d loss / d log10 lr, the smoothed loss per decade: float64 of shape (n,), NaN where loss is not finite."""
    lr, loss = _check(lr, loss)
    finite = np.isfinite(loss)
    slopes = np.full(loss.shape, np.nan)
    if finite.any():
        curve = read_curve(lr, loss)
        slopes[finite] = np.interp(np.log10(lr[finite]), curve.x, curve.slope)
    return slopes


def turning_points(lr: ArrayLike, loss: ArrayLike, *, fraction: float = FALL_FRACTION) -> TurningPoints:
    """Where the loss starts to fall, and where it is lowest.

    The plateau is the median of the losses before the curve moves. `lowest` is the bottom of the smoothed
    loss. The fall is the drop from the one to the other, and `start_of_fall` is the learning rate at which the
    smoothed loss goes below plateau - fraction * drop for the last time before the bottom: it has
    lost that share of the fall and does not come back. A curve that loses 5 % of the fall within a tenth of the
    range falls from its first step on: its plateau is its first level, its start of fall its first learning rate (for
    fractions up to 5 %), and the reason says so.

    fraction in (0, 1): the share of the drop that counts as a start, 0.05 unless told.
    Raises ValueError if fraction is outside, lr is not positive and increasing, or the shapes differ.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction must be in (0, 1), got {fraction}; it is the share of the drop that counts as a start"
        )
    lr, loss = _check(lr, loss)
    if not np.isfinite(loss).any():
        first = _first(lr)
        return TurningPoints(first, first, np.nan, np.nan, False, "no loss is finite: start at a smaller learning rate")
    curve = read_curve(lr, loss)
    reliable, reason = _judge(curve, loss)
    return TurningPoints(
        start_of_fall=_lr(_start_of_fall(curve, fraction)),
        lowest=_lr(_lowest(curve)),
        loss_at_start=float(curve.start),
        loss_at_lowest=float(curve.level[curve.low]),
        reliable=reliable,
        reason=reason,
    )


def steepest(lr: ArrayLike, loss: ArrayLike) -> Suggestion:
    """Where the smoothed loss falls fastest per decade of learning rate.

    The usual first guess (torch-lr-finder's and Lightning's, which take the slope over the index and over the
    raw learning rate instead). lower, upper: the start of the fall and the lowest point.
    """
    return _suggest(lr, loss, "steepest", lambda curve: (_steepest(curve), _start_of_fall(curve), _lowest(curve)))


def minimum_over_ten(lr: ArrayLike, loss: ArrayLike) -> Suggestion:
    """A tenth of the learning rate where the smoothed loss is lowest (Howard & Gugger 2020, fastai).

    lower, upper: the start of the fall and the lowest point.
    """
    return _suggest(
        lr, loss, "minimum_over_ten", lambda curve: (_lowest(curve) - 1, _start_of_fall(curve), _lowest(curve))
    )


def valley(lr: ArrayLike, loss: ArrayLike) -> Suggestion:
    """Two thirds, over log lr, into the longest fall of the smoothed loss (ESRI's idea, as fastai describes it).

    It goes from the start of the fall to the lowest point: the smoothed loss may pause on the way, but does
    not come back to where it was. lower, upper: its two ends.
    """
    return _suggest(lr, loss, "valley", lambda curve: (_part_way(curve, 2 / 3), _start_of_fall(curve), _lowest(curve)))


def smith_bounds(lr: ArrayLike, loss: ArrayLike) -> Suggestion:
    """Smith's two bounds for a cyclical or one-cycle schedule.

    The rule (Smith 2015, "Cyclical learning rates", section 3.3): the lower bound is where the accuracy starts to
    rise, the upper where the rise slows, becomes ragged or turns. Read on the smoothed loss: lower is the start
    of the fall (5 % of the drop made), upper is where 95 % of it is made. lr is the upper bound, the peak
    of a cycle (Smith & Topin 2018).
    """

    def bounds(curve: Curve) -> tuple[float, float, float]:
        upper = min(_crossing(curve, 1 - FALL_FRACTION), _lowest(curve))
        return upper, min(_start_of_fall(curve), upper), upper

    return _suggest(lr, loss, "smith_bounds", bounds)


def suggest_lr(
    lr: ArrayLike, loss: ArrayLike, *, total_steps: int | None = None, sweep_steps: int | None = None
) -> Suggestion:
    """The project's recommended learning rate.

    lr, for a constant rate: two thirds, over log lr, of the way from the start of the fall to the lowest point, but
    at most a third of the lowest point's, and at most where the fall slows (smith_bounds), since beyond it a
    loss that is level says little. upper, for the peak of a cycle, which is held for a few steps only: nearly all
    of the way (0.95), but at most two thirds of the lowest point's, and three times where the fall slows.
    lower, for a cycle's base: the start of the fall (Smith 2015, section 3.3), never above lr; as the base of a single
    cycle a 25th of the peak does better (section 3.6 of the report).

    total_steps: updates of the training to come at a constant rate, at least as many as the sweep has. A longer training
        asks for a lower rate: lr is divided by (total_steps / sweep_steps) ** 0.32, the power that Bjorck et al. 2024
        (arXiv 2409.19913) found for AdamW and language models. Section 3.6 of the report judges it on other
        problems, beside powers that are fitted there. upper stays, since a cycle comes down by itself.
    sweep_steps: updates of the sweep, by default as many as there are losses.
    Raises ValueError if it has fewer.
    """
    longer = 1.0
    if total_steps is not None:
        sweep_steps = max(len(np.asarray(lr)) if sweep_steps is None else sweep_steps, 1)
        check_total_steps(total_steps, sweep_steps)
        longer = total_steps / sweep_steps

    def recommend(curve: Curve) -> tuple[float, float, float]:
        lowest, slows = _lowest(curve), _crossing(curve, 1 - FALL_FRACTION)
        recommended = min(_part_way(curve, 2 / 3), lowest - np.log10(3), slows)
        upper = min(_part_way(curve, 0.95), lowest - np.log10(1.5), slows + np.log10(3))
        recommended -= LENGTH_POWER * np.log10(longer)
        return recommended, min(_start_of_fall(curve), recommended), upper

    return _suggest(lr, loss, "suggest_lr", recommend)


def check_total_steps(total_steps: int, sweep_steps: int) -> None:
    """Raise ValueError for a training that is shorter than the sweep that a rate for it is read from."""
    if not total_steps >= sweep_steps:
        raise ValueError(
            f"total_steps must be at least the sweep's own {sweep_steps} steps, got {total_steps}; it counts "
            "the updates of the training to come, and for one so short use a shorter sweep"
        )


def combine(suggestions: Sequence[Suggestion], *, max_spread_decades: float) -> Suggestion:
    """One suggestion out of those of several sweeps of the same model.

    lr, lower and upper are medians over log lr, and spread_decades is log10(largest lr / smallest lr): over the
    reliable sweeps where these are more than half, else over all. Reliable is the whole if more than half
    are and the spread is at most max_spread_decades. One suggestion comes back as it is.
    Raises ValueError if there is none.
    """
    if not suggestions:
        raise ValueError("suggestions must hold at least one Suggestion, got none; run at least one sweep")
    if len(suggestions) == 1:
        return suggestions[0]
    n = len(suggestions)
    good = [s for s in suggestions if s.reliable]
    bad = [s for s in suggestions if not s.reliable]
    enough = len(good) > n / 2
    x = np.log10([[s.lr, s.lower, s.upper] for s in (good if enough else suggestions)])
    spread = float(np.ptp(x[:, 0]))
    if not enough:
        reason = f"{len(bad)} of {n} sweeps are not reliable: {bad[0].reason}"
    elif spread > max_spread_decades:
        reason = (
            f"the {n} sweeps disagree by {spread:.2f} decades, more than {max_spread_decades:g}; "
            "use more steps or larger batches"
        )
    else:
        reason = f"{len(good)} of {n} sweeps agree within {spread:.2f} decades"
        reason += f"; the rest: {bad[0].reason}" if bad else ""
    lr, lower, upper = (_lr(value) for value in np.median(x, axis=0))
    reliable = enough and spread <= max_spread_decades
    return Suggestion(lr, lower, upper, spread, reliable, reason, suggestions[0].heuristic)


def _suggest(
    lr: ArrayLike, loss: ArrayLike, heuristic: str, locate: Callable[[Curve], tuple[float, float, float]]
) -> Suggestion:
    """Suggestion out of locate(curve) -> log10 of lr, lower, upper."""
    lr, loss = _check(lr, loss)
    if not np.isfinite(loss).any():
        first = _first(lr)
        reason = "no loss is finite: start at a smaller learning rate"
        return Suggestion(first, first, first, None, False, reason, heuristic)
    curve = read_curve(lr, loss)
    # Where a rule leads out of what was swept, its end is all that the curve can say.
    suggested, lower, upper = np.clip(locate(curve), *np.log10(lr[[0, -1]]))
    lower, upper = min(lower, suggested), max(upper, suggested)
    reliable, reason = _judge(curve, loss)
    return Suggestion(_lr(suggested), _lr(lower), _lr(upper), None, reliable, reason, heuristic)


def _check(lr: ArrayLike, loss: ArrayLike) -> tuple[Floats, Floats]:
    lr = np.asarray(lr, dtype=np.float64)
    loss = np.asarray(loss, dtype=np.float64)
    if lr.ndim != 1 or lr.shape != loss.shape:
        raise ValueError(
            f"lr and loss must be two arrays of shape (n,), got {lr.shape} and {loss.shape}; give one loss for each lr"
        )
    if not (np.isfinite(lr).all() and (lr > 0).all() and (np.diff(lr) > 0).all()):
        raise ValueError(
            "lr must be positive and increasing, got a history that is not; sort it by lr and drop repeated values"
        )
    return lr, loss


def _first(lr: Floats) -> float:
    return float(lr[0]) if len(lr) else np.nan


def _lr(x: float) -> float:
    return float(10.0**x)


def _lowest(curve: Curve) -> float:
    """log10 lr of the bottom: two thirds into what is within four standard errors, and a tenth of the drop, of it.

    Not half: a loss comes down into its bottom more gently than it explodes out of it.
    """
    low = curve.low
    ceiling = curve.level[low] + min(4 * curve.error[low], 0.1 * max(curve.start - curve.level[low], 0))
    high = curve.level > ceiling
    before = np.flatnonzero(high[:low])
    after = np.flatnonzero(high[low:])
    first = before[-1] + 1 if len(before) else 0
    last = low + after[0] - 1 if len(after) else len(high) - 1
    if ceiling == curve.level[low]:  # no noise
        first = last = low
    return float(curve.x[first] + 2 / 3 * (curve.x[last] - curve.x[first]))


def _start_of_fall(curve: Curve, fraction: float = FALL_FRACTION) -> float:
    if curve.at_once and fraction <= FALL_FRACTION:
        return float(curve.x[0])
    return min(_crossing(curve, fraction), _lowest(curve))


def _part_way(curve: Curve, share: float) -> float:
    """log10 lr at a share of the way from the start of the fall to the bottom."""
    start, lowest = _start_of_fall(curve), _lowest(curve)
    return start + share * (lowest - start)


def _crossing(curve: Curve, fraction: float) -> float:
    """log10 lr at which the level goes below start - fraction * drop for the last time before the bottom."""
    height = curve.start - fraction * (curve.start - curve.level[curve.low])
    above = np.flatnonzero(curve.level[: curve.low + 1] >= height)
    if len(above) == 0 or above[-1] == curve.low:
        return curve.x[0 if len(above) == 0 else curve.low]
    i = above[-1]
    share = (curve.level[i] - height) / (curve.level[i] - curve.level[i + 1])
    return float(curve.x[i] + share * (curve.x[i + 1] - curve.x[i]))


def _steepest(curve: Curve) -> float:
    """log10 lr of the least slope at or before the bottom."""
    return curve.x[np.argmin(curve.slope[: curve.low + 1])]


def _judge(curve: Curve, loss: Floats) -> tuple[bool, str]:
    """(reliable, reason): whether the curve of these losses is flat, falls, and turns up again."""
    if curve.n_finite < MIN_POINTS:
        return (
            False,
            f"too short: {curve.n_finite} finite losses, and it takes {MIN_POINTS}; use more steps or start lower",
        )
    drop, noise = curve.start - curve.level[curve.low], curve.noise
    # Six, not two: the bottom is the least of many points, and pure noise must not pass for a fall.
    if not falls(curve, times_noise=6):
        return False, _why_no_fall(curve, min(drop, curve.fell), noise, began_least=loss[0] <= np.nanmin(loss))
    back = curve.level[-1] - curve.level[curve.low]
    if not curve.exploded and back < max(0.05 * drop, 3 * curve.error[-1]):
        return (
            False,
            "the loss has not turned up: the sweep ended before its largest useful learning rate; raise end_lr",
        )
    least, slows = curve.level[curve.low], _crossing(curve, 1 - FALL_FRACTION)
    far = _near_least(curve) - slows > STILL_FALLING or (noise < 5e-5 * drop and _lowest(curve) - slows > FAR)
    if curve.start > MANYFOLD * least > 0 and far:
        return (
            False,
            f"the loss falls {curve.start / least:.0f}-fold, and its least is {_lowest(curve) - slows:.1f} decades "
            "beyond 95 % of that: training went on meanwhile (one loss an epoch?); use one loss a step",
        )
    if curve.at_once:
        return True, "the loss falls and turns up; it falls from the first learning rate on, so lower is only a bound"
    return True, "the loss is level, falls, and turns up again"


def _near_least(curve: Curve) -> float:
    """log10 lr where the loss is within 1 % of the fall, or its noise, of its least for the first time."""
    least = curve.level[curve.low]
    near = least + max(0.01 * (curve.start - least), 4 * curve.error[curve.low])
    return float(curve.x[np.argmax(curve.level[: curve.low + 1] <= near)])


def _why_no_fall(curve: Curve, fall: float, noise: float, *, began_least: bool) -> str:
    """What is to be said of a curve that does not fall by more than its noise. began_least: no loss is below the first."""
    if fall < SMALL * curve.later or (began_least and curve.exploded):
        return "the loss only rises: start at a smaller learning rate"
    if (noise > 0 and fall > max(3.5 * noise, 1e-6 * abs(curve.start))) or fall > 0.25 * abs(curve.start):
        return "the loss falls, but not by enough for its noise; use more steps or larger batches"
    risen = curve.level[-1] - curve.start > 5 * np.hypot(curve.error[-1], curve.start_error)
    if curve.ends_high or (risen and curve.level[-1] > curve.level[curve.low]):
        return "the loss only rises: start at a smaller learning rate"
    if curve.ends_not_finite:
        return (
            f"the loss is flat up to lr {_lr(curve.x[-1]):.3g} and not finite after: look for a broken sample or a "
            "division by zero there"
        )
    return "the loss is flat: nothing above the noise falls or rises; widen the range of learning rates"
