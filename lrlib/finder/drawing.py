"""Drawing range tests on matplotlib axes; nothing here computes a suggestion."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrlib.suggest import Suggestion

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_range_test(
    ax: "Axes",
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    median: "pd.DataFrame",
    suggestions: Sequence[Suggestion] = (),
) -> None:
    """Draw every sweep's losses, their smoothed median and band, and the suggestions as marks.

    curves: learning rates and losses, each float64 (n,), a pair a sweep. median: `RangeTestResult.median_curve`'s.
    suggestions: each is a line at its lr, the first one's range from lower to upper is shaded.
    """
    for lr, loss in curves:
        ax.plot(lr, loss, color="0.6", linewidth=0.6, alpha=0.7, zorder=1)
    ax.plot(median.lr, median.median_loss, color="C0", linewidth=1.8, label="smoothed median", zorder=3)
    if len(curves) > 1:
        ax.fill_between(
            median.lr, median.least, median.greatest, color="C0", alpha=0.2, linewidth=0, label="all sweeps", zorder=2
        )
    for i, suggestion in enumerate(suggestions):
        doubt = "" if suggestion.reliable else ", not reliable"
        label = f"{suggestion.heuristic}: lr = {suggestion.lr:.2g}{doubt}"
        ax.axvline(
            suggestion.lr, color=f"C{i + 1}", linestyle="-" if suggestion.reliable else "--", label=label, zorder=4
        )
    for suggestion in suggestions[:1]:
        ax.axvspan(
            suggestion.lower, suggestion.upper, color="C1", alpha=0.12, linewidth=0, label="lower to upper", zorder=0
        )


def plot_medians(ax: "Axes", curves: "Mapping[str, pd.DataFrame]") -> None:
    """Draw the smoothed medians of several range tests in one plot. curves: what each is called -> its `median_curve`."""
    for i, (label, curve) in enumerate(curves.items()):
        ax.plot(curve.lr, curve.median_loss, color=f"C{i}", label=label)
        ax.fill_between(curve.lr, curve.least, curve.greatest, color=f"C{i}", alpha=0.15, linewidth=0)


def finish(ax: "Axes", curves: "Sequence[pd.DataFrame]", *, objective: str, log: bool) -> "Axes":
    """Scale, frame and name the axes of smoothed medians. objective: what was measured, in words. Returns ax."""
    if log:
        ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel(objective)
    levels = np.concatenate([curve.median_loss.to_numpy() for curve in curves])
    levels = levels[np.isfinite(levels)]
    if len(levels):
        # The smoothed curve is drawn in at the height of its explosion, so it gives the frame; raw losses may leave it.
        margin = 0.05 * (np.ptp(levels) or abs(levels[0]) or 1.0)
        ax.set_ylim(levels.min() - margin, levels.max() + margin)
    ax.legend(fontsize="small")
    return ax
