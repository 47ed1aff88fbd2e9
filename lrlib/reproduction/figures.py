"""The report's figures: tables in; a matplotlib figure, and the tidy DataFrame that it shows, out.

Lines are medians over seeds, bands reach from the smallest to the largest seed. Dotted lines are the original's.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrlib.report.page.figures import AUTHOR_COLOR, COLORS, INK
from lrlib.reproduction.claims import RULES, Verdict
from lrlib.reproduction.drawing import (
    NARROW,
    add_legend,
    bin_steps,
    draw_median,
    draw_original,
    label_axes,
    log_axis,
    open_panels,
    plain,
    swarm,
)
from lrlib.reproduction.readings import count_diverged, select_run
from lrlib.reproduction.statistics import estimate_mean, predict_one
from lrlib.runs.plan import Run, plan_epochs
from lrlib.suggest import TurningPoints

Drawn = tuple[Figure, pd.DataFrame]
ORIGINAL = "original"


def draw_schedules(runs: Sequence[Run]) -> Drawn:
    """Learning rate and momentum of each schedule over the steps, which need no training.

    Args:
        runs: those with seed 0 are drawn.
    """
    frames = []
    for run in (run for run in runs if run.seed == 0):
        chain = plan_epochs(run)
        lr, momentum = (np.concatenate([getattr(epoch, name) for epoch in chain]) for name in ("lr", "momentum"))
        frames.append(
            pd.DataFrame({"run": run.label, "step": np.arange(1, len(lr) + 1), "lr": lr, "momentum": momentum})
        )
    data = pd.concat(frames, ignore_index=True)
    with open_panels(2, height=1.6) as (figure, panels):
        styles = itertools.product(("-", "--", ":"), COLORS)
        for (label, run), (style, color) in zip(data.groupby("run", sort=False), styles, strict=False):
            thin = run.iloc[:: max(1, len(run) // 1000)]
            for axes, column in zip(panels, ("lr", "momentum"), strict=True):
                axes.plot(thin["step"], thin[column], color=color, linestyle=style, label=label, gid=label)
        log_axis(panels[0], "y")
        label_axes(panels[0], "(a)", "step", "learning rate")
        label_axes(panels[1], "(b)", "step", "momentum")
        add_legend(figure, panels)
    return figure, data.iloc[:: max(1, len(data) // 3000)]


def draw_range_test(epochs: pd.DataFrame, steps: pd.DataFrame, label: str, original: pd.DataFrame | None) -> Drawn:
    """The original's Figure 1: test loss after each epoch and training loss at each step of a range test.

    Args:
        original: step and test_loss of the original's curve, or None.
    """
    binned, steps = bin_steps(select_run(steps, label)), select_run(steps, label)
    test = select_run(count_diverged(epochs), label)
    per_epoch = len(steps.query("seed == 0")) // test["epoch"].max()
    test = test.assign(step=test["epoch"] * per_epoch, loss=test["test_loss"])
    lr = np.log10(steps.query("seed == 0")["lr"].to_numpy())
    slope = (lr[-1] - lr[0]) / (len(lr) - 1)
    with open_panels(2, height=2.9) as (figure, panels):
        for axes, frame, title in zip(panels, (test, binned), ("(a) test", "(b) training"), strict=True):
            draw_median(axes, frame, "step", "loss", "reproduction", COLORS[0])
            axes.set_ylim(0, 1.4 * binned["loss"].iloc[0])
            label_axes(axes, title, "step", "loss")
            above = axes.secondary_xaxis("top", functions=(lambda s: lr[0] + slope * s, lambda x: (x - lr[0]) / slope))
            above.set_xticks(decades := np.arange(np.ceil(lr[0]), lr[-1] + 0.1, 2), [plain(10**x) for x in decades])
            above.set_xlabel("learning rate")
        if original is not None:
            draw_original(panels[0], original, "step", "test_loss", ORIGINAL, INK)
        add_legend(figure, panels)
    data = [test.assign(split="test"), binned.assign(split="train")]
    if original is not None:
        data.append(original.assign(run=ORIGINAL, split="test", loss=original["test_loss"]))
    return figure, _tidy(data, ["split", "run", "seed", "step", "loss"])


def draw_sweep(
    steps: pd.DataFrame,
    label: str,
    smoothed: Sequence[np.ndarray],
    points: Sequence[TurningPoints],
    original: pd.DataFrame | None,
) -> Drawn:
    """The original's Figure 2(b): the loss of a range test over the learning rate, with its turning points.

    Args:
        smoothed, points: of each seed. original: lr and train_loss of the original's points, or None.
    """
    steps = select_run(steps, label).assign(smoothed=np.concatenate(smoothed))
    binned = bin_steps(steps, ["lr", "loss", "smoothed"])
    binned["lr"] = binned.groupby("step")["lr"].transform("first")  # equal in all seeds, but for rounding
    with open_panels(1, height=3.0, width=NARROW + 0.6) as (figure, (axes,)):
        raw = binned.query("seed == 0")
        axes.plot(raw["lr"], raw["loss"], color=AUTHOR_COLOR, linewidth=0.6, label="seed 0, raw", gid="seed 0, raw")
        draw_median(axes, binned, "lr", "smoothed", "reproduction, smoothed", COLORS[0])
        for name, color in (("start_of_fall", COLORS[1]), ("lowest", COLORS[2])):
            lrs = [getattr(point, name) for point in points]
            if len(lrs) > 1:
                axes.axvspan(min(lrs), max(lrs), color=color, alpha=0.2, linewidth=0)
            median, said = float(np.median(lrs)), name.replace("_", " ")
            axes.axvline(median, color=color, linestyle="--", linewidth=1.2)
            place = {
                "xycoords": ("data", "axes fraction"),
                "textcoords": "offset points",
                "fontsize": 8,
                "color": color,
            }
            axes.annotate(f"{said}\n{median:.2g}", (median, 0.3), xytext=(-4, 0), ha="right", va="center", **place)
        if original is not None:
            draw_original(axes, original, "lr", "train_loss", "original, one point a decade", INK)
        log_axis(axes, "x")
        axes.set_ylim(0, 1.4 * binned["loss"].iloc[0])
        label_axes(axes, "", "learning rate", "training loss")
        add_legend(figure, [axes])
    data = [binned]
    if original is not None:
        data.append(original.assign(run=ORIGINAL, loss=original["train_loss"]))
    return figure, _tidy(data, ["run", "seed", "step", "lr", "loss", "smoothed"])


def draw_sweeps(steps: pd.DataFrame, labels: Sequence[str]) -> Drawn:
    """Range tests of several optimizers: training loss over the learning rate."""
    binned = bin_steps(steps[steps["run"].isin(labels)], ["lr", "loss"])
    binned["lr"] = binned.groupby(["run", "step"])["lr"].transform("first")
    with open_panels(1, width=NARROW) as (figure, (axes,)):
        for label, color in zip(labels, COLORS, strict=False):
            draw_median(axes, select_run(binned, label), "lr", "loss", label, color)
        log_axis(axes, "x")
        axes.set_ylim(0, 1.4 * binned["loss"].iloc[0])
        label_axes(axes, "", "learning rate", "training loss")
        add_legend(figure, [axes])
    return figure, _tidy([binned], ["run", "seed", "step", "lr", "loss"])


def draw_losses(
    epochs: pd.DataFrame,
    labels: Sequence[str],
    originals: Mapping[str, pd.DataFrame],
    *,
    steps: pd.DataFrame | None = None,
    last: int = 10,
) -> Drawn:
    """The original's Figures 3, 4 and 5(b): test loss over the epochs, beside the training loss or the last epochs.

    Args:
        labels: the runs. originals: name -> epoch and test_loss of a curve of the original; one that has a run's label
            has its colour.
        steps: of the runs, for (b) the training loss; without them (b) is the test loss of the `last` epochs.
    """
    test = count_diverged(epochs[epochs["run"].isin(labels)])
    binned = None if steps is None else bin_steps(steps[steps["run"].isin(labels)])
    colors = dict(zip(labels, COLORS * 9, strict=False))
    with open_panels(2, height=2.8) as (figure, panels):
        for label, color in colors.items():
            run = select_run(test, label)
            for axes in panels if binned is None else panels[:1]:
                draw_median(axes, run, "epoch", "test_loss", label, color)
            median = run.groupby("epoch")["test_loss"].median()
            panels[0].plot(median.idxmin(), median.min(), "v", color=color, markersize=5)
            if binned is not None:
                draw_median(panels[1], select_run(binned, label), "step", "loss", label, color, linewidth=1.0)
        for name, curve in originals.items():
            for axes in panels if binned is None else panels[:1]:
                draw_original(axes, curve, "epoch", "test_loss", f"{ORIGINAL}, {name}", colors.get(name, INK))
        log_axis(panels[0], "y", minor=True)
        label_axes(panels[0], "(a)", "epoch", "test loss")
        if binned is not None:
            log_axis(panels[1], "y", minor=True)
            label_axes(panels[1], "(b)", "step", "training loss")
        else:
            shown = test[test["epoch"] > test["epoch"].max() - last]
            low, high = shown["test_loss"].min(), shown.groupby(["run", "epoch"])["test_loss"].median().max()
            panels[1].set_xlim(shown["epoch"].min() - 0.2, shown["epoch"].max() + 0.2)
            panels[1].set_ylim(low - 0.1 * (high - low) - 1e-6, high + 0.3 * (high - low) + 1e-6)
            label_axes(panels[1], f"(b) last {last} epochs", "epoch", "test loss")
        add_legend(figure, panels)
    data = [test.assign(split="test", loss=test["test_loss"])]
    if binned is not None:
        data.append(binned.assign(split="train"))
    for name, curve in originals.items():
        data.append(curve.assign(run=f"{ORIGINAL}, {name}", split="test", loss=curve["test_loss"]))
    return figure, _tidy(data, ["split", "run", "seed", "epoch", "step", "loss"])


def draw_differences(differences: Mapping[str, np.ndarray], unit: str) -> Drawn:
    """Paired differences: a dot a seed, and the mean with its 95 % confidence interval, a row per comparison.

    Args:
        differences: name of a comparison -> (n_seeds,).
    """
    spread = max(np.ptp([0, *values]) for values in differences.values()) or 1.0
    with open_panels(1, height=0.8 + 0.35 * len(differences), width=NARROW + 1) as (figure, (axes,)):
        for row, ((name, values), color) in enumerate(zip(differences.items(), COLORS * 9, strict=False)):
            found = estimate_mean(values)
            axes.plot(values, row + swarm(values, spread / 60), "o", color=color, markersize=3, alpha=0.5, gid=name)
            axes.plot([found.low, found.high], [row, row], color=INK, linewidth=2.2, gid=name)
            axes.plot(found.mean, row, "d", color=INK, markersize=6, gid=name)
        axes.axvline(0, color=INK, linewidth=1)
        _name_rows(axes, list(differences))
        label_axes(axes, "", unit, "")
    rows = [(name, seed, value) for name, values in differences.items() for seed, value in enumerate(values)]
    return figure, pd.DataFrame(rows, columns=["comparison", "seed", unit])


def draw_accuracies(accuracies: Mapping[str, np.ndarray], originals: Mapping[str, float]) -> Drawn:
    """Final test accuracies in percent: a dot a seed, mean and prediction interval of one seed, and the original.

    Args:
        accuracies: name -> fractions (n_seeds,). originals: name -> fraction.
    """
    with open_panels(1, height=1.0 + 0.5 * len(accuracies), width=NARROW + 0.6) as (figure, (axes,)):
        for row, ((name, values), color) in enumerate(zip(accuracies.items(), COLORS * 9, strict=False)):
            percent = 100 * np.asarray(values)
            low, high = predict_one(percent)
            said = {"label": "95 % prediction interval of one seed"} if row == 0 else {}
            axes.plot([low, high], [row, row], color=INK, linewidth=1.2, gid="prediction", **said)
            axes.plot(percent, row + swarm(percent, 0.01), "o", color=color, markersize=3.2, alpha=0.7, gid=name)
            axes.plot(
                percent.mean(),
                row,
                "|",
                color=INK,
                markersize=16,
                gid="mean",
                **({"label": "mean"} if row == 0 else {}),
            )
            if name in originals:
                said = {"label": f"{ORIGINAL}, one seed"} if row == 0 else {}
                axes.plot(100 * originals[name], row, "D", color=AUTHOR_COLOR, markersize=6, gid=ORIGINAL, **said)
        _name_rows(axes, list(accuracies))
        label_axes(axes, "", "test accuracy, %", "")
        add_legend(figure, [axes])
    rows: list[tuple] = [(name, seed, 100 * a) for name, values in accuracies.items() for seed, a in enumerate(values)]
    rows += [(f"{ORIGINAL}, {name}", None, 100 * value) for name, value in originals.items()]
    return figure, pd.DataFrame(rows, columns=["run", "seed", "test accuracy"])


def draw_forest(verdicts: Sequence[Verdict]) -> Drawn:
    """The estimate of each claim with its 95 % confidence interval, and the region in which it counts as reproduced."""
    scales = {
        "most": ("share of seeds, %", 100),
        "%": ("loss or roughness, %", 100),
        "points": ("accuracy, points", 100),
    }
    rows = []
    for verdict in verdicts:
        rule = RULES[verdict.id]
        scale = "most" if rule["rule"] == "most" else rule.get("unit", "").replace("log ratio", "%")
        low, high = {"most": (0.5, 1.0), "equal": (-rule.get("margin", 0), rule.get("margin", 0))}.get(
            rule["rule"], (-np.inf, rule.get("margin", 0))
        )
        for name, found in verdict.estimates.items():
            rows.append((scale, f"{verdict.id} {name}".strip(), found.mean, found.low, found.high, found.n, low, high))
    columns = ["scale", "claim", "estimate", "low", "high", "n", "region low", "region high"]
    data = pd.DataFrame(rows, columns=columns)
    shown = [scale for scale in scales if (data["scale"] == scale).any()]
    heights = [int((data["scale"] == scale).sum()) for scale in shown]
    with open_panels(1, height=0.5) as (figure, (first,)):
        first.remove()
        figure.set_size_inches(6.2, 0.4 + 0.2 * sum(heights) + 0.4 * len(shown))
        panels: Any = figure.subplots(max(1, len(shown)), 1, height_ratios=heights or [1])
        for axes, scale in zip(np.atleast_1d(panels), shown, strict=False):
            part = data[data["scale"] == scale].reset_index(drop=True)
            words, factor = scales[scale]
            for row, each in part.iterrows():
                axes.plot([factor * each["low"], factor * each["high"]], [row, row], color=INK, linewidth=1.4)
                axes.plot(factor * each["estimate"], row, "o", color=COLORS[0], markersize=4.5, gid=each["claim"])
            limits = (0, 100) if scale == "most" else axes.get_xlim()
            for row, each in part.iterrows():
                region = np.clip(factor * each[["region low", "region high"]].to_numpy(float), *limits)
                axes.fill_betweenx([row - 0.4, row + 0.4], *region, color=COLORS[2], alpha=0.18, linewidth=0)
            axes.set_xlim(*limits) if scale != "most" else axes.set_xlim(0, 103)
            axes.axvline(50 if scale == "most" else 0, color=INK, linewidth=0.8)
            _name_rows(axes, list(part["claim"]))
            label_axes(axes, "", words, "")
    return figure, data


def _name_rows(axes, names):
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _tidy(parts, columns):
    frame = pd.concat([part.reindex(columns=columns) for part in parts], ignore_index=True)
    return frame.dropna(axis="columns", how="all")
