import itertools

import numpy as np
import pytest

from lrlib.peers.undoing import (
    find_epoch_steps,
    find_first_step,
    find_smooth_f,
    undo_corrected_mean,
    undo_epoch_mean,
    undo_running_mean,
)

X = np.linspace(-6, 1, 100)


def losses(seed=0, noise=0.1, dtype=np.float32):
    """The raw losses of a range test, of a given dtype, as float64."""
    clean = 0.1 + 2.2 / (1 + 10 ** (2 * (X + 2.5))) + 10 ** (2 * (X - 0.3))
    return (clean + noise * np.random.default_rng(seed).standard_normal(100)).astype(dtype).astype(np.float64)


def running_mean(raw, smooth_f):
    weight = smooth_f or 1  # 0 is no mean
    return np.array(list(itertools.accumulate(raw, lambda mean, loss: weight * loss + (1 - weight) * mean)))


def corrected_mean(raw, beta=0.98, first_step=1):
    mean, means = 0.0, []
    for step, loss in enumerate(raw, first_step):
        mean = beta * mean + (1 - beta) * loss
        means.append(mean / (1 - beta**step))
    return np.array(means)


def epoch_mean(raw, epoch_steps):
    """Keras's logs["loss"]: float32."""
    starts = np.arange(len(raw)) // epoch_steps * epoch_steps
    return np.array([raw[start : i + 1].mean() for i, start in enumerate(starts)]).astype(np.float32)


MEANS = [(running_mean, undo_running_mean, {"smooth_f": f}) for f in (0, 0.001, 0.05, 0.5, 0.999)]
MEANS += [(corrected_mean, undo_corrected_mean, {"beta": b, "first_step": 1}) for b in (0.0, 0.5, 0.98)]
MEANS += [(corrected_mean, undo_corrected_mean, {"beta": 0.98, "first_step": t}) for t in (2, 800)]
MEANS += [(epoch_mean, undo_epoch_mean, {"epoch_steps": n}) for n in (1, 7, 200)]


@pytest.mark.parametrize("mean, undo, settings", MEANS)
def test_a_mean_is_undone(mean, undo, settings):
    raw = losses(dtype=np.float64)
    tolerance = 1e-4 if mean is epoch_mean else 1e-11  # Keras keeps float32
    assert np.allclose(undo(mean(raw, **settings), **settings), raw, rtol=0, atol=tolerance)


def test_a_corrected_mean_is_undone_also_without_its_beginning():
    raw = losses(dtype=np.float64)
    later = undo_corrected_mean(corrected_mean(raw)[10:], beta=0.98, first_step=11)
    assert np.allclose(later[1:], raw[11:], rtol=0, atol=1e-11)


def test_a_step_without_a_loss_takes_part_in_the_exponent_alone():
    raw = losses(dtype=np.float64)[:20]
    means = corrected_mean(np.append(raw[:6], raw[7:]))
    kept = np.insert(means[:6], 6, np.nan).tolist()
    mean = means[5] * (1 - 0.98**6)
    for step, loss in enumerate(raw[7:], 8):
        mean = 0.98 * mean + 0.02 * loss
        kept.append(mean / (1 - 0.98**step))
    found = undo_corrected_mean(np.array(kept), beta=0.98)
    assert np.isnan(found[6])
    assert np.allclose(np.delete(found, 6), np.delete(raw, 6), rtol=0, atol=1e-12)


def test_after_a_loss_that_is_not_finite_nothing_is_made_up():
    means = np.array([2.0, 1.9, np.nan, np.nan])
    for found in (undo_running_mean(means, smooth_f=0.05), undo_corrected_mean(means, beta=0.98)):
        assert np.isfinite(found[:2]).all() and not np.isfinite(found[2:]).any()


@pytest.mark.parametrize("smooth_f", [0, 0.001, 0.02, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("n", [10, 100])
def test_smooth_f_is_found_in_means_of_float32_losses_alone(smooth_f, n):
    for seed in range(5):
        assert find_smooth_f(running_mean(losses(seed)[:n], smooth_f)) == smooth_f
        assert find_smooth_f(running_mean(losses(seed, dtype=np.float64)[:n], smooth_f)) is None
        assert find_smooth_f(corrected_mean(losses(seed)[:n])) is None


@pytest.mark.parametrize("first_step", [1, 2, 9, 500])
def test_the_first_step_is_found_in_means_of_float32_losses_alone(first_step):
    for seed in range(3):
        assert find_first_step(corrected_mean(losses(seed), first_step=first_step), beta=0.98) == first_step
        means = corrected_mean(losses(seed, dtype=np.float64), first_step=first_step)
        assert find_first_step(means, beta=0.98) is None
        assert find_first_step(running_mean(losses(seed), 0.05), beta=0.98) is None


@pytest.mark.parametrize("epoch_steps", [8, 12, 20, 30])
def test_a_mean_that_restarts_is_recognised_by_its_sawtooth(epoch_steps):
    found = [find_epoch_steps(epoch_mean(losses(seed), epoch_steps)) for seed in range(10)]
    assert sum(steps is not None for steps in found) >= 9
    assert sum(steps == epoch_steps for steps in found) >= 8


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.3])
def test_raw_losses_are_not_taken_for_a_mean_that_restarts(noise):
    pattern = np.resize(np.random.default_rng(1).standard_normal(12), 100)  # batches in the same order every epoch
    for seed in range(30):
        assert find_epoch_steps(losses(seed, noise)) is None
        assert find_epoch_steps(losses(seed, noise / 3) + noise * pattern) is None


def test_what_is_too_short_or_constant_shows_nothing():
    for means in map(np.array, ([], [1.0, 2.0], [0.1] * 50)):
        assert find_smooth_f(means) is None
        assert find_first_step(means, beta=0.98) is None
        assert find_epoch_steps(means) is None


OUTSIDE = [(undo_running_mean, {"smooth_f": 1}), (undo_corrected_mean, {"beta": 1})]
OUTSIDE += [(undo_corrected_mean, {"beta": 0.9, "first_step": 0}), (undo_epoch_mean, {"epoch_steps": 0})]


@pytest.mark.parametrize("undo, weights", OUTSIDE)
def test_a_weight_outside_is_refused(undo, weights):
    with pytest.raises(ValueError, match=[*weights][-1]):
        undo([1.0], **weights)
