"""What a learning rate costs: regret of every choice on every cell, read off results/trainings.csv.

Regret is the percentage of the best learning rate's improvement over no training that a choice loses. The test loss
between two learning rates of the grid is interpolated over log lr. A loss above that of no training, and one that is
not finite, counts as no training. The best learning rate is chosen by the mean test loss over seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bench.suggestions.cells import CONSTANT, ONE_CYCLE, Cell, list_cells
from lrlib.reproduction.statistics import Estimate, number

RESULTS = Path(__file__).parent / "results"
# name -> schedule and steps of the trainings that a learning rate is chosen for
PURPOSES = {
    "constant, 400 steps": (CONSTANT, 400),
    "constant, 1,600 steps": (CONSTANT, 1600),
    "one cycle, 400 steps": (ONE_CYCLE, 400),
}
STEADY, LONG, CYCLE = PURPOSES
COLUMNS = {  # of the tables in results/, apart from sweeps
    "trainings": ["cell", "schedule", "lr", "seed", "steps", "train_loss", "test_loss"],
    "suggestions": ["cell", "seed", "rule", "schedule", "total_steps", "lr", "steps", "confidence", "spread_decades"],
    "tuning_free": ["cell", "seed", "rule", "steps", "test_loss"],
}
ROUNDS = ((13, 25), (6, 50), (3, 100), (2, 200))  # successive halving: learning rates that are left, and their steps
SEARCH_STEPS = 900  # three sweeps of 300
DEFAULTS = {"adam": 1e-3, "sgd": 0.1}
MORE_STEPS = ", 900 more steps"
DEFAULT, LONGER = "default", f"default{MORE_STEPS}"
THREE, HALVING, HALF = "three learning rates", "successive halving", "successive halving, x 1/2"
OURS, REFINED = "suggest_lr", "suggest_lr, refine"
WORDS = {  # what sentences call a rule
    REFINED: "`refine=True`",
    OURS: "`suggest_lr`",
    THREE: "three learning rates",
    HALVING: "successive halving",
    HALF: "successive halving with its choice halved",
}
HALVES = ("development", "held-out")
SMALL_REGRET = 5  # percent: what a high confidence promises
Floats = npt.NDArray[np.float64]


def load(name: str) -> pd.DataFrame:
    """Return a table of results: "trainings", "suggestions" or "tuning_free"; empty if not measured."""
    path = RESULTS / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS[name])


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
    def error(self) -> float:
        """The standard error of `best` over seeds, in percent of what it improves over no training."""
        losses = self.losses[self.losses.mean(1).argmin()]
        return float(100 * stats.sem(losses) / (self.start - self.best))

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
    losses = _train_losses(trainings, cell, seed, SEARCH_STEPS // 3)
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
            (cell, seed, THREE, three, SEARCH_STEPS),
            (cell, seed, HALVING, halved, steps),
            (cell, seed, HALF, halved / 2, steps),
        ]
    return pd.DataFrame(rows, columns=["cell", "seed", "rule", "lr", "steps"])


def train_longer(curves: Mapping[tuple[str, str, int], Curve], families: Mapping[str, str]) -> pd.DataFrame:
    """Return the test loss of the default learning rate held for the steps of three sweeps more, a row per cell."""
    rows = []
    for cell, schedule, steps in curves:
        if schedule == CONSTANT and steps == 400 + SEARCH_STEPS:
            loss = curves[cell, schedule, steps].loss(DEFAULTS[families[cell]])
            rows.append((cell, 0, LONGER, CONSTANT, 400, loss, SEARCH_STEPS))
    return pd.DataFrame(rows, columns=["cell", "seed", "rule", "schedule", "total_steps", "loss", "steps"])


def judge(choices: pd.DataFrame, curves: Mapping[tuple[str, str, int], Curve]) -> pd.DataFrame:
    """Return what choices cost.

    Args:
        choices: Rows with cell, seed, rule, and lr or, of a training of their own, loss; a schedule and total_steps
            limit a row to the purposes that have them.
        curves: Of `make_curves`.

    Returns:
        A row per choice and purpose: besides the columns of choices schedule, total_steps, purpose, loss, regret
        (percent), ratio (of the test loss to the best), diverged (no better than no training).
    """
    rows = []
    for choice in choices.to_dict("records"):
        wanted = {key: choice[key] for key in ("schedule", "total_steps") if pd.notna(choice.get(key))}
        for purpose, (schedule, steps) in PURPOSES.items():
            given = {"schedule": schedule, "total_steps": steps}
            curve = curves.get((choice["cell"], schedule, steps))
            if curve is None or not wanted.items() <= given.items():
                continue
            loss = choice["loss"] if pd.notna(choice.get("loss")) else curve.loss(choice["lr"])
            loss = min(loss, curve.start)
            costs = {"regret": curve.regret(loss), "ratio": loss / curve.best, "diverged": loss >= curve.start}
            rows.append(choice | given | {"purpose": purpose, "loss": loss} | costs)
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
    worst_cell, ratio (geometric mean of loss over best loss), diverged (percent of choices), n (cells), is_complete
    (all cells have it: means of a rule that has not are of other cells).
    """
    rows = []
    n_cells = judged["cell"].nunique()
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
                "is_complete": len(cells) == n_cells,
            }
        )
    return pd.DataFrame(rows)


def compare(judged: pd.DataFrame, rule: str, other: str, purpose: str) -> Estimate:
    """Return the mean difference in regret, a rule less another, over the cells that have both."""
    cells = by_cell(judged)[[(rule, purpose), (other, purpose)]].dropna()
    return estimate(cells[rule, purpose] - cells[other, purpose])


def compare_with_all(judged: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Return how a rule compares with every other one: a row per other rule and purpose.

    Columns: baseline, purpose, mean, low, high (regret of the rule less that of the baseline, in points), is_clear (of
    `is_clear`), better (cells in which the rule loses less), n (cells that have both).
    """
    table, rows = by_cell(judged), []
    for other, purpose in table.columns:
        if other != rule and (rule, purpose) in table:
            found = compare(judged, rule, other, purpose)
            better = int((table[rule, purpose] < table[other, purpose]).sum())
            rows.append((other, purpose, found.mean, found.low, found.high, is_clear(found), better, found.n))
    return pd.DataFrame(rows, columns=["baseline", "purpose", "mean", "low", "high", "is_clear", "better", "n"])


def is_clear(difference: Estimate) -> bool:
    """Whether the interval of a difference has no 0 in it, as it is printed with one decimal."""
    return round(difference.low, 1) * round(difference.high, 1) > 0


def of_rule(judged: pd.DataFrame, rule: str, purpose: str) -> Estimate:
    """Return the mean regret of a rule over the cells that have it."""
    return estimate(by_cell(judged)[rule, purpose].dropna())


def gather(cells: Mapping[str, Cell]) -> pd.DataFrame:
    """Return everything that was measured of cells, judged: the rows of `judge` for all rules, with the cells' family.

    Only cells that have both schedules and range tests are in it.

    Args:
        cells: name -> Cell, of the cells to judge.
    """
    trainings, suggestions, free = load("trainings"), load("suggestions"), load("tuning_free")
    names = set(cells) & set(suggestions["cell"])
    for schedule in (CONSTANT, ONE_CYCLE):
        names &= set(trainings.loc[trainings["schedule"] == schedule, "cell"])
    trainings, suggestions, free = (part[part["cell"].isin(names)] for part in (trainings, suggestions, free))
    families = {name: cell.family for name, cell in cells.items()}
    curves = make_curves(trainings)
    is_longer = free["steps"] > 400
    free = free.rename(columns={"test_loss": "loss"}).assign(
        rule=free["rule"] + np.where(is_longer, MORE_STEPS, ""),
        total_steps=400,
        steps=np.where(is_longer, SEARCH_STEPS, 0),
    )
    choices = [choose_without_sweep(trainings, families), train_longer(curves, families), suggestions, free]
    judged = judge(pd.concat([part for part in choices if len(part)], ignore_index=True), curves)
    return judged.assign(family=judged["cell"].map(families))


def load_half(half: str) -> tuple[dict[str, Cell], pd.DataFrame, str]:
    """Return the cells of a half by name, what was measured of them, judged, and a note for readers.

    The note is empty for a held-out half that was measured entirely. Raises ValueError for an unknown half.
    """
    if half not in HALVES:
        raise ValueError(f"half must be held-out or development, got {half!r}; pass half=held-out")
    cells = {cell.name: cell for cell in list_cells(half)}
    judged, notes = gather(cells), []
    if half == "development":
        notes.append("The rules were chosen on these cells, so their regrets are not a fair test of the rules.")
    if missing := [name for name in cells if name not in set(judged["cell"])]:
        notes.append(f"{len(missing)} of {len(cells)} {half} cells were not measured: {'; '.join(missing)}.")
    return cells, judged, " ".join(notes)


def calibrate(judged: pd.DataFrame) -> pd.DataFrame:
    """Return how many range tests of each confidence lose little: a row per rule of lrlib and confidence.

    A range test counts as below 5 % if its suggestions for 400 steps lose less, both at a constant learning rate and as
    the peak of one cycle. A cell counts if all its range tests of that confidence do.

    Columns: rule, confidence, tests, tests_below, cells, cells_below, low, high (95 % exact binomial interval of the
    share of cells, in percent), mean, worst (regret in percent, of single suggestions).
    """
    part = judged[judged["rule"].isin([REFINED, OURS]) & judged["purpose"].isin([STEADY, CYCLE])]
    rows = []
    for rule in (REFINED, OURS):
        for confidence in ("high", "medium", "low"):
            of = part[(part["rule"] == rule) & (part["confidence"] == confidence)]
            if of.empty:
                continue
            tests = of.groupby(["cell", "seed"])["regret"].max()
            is_below = tests.groupby("cell").max() < SMALL_REGRET
            share = stats.binomtest(int(is_below.sum()), len(is_below)).proportion_ci(0.95, method="exact")
            rows.append(
                {"rule": rule, "confidence": confidence, "tests": len(tests)}
                | {"tests_below": int((tests < SMALL_REGRET).sum()), "cells": len(is_below)}
                | {"cells_below": int(is_below.sum()), "low": 100 * share.low, "high": 100 * share.high}
                | {"mean": of["regret"].mean(), "worst": of["regret"].max()}
            )
    return pd.DataFrame(rows)


def check_targets(judged: pd.DataFrame) -> pd.DataFrame:
    """Return how each target, set before the held-out half was trained, came out.

    Columns: choice, purpose, target, found, met ("yes", "no" or "not tested"). "Not worse" is met unless the whole 95 %
    interval over cells of the paired difference is above 0.
    """
    rows: list[tuple[str, str, str, str, bool | None]] = []
    for purpose in (STEADY, CYCLE):
        part = judged[judged["purpose"] == purpose]
        refined = by_cell(part)[REFINED, purpose].dropna()
        rows.append((REFINED, purpose, "mean at most 1 %", f"{refined.mean():.1f} %", refined.mean() <= 1))
        rows.append((REFINED, purpose, "worst cell at most 5 %", f"{refined.max():.1f} %", refined.max() <= 5))
        found = compare(part, REFINED, HALF, purpose)
        rows.append((REFINED, purpose, f"not worse than {HALF}", f"difference {found:+.1f points}", found.low <= 0))
        reliable = part[(part["rule"] == OURS) & (part["confidence"] != "low")]
        mean, words = reliable["regret"].mean(), "mean of reliable suggestions at most 1.5 %"
        rows.append((OURS, purpose, words, f"{mean:.1f} %; {_count(reliable)}", mean <= 1.5))
        for rule in (OURS, REFINED):
            high = part[(part["rule"] == rule) & (part["confidence"] == "high")]
            share, words = (high["regret"] < SMALL_REGRET).mean(), "high confidence: 95 % lose less than 5 %"
            rows.append((rule, purpose, words, f"{100 * share:.0f} % of {_count(high)}", share >= 0.95))
    target = f"not worse than {OURS} by more than 0.3 points"
    if LONG in set(judged["purpose"]):
        found = compare(judged, REFINED, OURS, LONG)
        rows.append((REFINED, LONG, target, f"difference {found:+.1f points}", found.mean <= 0.3))
    else:
        rows.append((REFINED, LONG, target, "–", None))
    columns = ["choice", "purpose", "target", "found", "met"]
    words = {True: "yes", False: "no", None: "not tested"}
    return pd.DataFrame([(*row, words[met if met is None else bool(met)]) for *row, met in rows], columns=columns)


def _count(suggestions: pd.DataFrame) -> str:
    return f"{len(suggestions)} suggestions in {suggestions['cell'].nunique()} cells"


def interval(found: Estimate, spec: str = ".1f") -> str:
    """Return a mean with its interval as tables have it: "4.9 [0.6, 12.2]"."""
    return f"{number(found.mean, spec)} [{number(found.low, spec)}, {number(found.high, spec)}]"


def span(values: pd.Series) -> str:
    """Return the smallest and the largest of numbers in words: "2", or "2 to 5"."""
    least, most = int(values.min()), int(values.max())
    return f"{least}" if least == most else f"{least} to {most}"


def count_seeds() -> pd.DataFrame:
    """Return what was measured: a row per half and purpose, with cells, seeds, and seeds of the range tests."""
    trainings, suggestions, rows = load("trainings"), load("suggestions"), []
    for half in HALVES:
        names = [cell.name for cell in list_cells(half)]
        tests = suggestions[suggestions["cell"].isin(names)].groupby("cell")["seed"].nunique()
        made = trainings[trainings["cell"].isin(names)]
        for purpose, (schedule, steps) in PURPOSES.items():
            is_of = (made["schedule"] == schedule) & (made["steps"] == steps)
            seeds = made[is_of].groupby("cell")["seed"].nunique()
            if len(seeds):
                rows.append((half, purpose, len(seeds), span(seeds), span(tests)))
    return pd.DataFrame(rows, columns=["half", "purpose", "cells", "seeds", "seeds of range tests"])


def spread_over_seeds(judged: pd.DataFrame) -> pd.DataFrame:
    """Return how far each rule's suggestions lie apart over seeds, for constant learning rates of 400 steps.

    Columns: choice, cells, median factor, largest factor (the largest suggestion over the smallest).
    """
    part = judged[(judged["purpose"] == STEADY) & (judged["lr"] > 0)]
    lrs = part.groupby(["rule", "cell"])["lr"].agg(["min", "max", "count"])
    factors = (lrs["max"] / lrs["min"])[lrs["count"] > 1].groupby("rule")
    found = pd.DataFrame({"cells": factors.size(), "median factor": factors.median(), "largest factor": factors.max()})
    return found.sort_values("median factor").reset_index(names="choice")
