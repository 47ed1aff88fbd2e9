import numpy as np
import pytest

from lrlib.peers.undoing import undo_corrected_mean, undo_corrected_mean_from_the_middle, undo_running_mean


def losses(n=200):
    return 2 + np.sin(np.arange(n) / 9) + np.random.default_rng(0).normal(0, 0.3, n)


def running_mean(raw, weight):
    kept = [raw[0]]
    for loss in raw[1:]:
        kept.append(weight * loss + (1 - weight) * kept[-1])
    return kept


def corrected_mean(raw, beta, first_step=1):
    mean, kept = 0.0, []
    for step, loss in enumerate(raw, first_step):
        mean = beta * mean + (1 - beta) * loss
        kept.append(mean / (1 - beta**step))
    return kept


@pytest.mark.parametrize("weight", [0.001, 0.05, 0.5, 0.999])
def test_a_running_mean_comes_undone(weight):
    raw = losses()
    assert np.allclose(undo_running_mean(running_mean(raw, weight), weight=weight), raw, rtol=0, atol=1e-11)


def test_a_weight_of_zero_is_no_mean():
    assert undo_running_mean([3.0, 1.0], weight=0).tolist() == [3.0, 1.0]


@pytest.mark.parametrize("first_step", [1, 2, 800])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.98])
def test_a_corrected_mean_comes_undone(beta, first_step):
    raw = losses()
    kept = corrected_mean(raw, beta, first_step)
    assert np.allclose(undo_corrected_mean(kept, beta=beta, first_step=first_step), raw, rtol=0, atol=1e-11)


def test_a_corrected_mean_whose_beginning_was_cut_comes_undone_but_for_one_loss():
    raw = losses()
    kept = corrected_mean(raw, 0.98)[10:]
    found = undo_corrected_mean_from_the_middle(kept, beta=0.98, first_step=11)
    assert np.allclose(found, raw[11:], rtol=0, atol=1e-11)


def test_a_step_without_a_loss_takes_part_in_the_exponent_alone():
    raw = losses(20)
    mean, kept = 0.0, []
    for step, loss in enumerate(raw, 1):
        if step != 7:
            mean = 0.98 * mean + 0.02 * loss
        kept.append(np.nan if step == 7 else mean / (1 - 0.98**step))
    found = undo_corrected_mean(kept, beta=0.98)
    assert np.isnan(found[6])
    assert np.allclose(np.delete(found, 6), np.delete(raw, 6), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "undo", [lambda s: undo_running_mean(s, weight=0.05), lambda s: undo_corrected_mean(s, beta=0.98)]
)
def test_after_a_loss_that_is_not_finite_nothing_is_made_up(undo):
    found = undo([2.0, 1.9, np.nan, np.nan])
    assert np.isfinite(found[:2]).all() and not np.isfinite(found[2:]).any()


@pytest.mark.parametrize(
    ("undo", "sentence"),
    [
        (lambda: undo_running_mean([1.0], weight=1), r"smooth_f must be in \[0, 1\), got 1"),
        (lambda: undo_corrected_mean([1.0], beta=1), r"beta must be in \[0, 1\), got 1"),
        (lambda: undo_corrected_mean([1.0], beta=0.9, first_step=0), "first_step must be at least 1, got 0"),
    ],
)
def test_a_weight_outside_is_refused(undo, sentence):
    with pytest.raises(ValueError, match=sentence):
        undo()
