"""Pictures of range tests: on matplotlib axes, in notebooks and in experiment trackers."""

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrlib.extras import need
from lrlib.finder.refine import read_hold
from lrlib.suggest import Suggestion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrlib.finder.result import RangeTestResult


def draw_range_test(ax: "Axes | None", result: "RangeTestResult", marks: "Sequence[Suggestion | float]") -> "Axes":
    """Draw every sweep's losses, their smoothed median and band, where they diverged, and marks. Returns the axes."""
    ax, settings, median = ax or new_axes(), result.settings, result.median_curve
    curves = [sweep.curve() for sweep in result.sweeps]
    for lr, loss in curves:
        ax.plot(lr, loss, color="0.6", linewidth=0.6, alpha=0.7, zorder=1)
    ax.plot(median.lr, median.loss, color="C0", linewidth=1.8, label="smoothed median", zorder=3)
    if len(curves) > 1:
        ax.fill_between(median.lr, median.low, median.high, color="C0", alpha=0.2, linewidth=0, label="all sweeps")
    held = [read_hold(each, result.sweeps[0], settings.hold_steps) for each in result.holds]
    if held:
        label = f"held for {settings.hold_steps} steps"
        ax.plot([each.lr for each in held], [each.loss for each in held], "o", color="C2", label=label, zorder=4)
    counted = "1 sweep" if len(curves) == 1 else f"{len(curves)} sweeps"
    frame(ax, [result], f"Range test of {settings.optimizer}: {counted} of up to {settings.num_iter} steps")
    ends = [sweep.lr[-1] for sweep in result.sweeps if sweep.diverged]
    if ends:
        top = ax.get_xaxis_transform()
        ax.plot(ends, [0.985] * len(ends), "x", color="C3", transform=top, label="diverged", zorder=4)
    for i, mark in enumerate(marks):
        if not isinstance(mark, Suggestion):
            ax.axvline(mark, color=f"C{i + 1}", label=f"lr = {mark:.2g}", zorder=4)
        elif mark.confidence == "low":
            ax.plot([], [], " ", label=f"{mark.heuristic}: nothing reliable")
        else:
            ax.axvline(mark.lr, color=f"C{i + 1}", label=f"{mark.heuristic}: lr = {mark.lr:.2g}", zorder=4)
            if i == 0:
                ax.axvspan(mark.lower, mark.upper, color="C1", alpha=0.12, linewidth=0, label="base to peak", zorder=0)
    ax.legend(fontsize="small")
    return ax


def html_of(shown: Any) -> str | None:
    """HTML of a result or an overlay: its picture and its text; None without matplotlib, for the text alone."""
    figure = _figure_of(shown)
    if figure is None:
        return None
    text, file = repr(shown), io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    alt = html.escape(text.partition("\n")[0], quote=True)
    return f'<div><img alt="{alt}" src="data:image/png;base64,{data}"><pre>{html.escape(text)}</pre></div>'


def log(result: "RangeTestResult", writer: Any) -> None:
    """Log the suggestion's lr, lower and upper, and the picture if matplotlib is installed; see RangeTestResult.log."""
    if not any(hasattr(writer, name) for name in ("add_scalar", "log_metric", "log")):
        raise TypeError(f"writer must be a SummaryWriter, mlflow or a W&B run, got {type(writer).__name__}")
    suggestion, figure = result.suggest(), _figure_of(result)
    numbers = {f"range_test/{name}": getattr(suggestion, name) for name in ("lr", "lower", "upper")}
    if hasattr(writer, "add_scalar"):  # TensorBoard
        for name, number in numbers.items():
            writer.add_scalar(name, number)
        if figure is not None:
            writer.add_figure("range_test/curves", figure)
    elif hasattr(writer, "log_metric"):  # MLflow
        writer.log_metrics(numbers)
        if figure is not None:
            writer.log_figure(figure, "range_test/curves.png")
    else:
        if figure is not None and "wandb" in (type(writer).__module__ + str(getattr(writer, "__name__", ""))):
            figure = need("wandb", what="logging").Image(figure)  # else W&B asks for plotly
        writer.log(numbers if figure is None else {**numbers, "range_test/curves": figure})


def new_axes() -> "Axes":
    """The axes of a new figure of pyplot."""
    return need("matplotlib.pyplot", what="a plot").subplots(figsize=(7, 4), layout="constrained")[1]


def _figure_of(shown: Any) -> Any:
    """A figure, apart from pyplot's, with the picture of a result or an overlay; None without matplotlib."""
    try:
        figure = need("matplotlib.figure", what="a picture").Figure(figsize=(7, 4), layout="constrained")
    except ModuleNotFoundError:
        return None
    shown.plot(figure.add_subplot())
    return figure


def frame(ax: "Axes", results: "Sequence[RangeTestResult]", title: str) -> None:
    """Scale, frame and name the axes."""
    ax.set(xscale="log", xlabel="learning rate", ylabel=results[0].objective)
    ax.set_title(title, fontsize="medium")
    levels = np.concatenate([result.median_curve.loss for result in results])
    sweeps = [sweep for result in results for sweep in result.sweeps]
    raw = np.concatenate([sweep.curve()[1] for sweep in sweeps])
    raw = raw[np.isfinite(raw)]
    if not len(raw):
        return
    low, high = raw.min(), raw.max()
    if len(levels) and any(sweep.diverged for sweep in sweeps):
        # What diverges would flatten the rest: the frame ends well above the smoothed curve.
        high = min(high, levels.max() + 0.5 * np.ptp(levels))
    margin = 0.05 * ((high - low) or abs(low) or 1.0)
    ax.set_ylim(low - margin, high + margin)
