"""Suggest a learning rate from a range test: pure functions of two arrays, (lr, loss) -> Suggestion.

They accept the history of any tool: `lr` increases, `loss` may end in NaN or infinity. Distances are measured in
decades: in log10 of the learning rate.

Smoothing. At every point, a parabola in log10 lr is fitted to the points on both sides with tricube weights (Cleveland
1979, "Robust locally weighted regression"). The smoothed curve therefore has no lag, unlike a running mean. The window
is the widest one whose leave-one-out error is within 5 % of the smallest.

Noise. A loss further from the running median of five than five times the local scatter, and than a tenth of the
curve's height, is replaced by that median (Hampel 1974). Losses above the start plus a quarter of the fall are clipped,
so that divergence does not bend the curve before it. Where the bottom is flat to within four standard errors, the point
two thirds into it is used. A curve with a scatter below a thousandth of its fall is not smoothed.

Pass raw losses: `lrlib.read` undoes the running means of other tools. A running mean lags, and it can fall although the
loss is level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lrlib.smoothing import FALL_FRACTION, FALL_TIMES_NOISE, MIN_POINTS, SMALL, Curve, Floats, read_curve

Confidence = Literal["high", "medium", "low"]
# The fall starts where the loss has fallen by this many times its noise, or by 5 % of the fall if that is more.
# Four repaired fine-tuning (18 to 0.3 % regret) and moved no other of fourteen tasks by more than 0.5 %.
TIMES_NOISE = 4
# Points between the start of the fall and the bottom: six or fewer gave errors of decades (public reports).
FEW_POINTS, LOW_POINTS = 12, 6
# If a loss falls more than 20-fold, most of that can happen after 95 % of it is made on a linear scale. STILL_FALLING:
# decades from there to within 1 % of the fall, or its noise, of the bottom. FAR: to the bottom, with next to no noise.
MANYFOLD, STILL_FALLING, FAR = 20, 1.4, 1.9
# A constant learning rate falls with the length of the training to this power: Bjorck et al. 2024 (arXiv 2409.19913),
# fitted to AdamW on language models.
LENGTH_POWER = 0.32
MAX_SPREAD_DECADES = 0.5  # sweeps that differ by more have low confidence, unless the loss is flat
# A loss that stays level from 95 % of its fall to the end of the sweep, over more decades than this, will not diverge.
LEVEL_DECADES = 1.0
SMALL_FALL = 0.1  # of the starting loss: below, the part of the fall that longer trainings make is not seen
# Decades from the start of the fall to the bottom. Above, two thirds of the way were up to five times too low.
WIDE_FALL = 1.6
REMEDY = "use more steps, larger batches or refine=True"
NO_FINITE_LOSS = "no loss is finite: check the model and the data, or use a smaller start_lr"


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, the range around it, and how far it can be trusted.

    Attributes:
        lr: the learning rate to use.
        lower, upper: learning rates with lower <= lr <= upper, within the swept range; each heuristic says which.
        spread_decades: log10 of the largest over the smallest lr of several sweeps; None for one sweep.
        confidence: "high" if a regret below 5 % is expected, "medium" if it may be above, "low" if the curve does not
            support the answer. Regret is the share of the best learning rate's gain over no training that is lost.
        reason: the reason for the confidence.
        heuristic: the name of the function that made it.
        total_steps: the number of updates that lr is for; None if the heuristic does not depend on it.
    """

    lr: float
    lower: float
    upper: float
    spread_decades: float | None
    confidence: Confidence
    reason: str
    heuristic: str
    total_steps: int | None = None

    @property
    def reliable(self) -> bool:
        """Whether the confidence is not low."""
        return self.confidence != "low"


@dataclass(frozen=True)
class TurningPoints:
    """Where the loss starts to fall and where it is lowest.

    Attributes:
        start_of_fall, lowest: learning rates.
        loss_at_start: level of the plateau before the fall. loss_at_lowest: the smoothed loss at the bottom.
        reliable, reason: as in Suggestion.
    """

    start_of_fall: float
    lowest: float
    loss_at_start: float
    loss_at_lowest: float
    reliable: bool
    reason: str


def smooth(lr: ArrayLike, loss: ArrayLike) -> Floats:
    """Return the loss without its noise and without lag, float64 (n,): NaN where `loss` is not finite.

    Losses above the start plus a quarter of the fall are returned at that level (see the module's docstring).
    Raises ValueError if lr is not positive and increasing, or if the shapes differ.
    """
    lr, loss = _check(lr, loss)
    finite = np.isfinite(loss)
    smoothed = np.full(loss.shape, np.nan)
    if finite.any():
        curve = read_curve(lr, loss)
        smoothed[finite] = np.interp(np.log10(lr[finite]), curve.x, curve.level)
    return smoothed


def turning_points(lr: ArrayLike, loss: ArrayLike, *, fraction: float = FALL_FRACTION) -> TurningPoints:
    """Return where the loss starts to fall and where it is lowest.

    The plateau is the median of the losses before the curve moves, `lowest` is the bottom of the smoothed loss, and the
    fall is the difference. `start_of_fall` is where the smoothed loss goes below the plateau, by the larger of
    `fraction` of the fall and four times the fall's noise, for the last time before the bottom. A curve that loses 5 %
    of the fall within the first tenth of the range falls from its first learning rate on; that is its start of fall.

    Args:
        lr: learning rates (n,), increasing.
        loss: losses (n,).
        fraction: the share of the fall that counts as its start, in (0, 1).

    Raises:
        ValueError: if fraction is outside, lr is not positive and increasing, or the shapes differ.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be in (0, 1), got {fraction}; pass the share of the fall that counts as start")
    lr, loss = _check(lr, loss)
    if not np.isfinite(loss).any():
        first = float(np.append(lr, np.nan)[0])  # NaN if lr is empty
        return TurningPoints(first, first, np.nan, np.nan, False, NO_FINITE_LOSS)
    curve = read_curve(lr, loss)
    confidence, reason = _judge(curve, loss)
    return TurningPoints(
        start_of_fall=_lr(_start_of_fall(curve, fraction)),
        lowest=_lr(curve.bottom()),
        loss_at_start=float(curve.start),
        loss_at_lowest=float(curve.level[curve.low]),
        reliable=confidence != "low",
        reason=reason,
    )


def steepest(lr: ArrayLike, loss: ArrayLike) -> Suggestion:
    """Suggest the lr at which the smoothed loss falls fastest per decade; lower, upper: start of fall, lowest point.

    torch-lr-finder and Lightning take the slope over the index and over the learning rate instead.
    """
    return _suggest(lr, loss, "steepest", lambda curve: _in_the_fall(curve, curve.steepest()))


def minimum_over_ten(lr: ArrayLike, loss: ArrayLike) -> Suggestion:
    """Suggest a tenth of the lr at the lowest point (Howard & Gugger 2020, fastai); lower, upper as in steepest."""
    return _suggest(lr, loss, "minimum_over_ten", lambda curve: _in_the_fall(curve, curve.bottom() - 1))


def valley(lr: ArrayLike, loss: ArrayLike) -> Suggestion:
    """Suggest the lr two thirds, over log lr, into the longest fall (ESRI's rule, as fastai describes it).

    The fall goes from the start of the fall to the lowest point, which are lower and upper. The smoothed loss may pause
    on the way, but does not return to the start's level.
    """
    return _suggest(lr, loss, "valley", lambda curve: _in_the_fall(curve, _part_way(curve, 2 / 3)))


def smith_bounds(lr: ArrayLike, loss: ArrayLike) -> Suggestion:
    """Suggest Smith's bounds of a cyclical or one-cycle schedule; lr is the upper one (Smith & Topin 2018).

    Smith 2015 ("Cyclical learning rates", section 3.3): the lower bound is where the accuracy starts to rise, the upper
    is where the rise slows, becomes ragged or turns. Here: the start of the fall, and where 95 % of the fall is made.
    """

    def bounds(curve: Curve) -> tuple[float, float, float]:
        upper = min(curve.slows(), curve.bottom())
        return upper, min(_start_of_fall(curve), upper), upper

    return _suggest(lr, loss, "smith_bounds", bounds)


def suggest_lr(
    lr: ArrayLike, loss: ArrayLike, *, total_steps: int | None = None, sweep_steps: int | None = None
) -> Suggestion:
    """Suggest the project's recommended learning rate.

    lr, for a constant learning rate, is the smallest of: two thirds, over log lr, of the way from the start of the fall
    to the lowest point; a third of the lowest point's lr; the lr at which 95 % of the fall is made. upper, for the peak
    of one cycle, is the smallest of: 0.95 of that way; two thirds of the lowest point's lr; three times the lr at which
    95 % is made. lower, for the base of many cycles, is the start of the fall (Smith 2015, section 3.3), at most lr.

    Origin of the constants: two thirds, a third and 95 % were set on LeNet-5 and on curves with known answers; those of
    upper were raised once after the benchmark's making half. See TIMES_NOISE and LENGTH_POWER for the others.

    Args:
        lr: learning rates (n,), increasing.
        loss: raw losses (n,).
        total_steps: updates of the training to come, at least 1; by default sweep_steps. lr is divided by
            (total_steps / sweep_steps) ** 0.32 (LENGTH_POWER), and is at most upper. upper does not change, since
            a cycle's learning rate comes down by itself.
        sweep_steps: updates of the sweep; by default n.

    Returns:
        A Suggestion; its total_steps says for how many updates lr is.

    Raises:
        ValueError: if total_steps is below 1, lr is not positive and increasing, or the shapes differ.
    """
    steps = max(len(np.asarray(lr)) if sweep_steps is None else sweep_steps, 1)
    total_steps = steps if total_steps is None else total_steps
    if isinstance(total_steps, str) or not 1 <= total_steps < np.inf:
        raise ValueError(f"total_steps must be at least 1 and finite, got {total_steps!r}; pass the updates to come")

    def recommend(curve: Curve) -> tuple[float, float, float]:
        lowest, slows = curve.bottom(), curve.slows()
        upper = min(_part_way(curve, 0.95), lowest - np.log10(1.5), slows + np.log10(3))
        recommended = min(_part_way(curve, 2 / 3), lowest - np.log10(3), slows)
        recommended = min(recommended - LENGTH_POWER * np.log10(total_steps / steps), max(recommended, upper))
        return recommended, min(_start_of_fall(curve), recommended), upper

    return replace(_suggest(lr, loss, "suggest_lr", recommend), total_steps=total_steps)


def combine(
    suggestions: Sequence[Suggestion], *, max_spread_decades: float = MAX_SPREAD_DECADES, spacing_decades: float = 0.0
) -> Suggestion:
    """Combine the suggestions of several sweeps of one model.

    lr, lower and upper are medians over log lr of the reliable sweeps if these are more than half, else of all. The
    confidence is the median sweep's. It is low if at most half are reliable, or if they spread by more than
    max_spread_decades and by more than a third of the way from lower to upper; between the two it is at most medium.
    Sweeps share their errors, so their agreement never raises it.

    Args:
        suggestions: one for each sweep.
        max_spread_decades: see above.
        spacing_decades: distance between two learning rates of a sweep; the spread is at least this.

    Raises:
        ValueError: if suggestions is empty.
    """
    if not suggestions:
        raise ValueError("suggestions must hold at least one Suggestion, got none; run at least one sweep")
    if len(suggestions) == 1:
        return suggestions[0]
    n, good = len(suggestions), [s for s in suggestions if s.reliable]
    enough = len(good) > n / 2
    x = np.log10([[s.lr, s.lower, s.upper] for s in (good if enough else suggestions)])
    spread = max(float(np.ptp(x[:, 0])), spacing_decades)
    lr, lower, upper = np.median(x, axis=0)
    doubts = [s for s in suggestions if s.confidence != "high"]
    confidence: Confidence = "low"
    if not enough:
        bad = [s for s in suggestions if not s.reliable]
        reason = f"{len(bad)} of {n} sweeps are not reliable: {bad[0].reason}"
    elif spread > max(max_spread_decades, (upper - lower) / 3):
        reason = f"the {n} sweeps disagree by {spread:.2f} decades; {REMEDY}"
    else:
        confidence = "medium" if len(doubts) > n / 2 or spread > max_spread_decades else "high"
        doubt = f"; {doubts[0].reason}" if doubts else ""
        reason = f"{len(good)} of {n} sweeps agree within {spread:.2f} decades{doubt}"
    found = replace(suggestions[0], lr=_lr(lr), lower=_lr(lower), upper=_lr(upper))
    return replace(found, spread_decades=spread, confidence=confidence, reason=reason)


def _suggest(
    lr: ArrayLike, loss: ArrayLike, heuristic: str, locate: Callable[[Curve], tuple[float, float, float]]
) -> Suggestion:
    """Suggestion out of locate(curve) -> log10 of lr, lower, upper."""
    lr, loss = _check(lr, loss)
    if not np.isfinite(loss).any():
        first = float(np.append(lr, np.nan)[0])  # NaN if lr is empty
        return Suggestion(first, first, first, None, "low", NO_FINITE_LOSS, heuristic)
    curve = read_curve(lr, loss)
    wanted = locate(curve)
    suggested, lower, upper = np.clip(wanted, *np.log10(lr[[0, -1]]))
    lower, upper = min(lower, suggested), max(upper, suggested)
    confidence, reason = _judge(curve, loss)
    if confidence != "low" and abs(wanted[0] - suggested) > 1e-9:
        advice = "use a smaller start_lr" if wanted[0] < suggested else "use a larger end_lr"
        confidence, reason = "low", f"the rule asks for lr {_lr(wanted[0]):.3g}, outside the swept range: {advice}"
    return Suggestion(_lr(suggested), _lr(lower), _lr(upper), None, confidence, reason, heuristic)


def _check(lr: ArrayLike, loss: ArrayLike) -> tuple[Floats, Floats]:
    lr, loss = np.asarray(lr, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if lr.ndim != 1 or lr.shape != loss.shape:
        raise ValueError(f"lr and loss must have one shape (n,), got {lr.shape} and {loss.shape}; pass one for each")
    if not (np.isfinite(lr).all() and (lr > 0).all() and (np.diff(lr) > 0).all()):
        raise ValueError("lr must be positive and increasing, got other values; sort it and drop repeated values")
    return lr, loss


def _lr(x: float) -> float:
    return float(10.0**x)


def _start_of_fall(curve: Curve, fraction: float = FALL_FRACTION) -> float:
    """log10 lr at which the larger of fraction of the fall and TIMES_NOISE times its noise is made."""
    drop = curve.start - curve.level[curve.low]
    if drop > 0:
        fraction = max(fraction, min(TIMES_NOISE * curve.noise / drop, 1))
    if curve.at_once and fraction <= FALL_FRACTION:
        return float(curve.x[0])
    return min(curve.crossing(fraction), curve.bottom())


def _in_the_fall(curve: Curve, x: float) -> tuple[float, float, float]:
    return x, _start_of_fall(curve), curve.bottom()


def _part_way(curve: Curve, share: float) -> float:
    """log10 lr at a share of the way from the start of the fall to the bottom."""
    start, lowest = _start_of_fall(curve), curve.bottom()
    return start + share * (lowest - start)


def _judge(curve: Curve, loss: Floats) -> tuple[Confidence, str]:
    """The confidence in a suggestion from a curve of these losses, and its reason."""
    if not np.isfinite(loss[0]):
        return "low", "the loss is not finite before any update: check the model and the data"
    if curve.n_finite < MIN_POINTS:
        advice = "look for a broken sample or use a smaller start_lr" if curve.ends_not_finite else "use more steps"
        return "low", f"{curve.n_finite} finite losses, but at least {MIN_POINTS} are needed: {advice}"
    if not curve.falls():
        return "low", _why_no_fall(curve, began_lowest=loss[0] <= np.nanmin(loss))
    least, lowest, slows = curve.level[curve.low], curve.bottom(), curve.slows()
    drop = curve.start - least
    turns_up = curve.exploded or curve.level[-1] - least >= max(0.05 * drop, 3 * curve.error[-1])
    if curve.at_once:
        effect = ": use a smaller start_lr; if it still falls at once, something else lowers it (a second optimizer?)"
        if not turns_up:
            effect = " and never rises: the learning rate seems to have no effect"
        if curve.x[-1] - curve.x[0] < LEVEL_DECADES:
            effect = f", and the sweep covers {curve.x[-1] - curve.x[0]:.2g} decades only: use a wider range"
        return "low", f"the loss falls from the first learning rate on{effect}"
    if not turns_up and curve.x[-1] - slows > LEVEL_DECADES:
        return "low", (
            f"the loss does not diverge up to lr {_lr(curve.x[-1]):.3g}, though 95 % of its fall is made at "
            f"{_lr(slows):.3g} (a normalized loss?), so the upper end is unknown; use refine=True"
        )
    if not turns_up:
        return "low", "the loss has not turned up: the sweep ended before its largest useful lr; raise end_lr"
    near = least + max(0.01 * drop, 4 * curve.error[curve.low])
    first_near = curve.x[np.argmax(curve.level[: curve.low + 1] <= near)]
    far = first_near - slows > STILL_FALLING or (curve.noise < 5e-5 * drop and lowest - slows > FAR)
    if curve.start > MANYFOLD * least > 0 and far:
        return "low", (
            f"the loss falls {curve.start / least:.0f}-fold, and is lowest {lowest - slows:.1f} decades beyond 95 % of "
            "that: training went on meanwhile (one loss an epoch?); pass one loss a step"
        )
    n_points = int(((curve.x >= _start_of_fall(curve)) & (curve.x <= lowest)).sum())
    if n_points <= FEW_POINTS:
        return "low" if n_points <= LOW_POINTS else "medium", f"the fall has {n_points} points; use more steps"
    if curve.start > MANYFOLD * least > 0:
        return "medium", f"the loss falls {curve.start / least:.0f}-fold; a test loss may not: pass validation data"
    if lowest - _start_of_fall(curve) > WIDE_FALL:
        wide = f"the loss falls over {lowest - _start_of_fall(curve):.1f} decades"
        return "medium", f"{wide}, as in fine-tuning, and a higher lr may be better; try refine=True"
    if drop < SMALL_FALL * abs(curve.start):
        return "medium", f"the loss falls by only {100 * drop / abs(curve.start):.2g} %; {REMEDY}"
    return "high", "the loss is level, falls, and turns up again"


def _why_no_fall(curve: Curve, *, began_lowest: bool) -> str:
    """Why a curve does not fall by more than its noise. began_lowest: no loss is below the first."""
    fall, noise = min(curve.start - curve.level[curve.low], curve.fell), curve.noise
    last = _lr(curve.x[-1])
    risen = curve.level[-1] - curve.start > 5 * np.hypot(curve.error[-1], curve.start_error)
    rises = curve.ends_high or (risen and curve.level[-1] > curve.level[curve.low])
    if curve.ends_not_finite and not rises and fall <= FALL_TIMES_NOISE * noise:
        return f"the loss is flat up to lr {last:.3g} and not finite after: look for a broken sample or a division by 0"
    if not (began_lowest and curve.exploded) and fall > max(3.5 * noise, 1e-6 * abs(curve.start)) and noise > 0:
        return f"the loss falls by {fall / noise:.1f} times its noise, but {FALL_TIMES_NOISE} are needed; {REMEDY}"
    if rises or fall < SMALL * curve.later:
        level = curve.x[curve.level <= min(curve.start, curve.level[0]) + max(0.01 * abs(curve.start), 5 * noise)]
        if len(level) and level[-1] - curve.x[0] > LEVEL_DECADES:
            return f"the loss does not fall by more than its noise before it rises at lr {_lr(level[-1]):.2g}; {REMEDY}"
        return "the loss only rises: use a smaller start_lr"
    return "the loss is flat: it neither falls nor rises by more than its noise; use a wider range of learning rates"
