"""Numbers as a paper says them: counts, rates, ratios, intervals."""

import math
import re
from collections.abc import Iterable

from lrlib.study.looks import STEP
from lrlib.study.statistics import FARTHEST, Estimate

_SPELLED = [
    "none",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
]


def spell(n: int, capital: bool = False) -> str:
    """A count: in letters up to thirteen, in digits above."""
    word = _SPELLED[n] if 0 <= n < len(_SPELLED) else f"{n:,}"
    return word.capitalize() if capital else word


def count(n: int, noun: str) -> str:
    """`one seed`, `5 seeds`: how many, and of what."""
    return f"one {noun}" if n == 1 else f"{n:,} {noun}s"


def join(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = [str(word) for word in words]
    return f"{', '.join(most)} and {last}" if most else last


def rate(lr: float) -> str:
    """A learning rate to two digits: 0.11, 3e-5."""
    return number(float(f"{lr:.2g}"))


def percent(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f} %"


def signed(value: float, digits: int) -> str:
    """A difference, its minus sign a real one; what rounds to zero has no sign."""
    text = f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return text if text.strip("+\N{MINUS SIGN}0.") else text[1:]


def interval(low: float, high: float, digits: int, unit: str = "%") -> str:
    """`95 % interval 99.05 to 99.25 %`; where one seed gives none, it says so."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "one seed, so no interval"
    written = [f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") for value in (low, high)]
    return f"95 % interval {written[0]} to {written[1]}{f' {unit}' if unit else ''}"


def measured(found: Estimate, form: str, unit: str = "", scale: float = 1.0) -> str:
    """A mean over seeds as evidence has it: `-0.40 points [-0.90, +0.10], 5 seeds`. scale: a factor to all numbers."""
    mean, low, high = (f"{scale * value:{form}}" for value in (found.mean, found.low, found.high))
    unit = f" {unit}" if unit else ""
    return f"{mean}{unit} (one seed)" if found.n == 1 else f"{mean}{unit} [{low}, {high}], {found.n} seeds"


def held_in(found: Estimate) -> str:
    """A share of seeds as evidence has it: `in 7 of 10 seeds [39 %, 91 %]`; of a few seeds without its bounds."""
    said = f"in {round(found.mean * found.n)} of {found.n} seed{'s' * (found.n > 1)}"
    return said if found.n < STEP else f"{said} [{100 * found.low:.0f} %, {100 * found.high:.0f} %]"


def needed(seeds: float) -> str:
    """How many seeds would settle what is open: `about 540 seeds`."""
    return f"about {float(f'{seeds:.2g}'):,.0f} seeds" if math.isfinite(seeds) else f"more than {FARTHEST:,} seeds"


def times(ratio: float) -> str:
    """A factor: `1.7`, `8.4`, `35`."""
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}"


def compare(log_ratio: float, what: str) -> str:
    """How a value lies to another, given log10 of their ratio: `14 % above what`, `level with what`, `8.4 times
    what`."""
    ratio = 10**log_ratio
    if ratio >= 2:
        return f"{times(ratio)} times {what}"
    percent_off = round(100 * (ratio - 1))
    if percent_off == 0:
        return f"level with {what}"
    return f"{abs(percent_off)} % {'above' if percent_off > 0 else 'below'} {what}"


def compare_within(low: float, high: float) -> str:
    """The interval of `compare`, in the same words: `95 % interval 7 to 19 %`, `95 % interval 7.5 to 9.2 times`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "one seed, so no interval"
    if 10**high >= 2 and 10**low >= 2:
        return f"95 % interval {times(10**low)} to {times(10**high)} times"
    return interval(100 * (10**low - 1), 100 * (10**high - 1), 0)


def among(value: float, low: float, high: float, name: str) -> str:
    """Where a value lies to an interval, as the end of a sentence on the interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"one seed cannot say how far {name} is from it"
    return f"{name} lies {'within' if low <= value <= high else 'above it' if value > high else 'below it'}"


def number(value: float) -> str:
    """A number as a person writes it: 0.1, 1.18, 1e-6."""
    return re.sub(r"e([+-])0*", lambda exponent: "e" + exponent[1].strip("+"), f"{value:g}")
