"""Panels, lines and axes of the report's figures."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from lrlib.report.page.figures import GRID, INK, PAPER

NARROW = 4.4  # inches: of a single panel, which stays legible on a phone
N_BINS = 180  # points of a curve over steps

STYLE: dict[Any, Any] = {
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "figure.facecolor": PAPER,
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
STYLE |= dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK)
STYLE |= dict.fromkeys(("axes.spines.right", "axes.spines.top"), False)
STYLE |= dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), 8)


@contextlib.contextmanager
def open_panels(
    n: int, height: float = 2.7, width: float = 6.2, heights: Sequence[float] = (1,)
) -> Iterator[tuple[Figure, Any]]:
    """A figure of n panels beside each other, and the panels, in the report's style; heights: relative, of its rows."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(len(heights), n, height_ratios=heights, squeeze=False).ravel()


def draw_median(axes: Axes, data: pd.DataFrame, x: str, y: str, name: str, color: str, **style: Any) -> None:
    """The median over seeds as a line, with a band from their min to their max.

    data: a row per seed and x; a value that is not finite counts as infinite. name: of the series, in the legend.
    """
    by_x = data.assign(**{y: data[y].fillna(np.inf)}).groupby(x)[y]
    line = by_x.median().replace(np.inf, np.nan)
    axes.plot(line.index, line, color=color, label=name, **style)
    if data["seed"].nunique() > 1:
        top = by_x.max().replace(np.inf, 1e9)
        axes.fill_between(line.index, by_x.min(), top, color=color, alpha=0.2, linewidth=0, gid=name)


def swarm(values: np.ndarray, width: float, height: float = 0.3) -> np.ndarray:
    """Offsets (n,) that spread values closer than `width` across their row, from -height to height."""
    bins = np.round(np.asarray(values) / width).astype(int)
    offsets = np.zeros(len(bins))
    for place in np.unique(bins):
        (inside,) = np.nonzero(bins == place)
        offsets[inside] = np.arange(len(inside)) - (len(inside) - 1) / 2
    return offsets * min(0.09, height / max(1.0, float(np.abs(offsets).max())))


def add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for the figure, above its panels."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    for columns in range(min(4 if max(map(len, found)) < 16 else 3, len(found)), 0, -1):
        legend = figure.legend(list(found.values()), list(found), loc="outside upper left", ncols=columns)  # type: ignore[call-overload]
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def log_axis(axes: Axes, which: str, minor: bool = False) -> None:
    """A logarithmic x or y axis with plain numbers such as 0.01, at 2 and 5 too with `minor`."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: plain(value))
    if minor:
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter(lambda value, _: plain(value))
        axis.set_tick_params(which="minor", labelsize=7.5)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Rows from the top, with their names in place of numbers."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def plain(value: float) -> str:
    """A number as people write it: 0.01, 1e-6."""
    return f"{value:g}".replace("e-0", "e-")


def bin_steps(steps: pd.DataFrame) -> pd.DataFrame:
    """Means over neighbouring steps, so that each run and seed keeps at most N_BINS rows.

    steps: run, seed, step, lr and loss, and smoothed if it is wanted. The loss of a bin in which a run diverged is NaN;
    the learning rate is that of the first seed, because in others it differs by rounding.
    """
    width = -(-int(steps["step"].max() + 1) // N_BINS)
    columns = [name for name in ("step", "lr", "loss", "smoothed") if name in steps]
    finite = steps.assign(loss=steps["loss"].where(np.isfinite(steps["loss"])))
    grouped = finite.groupby(["run", "seed", steps["step"] // width], sort=False)
    means = grouped[columns].mean()
    means["loss"] = means["loss"].where(grouped["loss"].count() == grouped.size())
    means = means.reset_index(["run", "seed"]).reset_index(drop=True)
    return means.assign(lr=means.groupby(["run", "step"])["lr"].transform("first"))
