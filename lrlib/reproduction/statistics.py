"""95 % intervals over seeds, by scipy.stats."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean or a share over n seeds with its 95 % confidence interval; the interval is NaN for one seed.

    Formatting takes the specification of a number and a unit: f"{estimate:.2f points}" is
    "0.31 points (95 % CI 0.27 to 0.35, n = 40)".
    """

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        spec, _, unit = spec.partition(" ")
        if not math.isfinite(self.mean):
            return f"undefined (n = {self.n})"
        mean, low, high = (number(value, spec) for value in (self.mean, self.low, self.high))
        mean += f" {unit}" if unit else ""
        if not math.isfinite(self.low):
            return f"{mean} (one seed)"
        return f"{mean} (95 % CI {low} to {high}, n = {self.n})"

    def __mul__(self, factor: float) -> "Estimate":
        """The same in another unit; factor > 0."""
        return Estimate(self.mean * factor, self.low * factor, self.high * factor, self.n)

    def __abs__(self) -> "Estimate":
        """The same for the difference taken the other way, if its mean is negative."""
        return self if self.mean >= 0 else Estimate(-self.mean, -self.high, -self.low, self.n)


def estimate_mean(values: npt.ArrayLike) -> Estimate:
    """Mean of values (n,), one a seed or a pair of runs with the same seed, with Student's t interval."""
    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(values.mean())
    if n == 1 or not np.isfinite(values).all():
        return Estimate(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * float(stats.sem(values))
    return Estimate(mean, mean - half, mean + half, n)


def estimate_share(held: npt.ArrayLike) -> Estimate:
    """Share of seeds for which something held, (n,), with the exact binomial interval (Clopper and Pearson 1934)."""
    held = np.asarray(held, dtype=bool)
    n, k = len(held), int(held.sum())
    if n == 1:
        return Estimate(float(k), math.nan, math.nan, 1)
    interval = stats.binomtest(k, n).proportion_ci(CONFIDENCE, method="exact")
    return Estimate(k / n, float(interval.low), float(interval.high), n)


def predict_one(values: npt.ArrayLike) -> tuple[float, float]:
    """95 % prediction interval of one further seed, by Student's t of values (n,); NaN for fewer than two."""
    found = estimate_mean(values)
    half = (found.high - found.mean) * math.sqrt(found.n + 1)  # s √(1 + 1/n) in place of s / √n
    return found.mean - half, found.mean + half


def number(value: float, spec: str) -> str:
    """A number in a format specification, with a true minus sign and none before a zero."""
    text = format(value, spec).replace("-", "\N{MINUS SIGN}")
    return text if text.strip("+\N{MINUS SIGN}0.,%") else text.lstrip("+\N{MINUS SIGN}")
