"""How the report's figures look: their style and colours, and the panels, lines and axes that they are drawn with."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from lrlib.report.colors import COLORS, GRID, INK, PAPER
from lrlib.study.rows import require_one_problem
from lrlib.study.words import number

AUTHOR = "author"
NARROW = 4.4  # inches: of a single panel, which is to be legible on a telephone

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "figure.facecolor": PAPER,
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@contextlib.contextmanager
def open_panels(n: int, height: float = 2.7, width: float = 6.2) -> Iterator[tuple[Figure, tuple[Any, ...]]]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, tuple(np.atleast_1d(figure.subplots(1, n)))


def pick_runs(frame: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    picked = require_one_problem(frame[frame["run"].isin(labels)])
    missing = [label for label in labels if label not in set(picked["run"])]
    if missing:
        raise ValueError(f"the results hold no run {missing[0]!r}; train it with them")
    return picked


def draw_line(axes: Axes, data: pd.DataFrame, *, x: str, y: str, name: str | None = None, **style: Any) -> None:
    """Means over seeds with their band, a line a run; name: what the series is called, the run's label by default."""
    runs, n_lines, n_bands = list(dict.fromkeys(data["run"])), len(axes.lines), len(axes.collections)
    if x == "step" or x == "lr":
        # Bins of one run stand at the same steps in every seed, but for rounding.
        data = data.assign(**{x: data[x].round(12)})
    sns.lineplot(
        data=data,
        x=x,
        y=y,
        hue="run",
        hue_order=runs,
        palette=[COLORS[i % len(COLORS)] for i in range(len(runs))],
        estimator="mean",
        errorbar=("pi", 100),
        err_kws={"linewidth": 0, "alpha": 0.2},
        ax=axes,
        **style,
    )
    lines = [line for line in axes.lines[n_lines:] if np.size(line.get_xdata())]  # others stand for the legend
    for artists in (lines, axes.collections[n_bands:]):
        for run, artist in zip(runs, artists, strict=True):
            artist.set_gid(name or run)
    _mark_divergence(axes, data, x, y, runs)


def _mark_divergence(axes, data, x, y, runs):
    """A cross where a run's last finite value stands, if it ends before the others because it diverged."""
    end = data[x].max()
    for run, color in zip(runs, itertools.cycle(COLORS)):
        for _, group in data[data["run"] == run].groupby("seed"):
            finite = group[np.isfinite(group[y])]
            if len(finite) and finite[x].iloc[-1] < 0.98 * end and x != "lr":
                axes.plot(finite[x].iloc[-1], finite[y].iloc[-1], "X", color=color, markersize=7, gid=run)


def draw_line_of_author(
    axes: Axes,
    curve: pd.DataFrame,
    x: str,
    y: str,
    *,
    label: str | None = None,
    name: str | None = None,
    color: str = INK,
) -> None:
    axes.plot(curve[x], curve[y], color=color, linestyle=(0, (2, 1.5)), linewidth=1.1, label=label, gid=name or label)


def count_steps_per_epoch(epochs: pd.DataFrame, steps: pd.DataFrame) -> int:
    one = steps[(steps["run"] == steps["run"].iloc[0]) & (steps["seed"] == steps["seed"].iloc[0])]
    return len(one) // int(epochs.loc[epochs["run"] == steps["run"].iloc[0], "epoch"].max())


def limit_loss(axes: Axes, losses: pd.Series) -> None:
    """Keep an exploded loss from pressing the rest of its curve flat."""
    start = losses.dropna().iloc[:5].mean()
    axes.set_ylim(0, min(1.05 * losses.max(), 2 * start))


def label_axes(axes: Axes, title: str, *, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def log_rates(axes: Axes) -> None:
    """A logarithmic axis of learning rates, said as the text says them: exponents would be too small to read."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_say))


def plain_numbers(axis: Axis) -> None:
    formatter = matplotlib.ticker.FuncFormatter(_say)
    axis.set_major_formatter(formatter)
    axis.set_minor_locator(matplotlib.ticker.LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(formatter)
    axis.set_tick_params(which="minor", labelsize=7.5)


def _say(value, _):
    return number(value)


def point_to_seeds(data: pd.DataFrame, panels: Sequence[Any], *, by: str = "run") -> pd.DataFrame:
    """data, with where each seed's values are: a panel's columns of x and y, and what its rows have; or None."""
    if data["seed"].nunique() > 1:
        data.attrs["seeds"] = [panel and dict(zip(("x", "y", "where"), panel), by=by) for panel in panels]
    return data


def tidy(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.concat([part.reindex(columns=columns) for part in parts], ignore_index=True)
    return frame.dropna(axis="columns", how="all")
