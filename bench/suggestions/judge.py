"""What a learning rate costs: regret of every choice on every cell, read off results/trainings.csv.

Regret is the percentage of the best learning rate's improvement over no training that a choice forgoes. The test loss
between two learning rates of the grid is interpolated over log lr. A loss above that of no training, and one that is
not finite, counts as no training. The best learning rate is chosen by the mean test loss over seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.suggestions.cells import CONSTANT, ONE_CYCLE, Cell, list_cells
from lrlib.reproduction.statistics import Estimate

RESULTS = Path(__file__).parent / "results"
PURPOSES = ((CONSTANT, 400), (CONSTANT, 1600), (ONE_CYCLE, 400))
COLUMNS = {  # of tables that may be missing
    "suggestions": ["cell", "seed", "rule", "schedule", "total_steps", "lr", "steps", "confidence", "spread_decades"],
    "tuning_free": ["cell", "seed", "rule", "steps", "test_loss"],
}
ROUNDS = ((13, 25), (6, 50), (3, 100), (2, 200))  # successive halving: learning rates that are left, and their steps
SWEEP_STEPS = 900  # three sweeps of 300
DEFAULTS = {"adam": 1e-3, "sgd": 0.1}
DEFAULT, LONGER = "default", "default, 900 more steps"
THREE, HALVING, HALF = "three learning rates", "successive halving", "successive halving, x 1/2"
OURS, REFINED = "suggest_lr", "suggest_lr, refine"
MAKING = "These numbers are from the making half, on which the rules were chosen. They are not a fair test of them."
Floats = npt.NDArray[np.float64]


def load(name: str) -> pd.DataFrame:
    """Return a table of results: "trainings", "sweeps", "suggestions" or "tuning_free"; empty if not measured."""
    path = RESULTS / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS[name])


def name_purpose(schedule: str, steps: int) -> str:
    """Return what tables call a training."""
    return f"{schedule}, {steps:,} steps"


@dataclass(frozen=True)
class Curve:
    """The test loss of a cell over the learning rate, for one purpose.

    Attributes:
        lrs: The grid, (n_lrs,), increasing.
        losses: Test losses, (n_lrs, n_seeds); no training where they are above it or not finite.
        start: Test loss before training, the mean over seeds.
    """

    lrs: Floats
    losses: Floats
    start: float

    @property
    def best(self) -> float:
        """The lowest mean test loss."""
        return float(self.losses.mean(1).min())

    @property
    def best_lr(self) -> float:
        """The learning rate of the lowest mean test loss."""
        return float(self.lrs[self.losses.mean(1).argmin()])

    def loss(self, lr: float) -> float:
        """Return the mean test loss at a learning rate; beyond the grid it is that of the grid's end."""
        x, y = np.log10(self.lrs), self.losses.mean(1)
        return self.start if not lr > 0 else float(np.interp(np.log10(lr), x, y))

    def regret(self, loss: float) -> float:
        """Return the regret of a test loss in percent."""
        return 100 * (min(loss, self.start) - self.best) / (self.start - self.best)


def make_curves(trainings: pd.DataFrame) -> dict[tuple[str, str, int], Curve]:
    """Return (cell, schedule, steps) -> Curve of what was trained, at each checkpoint."""
    curves = {}
    starts = trainings[trainings["steps"] == 0].groupby("cell")["test_loss"].mean()
    for key, rows in trainings[trainings["steps"] > 0].groupby(["cell", "schedule", "steps"]):
        losses = rows.pivot(index="lr", columns="seed", values="test_loss")
        start = float(starts[key[0]])
        capped = losses.fillna(np.inf).clip(upper=start)
        curves[key] = Curve(losses.index.to_numpy(dtype=float), capped.to_numpy(), start)
    return curves


def _train_losses(trainings: pd.DataFrame, cell: str, seed: int, steps: int) -> pd.Series:
    """lr -> train loss of the constant learning rates after these steps; infinity where it is not finite."""
    rows = trainings.query("cell == @cell and schedule == @CONSTANT and seed == @seed and steps == @steps")
    return rows.set_index("lr")["train_loss"].fillna(np.inf)


def halve(trainings: pd.DataFrame, cell: str, seed: int) -> tuple[float, int]:
    """Return what successive halving (Jamieson & Talwalkar 2016) chooses by the train loss, and the steps it takes."""
    left, spent, before = None, 0, 0
    for n, steps in ROUNDS:
        losses = _train_losses(trainings, cell, seed, steps)
        left = list(losses.index)[:n] if left is None else left[:n]
        spent += len(left) * (steps - before)
        left, before = list(losses.loc[left].sort_values().index), steps
    return float(left[0]), spent


def try_three(trainings: pd.DataFrame, cell: str, seed: int, lrs: tuple[float, float, float]) -> float:
    """Return the best of three learning rates by the train loss after 300 steps of each."""
    losses = _train_losses(trainings, cell, seed, SWEEP_STEPS // 3)
    nearest = [losses.index[np.abs(np.log10(losses.index / lr)).argmin()] for lr in lrs]
    return float(losses.loc[nearest].idxmin())


def choose_without_sweep(trainings: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Return the choices that need no range test, a row per cell and seed.

    Args:
        trainings: All trainings.
        families: cell -> "sgd" or "adam".

    Returns:
        Columns: cell, seed, rule, lr, steps (spent on the choice).
    """
    rows = []
    for cell, seed in trainings[["cell", "seed"]].drop_duplicates().itertuples(index=False):
        default = DEFAULTS[families[cell]]
        halved, steps = halve(trainings, cell, seed)
        three = try_three(trainings, cell, seed, (default / 10, default, default * 10))
        rows += [
            (cell, seed, DEFAULT, default, 0),
            (cell, seed, THREE, three, SWEEP_STEPS),
            (cell, seed, HALVING, halved, steps),
            (cell, seed, HALF, halved / 2, steps),
        ]
    return pd.DataFrame(rows, columns=["cell", "seed", "rule", "lr", "steps"])


def train_longer(curves: Mapping[tuple[str, str, int], Curve], families: Mapping[str, str]) -> pd.DataFrame:
    """Return the test loss of the default learning rate held for the steps of three sweeps more, a row per cell."""
    rows = []
    for cell, schedule, steps in curves:
        if schedule == CONSTANT and steps == 400 + SWEEP_STEPS:
            loss = curves[cell, schedule, steps].loss(DEFAULTS[families[cell]])
            rows.append((cell, 0, LONGER, CONSTANT, 400, loss, 0))
    return pd.DataFrame(rows, columns=["cell", "seed", "rule", "schedule", "total_steps", "loss", "steps"])


def judge(choices: pd.DataFrame, curves: Mapping[tuple[str, str, int], Curve]) -> pd.DataFrame:
    """Return what choices cost.

    Args:
        choices: Rows with cell, seed, rule, and lr or, of a training of their own, loss; where they have a schedule and
            total_steps, they are for that purpose alone.
        curves: Of `make_curves`.

    Returns:
        A row per choice and purpose: besides the columns of choices schedule, total_steps, purpose, loss, regret
        (percent), ratio (of the test loss to the best), diverged (no better than no training).
    """
    rows = []
    for choice in choices.to_dict("records"):
        for schedule, steps in PURPOSES:
            own = choice.get("schedule")
            curve = curves.get((choice["cell"], schedule, steps))
            if curve is None or (isinstance(own, str) and (own, choice["total_steps"]) != (schedule, steps)):
                continue
            loss = choice["loss"] if choice.get("loss", np.nan) == choice.get("loss") else np.nan
            loss = curve.loss(choice["lr"]) if "lr" in choice and not np.isfinite(loss) else loss
            loss = min(loss, curve.start) if np.isfinite(loss) else curve.start
            rows.append(
                choice
                | {"schedule": schedule, "total_steps": steps, "purpose": name_purpose(schedule, steps), "loss": loss}
                | {"regret": curve.regret(loss), "ratio": loss / curve.best, "diverged": loss >= curve.start}
            )
    return pd.DataFrame(rows)


def by_cell(judged: pd.DataFrame, column: str = "regret") -> pd.DataFrame:
    """Return the mean over seeds of a column: a row per cell, a column per (rule, purpose)."""
    return judged.pivot_table(index="cell", columns=["rule", "purpose"], values=column, aggfunc="mean")


def estimate(values: npt.ArrayLike, n_draws: int = 10_000) -> Estimate:
    """Return the mean over cells with its 95 % percentile bootstrap interval; values: (n_cells,)."""
    values = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).integers(len(values), size=(n_draws, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def summarize(judged: pd.DataFrame) -> pd.DataFrame:
    """Return a row per rule and purpose over the cells.

    Columns: rule, purpose, mean, low, high (regret in percent, 95 % bootstrap interval over cells), median, worst,
    worst_cell, ratio (geometric mean of loss over best loss), diverged (percent of choices), n (cells).
    """
    rows = []
    for (rule, purpose), group in judged.groupby(["rule", "purpose"], sort=False):
        cells = group.groupby("cell")[["regret", "ratio"]].mean()
        regret = cells["regret"].to_numpy()
        found = estimate(regret)
        rows.append(
            {
                "rule": rule,
                "purpose": purpose,
                "mean": found.mean,
                "low": found.low,
                "high": found.high,
                "median": np.median(regret),
                "worst": regret.max(),
                "worst_cell": cells["regret"].idxmax(),
                "ratio": float(np.exp(np.log(cells["ratio"].clip(lower=1e-9)).mean())),
                "diverged": 100 * group["diverged"].mean(),
                "n": len(cells),
            }
        )
    return pd.DataFrame(rows)


def compare(judged: pd.DataFrame, rule: str, other: str, purpose: str) -> Estimate:
    """Return the mean difference in regret, a rule less another, over the cells that have both."""
    cells = by_cell(judged)[[(rule, purpose), (other, purpose)]].dropna()
    return estimate(cells[rule, purpose] - cells[other, purpose])


def of_rule(judged: pd.DataFrame, rule: str, purpose: str) -> Estimate:
    """Return the mean regret of a rule over cells."""
    return estimate(by_cell(judged)[rule, purpose].dropna())


def gather(cells: Mapping[str, Any]) -> pd.DataFrame:
    """Return everything that was measured, judged: the rows of `judge` for all rules, with half, kind and family.

    Only cells that have both schedules and range tests are in it, so that all rules are judged on the same ones.

    Args:
        cells: name -> Cell, of the cells to judge.
    """
    trainings, suggestions, free = load("trainings"), load("suggestions"), load("tuning_free")
    names = set(cells) & set(suggestions["cell"])
    names &= {cell for cell in names if {CONSTANT, ONE_CYCLE} <= set(trainings.query("cell == @cell")["schedule"])}
    trainings, suggestions, free = (part[part["cell"].isin(names)] for part in (trainings, suggestions, free))
    families = {name: cell.family for name, cell in cells.items()}
    curves = make_curves(trainings)
    free = free.rename(columns={"test_loss": "loss", "steps": "trained"})
    longer = np.where(free["trained"] > 400, ", 900 more steps", "")
    choices = [
        choose_without_sweep(trainings, families),
        train_longer(curves, families),
        suggestions,
        free.assign(rule=free["rule"] + longer, steps=0),
    ]
    judged = judge(pd.concat([part for part in choices if len(part)], ignore_index=True), curves)
    for column in ("half", "kind", "family"):
        judged[column] = [getattr(cells[name], column) for name in judged["cell"]]
    return judged


def load_half(wanted: str) -> tuple[dict[str, Cell], pd.DataFrame, str]:
    """Return all cells by name, what was measured of the wanted half or else of the other one, and a note on it.

    The note is empty for a frozen half that was measured entirely. Raises ValueError for another word than frozen or
    making.
    """
    if wanted not in ("frozen", "making"):
        raise ValueError(f"half must be frozen or making, got {wanted!r}")
    cells = {cell.name: cell for cell in list_cells()}
    judged = gather(cells)
    half = wanted if wanted in set(judged["half"]) else str(judged["half"].iloc[0])
    of_half, n_cells = judged[judged["half"] == half], sum(cell.half == half for cell in cells.values())
    note = "" if half == "frozen" else f"{MAKING} "
    if (n := of_half["cell"].nunique()) < n_cells:
        note += f"{n} of {n_cells} {half} cells were measured."
    return cells, of_half, note.strip()


def check_targets(judged: pd.DataFrame) -> pd.DataFrame:
    """Return how each target of issue 30, set before the frozen half was trained, came out.

    Columns: choice, purpose, target, found, met ("yes" or "no"). "Not worse" is met if the 95 % interval over cells
    of the paired difference reaches 0.
    """
    rows = []
    for purpose in (name_purpose(*PURPOSES[0]), name_purpose(*PURPOSES[2])):
        part = judged[judged["purpose"] == purpose]
        refined = by_cell(part)[REFINED, purpose].dropna()
        rows.append((REFINED, purpose, "mean at most 1 %", f"{refined.mean():.1f} %", refined.mean() <= 1))
        rows.append((REFINED, purpose, "worst at most 5 %", f"{refined.max():.1f} %", refined.max() <= 5))
        found = compare(part, REFINED, HALF, purpose)
        words = f"{abs(found):.1f points} {'above' if found.mean > 0 else 'below'}"
        rows.append((REFINED, purpose, f"not worse than {HALF}", words, found.low <= 0))
        reliable = part[(part["rule"] == OURS) & (part["confidence"] != "low")]["regret"]
        words = f"{reliable.mean():.1f} % of {len(reliable)}"
        rows.append((OURS, purpose, "mean of reliable suggestions at most 1.5 %", words, reliable.mean() <= 1.5))
        for rule in (OURS, REFINED):
            high = part[(part["rule"] == rule) & (part["confidence"] == "high")]["regret"]
            words = f"{100 * (high < 5).mean():.0f} % of {len(high)}"
            rows.append((rule, purpose, "95 % of high confidence below 5 %", words, (high < 5).mean() >= 0.95))
    columns = ["choice", "purpose", "target", "found", "met"]
    return pd.DataFrame([(*row, "yes" if met else "no") for *row, met in rows], columns=columns)


def count_seeds(cells: Mapping[str, Any]) -> pd.DataFrame:
    """Return how many cells and seeds were measured: a row per half and purpose."""
    trainings, suggestions, rows = load("trainings"), load("suggestions"), []
    for half in ("making", "frozen"):
        names = [name for name, cell in cells.items() if cell.half == half]
        swept = suggestions[suggestions["cell"].isin(names)].groupby("cell")["seed"].nunique()
        for schedule, steps in PURPOSES:
            of = (
                trainings.query("cell in @names and schedule == @schedule and steps == @steps")
                .groupby("cell")["seed"]
                .nunique()
            )
            rows.append(
                {
                    "half": half,
                    "purpose": name_purpose(schedule, steps),
                    "cells": len(of),
                    "seeds": int(of.min()) if len(of) else 0,
                }
                | {"seeds of range tests": int(swept.min()) if len(swept) else 0}
            )
    return pd.DataFrame(rows)


def spread_over_seeds(judged: pd.DataFrame) -> pd.DataFrame:
    """Return how far each rule's suggestions lie apart over seeds, for constant learning rates of 400 steps.

    Columns: choice, cells, median factor, largest factor (the largest suggestion over the smallest).
    """
    part = judged[(judged["purpose"] == name_purpose(*PURPOSES[0])) & (judged["lr"] > 0)]
    lrs = part.groupby(["rule", "cell"])["lr"].agg(["min", "max", "count"])
    factors = (lrs["max"] / lrs["min"])[lrs["count"] > 1].groupby("rule")
    found = pd.DataFrame({"cells": factors.size(), "median factor": factors.median(), "largest factor": factors.max()})
    return found.sort_values("median factor").reset_index(names="choice")
