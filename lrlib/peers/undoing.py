"""Raw losses out of running means: each mean is linear in the losses, so it inverts exactly.

l is the loss of a step, s what a tool keeps of it; steps are counted from 1. The suggestions of lrlib.suggest are for
raw losses: read from a running mean they are late by up to half a decade, since a mean looks back only.
"""

import numpy as np
from numpy.typing import ArrayLike


def undo_running_mean(smoothed: ArrayLike, *, weight: float) -> np.ndarray:
    """The losses l of s_1 = l_1, s_t = weight * l_t + (1 - weight) * s_(t-1): torch-lr-finder, MONAI, ignite.

    Returns float64 of shape (n,); NaN from the second value on that is not finite, since the mean never recovers.
    Raises ValueError if weight is outside [0, 1); 0 says that no mean was taken.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"smooth_f must be in [0, 1), got {weight}; it is the newest loss's weight, and 0 is no mean")
    smoothed = np.array(smoothed, dtype=np.float64)
    if weight == 0 or len(smoothed) == 0:
        return smoothed
    with np.errstate(invalid="ignore", over="ignore"):
        later = (smoothed[1:] - (1 - weight) * smoothed[:-1]) / weight
    return np.concatenate([smoothed[:1], later])


def undo_corrected_mean(smoothed: ArrayLike, *, beta: float, first_step: int = 1) -> np.ndarray:
    """The losses l of v_t = beta * v_(t-1) + (1 - beta) * l_t, v_0 = 0, s_t = v_t / (1 - beta ** t): fastai, Lightning.

    first_step: the exponent at the first loss, where it is not 1 (Lightning's counts one too many). A value that is not
    finite, with finite ones after it, is of a step that had no loss: v stays, and the exponent goes on.
    Returns float64 of shape (n,). Raises ValueError if beta is outside [0, 1) or first_step below 1.
    """
    return _losses_of(_uncorrected(smoothed, beta, first_step), beta, before=0.0)


def undo_corrected_mean_from_the_middle(smoothed: ArrayLike, *, beta: float, first_step: int) -> np.ndarray:
    """The losses as undo_corrected_mean gives them, of a history whose first first_step - 1 values are not known.

    Returns float64 of shape (n - 1,): the first loss takes the value before it.
    """
    means = _uncorrected(smoothed, beta, first_step)
    return _losses_of(means[1:], beta, before=means[0])


def _uncorrected(smoothed: ArrayLike, beta: float, first_step: int) -> np.ndarray:
    """v of each step, float64 (n,)."""
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), got {beta}; it is the weight of what came before, and 0 is no mean")
    if first_step < 1:
        raise ValueError(f"first_step must be at least 1, got {first_step}; it is the exponent at the first loss")
    smoothed = np.array(smoothed, dtype=np.float64)
    return smoothed * (1 - beta ** (first_step + np.arange(len(smoothed))))


def _losses_of(means: np.ndarray, beta: float, before: float) -> np.ndarray:
    losses = np.full(means.shape, np.nan)
    for step, mean in enumerate(means):
        if np.isfinite(mean):
            losses[step] = (mean - beta * before) / (1 - beta)
            before = mean
    return losses
