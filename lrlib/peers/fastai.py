"""lrlib's suggestion inside fastai's own finder: learn.lr_find(suggest_funcs=suggest_lr). fastai is not imported."""

from typing import Any

import numpy as np

from lrlib import suggest
from lrlib.peers.undoing import undo_corrected_mean_from_the_middle


def suggest_lr(lrs: Any, losses: Any, num_it: int, *, beta: float = 0.98) -> tuple[float, tuple[float, float]]:
    """A suggestion method for fastai's lr_find: what lrlib.suggest.suggest_lr reads from the raw losses.

    lr_find hands over the tensors lrs and losses without their first num_it // 10 steps and last five; the losses are a
    mean, with its Recorder's beta, which is undone. lrlib.read(learn) reads the whole sweep.
    Returns the rate and the point of fastai's plot that marks it, (lr, loss on its curve).
    """
    lr, kept = (np.array(values.tolist(), dtype=np.float64) for values in (lrs, losses))
    raw = undo_corrected_mean_from_the_middle(kept, beta=beta, first_step=num_it // 10 + 1)
    found = suggest.suggest_lr(lr[1:], raw).lr
    return found, (found, float(np.interp(np.log(found), np.log(lr), kept)))
