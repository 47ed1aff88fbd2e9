"""When a sweep has to stop."""

import math

from lrlib.finder.result import Settings


class Watch:
    """Says when a sweep has to stop."""

    def __init__(self, settings: Settings) -> None:
        self.weight = settings.smooth_f or 1.0
        self.diverge_th = settings.diverge_th
        self.mean, self.n = 0.0, 0
        self.first = self.best = math.nan

    def stop_reason(self, loss: float, lr: float) -> str | None:
        """None to go on."""
        if not math.isfinite(loss):
            return f"the loss was {loss} at lr {lr:.3g}"
        self.n += 1
        self.mean += self.weight * (loss - self.mean)
        corrected = self.mean / (1 - (1 - self.weight) ** self.n)
        if self.n == 1:
            self.first = self.best = corrected
        self.best = min(self.best, corrected)
        margin = max(abs(self.best), (self.first - self.best) / 10)
        if corrected > self.best + (self.diverge_th - 1) * margin:
            return f"the loss diverged at lr {lr:.3g}: its running mean went from {self.best:.3g} to {corrected:.3g}"
        return None
