import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrlib import suggest
from lrlib.suggest import (
    LENGTH_POWER,
    Suggestion,
    combine,
    smith_bounds,
    smooth,
    steepest,
    suggest_lr,
    turning_points,
    valley,
)

HEURISTICS = [steepest, suggest.minimum_over_ten, valley, smith_bounds, suggest_lr]


def fall_and_wall(x, *, fall=-2.0, sharpness=2.0, wall=0.0):
    """Level at 2.3, a logistic fall of 2.2 centred at 10**fall, and a wall that is 1 at 10**wall; x is log10 lr."""
    return 0.1 + 2.2 / (1 + 10 ** (sharpness * (x - fall))) + 10 ** (4 * (x - wall))


CURVES = {
    "plain": {},
    "sharp": {"fall": -1.5, "sharpness": 3.0, "wall": 0.3},
    "slow": {"fall": -3.0, "sharpness": 1.0},
    "wide bottom": {"fall": -3.5, "sharpness": 2.0},
}


def sample(curve, n=200, *, low=-6.0, high=0.8):
    x = np.linspace(low, high, n)
    return 10**x, fall_and_wall(x, **CURVES[curve])


def known(curve):
    """The answers off a grid of a hundred thousand points, without any of the module's code: in log10 lr."""
    x = np.linspace(-6, 0.8, 100_001)
    loss = fall_and_wall(x, **CURVES[curve])
    low = np.argmin(loss)
    drop = loss[0] - loss[low]
    start = x[np.flatnonzero(loss[:low] >= loss[0] - 0.05 * drop)[-1]]
    slows = x[np.flatnonzero(loss[:low] >= loss[0] - 0.95 * drop)[-1]]
    return {
        "steepest": x[np.argmin(np.diff(loss))],
        "lowest": x[low],
        "start_of_fall": start,
        "minimum_over_ten": x[low] - 1,
        "valley": start + 2 / 3 * (x[low] - start),
        "smith_bounds": slows,
    }


def decades(lr, x):
    return abs(np.log10(lr) - x)


@pytest.mark.parametrize("curve", CURVES)
def test_every_heuristic_finds_its_point_on_a_curve_without_noise(curve):
    lr, loss = sample(curve)
    answers = known(curve)
    for heuristic in HEURISTICS[:4]:
        assert decades(heuristic(lr, loss).lr, answers[heuristic.__name__]) < 0.06, heuristic.__name__
    turning = turning_points(lr, loss)
    assert decades(turning.start_of_fall, answers["start_of_fall"]) < 0.05
    assert decades(turning.lowest, answers["lowest"]) < 0.03
    assert turning.loss_at_start == pytest.approx(2.3, abs=0.02)
    assert turning.loss_at_lowest == pytest.approx(loss.min(), abs=1e-6)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("noise, tolerance", [(0.01, 0.15), (0.05, 0.35)])
def test_noise_of_a_share_of_the_fall_moves_the_median_answer_by_a_fraction_of_a_decade(curve, noise, tolerance):
    lr, loss = sample(curve, 300)
    answers = known(curve)
    rng = np.random.default_rng(0)
    noisy = [loss + noise * 2.2 * rng.standard_normal(len(loss)) for _ in range(9)]
    for heuristic in (steepest, valley):
        found = np.median([np.log10(heuristic(lr, each).lr) for each in noisy])
        assert abs(found - answers[heuristic.__name__]) < tolerance, heuristic.__name__
    # The place of a flat bottom cannot be known to a tenth of a decade; that it is the bottom can.
    lowest = np.median([np.log10(turning_points(lr, each).lowest) for each in noisy])
    assert fall_and_wall(lowest, **CURVES[curve]) < loss.min() + max(0.01, noise) * 2.2
    assert all(suggest_lr(lr, each).reliable for each in noisy)
    found, lowest = suggest_lr(lr, loss), turning_points(lr, loss).lowest
    assert found.lower <= found.lr < found.upper and found.lr <= lowest / 2.999 and found.upper <= lowest / 1.499


@pytest.mark.parametrize("height", [-2.0, 50.0])
def test_single_spikes_do_not_move_a_suggestion(height):
    lr, loss = sample("plain")
    loss = loss + 0.02 * np.random.default_rng(1).standard_normal(len(loss))
    spiked = loss.copy()
    spiked[[20, 70, 110, 130, 150]] += height
    for heuristic in HEURISTICS:
        assert abs(np.log10(heuristic(lr, spiked).lr / heuristic(lr, loss).lr)) < 0.15, heuristic.__name__


@pytest.mark.parametrize("tail", [np.nan, np.inf])
def test_a_tail_that_is_not_finite_counts_as_an_explosion_and_is_kept_out_of_the_fit(tail):
    lr, loss = sample("plain")
    cut = np.argmin(loss) + 3  # before the loss has come back up
    ended = loss.copy()
    ended[cut:] = tail
    assert not suggest_lr(lr[:cut], loss[:cut]).reliable
    found = suggest_lr(lr, ended)
    assert found.reliable
    assert found.lr == suggest_lr(lr[:cut], loss[:cut]).lr
    assert np.isnan(smooth(lr, ended)[cut:]).all() and np.isfinite(smooth(lr, ended)[:cut]).all()


def test_smoothing_has_no_lag_where_a_running_mean_is_late():
    x = np.linspace(-6, 0, 300)
    valley_at_minus_3 = (x + 3) ** 2 + 0.3 * np.random.default_rng(0).standard_normal(300)
    running = list(itertools.accumulate(valley_at_minus_3, lambda mean, loss: 0.05 * loss + 0.95 * mean))
    assert x[np.argmin(running)] > -2.75
    assert abs(x[np.argmin(smooth(10**x, valley_at_minus_3))] + 3) < 0.15


def test_turning_points_of_a_long_noisy_sweep_like_the_reports():
    lr = 1e-6 * (1.18 / 1e-6) ** (np.arange(4690) / 4690)
    x = np.log10(lr)
    clean = 0.1 + 2.2 / (1 + 10 ** (2 * (x + 2.5))) + 10 ** (9 * (x - 0.05))
    # Small batches: next to no noise on the plateau, much of it at the bottom.
    noise = np.where(x < -3, 0.003, 0.06) * np.random.default_rng(0).standard_normal(4690)
    turning = turning_points(lr, clean + noise)
    start = x[np.flatnonzero(clean[: np.argmin(clean)] >= 2.3 - 0.05 * (2.3 - clean.min()))[-1]]
    assert turning.reliable
    assert decades(turning.start_of_fall, start) < 0.05
    assert clean[np.searchsorted(lr, turning.lowest)] < clean.min() + 0.02 * 2.2
    later = turning_points(lr, clean + noise, fraction=0.5)
    assert decades(later.start_of_fall, -2.5) < 0.05


RANGE = np.logspace(-6, 0, 100)
NOISE = 0.05 * np.random.default_rng(0).standard_normal(100)
# Adam, begun at the optimum with too large an lr: it leaves, swings back, and diverges later.
SWINGS = [0.1763, 0.2185, 0.1782, 0.1896, 0.2044, 0.1925, 0.1778, 0.1797, 0.1909, 0.1917, 0.182, 0.1763, 0.1817, 0.1876]
LEFT_AT_ONCE = np.array([*SWINGS, *np.linspace(0.184, 0.177, 43), *np.geomspace(0.18, 5, 43)])
SHOW_NOTHING = {
    "flat": (2.3 + NOISE, "flat"),
    "constant": (np.full(100, 2.3), "flat"),
    "all falling": (2.3 + NOISE - 2 / (1 + 1e-2 / RANGE), "has not turned up"),
    "all rising": (2.3 + NOISE + 30 * RANGE**0.5, "rises"),
    "left at once": (LEFT_AT_ONCE, "rises"),
    "explodes at once": (np.where(RANGE < 1e-5, 2.3, np.nan), "flat"),
    "all NaN": (np.full(100, np.nan), "no loss is finite"),
    "too short": (np.where(np.arange(100) < 4, 2.3 - np.arange(100), np.inf), "at least 10 are needed"),
}


@pytest.mark.parametrize("shape", SHOW_NOTHING)
def test_a_curve_that_shows_nothing_gives_a_number_marked_unreliable_and_says_why(shape):
    loss, words = SHOW_NOTHING[shape]
    for heuristic in HEURISTICS:
        found = heuristic(RANGE, loss)
        assert not found.reliable and words in found.reason and found.lr > 0
    assert not turning_points(RANGE, loss).reliable


losses = hnp.arrays(
    np.float64,
    st.integers(0, 60),
    elements=st.floats(allow_nan=True, allow_infinity=True, width=64) | st.floats(-10, 10),
)


@settings(max_examples=150, deadline=None)
@given(loss=losses, decades_swept=st.floats(0.1, 12))
@pytest.mark.filterwarnings("error")
def test_a_suggestion_is_never_an_exception_or_none_whatever_the_losses(loss, decades_swept):
    lr = np.logspace(-6, -6 + decades_swept, len(loss))
    for heuristic in HEURISTICS:
        found = heuristic(lr, loss)
        assert isinstance(found, Suggestion) and isinstance(found.reliable, bool) and found.reason
        if len(loss):
            first, last = lr[0] * (1 - 1e-9), lr[-1] * (1 + 1e-9)
            assert first <= found.lower <= found.lr <= found.upper <= last, heuristic.__name__
    assert smooth(lr, loss).shape == loss.shape


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.floats(-3, 3), st.floats(1e-3, 1e3), st.sampled_from([0, 0.05]))
def test_rescaling_lr_rescales_the_suggestion_and_rescaling_the_loss_does_not(seed, log_scale, loss_scale, noise):
    lr, loss = sample("plain", 100)
    loss = loss + noise * np.random.default_rng(seed).standard_normal(100)
    for heuristic in HEURISTICS:
        plain = heuristic(lr, loss)
        scaled = heuristic(lr * 10**log_scale, loss * loss_scale)
        assert np.log10(scaled.lr / plain.lr) == pytest.approx(log_scale, abs=1e-3)
        assert scaled.reliable == plain.reliable


# What is said of a curve


RISES = {
    "straight": lambda u: u,
    "root": lambda u: 10 ** (3 * u - 3),
    "late": lambda u: np.maximum(0, u - 0.7) / 0.3,
    "square": np.square,
}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(RISES)), st.floats(0.05, 100), st.floats(-3, 3), st.integers(10, 700))
def test_a_loss_that_only_rises_is_not_reliable_also_without_noise(shape, height, start, n):
    lr, loss = np.logspace(-6, 0, n), start + height * RISES[shape](np.linspace(0, 1, n))
    for heuristic in HEURISTICS:
        found = heuristic(lr, loss)
        assert not found.reliable, found.reason
    assert "rises" in turning_points(lr, loss).reason


@pytest.mark.parametrize("noise", [0.05, 0.3])
@pytest.mark.parametrize("shape", [*RISES, "flat"])
def test_a_noisy_rise_and_flat_noise_are_hardly_ever_taken_for_a_fall(shape, noise):
    clean = 1 + 4 * RISES[shape](np.linspace(0, 1, 100)) if shape in RISES else np.full(100, 2.3)
    noisy = [clean + noise * np.random.default_rng(seed).standard_normal(100) for seed in range(30)]
    assert sum(suggest_lr(RANGE, loss).reliable for loss in noisy) <= 3


X = np.linspace(-6, 1, 300)


def step(at, k=2.0):
    return 1 / (1 + 10 ** (-k * (X - at)))


SHAPES = {  # what a curve shows, without noise; how much noise; the confidence; words of the reason
    "fine-tuning, a plateau above the start": (1 - 0.2 * step(-4.8) + 1.5 * step(-3), 0.02, "high", ""),
    "level for decades, then a rise": (3 + 2 * step(-1, 3), 0.05, "low", "use more steps"),
    "rises at once": (3 + 2 * step(-5.5, 3), 0.05, "low", "smaller start_lr"),
    "a fall of 4 %": (1 - 0.04 * step(-3) + step(-1, 3), 0.002, "medium", "falls by only"),
    "a raw fall of many-fold": (fall_and_wall(X, fall=-3.0, sharpness=3.0, wall=-0.5), 0.02, "medium", "-fold"),
    "collapsed": (1 - 0.95 * step(-4), 0.05, "low", "does not diverge"),
    "still falls": (1 - 0.95 * step(0.5), 0.02, "low", "raise end_lr"),
    "falls at any rate, never rises": (np.linspace(1, 0.2, 300), 0.01, "low", "no effect"),
    "NaN at first": (np.where(X < -5.99, np.nan, 1), 0, "low", "before any update"),
    "a lone infinity on the plateau": (np.where(X > 0.99, np.inf, 2.3), 0.1, "low", "look for a broken sample"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_confidence_and_its_reason_are_true_of_the_curve(shape):
    clean, noise, confidence, words = SHAPES[shape]
    for seed in range(5):
        found = suggest_lr(10**X, clean + noise * np.random.default_rng(seed).standard_normal(300))
        assert found.confidence == confidence and words in found.reason, found.reason


@pytest.mark.parametrize("n, expected", [(20, "low"), (60, "medium"), (300, "high")])
def test_few_points_in_the_fall_are_no_evidence(n, expected):
    x = np.linspace(-6, 1, n)
    assert suggest_lr(10**x, fall_and_wall(x, sharpness=4.0, wall=-1.0)).confidence == expected


def test_a_fall_within_its_noise_starts_above_the_noise():
    """A model that is fine-tuned starts near its floor, and 5 % of its fall lie below the noise."""
    lrs = []
    for seed in range(20):
        loss = 2.2 - 0.3 * step(-3) + step(-1.3, 3) + 0.15 * np.random.default_rng(seed).standard_normal(300)
        lrs.append(suggest_lr(10**X, loss).lr)
    assert np.ptp(np.log10(lrs)) < 1 and 1e-3 < np.median(lrs) < 1e-2


@pytest.mark.parametrize("noise", [0, 0.02])
@pytest.mark.parametrize("low", [-3.0, -2.5, -2.0])
def test_a_curve_that_falls_from_its_first_step_on_starts_to_fall_there_and_the_reason_says_so(low, noise):
    x = np.linspace(low, 0.8, 200)
    loss = fall_and_wall(x, sharpness=1.5) + noise * np.random.default_rng(0).standard_normal(200)
    turning = turning_points(10**x, loss)
    assert "falls from the first learning rate on" in turning.reason
    assert turning.start_of_fall == pytest.approx(10**low)
    assert turning.loss_at_start == pytest.approx(loss[0], abs=0.1)
    for heuristic in HEURISTICS:
        found = heuristic(10**x, loss)
        assert found.lower == pytest.approx(10**low) and found.lr >= found.lower
        assert found.reason == turning.reason
    level = turning_points(*sample("plain"))
    assert level.reliable and level.start_of_fall > 1e-5


def epochs(fold, *, n=100, decades=8, per_epoch=200, seed=0):
    """A history of one loss an epoch: gradient descent on a quadratic goes on all the while, as the rate rises."""
    rng = np.random.default_rng(seed)
    curvature, weights = np.logspace(-1, 2, 30), 3 * rng.standard_normal(30)
    lr, means = np.logspace(-decades, 0, n), []
    for rate in lr:
        with np.errstate(over="ignore", invalid="ignore"):
            shrink = np.abs(1 - rate * curvature) ** (2 * np.arange(per_epoch)[:, None])
            means.append(0.5 * (curvature * weights**2 * shrink).sum(1).mean())
        weights = weights * (1 - rate * curvature) ** per_epoch
        if not means[-1] < 1e6:
            means[-1] = 1e6
            break
    means = np.array(means)
    return lr[: len(means)], means + (means[0] - fold * means.min()) / (fold - 1)


@pytest.mark.parametrize("fold", [30, 100, 1000])
@pytest.mark.parametrize("per_epoch", [20, 200, 1000])
def test_a_history_of_one_loss_an_epoch_is_not_called_reliable_two_decades_off(fold, per_epoch):
    for seed in range(3):
        lr, loss = epochs(fold, per_epoch=per_epoch, seed=seed)
        found = suggest_lr(lr, loss)
        off = np.log10(lr[np.argmin(loss)] / found.lr)
        assert off < 2 or not found.reliable, (off, found.reason)
    lr, loss = epochs(1000, per_epoch=1000)
    assert "one loss an epoch" in suggest_lr(lr, loss).reason


def suggestion(lr, confidence="high"):
    return Suggestion(lr, lr / 10, lr * 2, None, confidence, f"of {confidence} confidence", "suggest_lr")


def test_combine_takes_medians_over_log_lr_of_the_reliable_sweeps_if_they_are_more_than_half():
    found = combine([suggestion(lr) for lr in (1e-3, 1.5e-3, 3e-3)])
    assert (found.lr, found.lower, found.upper) == pytest.approx((1.5e-3, 1.5e-4, 3e-3))
    assert found.spread_decades == pytest.approx(np.log10(3)) and found.confidence == "high"
    stray, good = suggestion(1.0, "low"), [suggestion(1e-3), suggestion(1.2e-3)]
    kept, lost = combine([*good, stray]), combine([*good, stray, stray], max_spread_decades=9)
    assert kept.reliable and kept.spread_decades == pytest.approx(np.log10(1.2)) and not lost.reliable
    assert stray.reason in kept.reason and stray.reason in lost.reason


@pytest.mark.parametrize(
    "confidences, expected",
    [("high high high", "high"), ("high high medium", "high"), ("high medium medium", "medium"),
     ("high medium low", "medium"), ("high low low", "low"), ("medium medium medium", "medium")],
)  # fmt: skip
def test_agreement_never_raises_the_confidence_and_disagreement_lowers_it(confidences, expected):
    found = combine([suggestion(1e-3, confidence) for confidence in confidences.split()])
    assert found.confidence == expected and found.reliable == (expected != "low")
    apart = combine([suggestion(lr) for lr in (1e-3, 1e-3, 4e-3)])
    assert apart.confidence == "low" and not apart.reliable


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: smooth([1e-3, 1e-2], [1.0]), r"shape \(n,\), got \(2,\) and \(1,\)"),
        (lambda: steepest([1e-2, 1e-3], [1.0, 2.0]), "must be positive and increasing"),
        (lambda: steepest([0.0, 1e-3], [1.0, 2.0]), "must be positive and increasing"),
        (lambda: turning_points([1e-3, 1e-2], [1.0, 2.0], fraction=5), r"fraction must be in \(0, 1\), got 5"),
        (lambda: suggest_lr([], [], total_steps=0), "total_steps must be at least 1 and finite, got 0"),
        (lambda: combine([]), "at least one Suggestion"),
    ],
)
def test_arguments_that_cannot_be_a_curve_are_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_longer_training_gets_a_lower_rate_and_a_shorter_a_higher_up_to_the_upper_bound():
    lr, loss = sample("plain")
    plain, longer = suggest_lr(lr, loss), suggest_lr(lr, loss, total_steps=100 * len(lr))
    assert (plain.total_steps, longer.total_steps) == (len(lr), 100 * len(lr))
    assert longer.lr == pytest.approx(plain.lr * 100**-LENGTH_POWER) and longer.upper == plain.upper
    # Losses that stand for ten updates each are of a sweep ten times as long.
    sparse = suggest_lr(lr, loss, total_steps=100 * len(lr), sweep_steps=10 * len(lr))
    assert sparse.lr == pytest.approx(plain.lr * 10**-LENGTH_POWER)
    for total_steps in (1, 10, 199):
        shorter = suggest_lr(lr, loss, total_steps=total_steps)
        assert plain.lr < shorter.lr <= plain.upper == shorter.upper
    beyond = suggest_lr(lr, loss, total_steps=10**30)
    assert beyond.lr == pytest.approx(lr[0]) and not beyond.reliable and "outside the swept range" in beyond.reason
