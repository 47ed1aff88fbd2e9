"""Clean and smooth a noisy loss over log10 of the learning rate; the head of lrlib.suggest describes the method."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_POINTS = 10
FALL_FRACTION = 0.05  # the share of the fall that counts as its start
# A fall is one from six times its noise on: the bottom is the minimum of many points, so two would let noise pass.
FALL_TIMES_NOISE = 6
MAX_POINTS = 600  # above, neighbours are averaged first: 100 points a decade over six decades
SMALL = 0.2  # of the rise that most of the curve is: a fall before it is the noise of a loss that only rises
HUGE = 1e100  # losses beyond count as this, so that their squares are finite


@dataclass(frozen=True)
class Curve:
    """A cleaned curve; all arrays float64 of the same shape, at most (MAX_POINTS,)."""

    x: Floats  # log10 lr
    level: Floats  # smoothed loss
    slope: Floats  # d loss / d log10 lr
    error: Floats  # standard error of level
    start: float  # level of the plateau
    start_error: float
    low: int  # index of the lowest level
    n_finite: int
    fell: float  # from the highest level before the lowest one to it
    at_once: bool  # the loss falls from its first point on: more than the start of a fall within a tenth of the range
    later: float  # upper quartile of the losses after the lowest, above the start; 0 unless they are most of the curve
    ends_high: bool  # the history ends in a loss far above the start
    ends_not_finite: bool  # it ends in NaN or infinity

    @property
    def noise(self) -> float:
        """The standard error of the fall."""
        return float(np.hypot(self.error[self.low], self.start_error))

    @property
    def exploded(self) -> bool:
        return self.ends_high or self.ends_not_finite

    def falls(self) -> bool:
        """Whether it falls by more than FALL_TIMES_NOISE times its noise, twice that if it rises far higher later."""
        fall = min(self.start - self.level[self.low], self.fell)
        is_small = fall <= SMALL * self.later and not fall > 2 * FALL_TIMES_NOISE * self.noise > 0
        return bool(fall > FALL_TIMES_NOISE * self.noise and fall > 1e-6 * abs(self.start) and not is_small)

    def bottom(self) -> float:
        """log10 lr of the bottom: two thirds into the points that are about as low as the lowest one.

        They are at most four standard errors, and at most a tenth of the fall, above it. Not half: a loss falls into
        its bottom more gently than it diverges out of it.
        """
        low, least = self.low, self.level[self.low]
        ceiling = least + min(4 * self.error[low], 0.1 * max(self.start - least, 0))
        if ceiling == least:  # no noise
            return float(self.x[low])
        high = np.flatnonzero(self.level > ceiling)
        first = max((i + 1 for i in high if i < low), default=0)
        last = min((i - 1 for i in high if i > low), default=len(self.x) - 1)
        return float(self.x[first] + 2 / 3 * (self.x[last] - self.x[first]))

    def steepest(self) -> float:
        """log10 lr of the smallest slope at or before the bottom."""
        return float(self.x[np.argmin(self.slope[: self.low + 1])])

    def slows(self) -> float:
        """log10 lr at which all but FALL_FRACTION of the fall is made."""
        return self.crossing(1 - FALL_FRACTION)

    def crossing(self, fraction: float) -> float:
        """log10 lr where the level goes below start - fraction * drop for the last time before the bottom."""
        x, level = self.x, self.level
        height = self.start - fraction * (self.start - level[self.low])
        above = np.flatnonzero(level[: self.low + 1] >= height)
        if len(above) == 0 or above[-1] == self.low:
            return x[0 if len(above) == 0 else self.low]
        i = above[-1]
        share = (level[i] - height) / (level[i] - level[i + 1])
        return float(x[i] + share * (x[i + 1] - x[i]))


def read_curve(lr: Floats, loss: Floats) -> Curve:
    """The cleaned, smoothed curve of the finite losses; at least one is finite."""
    finite = np.isfinite(loss)
    x, y = np.log10(lr[finite]), np.clip(loss[finite], -HUGE, HUGE)
    n_finite = len(y)
    last = y[-3:].max()
    y = _without_spikes(y)
    if n_finite > MAX_POINTS:
        edges = np.linspace(0, n_finite, MAX_POINTS + 1).astype(int)[:-1]
        x, y = (np.add.reduceat(each, edges) / np.diff(np.append(edges, n_finite)) for each in (x, y))
    n_start = max(3, int((x <= x[0] + 0.1 * (x[-1] - x[0])).sum()))
    start = np.median(y[:n_start])
    drop = max(start - y.min(), 0.0)
    ceiling = start + max(0.25 * drop, 0.05 * abs(start))
    raw, y = y, np.minimum(y, ceiling)

    scatter = _scatter(raw, bottom=int(np.argmin(y)))
    if len(y) < 5 or np.median(scatter) <= 1e-3 * drop:
        level, error = y, np.zeros_like(y)
        slopes = np.gradient(y, x) if len(y) > 1 else np.zeros_like(y)
    else:
        level, slopes, error = _smooth(x, y, scatter)
    # The plateau again, now that the whole of it is known: all points before a tenth of the fall.
    low = int(np.argmin(level))
    above = np.flatnonzero(level[: low + 1] >= start - 0.1 * (start - level[low]))
    n_start = max(n_start, int(0.8 * above[-1]) if len(above) else 0)
    tenth = int(np.searchsorted(x, x[0] + 0.1 * (x[-1] - x[0]), side="right")) - 1
    moved, doubt = level[0] - level[tenth], 6 * float(np.hypot(error[0], error[tenth]))
    at_once = tenth <= low and moved > max(FALL_FRACTION * (level[0] - level[low]), doubt)
    plateau = level[0] if at_once else np.median(y[:n_start])
    start_error = error[0] if at_once else 1.25 * np.median(scatter[:n_start]) / np.sqrt(n_start)
    return Curve(
        x=x,
        level=level,
        slope=slopes,
        error=error,
        start=float(plateau),
        start_error=float(start_error),
        low=low,
        n_finite=n_finite,
        fell=float(level[: low + 1].max() - level[low]),
        at_once=bool(at_once),
        later=float(np.quantile(raw[low:], 0.75) - plateau) if len(y) > 2 * low else 0.0,
        ends_high=bool(last > start + max(0.05 * abs(start), 4 * np.median(scatter))),
        ends_not_finite=bool(not finite[-1]),
    )


def _without_spikes(y: Floats) -> Floats:
    """y, float64 (n,), with lone outliers replaced by the running median of five."""
    if len(y) < MIN_POINTS:
        return y
    median = _running(np.median, y, 2)
    away = np.abs(y - median)
    scatter = 1.4826 * _running(np.median, away, min(10, len(y) // 2))
    spike = (away > 5 * scatter) & (away > 0.1 * np.subtract(*np.quantile(y, [0.9, 0.1])))
    spike[:2] = spike[-2:] = False  # no neighbours on both sides to judge by: a rise at the end may be the explosion
    return np.where(spike, median, y)


def _running(statistic: Any, y: Floats, half: int) -> Floats:
    """The statistic of each point's neighbourhood, half points to either side, float64 (n,)."""
    padded = np.pad(y, half, mode="reflect")
    return statistic(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)


def _scatter(y: Floats, *, bottom: int) -> Floats:
    """Local standard deviation of the noise, (n,), from third differences; after the bottom that before it."""
    calm = y[: bottom + 1] if bottom >= 10 else y[:20]
    if len(calm) < 5:
        return np.zeros_like(y)
    difference = np.pad(np.abs(np.diff(calm, 3)) / np.sqrt(20), (1, 2), mode="edge")  # 20 = 1 + 9 + 9 + 1
    local = 1.4826 * _running(np.median, difference, min(max(5, len(y) // 20), len(calm) - 1))
    # Few points can look calm by chance: never below half of the whole curve's scatter.
    local = np.maximum(local, 0.5 * 1.4826 * np.median(difference))
    return np.pad(local, (0, len(y) - len(calm)), mode="edge")


def _smooth(x: Floats, y: Floats, scatter: Floats) -> tuple[Floats, Floats, Floats]:
    """Level, slope and standard error of the level, (n,) each, at the window with the best leave-one-out prediction."""
    fits, misses, size = [], [], 5.0
    while size <= max(5, len(x) / 3):
        window = int(size) | 1
        level, _, gain, own = _fit_parabolas(x, y, window)
        fits.append((window, level, gain))
        misses.append(np.mean(np.abs(y - level) / (1 - own)))
        size *= 1.35
    window, level, gain = fits[np.flatnonzero(np.array(misses) <= 1.05 * min(misses))[-1]]
    # A parabola at the foot of a wall dips below every loss that there was, and would be taken for the bottom.
    level = np.maximum(level, _running(np.min, y, window // 2))
    slopes = _fit_parabolas(x, y, int(1.5 * window) | 1)[1]  # a slope needs a wider window for the same relative error
    return level, slopes, scatter * gain


def _fit_parabolas(x: Floats, y: Floats, window: int) -> tuple[Floats, Floats, Floats, Floats]:
    """A weighted parabola at every point: its value, slope, standard error over the noise and leverage, (n,) each."""
    index, hat, reach, error, leverage = _weigh_window(x.tobytes(), min(window, len(x)))
    value, slopes = np.einsum("nak,nk->an", hat, y[index])
    return value, slopes / reach, error, leverage


@lru_cache(maxsize=16)  # the windows of one curve: sweeps over the same learning rates share them
def _weigh_window(points: bytes, window: int) -> tuple[NDArray[np.int64], Floats, Floats, Floats, Floats]:
    """What a parabola at every point takes from x alone.

    Returns the points in each window (n, window), the weights of value and slope (n, 2, window), and the window's
    reach, the standard error and the leverage, (n,) each.
    """
    x = np.frombuffer(points)
    n = len(x)
    index = np.clip(np.arange(n) - window // 2, 0, n - window)[:, None] + np.arange(window)
    offset = x[index] - x[:, None]
    reach = np.abs(offset).max(axis=1, keepdims=True) * (1 + 1 / window)
    u = offset / reach
    weight = (1 - np.abs(u) ** 3) ** 3
    powers = np.stack([np.ones_like(u), u, u**2], axis=-1)  # (n, window, 3)
    normal = np.einsum("nka,nk,nkb->nab", powers, weight, powers) + 1e-10 * np.eye(3)
    inverse = np.linalg.inv(normal)
    hat = np.einsum("nab,nkb,nk->nak", inverse[:, :2], powers, weight)
    error = np.sqrt((hat[:, 0] ** 2).sum(axis=1))
    return index, hat, reach[:, 0], error, np.clip(inverse[:, 0, 0], 0, 0.999)
