"""lrlib's suggestion in fastai's own finder: `learn.lr_find(suggest_funcs=suggest_lr)`."""

from typing import Any

import numpy as np

from lrlib import suggest
from lrlib.peers.undoing import undo_corrected_mean


def suggest_lr(lrs: Any, losses: Any, num_it: int, *, beta: float = 0.98) -> tuple[float, tuple[float, float]]:
    """Return lrlib's suggestion, as a suggestion method for fastai's `lr_find`.

    Args:
        lrs: learning rates, a tensor of shape (n,), without the sweep's first num_it // 10 steps and last five.
        losses: fastai's running mean of the losses, a tensor of shape (n,).
        num_it: steps of the sweep.
        beta: weight of the previous mean, as in fastai's Recorder.

    Returns:
        The learning rate, and the point (lr, loss) that marks it in fastai's plot.

    Example:
        >>> learn.lr_find(suggest_funcs=lrlib.peers.fastai.suggest_lr)
    """
    lr, means = (np.array(values.tolist(), dtype=np.float64) for values in (lrs, losses))
    raw = undo_corrected_mean(means, beta=beta, first_step=num_it // 10 + 1)
    found = suggest.suggest_lr(lr[1:], raw[1:]).lr  # the first loss takes the mean before it, which is not given
    return found, (found, float(np.interp(np.log(found), np.log(lr), means)))
