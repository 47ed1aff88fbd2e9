import math

import numpy as np
import pytest

from lrlib.study.statistics import estimate_accuracy, estimate_mean, judge_all, judge_below, judge_equal


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
    assert judge_equal(np.array(differences), 1.0) is verdict


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
    assert judge_below(np.array(differences), 0.0, clear=0.5) is verdict


def test_all_none_and_some():
    assert (judge_all([True, True]), judge_all([False, False]), judge_all([True, False])) == (True, False, None)
