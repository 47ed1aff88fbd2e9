"""Drawing range tests on matplotlib axes; nothing here computes a suggestion."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrlib.suggest import Suggestion

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from lrlib.finder.result import Overlay, RangeTestResult


def plot_range_test(result: "RangeTestResult", ax: "Axes", suggestions: Sequence[Suggestion] = ()) -> "Axes":
    """Draw every sweep's losses, their smoothed median and band, and the suggestions as marks.

    suggestions: Suggestion objects; each is a line at its lr, the first one's range from lower to upper is shaded.
    Returns ax.
    """
    for sweep in result.sweeps:
        lr, loss = sweep.curve()
        ax.plot(lr, loss, color="0.6", linewidth=0.6, alpha=0.7, zorder=1)
    curve = result.median_curve()
    ax.plot(curve.lr, curve.median_loss, color="C0", linewidth=1.8, label="smoothed median", zorder=3)
    if len(result.sweeps) > 1:
        ax.fill_between(
            curve.lr, curve.least, curve.greatest, color="C0", alpha=0.2, linewidth=0, label="all sweeps", zorder=2
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
    _finish(ax, result, [curve])
    return ax


def plot_overlay(overlay: "Overlay", ax: "Axes") -> "Axes":
    """Draw the smoothed median of every result of an Overlay in one plot. Returns ax."""
    curves = []
    for i, (value, result) in enumerate(overlay.results.items()):
        curve = result.median_curve()
        curves.append(curve)
        ax.plot(curve.lr, curve.median_loss, color=f"C{i}", label=f"{overlay.parameter} = {value:g}")
        ax.fill_between(curve.lr, curve.least, curve.greatest, color=f"C{i}", alpha=0.15, linewidth=0)
    _finish(ax, result, curves)
    return ax


def _finish(ax: "Axes", result: "RangeTestResult", curves: "list[pd.DataFrame]") -> None:
    if result.settings.step_mode != "linear":
        ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel(result.objective)
    levels = np.concatenate([curve.median_loss.to_numpy() for curve in curves])
    levels = levels[np.isfinite(levels)]
    if len(levels):
        # The smoothed curve is drawn in at the height of its explosion, so it gives the frame; raw losses may leave it.
        margin = 0.05 * (np.ptp(levels) or abs(levels[0]) or 1.0)
        ax.set_ylim(levels.min() - margin, levels.max() + margin)
    ax.legend(fontsize="small")
