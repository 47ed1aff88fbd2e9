"""Undo the running means that other tools keep of their losses.

A running mean is linear in the losses, so it inverts exactly. Suggestions need raw losses: a running mean lags, and
suggestions from it come out up to half a decade too high.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrlib.smoothing import Floats

WEIGHTS = np.arange(1, 1000) / 1000  # smooth_f that are looked for
FIRST_STEPS = np.arange(1, 2001)  # beyond, 0.98 ** step is below the resolution of float64
OFF_GRID = 0.02  # of the spacing of float32: a loss closer to a float32 number is one
CERTAIN = 6  # losses on the grid that prove it: chance puts them there in (1/25) ** 6 of the histories
SHORTEST_EPOCH = 8  # steps, below which a restarting mean cannot be told from noise
SAWTOOTH = -4.2  # t statistic of the noise's fall within an epoch; raw losses reach it in 1 of 500 histories


def undo_running_mean(means: ArrayLike, *, smooth_f: float) -> Floats:
    """Return the losses l of s_1 = l_1, s_t = smooth_f * l_t + (1 - smooth_f) * s_(t-1), (n,): torch-lr-finder's mean.

    NaN from the second value on that is not finite, since this mean never recovers. smooth_f = 0 is no mean.
    """
    if not 0 <= smooth_f < 1:
        raise ValueError(f"smooth_f must be in [0, 1), got {smooth_f}; pass the value that the finder was given")
    values = np.array(means, dtype=np.float64)
    return values if smooth_f == 0 else _running(values, np.array([smooth_f]))[0]


def undo_corrected_mean(means: ArrayLike, *, beta: float, first_step: int = 1) -> Floats:
    """Return the losses l of v_t = beta * v_(t-1) + (1 - beta) * l_t, s_t = v_t / (1 - beta ** t), (n,): fastai's mean.

    first_step: t of the first value, 2 for Lightning. If earlier values are missing, only the first loss is wrong. A
    value that is not finite between finite ones is a step without a loss.
    """
    if not 0 <= beta < 1 or first_step < 1:
        raise ValueError(f"beta must be in [0, 1), first_step at least 1, got {beta} and {first_step}; see lrlib.read")
    sums = np.array(means, dtype=np.float64) * (1 - beta ** (first_step + np.arange(np.size(means))))
    losses, before = np.full(sums.shape, np.nan), 0.0
    for step, value in enumerate(sums):
        if np.isfinite(value):
            losses[step], before = (value - beta * before) / (1 - beta), value
    return losses


def undo_epoch_mean(means: ArrayLike, *, epoch_steps: int) -> Floats:
    """Return the losses of a mean that restarts every epoch_steps steps, (n,): Keras's logs["loss"]."""
    if epoch_steps < 1:
        raise ValueError(f"epoch_steps must be at least 1, got {epoch_steps}; it is the number of steps per epoch")
    values = np.array(means, dtype=np.float64)
    k = np.arange(len(values)) % epoch_steps
    return (k + 1) * values - k * np.append(0.0, values[:-1])


def find_smooth_f(means: Floats) -> float | None:
    """Return the smooth_f of a running mean, 0 for raw losses, or None: only the right one gives float32 losses."""
    if _on_grid(means[None], np.zeros((1, len(means))))[0]:
        return 0.0
    found = WEIGHTS[_on_grid(_running(means, WEIGHTS), _rounding(means) / WEIGHTS[:, None])]
    return float(found[0]) if len(found) == 1 else None


def find_first_step(means: Floats, *, beta: float) -> int | None:
    """Return the first_step of a corrected mean, or None if the history does not show it (see find_smooth_f)."""
    sums = means * (1 - beta ** (FIRST_STEPS[:, None] + np.arange(len(means))))
    with np.errstate(invalid="ignore"):
        losses = (sums - beta * np.pad(sums, ((0, 0), (1, 0)))[:, :-1]) / (1 - beta)
    found = FIRST_STEPS[_on_grid(losses, _rounding(means)[None] / (1 - beta))]
    return int(found[0]) if len(found) else None


def find_epoch_steps(means: Floats) -> int | None:
    """Return about how many steps apart a mean restarts, or None if it does not look like one that does.

    Within an epoch the noise of a mean over k losses falls as 1/k, and restarts with it. The likeliest period is that
    whose undone losses are smoothest, with the Jacobian of the undoing.
    """
    values = means[np.isfinite(means)]
    n = len(values)
    if n < 5 * SHORTEST_EPOCH:
        return None

    def likelihood(period: int) -> float:
        undone = undo_epoch_mean(values, epoch_steps=period)
        return float(np.log(np.arange(n) % period + 1).sum() - _roughness(undone).sum())

    period = max(range(SHORTEST_EPOCH, n // 2 + 1), key=likelihood)
    rough = np.append([np.nan, np.nan], _roughness(values))[: n // period * period].reshape(-1, period)
    by_step = np.nanmean(rough - np.nanmean(rough, axis=1, keepdims=True), axis=0)
    if not by_step.any():
        return None
    follows = np.corrcoef(by_step, np.log(np.maximum(np.arange(period), 1)))[0, 1]
    return period if follows * np.sqrt((period - 2) / (1 - follows**2)) < SAWTOOTH else None


def _running(means: Floats, weights: Floats) -> Floats:
    """The losses behind a running mean for each weight, (n_weights, n)."""
    with np.errstate(invalid="ignore", over="ignore"):
        later = (means[1:] - (1 - weights[:, None]) * means[:-1]) / weights[:, None]
    return np.concatenate([np.tile(means[:1], (len(weights), 1)), later], axis=1)


def _rounding(means: Floats) -> Floats:
    """A bound on the rounding error of a step's mean, (n,)."""
    return 8 * np.finfo(np.float64).eps * np.maximum(np.abs(means), np.abs(np.append(0.0, means[:-1])))


def _on_grid(losses: Floats, rounding: Floats) -> NDArray[np.bool_]:
    """Whether each row of losses (k, n), known up to a rounding error, consists of float32 numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = losses.astype(np.float32)
        spacing = np.spacing(np.abs(nearest)).astype(np.float64)
        telling = np.isfinite(losses) & np.isfinite(spacing) & (rounding < OFF_GRID * spacing)
        off = telling & (np.abs(losses - nearest) > OFF_GRID * spacing)
    return (telling.sum(axis=1) >= CERTAIN) & ~off.any(axis=1)


def _roughness(losses: Floats) -> Floats:
    """Logarithm of the second differences, (n - 2,): blind to a straight line."""
    return np.log(np.abs(np.diff(losses, 2)) + 1e-12)
