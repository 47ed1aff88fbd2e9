"""The report's figures, one function each: tables in, a matplotlib figure and what it draws out.

Each returns (figure, data): data is the tidy DataFrame that was drawn. Lines are means over seeds, bands reach from
the least to the largest seed; data.attrs["seeds"] says where the values of each seed are. An artist's gid names the
series that it belongs to. Colours are Okabe and Ito's, told apart also by colour-blind readers; all colours here are for
whoever shows the figure to exchange. Drawn at its own size no type is below 7 points.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from lrlib.report.colors import AUTHOR_COLOR, COLORS
from lrlib.study.drawing import (
    AUTHOR,
    NARROW,
    count_steps_per_epoch,
    draw_line,
    draw_line_of_author,
    label_axes,
    limit_loss,
    log_rates,
    open_panels,
    pick_runs,
    plain_numbers,
    point_to_seeds,
    tidy,
)
from lrlib.study.rows import require_one_problem
from lrlib.study.statistics import estimate_accuracy
from lrlib.suggest import TurningPoints

N_BINS = 180  # points of a curve over steps: what a figure can show


def draw_range_test(epochs: pd.DataFrame, steps: pd.DataFrame, label: str) -> tuple[Figure, pd.DataFrame]:
    """Figure 1 of the author: test and training loss of a range test over its steps."""
    epochs, steps = pick_runs(epochs, [label]), pick_runs(steps, [label])
    steps_per_epoch = count_steps_per_epoch(epochs, steps)
    test = epochs.assign(step=epochs["epoch"] * steps_per_epoch, split="test", loss=epochs["test_loss"])
    train = bin_steps(steps).assign(split="train")
    with open_panels(2) as (figure, (left, right)):
        draw_line(left, test, x="step", y="loss", marker="o", markersize=4)
        draw_line(right, train, x="step", y="loss")
        label_axes(left, "(a) test", x="step", y="loss")
        label_axes(right, "(b) training", x="step", y="loss")
        for axes in (left, right):
            limit_loss(axes, train["loss"])
            axes.get_legend().remove()
    data = tidy([test, train], ["split", "run", "seed", "step", "loss"])
    return figure, point_to_seeds(data, [("step", "loss", {"split": split}) for split in ("test", "train")])


def draw_sweep(
    steps: pd.DataFrame, label: str, smoothed: npt.NDArray[np.float64], points: Sequence[TurningPoints]
) -> tuple[Figure, pd.DataFrame]:
    """Figure 2 of the author: the learning rate over the steps, and the loss over the learning rate.

    smoothed: (n_steps,) of one seed each, in a list; points: the TurningPoints of each seed; their medians are marked.
    """
    steps = pick_runs(steps, [label]).assign(smoothed=np.concatenate(smoothed))
    binned = bin_steps(steps, ["lr", "loss", "smoothed"])
    with open_panels(2) as (figure, (left, right)):
        draw_line(left, binned.query("seed == 0"), x="step", y="lr")
        left.get_legend().remove()
        label_axes(left, "(a)", x="step", y="learning rate")
        for _, group in binned.groupby("seed"):
            right.plot(
                group["lr"],
                group["loss"],
                color=AUTHOR_COLOR,
                linewidth=0.6,
                alpha=0.6,
                gid="not smoothed",
            )
        draw_line(right, binned, x="lr", y="smoothed", name="smoothed")
        log_rates(right)
        right.get_legend().remove()
        limit_loss(right, binned["loss"])
        marks = {
            "start of fall": np.median([p.start_of_fall for p in points]),
            "lowest": np.median([p.lowest for p in points]),
        }
        for (name, lr), color in zip(marks.items(), COLORS[1:]):
            right.axvline(lr, color=color, linestyle="--", linewidth=1.2)
            right.annotate(
                f"{name}\n{lr:.2g}",
                (lr, 0.3),
                xycoords=("data", "axes fraction"),
                xytext=(-4, 0),  # left of its line, since right of the lowest the loss rises steeply
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8,
                color=color,
            )
        label_axes(right, "(b)", x="learning rate", y="training loss")
    return figure, tidy([binned], ["run", "seed", "step", "lr", "loss", "smoothed"])


def draw_sweeps(steps: pd.DataFrame, labels: Sequence[str]) -> tuple[Figure, pd.DataFrame]:
    """Range tests beside each other: training loss over the learning rate."""
    binned = bin_steps(pick_runs(steps, labels), ["lr", "loss"])
    with open_panels(1, width=NARROW) as (figure, (axes,)):
        draw_line(axes, binned, x="lr", y="loss")
        log_rates(axes)
        limit_loss(axes, binned["loss"])
        axes.legend(title=None)
        label_axes(axes, "", x="learning rate", y="training loss")
    return figure, point_to_seeds(tidy([binned], ["run", "seed", "step", "lr", "loss"]), [("lr", "loss", {})])


def draw_losses(
    epochs: pd.DataFrame,
    steps: pd.DataFrame,
    labels: Sequence[str],
    *,
    author_curve: pd.DataFrame | None = None,
    author_label: str = AUTHOR,
) -> tuple[Figure, pd.DataFrame]:
    """Figures 3 and 4 of the author: test loss over the epochs and training loss over the steps, of several runs.

    author_curve: epoch, test_loss and train_loss of the author's, laid over both, called author_label; an epoch's mean
    training loss stands in the middle of its steps.
    """
    epochs, steps = pick_runs(epochs, labels), pick_runs(steps, labels)
    binned, steps_per_epoch = bin_steps(steps), count_steps_per_epoch(epochs, steps)
    with open_panels(2) as (figure, (left, right)):
        draw_line(left, epochs, x="epoch", y="test_loss")
        if author_curve is not None:
            author_curve = author_curve.assign(step=(author_curve["epoch"] - 0.5) * steps_per_epoch)
            draw_line_of_author(left, author_curve, "epoch", "test_loss", label=author_label)
        draw_line(right, binned, x="step", y="loss", linewidth=1.0)
        if author_curve is not None:
            draw_line_of_author(right, author_curve, "step", "train_loss", name=author_label)
        for axes in (left, right):
            axes.set_yscale("log")
            plain_numbers(axes.yaxis)
        right.get_legend().remove()
        left.legend(title=None)
        label_axes(left, "(a) test", x="epoch", y="loss")
        label_axes(right, "(b) training", x="step", y="loss")
    test = epochs.assign(split="test", loss=epochs["test_loss"])
    parts = [test, binned.assign(split="train")]
    if author_curve is not None:
        for split in ("test", "train"):
            parts.append(author_curve.assign(run=author_label, split=split, loss=author_curve[f"{split}_loss"]))
    data = tidy(parts, ["split", "run", "seed", "epoch", "step", "loss"])
    seeds = [("epoch", "loss", {"split": "test"}), ("step", "loss", {"split": "train"})]
    return figure, point_to_seeds(data, seeds)


def draw_schedules(
    epochs: pd.DataFrame, steps: pd.DataFrame, labels: Sequence[str], author_curves: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Figure 5 of the author: the learning rates of two schedules, and their test losses, beside the author's.

    author_curves: the author's, whose runs are called as labels begin; their lr, at the end of each epoch, as dots.
    """
    epochs = pick_runs(epochs, labels)
    steps = pick_runs(steps, labels).query("seed == 0")
    binned = bin_steps(steps, ["lr", "momentum"])
    theirs = author_curves.assign(step=author_curves["epoch"] * count_steps_per_epoch(epochs, steps))
    with open_panels(2) as (figure, (left, right)):
        draw_line(left, binned, x="step", y="lr")
        draw_line(right, epochs, x="epoch", y="test_loss")
        for label, color in zip(labels, COLORS):
            name = label.split()[0]
            curve = theirs[theirs["run"] == name]
            left.plot(curve["step"], curve["lr"], "o", color=color, markersize=2.5, gid=f"{AUTHOR}, {name}")
            draw_line_of_author(right, curve, "epoch", "test_loss", label=f"{AUTHOR}, {name}", color=color)
        right.set_yscale("log")
        plain_numbers(right.yaxis)
        left.get_legend().remove()
        right.legend(title=None)
        label_axes(left, "(a)", x="step", y="learning rate")
        label_axes(right, "(b)", x="epoch", y="test loss")
    theirs = theirs.assign(run=AUTHOR + ", " + theirs["run"])
    data = tidy([binned, epochs, theirs], ["run", "seed", "step", "epoch", "lr", "momentum", "test_loss"])
    return figure, point_to_seeds(data, [None, ("epoch", "test_loss", {})])


def draw_accuracies(
    epochs: pd.DataFrame, labels: Sequence[str], author_accuracies: Mapping[str, float]
) -> tuple[Figure, pd.DataFrame]:
    """The last test accuracy of every seed, the mean with its interval, and the author's, in percent.

    author_accuracies: name -> fraction; a label's is the one whose name it begins with.
    """
    last = pick_runs(epochs, labels)
    last = last[last["epoch"] == last["epoch"].max()].assign(percent=lambda frame: 100 * frame["test_accuracy"])
    with open_panels(1, height=1.5, width=NARROW) as (figure, (axes,)):
        for row, (label, color) in enumerate(zip(labels, COLORS)):
            seeds = last[last["run"] == label]
            found = estimate_accuracy(seeds["test_accuracy"].to_numpy(), int(seeds["n_test"].iloc[0]))
            axes.plot([100 * found.low, 100 * found.high], [row, row], color=color, linewidth=1.2, gid=label)
            axes.plot(seeds["percent"], [row] * len(seeds), "o", color=color, markersize=3.5, alpha=0.6, gid=label)
            axes.plot(100 * found.mean, row, "|", color=color, markersize=14, markeredgewidth=2, gid=label)
            theirs = 100 * author_accuracies[label.split()[0]]
            author_label = AUTHOR if row == 0 else None
            axes.plot(theirs, row, "D", color=AUTHOR_COLOR, markersize=5, label=author_label, gid=AUTHOR)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
        label_axes(axes, "", x="test accuracy, %", y="")
    return figure, tidy([last], ["run", "seed", "epoch", "test_accuracy"])


def bin_steps(steps: pd.DataFrame, columns: Sequence[str] = ("loss",)) -> pd.DataFrame:
    """Means over neighbouring steps, so that each run and seed keeps at most N_BINS rows.

    Where a run diverged the rows after it are left out.
    """
    width = max(1, -(-require_one_problem(steps).groupby(["run", "seed"], sort=False).size().max() // N_BINS))
    finite = steps[np.isfinite(steps["loss"])]
    grouped = finite.groupby(["run", "seed", finite["step"] // width], sort=False)
    return grouped[["step", *columns]].mean().reset_index(["run", "seed"]).reset_index(drop=True)
