"""The error rates that looks promise, on made-up data at the margin."""

import numpy as np
import pytest

from lrlib.study.answers import describe_looks
from lrlib.study.experiments import Design
from lrlib.study.looks import ERROR, MOST_SEEDS, list_looks, plan_looks, spend_on_means, spend_on_shares
from lrlib.study.statistics import estimate_mean, estimate_share

N_STUDIES = 40_000


def settle(low, high, margin):
    """Which studies are judged equal within the margin, and which not, at the first look that settles it.

    low, high: (n_looks, n_studies).
    """
    equal, apart = (low >= -margin) & (high <= margin), (low > margin) | (high < -margin)
    first = (equal | apart).argmax(axis=0), np.arange(low.shape[1])
    return equal[first], apart[first]


def intervals_of_means(values, looks):
    """What `estimate_mean` gives at each look, of many studies at once. values: (n_studies, n_seeds)."""
    from scipy import special

    lows, highs = [], []
    for n, error in zip(looks.seeds, looks.mean_errors, strict=True):
        seen = values[:, :n]
        half = special.stdtrit(n - 1, 1 - error / 2) * seen.std(axis=1, ddof=1) / np.sqrt(n)
        lows.append(seen.mean(axis=1) - half)
        highs.append(seen.mean(axis=1) + half)
    first = estimate_mean(values[0, : looks.seeds[-1]], looks.mean_errors[-1])
    assert (lows[-1][0], highs[-1][0]) == (pytest.approx(first.low), pytest.approx(first.high))
    return np.array(lows), np.array(highs)


@pytest.mark.parametrize("max_seeds", [10, 30, 60])
@pytest.mark.parametrize("sd", [0.4, 3.0])
def test_at_the_margin_at_most_one_verdict_in_twenty_is_wrong(max_seeds, sd):
    values = np.random.default_rng(1).normal(1.0, sd, (N_STUDIES, max_seeds))
    equal, apart = settle(*intervals_of_means(values, plan_looks(max_seeds, max_seeds)), margin=1.0)
    noise = 3 * np.sqrt(ERROR / N_STUDIES)
    assert equal.mean() + apart.mean() < ERROR + noise  # whichever side of the margin is the right one
    assert apart.mean() == pytest.approx(ERROR / 2, abs=noise)


def test_plain_intervals_would_be_wrong_three_times_as_often():
    values = np.random.default_rng(1).normal(1.0, 0.4, (N_STUDIES, 30))
    looks = plan_looks(30, 30)
    plain = type(looks)(looks.seeds, (ERROR,) * 6, looks.share_errors, looks.last_errors)
    equal, apart = settle(*intervals_of_means(values, plain), margin=1.0)
    assert 0.14 < equal.mean() + apart.mean() < 0.19


def test_claims_that_are_away_from_the_margin_are_settled():
    values = np.random.default_rng(1).normal(0.56, 1.0, (N_STUDIES, 30))  # C7's distance from its margin, in sd
    _, apart = settle(*intervals_of_means(values, plan_looks(30, 30)), margin=0.0)
    assert apart.mean() > 0.78


@pytest.mark.parametrize("max_seeds", [5, 10, 30, 100])
@pytest.mark.parametrize("share", [0.5, 0.3, 0.8])
def test_the_bounds_of_a_share_hold_at_all_looks_together(max_seeds, share):
    looks = plan_looks(max_seeds, max_seeds)
    held = np.random.default_rng(2).random((N_STUDIES, max_seeds)) < share
    too_high, too_low = np.zeros(N_STUDIES, bool), np.zeros(N_STUDIES, bool)
    for n, error in zip(looks.seeds, looks.share_errors, strict=True):
        bounds = [estimate_share(np.arange(n) < k, error) for k in range(n + 1)]
        counts = held[:, :n].sum(axis=1)
        too_high |= np.array([found.low - 1e-9 > share for found in bounds])[counts]
        too_low |= np.array([found.high + 1e-9 < share for found in bounds])[counts]
    noise = 3 * np.sqrt(ERROR / N_STUDIES)
    assert too_high.mean() < ERROR + noise and too_low.mean() < ERROR + noise


@pytest.mark.parametrize("max_seeds", [5, 6, 12, 30, MOST_SEEDS])
def test_errors_grow_from_look_to_look_and_stay_below_that_of_a_single_one(max_seeds):
    errors = spend_on_means(max_seeds)
    assert len(errors) == len(list_looks(max_seeds)) and list(errors) == sorted(errors)
    assert 0 < errors[0] and errors[-1] <= ERROR
    assert sum(spend_on_shares(max_seeds)) == pytest.approx(ERROR)


def test_looks_are_after_every_five_seeds_and_at_the_limit():
    assert (list_looks(5), list_looks(12), list_looks(30)) == ([5], [5, 10, 12], [5, 10, 15, 20, 25, 30])
    assert plan_looks(3) == plan_looks(3, 0) and plan_looks(3).mean_errors == (ERROR,)
    assert plan_looks(10, 30).seeds == (5, 10)
    assert plan_looks(10, 30).last_errors == (spend_on_means(30)[-1], spend_on_shares(30)[-1])


def test_a_report_says_by_what_intervals_it_judges():
    one, fixed, by_need = (
        describe_looks(Design(dataset="sample", seeds=seeds, max_seeds=limit))
        for seeds, limit in ((1, 0), (5, 0), (10, 30))
    )
    assert one.startswith("One seed shows no spread")
    assert "five, was fixed in advance" in fixed and "it holds in 55 % of all seeds or more" in fixed
    assert "or there were 30. " in by_need and "0.09 % at 5 and 0.36 % at 10 seeds" in by_need
    assert "it holds in 50 % of all seeds or more" in by_need


@pytest.mark.parametrize(
    ("seeds", "limit", "message"),
    [
        (7, 30, "seeds must be one of 5, 10, 15, 20, 25, 30 where they are added by need up to 30, got 7"),
        (5, 4, "max_seeds must be a whole number from 5 to 100, or 0 .*, got 4"),
        (5, 101, "max_seeds must be a whole number from 5 to 100, or 0 .*, got 101"),
    ],
)
def test_a_number_of_seeds_that_is_no_look_is_refused(seeds, limit, message):
    with pytest.raises(ValueError, match=message):
        Design(dataset="sample", seeds=seeds, max_seeds=limit)
