"""When a sweep has to stop, and whether an exception is the explosion's."""

import math

import numpy as np
import torch

from lrlib.finder.result import Settings

FIRST_STEPS = 5  # an exception before has nothing to compare itself with
# What NaN cannot bring about: these pass through, whatever the loss has done.
NEVER_THE_EXPLOSION = (NameError, ImportError, OSError, MemoryError, torch.cuda.OutOfMemoryError)


class Watch:
    """Says when a sweep has to stop."""

    def __init__(self, settings: Settings) -> None:
        assert settings.smooth_f is not None and settings.diverge_th is not None
        # What a staircase gives is a mean over steps already.
        self.weight = 1.0 if settings.step_mode == "staircase" else settings.smooth_f or 1.0
        self.diverge_th = settings.diverge_th
        self.mean = 0.0
        self.losses: list[float] = []
        self.first = self.best = math.nan

    def stop_reason(self, loss: float, lr: float) -> str | None:
        """None to go on."""
        if not math.isfinite(loss):
            return f"the loss was {loss} at lr {lr:.3g}"
        self.losses.append(loss)
        self.mean += self.weight * (loss - self.mean)
        corrected = self.mean / (1 - (1 - self.weight) ** len(self.losses))
        if len(self.losses) == 1:
            self.first = self.best = corrected
        self.best = min(self.best, corrected)
        margin = max(abs(self.best), (self.first - self.best) / 10)
        if corrected > self.best + (self.diverge_th - 1) * margin:
            return f"the loss diverged at lr {lr:.3g}: its running mean went from {self.best:.3g} to {corrected:.3g}"
        return None

    def has_risen(self) -> bool:
        """Whether the last loss is far above all before it, or the last few are above the best by more than noise."""
        if len(self.losses) <= FIRST_STEPS:
            return False
        losses = np.array(self.losses)
        before = losses[:-1]
        if losses[-1] > before.max() + 0.5 * np.ptp(before) + 0.1 * abs(before.max()):
            return True
        medians = np.median(np.lib.stride_tricks.sliding_window_view(losses, FIRST_STEPS), axis=1)
        noise = 1.4826 / math.sqrt(2) * float(np.median(np.abs(np.diff(losses))))
        best = medians.min()
        fall = max(medians[0] - best, 0.0)
        return bool(medians[-1] > best + max(5 * noise, 0.25 * fall, 0.05 * abs(best)))


def explosion_reason(err: Exception, lr: float, evidence: str) -> str:
    """The reason of a sweep that an exception has ended."""
    said = (str(err).splitlines() or [""])[0][:200]
    return f"{type(err).__name__} was raised at lr {lr:.3g}, when {evidence}: {said}"
