"""Intervals against closed forms and published tables."""

import math

import pytest

from lrlib.reproduction.statistics import Estimate, estimate_mean, estimate_share, number, predict_one

T_4 = 2.776445  # 97.5 % of Student's t with 4 degrees of freedom, from a table


def test_intervals_of_a_mean_and_of_one_more_seed_are_student_s():
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    found, half, wider = estimate_mean(values), T_4 * math.sqrt(2.5 / 5), T_4 * math.sqrt(2.5 * (1 + 1 / 5))
    assert (found.mean, found.n) == (3.0, 5)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert predict_one(values) == pytest.approx((3 - wider, 3 + wider), rel=1e-6)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(5, 5, 0.025 ** (1 / 5), 1.0), (0, 10, 0.0, 1 - 0.025 ** (1 / 10)), (15, 20, 0.5090, 0.9134)],
)
def test_the_interval_of_a_share_is_the_exact_binomial_one(k, n, low, high):
    found = estimate_share([True] * k + [False] * (n - k))
    assert (found.mean, found.n) == (k / n, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_one_seed_has_no_interval():
    assert math.isnan(estimate_mean([0.5]).low)
    assert math.isnan(estimate_share([True]).high)
    assert math.isnan(predict_one([0.5])[0])
    assert f"{estimate_mean([0.5]):.1f}" == "0.5 (one seed)"


def test_an_estimate_is_written_with_its_interval_and_its_n():
    found = Estimate(-0.266, -0.3512, 0.0001, 40)
    assert f"{found:.2f}" == "\N{MINUS SIGN}0.27 (95 % CI \N{MINUS SIGN}0.35 to 0.00, n = 40)"
    assert f"{abs(found) * 100:.1f points}" == "26.6 points (95 % CI 0.0 to 35.1, n = 40)"
    assert (found * 100).mean == pytest.approx(-26.6)


def test_a_number_that_rounds_to_zero_has_no_sign():
    assert [number(value, "+.2f") for value in (-0.001, -1.5, 2)] == ["0.00", "\N{MINUS SIGN}1.50", "+2.00"]
