"""Intervals and comparisons that the report's words and verdicts rest on."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds with its 95 % interval (low, high); sd is NaN for one seed."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


def estimate_mean(values: npt.ArrayLike) -> Estimate:
    """Mean of one value a seed, with Student's t interval; for one seed the interval is all numbers.

    values: (n,) numbers, n >= 1; a NaN makes the mean NaN.
    """
    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Estimate(mean, math.nan, -math.inf, math.inf, 1)
    sd = float(values.std(ddof=1))
    half = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(n)
    return Estimate(mean, sd, mean - half, mean + half, n)


def bootstrap_mean(values: npt.ArrayLike) -> Estimate:
    """Mean of one value a seed, with the 95 % percentile interval of 9,999 resamples of the seeds (Efron 1979).

    values: (n,) numbers. The resamples are the same each time. For one seed the interval is all numbers. With few
    seeds such an interval is somewhat too narrow.
    """
    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Estimate(mean, math.nan, -math.inf, math.inf, 1)
    from scipy import stats  # a second to import, which only some sections need

    found = stats.bootstrap((values,), np.mean, confidence_level=CONFIDENCE, method="percentile", rng=0)
    interval = found.confidence_interval
    return Estimate(mean, float(values.std(ddof=1)), float(interval.low), float(interval.high), n)


def estimate_accuracy(accuracies: npt.ArrayLike, n_test: int) -> Estimate:
    """Accuracy of a method, as fractions, with a 95 % interval.

    accuracies: (n,) one a seed, each measured on n_test images; NaN where a run diverged, and then the mean is too. For one seed the interval is Wilson's (1927) for
    one network's accuracy on other images of the kind; for several it is Student's t for the mean over seeds.
    """
    accuracies = np.asarray(accuracies, dtype=float)
    if len(accuracies) > 1 or not np.isfinite(accuracies).all():
        return estimate_mean(accuracies)
    from scipy import stats

    accuracy = float(accuracies[0])
    interval = stats.binomtest(round(accuracy * n_test), n_test).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(accuracy, math.nan, float(interval.low), float(interval.high), 1)


def judge_equal(differences: npt.ArrayLike, margin: float) -> bool | None:
    """Are two values equal within a margin? True, False, or None where that cannot be told.

    differences: (n,) one a seed. Several seeds: True if the 95 % t interval of the mean lies within
    -margin .. margin, False if it lies outside. One seed shows no spread: False beyond three margins, else None.
    """
    found = estimate_mean(differences)
    if found.n == 1:
        return False if abs(found.mean) > 3 * margin else None
    if -margin <= found.low and found.high <= margin:
        return True
    return False if found.low > margin or found.high < -margin else None


def judge_below(differences: npt.ArrayLike, limit: float, *, clear: float) -> bool | None:
    """Is a value below a limit? True, False, or None where that cannot be told.

    differences: (n,) one a seed. Several seeds: by whether the 95 % t interval of the mean lies below or above the
    limit. One seed: only where it is away from the limit by more than `clear`.
    """
    found = estimate_mean(differences)
    if found.n == 1:
        return None if abs(found.mean - limit) <= clear else found.mean < limit
    if found.high <= limit:
        return True
    return False if found.low > limit else None


def judge_all(values: Iterable[object]) -> bool | None:
    """True if all hold, False if none does, None if they disagree."""
    values = [bool(value) for value in values]
    if all(values):
        return True
    return None if any(values) else False
