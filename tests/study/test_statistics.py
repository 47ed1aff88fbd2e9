import math

import numpy as np
import pytest

from lrlib.study.looks import Looks, plan_looks
from lrlib.study.statistics import (
    Judgement,
    estimate_accuracy,
    estimate_mean,
    estimate_share,
    judge_below,
    judge_equal,
    judge_share,
    judge_together,
)


def test_the_mean_s_interval_is_student_s():
    found = estimate_mean([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)  # t of 97.5 % with 4 degrees of freedom, from a table
    assert (found.mean, found.n) == (3.0, 5)
    assert found.low == pytest.approx(3 - half, rel=1e-6)
    assert found.high == pytest.approx(3 + half, rel=1e-6)


def test_one_seed_says_nothing_of_the_spread():
    found = estimate_mean([0.5])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert math.isnan(found.sd)


def test_one_accuracy_has_wilson_s_interval():
    found = estimate_accuracy([0.9927], 10_000)
    z, n, p = 1.959964, 10_000, 0.9927
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (found.low, found.high) == (pytest.approx(centre - half), pytest.approx(centre + half))


def test_an_accuracy_that_is_not_a_number_stays_one():
    assert math.isnan(estimate_accuracy([math.nan], 10_000).mean)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.01, -0.01, 0.02, 0.0, -0.02], True),
        ([5.0, 5.1, 4.9], False),
        ([-5.0, -5.1, -4.9], False),
        ([0.9, 1.1, 1.0], None),
        ([0.0], None),
        ([2.9], None),
        ([3.1], False),
        ([math.nan, 0.0], None),
    ],
)
def test_equality_within_a_margin_of_one(differences, verdict):
    assert judge_equal(np.array(differences), 1.0, plan_looks(len(differences))).verdict is verdict


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-1.0, -1.1, -0.9], True),
        ([1.0, 1.1, 0.9], False),
        ([-1.0, 1.0], None),
        ([-0.4], None),
        ([-0.6], True),
        ([0.6], False),
    ],
)
def test_being_below_zero(differences, verdict):
    assert judge_below(np.array(differences), 0.0, plan_looks(len(differences)), clear=0.5).verdict is verdict


def test_a_share_has_clopper_and_pearson_s_bounds():
    found = estimate_share([True] * 7 + [False] * 3, 0.025)
    assert (found.mean, found.n) == (0.7, 10)
    assert (found.low, found.high) == (pytest.approx(0.3475, abs=1e-4), pytest.approx(0.9333, abs=1e-4))  # a table's
    assert (estimate_share([False] * 5).low, estimate_share([True] * 5).high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("held", "n", "verdict"),
    [
        (5, 5, True),
        (0, 5, False),
        (4, 5, None),
        (1, 1, True),
        (0, 1, False),
        (3, 4, None),
        (14, 20, None),
        (15, 20, True),
    ],
)
def test_what_holds_in_more_than_half_of_seeds(held, n, verdict):
    assert judge_share([True] * held + [False] * (n - held), plan_looks(n)).verdict is verdict


def test_several_things_hold_together():
    yes, no, few, many, never = Judgement(True), Judgement(False), *(Judgement(None, needed=n) for n in (20, 40, None))
    assert judge_together(yes, yes).verdict is True
    assert judge_together(yes, few, no).verdict is False
    assert judge_together(few, yes, many) == many
    assert judge_together(few, never).needed is None


def test_the_look_that_settles_it_counts_and_later_ones_do_not():
    looks = plan_looks(15, 30)
    judged = judge_equal([0.0, 0.1, -0.1, 0.05, -0.05] * 2 + [9.0] * 5, 1.0, looks)
    assert (judged.verdict, judged.estimate.n, judged.needed) == (True, 5, None)
    agreeing_first = judge_share([True] * 5 + [False] * 10, looks)
    assert (agreeing_first.verdict, agreeing_first.estimate.n) == (True, 5)


def test_looking_again_takes_a_wider_interval_than_looking_once():
    values = np.tile([1.3, -0.7, 1.0, -0.4, 0.3], 2)
    once, again = judge_equal(values, 1.0, plan_looks(10)), judge_equal(values, 1.0, plan_looks(10, 30))
    assert (once.verdict, again.verdict) == (True, None)
    assert again.estimate.low < once.estimate.low < once.estimate.high < again.estimate.high


def test_an_open_claim_says_how_many_seeds_like_these_would_settle_it():
    values = 1.0 + np.array([1.5, -1.5, 0.5, -0.5, 0, 0, 1.5, -1.5, 0.5, -0.5])
    found = estimate_mean(values)
    needed = judge_below(values, 0.8, plan_looks(10), clear=1.0).needed
    t = 1.984  # of 97.5 % with 100 degrees of freedom, from a table
    assert needed == pytest.approx((t * found.sd / 0.2) ** 2, abs=2)


def test_what_no_number_of_seeds_settles_is_said():
    assert judge_below([1.0, -1.0, 0.5, -0.5, 0.0], 0.0, plan_looks(5), clear=1.0).needed == math.inf
    assert judge_share([True, False] * 5, plan_looks(10)).needed == math.inf
    assert judge_equal([math.nan] * 5, 1.0, plan_looks(5)).needed is None
    assert judge_equal([0.0], 1.0, plan_looks(1)).needed is None


def test_a_share_needs_seeds_too():
    looks = Looks((10,), (0.05,), (0.05,), (0.05, 0.05))
    # Of 22 seeds 15 or more come by chance in 6.7 % of cases, 16 or more in 2.6 %.
    assert judge_share([True] * 7 + [False] * 3, looks).needed == 22
