"""When a report looks at its results, and how sure an interval has to be at each look.

Where the number of seeds is fixed in advance there is one look, and intervals are plain 95 % intervals. Where seeds are
added by need, intervals that are 95 % sure at each look would miss at one of six in 16 % of cases. So they are wider at
each, and hold at all looks together in 95 %: repeated confidence intervals (Jennison and Turnbull 2000, chapter 9).
That holds for the limit that was set before the first look.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import special

ERROR = 0.05  # of an interval, over all looks together
STEP = 5  # seeds from one look to the next
MOST_SEEDS = 100  # that are added by need: on two cores half a day of training
N_SEQUENCES = 200_000  # made up to find an error: it is then known to a hundredth of itself


@dataclass(frozen=True)
class Looks:
    """seeds: after how many a report looked, in order. mean_errors: at each, the error of the interval of a mean.
    share_errors: at each, that of either bound of a share. last_errors: those two at the last look that there may be.
    """

    seeds: tuple[int, ...]
    mean_errors: tuple[float, ...]
    share_errors: tuple[float, ...]
    last_errors: tuple[float, float]


def list_looks(max_seeds: int) -> list[int]:
    """After how many seeds there is a look where at most `max_seeds` are added by need: every five, and at the end."""
    return [*range(STEP, max_seeds, STEP), max_seeds]


def plan_looks(seeds: int, max_seeds: int = 0) -> Looks:
    """The looks that were taken up to a number of seeds.

    max_seeds: how many there were to be at most, one of `list_looks(max_seeds)` being `seeds`; 0 where the number was
    fixed in advance.
    """
    if not max_seeds:
        return Looks((seeds,), (ERROR,), (ERROR,), (ERROR, ERROR))
    planned = list_looks(max_seeds)
    taken = planned.index(seeds) + 1
    of_means, of_shares = spend_on_means(max_seeds), spend_on_shares(max_seeds)
    return Looks(tuple(planned[:taken]), of_means[:taken], of_shares[:taken], (of_means[-1], of_shares[-1]))


@functools.cache
def spend_on_means(max_seeds: int) -> tuple[float, ...]:
    """The error of Student's t interval at each look, such that with normal values all hold together in 95 %.

    It grows as the square of the number of seeds: little is spent on early looks, which see little, and at the limit
    of 30 the interval is a tenth wider than that of a single look. How large it may be is found by simulation, for all
    data at once: a t statistic at the true mean depends on neither mean nor spread. Published tables are for values of
    known spread, and too narrow for so few seeds.
    """
    looks = np.array(list_looks(max_seeds))
    if len(looks) == 1:
        return (ERROR,)
    rng, smallest = np.random.default_rng(0), np.full(N_SEQUENCES, np.inf)
    total, squares = np.zeros((2, N_SEQUENCES))
    for n, new in zip(looks, np.diff(looks, prepend=0)):
        # The sum of `new` standard normal values, and of their squares: by chance about the mean, and by the mean.
        added = math.sqrt(new) * rng.standard_normal(N_SEQUENCES)
        spread = rng.chisquare(new - 1, N_SEQUENCES) if new > 1 else 0.0
        total += added
        squares += spread + added**2 / new
        t = total / np.sqrt(n * (squares - total**2 / n) / (n - 1))
        p = 2 * special.stdtr(n - 1, -np.abs(t))
        smallest = np.minimum(smallest, p / (n / max_seeds) ** 2)
    return tuple((np.quantile(smallest, ERROR) * (looks / max_seeds) ** 2).tolist())


def spend_on_shares(max_seeds: int) -> tuple[float, ...]:
    """The error of either bound of Clopper and Pearson's interval at each look: together 5 %, so that all hold in 95 %.

    Five of five seeds are to settle that a claim holds in more than half of them. Were it half, that would come by
    chance in one case of 32, which is spent on the first look; what is left is shared out evenly.
    """
    others = len(list_looks(max_seeds)) - 1
    if not others:
        return (ERROR,)
    return (0.5**STEP, *[(ERROR - 0.5**STEP) / others] * others)
