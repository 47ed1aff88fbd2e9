"""The report's figures: tables in; a matplotlib figure, and the tidy DataFrame that it shows, out.

Lines are medians over seeds, bands their min and max. Dotted lines are the original's.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lrlib.report.page.figures import AUTHOR_COLOR, COLORS, INK
from lrlib.reproduction import drawing
from lrlib.reproduction.claims import RULES, Verdict, find_region
from lrlib.reproduction.readings import count_diverged, select_run
from lrlib.reproduction.statistics import estimate_mean, predict_one
from lrlib.runs.plan import Run, plan_epochs

Drawn = tuple[Figure, pd.DataFrame]
ORIGINAL = "original"


def draw_schedules(runs: Sequence[Run]) -> Drawn:
    """Learning rate and momentum over the steps of the runs with seed 0; it needs no training."""
    frames = []
    with drawing.open_panels(2, height=1.6) as (figure, panels):
        styles = itertools.product(("-", "--", ":"), COLORS)
        for run, (style, color) in zip((run for run in runs if run.seed == 0), styles, strict=False):
            chain = plan_epochs(run)
            columns = {name: np.concatenate([getattr(epoch, name) for epoch in chain]) for name in ("lr", "momentum")}
            data = pd.DataFrame(columns).rename_axis("step").reset_index().assign(run=run.label)
            frames.append(data.iloc[:: max(1, len(data) // 1000)])
            for axes, column in zip(panels, columns, strict=True):
                axes.plot(frames[-1]["step"], frames[-1][column], color=color, linestyle=style, label=run.label)
        drawing.log_axis(panels[0], "y")
        panels[0].set(title="(a)", xlabel="step", ylabel="learning rate")
        panels[1].set(title="(b)", xlabel="step", ylabel="momentum")
        drawing.add_legend(figure, panels)
    return figure, _tidy(frames, ["run", "step", "lr", "momentum"])


def draw_range_test(
    epochs: pd.DataFrame, steps: pd.DataFrame, label: str, originals: Mapping[str, pd.DataFrame]
) -> Drawn:
    """The original's Figure 1: test loss after each epoch and training loss at each step of a range test.

    originals: name -> step and test_loss of a curve of the original.
    """
    steps, test = select_run(steps, label), select_run(count_diverged(epochs), label)
    binned, lr = drawing.bin_steps(steps), np.log10(steps.query("seed == 0")["lr"].to_numpy())
    test = test.assign(step=test["epoch"] * (len(lr) // test["epoch"].max()), loss=test["test_loss"])
    slope = (lr[-1] - lr[0]) / (len(lr) - 1)
    with drawing.open_panels(2, height=2.9) as (figure, panels):
        for axes, frame, title in zip(panels, (test, binned), ("(a) test", "(b) training"), strict=True):
            drawing.draw_median(axes, frame, "step", "loss", "reproduction", COLORS[0])
            axes.set(title=title, xlabel="step", ylabel="loss", ylim=(0, 1.4 * binned["loss"].iloc[0]))
            above = axes.secondary_xaxis("top", functions=(lambda s: lr[0] + slope * s, lambda x: (x - lr[0]) / slope))
            decades = np.arange(np.ceil(lr[0]), lr[-1] + 0.1, 2)
            above.set_xticks(decades, [drawing.plain(10**x) for x in decades])
            above.set_xlabel("learning rate")
        theirs = _draw_originals(panels[0], originals, "step", "test_loss")
        drawing.add_legend(figure, panels)
    data = [test.assign(split="test"), binned.assign(split="train"), *theirs]
    return figure, _tidy(data, ["split", "run", "seed", "step", "loss"])


def draw_sweep(
    steps: pd.DataFrame, smoothed: Sequence[np.ndarray], turning: pd.DataFrame, originals: Mapping[str, pd.DataFrame]
) -> Drawn:
    """The original's Figure 2(b): the loss of a range test over the learning rate, with its turning points.

    Args:
        steps: of one run.
        smoothed: loss of each seed.
        turning: learning rates, a row per seed and a column per turning point.
        originals: name -> lr and train_loss of points of the original.
    """
    binned = drawing.bin_steps(steps.assign(smoothed=np.concatenate(smoothed)))
    with drawing.open_panels(1, height=3.0, width=drawing.NARROW + 0.6) as (figure, (axes,)):
        raw = binned.query("seed == 0")
        axes.plot(raw["lr"], raw["loss"], color=AUTHOR_COLOR, linewidth=0.6, label="seed 0, binned")
        drawing.draw_median(axes, binned, "lr", "smoothed", "reproduction, smoothed", COLORS[0])
        for (name, lrs), color in zip(turning.items(), COLORS[1:], strict=False):
            axes.axvspan(lrs.min(), lrs.max(), color=color, alpha=0.2, linewidth=0)
            axes.axvline(lrs.median(), color=color, linestyle="--", linewidth=1.2)
            axes.annotate(
                f"{name}\n{lrs.median():.2g}", (lrs.median(), 0.3), xycoords=("data", "axes fraction"),
                xytext=(-4, 0), textcoords="offset points", ha="right", va="center", fontsize=8, color=color,
            )  # fmt: skip
        theirs = _draw_originals(axes, originals, "lr", "train_loss")
        drawing.log_axis(axes, "x")
        axes.set(xlabel="learning rate", ylabel="training loss", ylim=(0, 1.4 * binned["loss"].iloc[0]))
        drawing.add_legend(figure, [axes])
    return figure, _tidy([binned, *theirs], ["run", "seed", "step", "lr", "loss", "smoothed"])


def draw_losses(
    epochs: pd.DataFrame,
    labels: Sequence[str],
    originals: Mapping[str, pd.DataFrame],
    *,
    steps: pd.DataFrame | None = None,
) -> Drawn:
    """The original's Figures 3, 4 and 5(b): test loss over the epochs, beside the training loss or the last epochs.

    labels: the runs. originals: name -> epoch and test_loss of a curve of the original; one that has a run's label has
    its colour. steps: of the runs, for (b) the training loss; without them (b) is the test loss of the last ten epochs.
    """
    test = count_diverged(epochs[epochs["run"].isin(labels)])
    colors = dict(zip(labels, COLORS * 9, strict=False))
    data = [test.assign(split="test", loss=test["test_loss"])]
    with drawing.open_panels(2, height=2.8) as (figure, (left, right)):
        for axes in (left, right) if steps is None else (left,):
            for label, color in colors.items():
                drawing.draw_median(axes, select_run(test, label), "epoch", "test_loss", label, color)
            theirs = _draw_originals(axes, originals, "epoch", "test_loss", colors)
            axes.set(title="(a)", xlabel="epoch", ylabel="test loss")
        for label, color in colors.items():
            median = select_run(test, label).groupby("epoch")["test_loss"].median()
            left.plot(median.idxmin(), median.min(), "v", color=color, markersize=5)
        drawing.log_axis(left, "y", minor=True)
        if steps is None:
            shown = test[test["epoch"] > test["epoch"].max() - 10]
            low, high = shown["test_loss"].min(), shown.groupby(["run", "epoch"])["test_loss"].median().max()
            ends = (low - 0.1 * (high - low) - 1e-6, high + 0.3 * (high - low) + 1e-6)
            right.set(title="(b) last 10 epochs", ylim=ends)
            right.set_xlim(shown["epoch"].min() - 0.2, shown["epoch"].max() + 0.2)
        else:
            binned = drawing.bin_steps(steps[steps["run"].isin(labels)])
            data.append(binned.assign(split="train"))
            for label, color in colors.items():
                drawing.draw_median(right, select_run(binned, label), "step", "loss", label, color, linewidth=1.0)
            drawing.log_axis(right, "y", minor=True)
            right.set(title="(b)", xlabel="step", ylabel="training loss")
        drawing.add_legend(figure, (left, right))
    return figure, _tidy([*data, *theirs], ["split", "run", "seed", "epoch", "step", "loss"])


def draw_seeds(values: Mapping[str, np.ndarray], unit: str, *, originals: Mapping[str, float] | None = None) -> Drawn:
    """A row per name: a dot a seed, the mean, and its 95 % confidence interval.

    Args:
        values: name -> (n_seeds,).
        unit: what they are, for the axis.
        originals: name -> the original's one seed. With them the interval is the prediction of one seed; without them
            values are differences, and zero is marked.
    """
    spread = np.ptp(np.concatenate([*values.values(), [0.0] if originals is None else []])) or 1.0
    said = "95 % confidence interval" if originals is None else "95 % prediction interval of one seed"
    with drawing.open_panels(1, height=0.9 + 0.36 * len(values), width=drawing.NARROW + 1) as (figure, (axes,)):
        for row, ((name, own), color) in enumerate(zip(values.items(), COLORS * 9, strict=False)):
            found = estimate_mean(own)
            ends = (found.low, found.high) if originals is None else predict_one(own)
            axes.plot(ends, [row, row], color=INK, linewidth=1.6, label=said)
            axes.plot(own, row + drawing.swarm(own, spread / 60), "o", color=color, markersize=3.2, alpha=0.6, gid=name)
            axes.plot(found.mean, row, "|", color=INK, markersize=16, label="mean")
            if originals and name in originals:
                axes.plot(originals[name], row, "D", color=AUTHOR_COLOR, label=f"{ORIGINAL}, one seed", gid=ORIGINAL)
        if originals is None:
            axes.axvline(0, color=INK, linewidth=1)
        drawing.name_rows(axes, list(values))
        axes.set_xlabel(unit)
        drawing.add_legend(figure, [axes])
    rows: list[tuple] = [(name, seed, value) for name, own in values.items() for seed, value in enumerate(own)]
    rows += [(f"{ORIGINAL}, {name}", None, value) for name, value in (originals or {}).items()]
    return figure, pd.DataFrame(rows, columns=["run", "seed", unit])


def draw_forest(verdicts: Sequence[Verdict]) -> Drawn:
    """The estimate of each claim with its 95 % confidence interval, and the region in which it counts as reproduced.

    All numbers are in percent or points.
    """
    scales = {"": "share of seeds, %", "%": "loss or roughness, %", "points": "accuracy, points"}
    rows = []
    for verdict in verdicts:
        scale = scales[RULES[verdict.id].get("unit", "").replace("log ratio", "%")]
        for name, found in verdict.estimates.items():
            numbers = 100 * np.array([found.mean, found.low, found.high, *find_region(RULES[verdict.id])])
            rows.append((scale, f"{verdict.id} {name}".strip(), found.n, *numbers))
    data = pd.DataFrame(rows, columns=["scale", "claim", "n", "estimate", "low", "high", "from", "to"])
    parts = [data[data["scale"] == scale] for scale in scales.values() if scale in set(data["scale"])]
    heights = [len(part) for part in parts]
    height = 0.3 + 0.18 * sum(heights) + 0.36 * len(parts)
    with drawing.open_panels(1, height=height, width=drawing.NARROW + 1, heights=heights) as (figure, panels):
        for axes, part in zip(panels, parts, strict=True):
            for row, each in enumerate(part.itertuples()):
                axes.plot([each.low, each.high], [row, row], color=INK, linewidth=1.4)
                axes.plot(each.estimate, row, "o", color=COLORS[0], markersize=4.5, clip_on=False, gid="estimate")
            is_share = part["scale"].iloc[0] == scales[""]
            axes.set_xlim((0, 100) if is_share else axes.get_xlim())
            low, high = part[["from", "to"]].clip(*axes.get_xlim()).to_numpy().T
            axes.barh(range(len(part)), high - low, left=low, color=COLORS[2], alpha=0.18, linewidth=0)
            axes.axvline(50 if is_share else 0, color=INK, linewidth=0.8)
            drawing.name_rows(axes, list(part["claim"]))
            axes.set_xlabel(part["scale"].iloc[0])
    return figure, data


def _draw_originals(axes, originals, x, y, colors=None):
    """Curves of the original: dotted, with a small mark for each point; missing points break them. Returns the data."""
    rows = []
    for name, curve in originals.items():
        label, color = ", ".join(filter(None, (ORIGINAL, name))), (colors or {}).get(name, INK)
        axes.plot(curve[x], curve[y], color=color, label=label, linestyle=(0, (1, 1.2)), marker=".", markersize=3.5)
        rows.append(curve.assign(run=label, split="test", loss=curve[y]))
    return rows


def _tidy(parts, columns):
    frame = pd.concat([part.reindex(columns=columns) for part in parts], ignore_index=True)
    return frame.dropna(axis="columns", how="all")
