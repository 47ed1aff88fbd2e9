"""Intervals and comparisons that the report's words and verdicts rest on."""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lrlib.study.looks import ERROR, STEP, Looks

CONFIDENCE = 1 - ERROR
FARTHEST = 10_000  # seeds; more are not reckoned with


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds with its 95 % interval (low, high); sd is NaN for one seed."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Judgement:
    """verdict: True, False, or None where that cannot be told. estimate: at the look that settled it, else at the last.
    needed: how many seeds would settle what is open, were they like these, inf if more than FARTHEST; None where seeds
    cannot settle it, or one alone does not show how many.
    """

    verdict: bool | None
    estimate: Estimate = Estimate(math.nan, math.nan, -math.inf, math.inf, 0)
    needed: float | None = None


def estimate_mean(values: npt.ArrayLike, error: float = ERROR) -> Estimate:
    """Mean of one value a seed, with Student's t interval; for one seed the interval is all numbers.

    values: (n,) numbers, n >= 1; a NaN makes the mean NaN. error: of the interval, which holds in 1 - error of cases.
    """
    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(values.mean())
    return _spread(mean, float(values.std(ddof=1)) if n > 1 else math.nan, n, error)


def estimate_share(held: npt.ArrayLike, error: float = ERROR) -> Estimate:
    """The share of seeds in which something holds, with bounds each of which holds in 1 - error of cases
    (Clopper and Pearson 1934).

    held: (n,) one truth value a seed.
    """
    held = np.asarray(held, dtype=bool)
    return _bound(float(held.mean()), len(held), error)


def _spread(mean, sd, n, error):
    if n == 1:
        return Estimate(mean, math.nan, -math.inf, math.inf, 1)
    half = float(special.stdtrit(n - 1, 1 - error / 2)) * sd / math.sqrt(n)
    return Estimate(mean, sd, mean - half, mean + half, n)


def _bound(share, n, error):
    k = share * n
    low = float(special.betaincinv(k, n - k + 1, error)) if k > 0 else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1 - error)) if k < n else 1.0
    return Estimate(share, math.nan, low, high, n)


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

    accuracies: (n,) one a seed, each measured on n_test images; NaN where a run diverged, and then the mean is too.
    For one seed the interval is Wilson's (1927) for one network's accuracy on other images of the kind; for several it
    is Student's t for the mean over seeds.
    """
    accuracies = np.asarray(accuracies, dtype=float)
    if len(accuracies) > 1 or not np.isfinite(accuracies).all():
        return estimate_mean(accuracies)
    from scipy import stats

    accuracy = float(accuracies[0])
    interval = stats.binomtest(round(accuracy * n_test), n_test).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(accuracy, math.nan, float(interval.low), float(interval.high), 1)


def judge_equal(differences: npt.ArrayLike, margin: float, looks: Looks) -> Judgement:
    """Are two values equal within a margin?

    differences: (n,) one a seed. Several seeds: yes if the interval of the mean lies within -margin .. margin, no if it
    lies outside. One seed shows no spread: no beyond three margins, else it cannot be told.
    """

    def decide(found):
        if found.n == 1:
            return False if abs(found.mean) > 3 * margin else None
        if -margin <= found.low and found.high <= margin:
            return True
        return False if found.low > margin or found.high < -margin else None

    return _judge_mean(differences, decide, looks)


def judge_below(differences: npt.ArrayLike, limit: float, looks: Looks, *, clear: float) -> Judgement:
    """Is a value below a limit?

    differences: (n,) one a seed. Several seeds: by whether the interval of the mean lies below or above the limit.
    One seed: only where it is away from the limit by more than `clear`.
    """

    def decide(found):
        if found.n == 1:
            return None if abs(found.mean - limit) <= clear else bool(found.mean < limit)
        if found.high <= limit:
            return True
        return False if found.low > limit else None

    return _judge_mean(differences, decide, looks)


def judge_share(held: Iterable[object], looks: Looks) -> Judgement:
    """Does something hold in more than half of seeds?

    held: a truth value a seed. Yes if the share is by its bounds at least half, no if at most. Five seeds that agree
    settle it; fewer are taken at their word where they agree, and say little.
    """
    values = np.array([bool(value) for value in held])

    def decide(found):
        if found.n < STEP:
            return bool(found.mean) if found.mean in (0.0, 1.0) else None
        if found.low >= 0.5 or math.isclose(found.low, 0.5):
            return True
        return False if found.high <= 0.5 or math.isclose(found.high, 0.5) else None

    judged = _look(lambda n, error: estimate_share(values[:n], error), decide, looks.seeds, looks.share_errors)
    if judged.verdict is not None:
        return judged
    return _foresee(judged.estimate, decide, lambda n: _bound(judged.estimate.mean, n, looks.last_errors[1]))


def judge_together(*parts: Judgement) -> Judgement:
    """Do several things all hold? No if one does not, and open while one is."""
    verdicts = [part.verdict for part in parts]
    if None not in verdicts or False in verdicts:
        return Judgement(all(verdicts))
    opened = [part for part in parts if part.verdict is None]
    needed = [part.needed for part in opened if part.needed is not None]
    return Judgement(None, needed=max(needed) if len(needed) == len(opened) else None)


def _judge_mean(values, decide, looks):
    values = np.asarray(values, dtype=float)
    judged = _look(lambda n, error: estimate_mean(values[:n], error), decide, looks.seeds, looks.mean_errors)
    found = judged.estimate
    if judged.verdict is not None or not math.isfinite(found.sd):
        return judged
    return _foresee(found, decide, lambda n: _spread(found.mean, found.sd, n, looks.last_errors[0]))


def _look(estimate, decide, seeds, errors):
    """The Judgement of the first look that settles it: what later looks would say does not count."""
    for n, error in zip(seeds, errors, strict=True):
        found = estimate(n, error)
        if (verdict := decide(found)) is not None:
            return Judgement(verdict, found)
    return Judgement(None, found)


def _foresee(found, decide, estimate_at):
    """An open Judgement with the number of seeds at which a last look would settle it."""
    numbers = range(found.n + 1, FARTHEST + 1)
    place = bisect.bisect_left(numbers, True, key=lambda n: decide(estimate_at(n)) is not None)
    return Judgement(None, found, numbers[place] if place < len(numbers) else math.inf)
