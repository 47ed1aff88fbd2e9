"""What each rule's rate comes to on many problems: its regret, in percent of what the best rate gains over no training.

0 is as good as the best rate of the grid, 100 no better than not training at all. The loss at a rate between two of the
grid is read off a monotone cubic through the grid's losses over log lr (Fritsch & Butland 1984), which goes no lower
than they do. A training that diverged, or ended above the loss it began with, counts as none; so do a hundredth of the
grid's least rate, ten times its largest, and a rule that finds no rate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrlib.runs.results import Results
from lrlib.schedules import Constant
from lrlib.study.beyond import CONSTANT, FIRST_SWEEP_SEED, FROM_DEFAULT, FROM_LOWER, ONE_CYCLE, Beyond, Budget, Cell
from lrlib.study.competitors import Rule as Tool
from lrlib.study.curvature import find_critical_lr
from lrlib.study.evidence import DEFAULT_LR, RULES
from lrlib.study.regret import expect_least
from lrlib.study.statistics import bootstrap_mean
from lrlib.suggest import Suggestion, suggest_lr

Floats = npt.NDArray[np.float64]
# Today's rule, and the same rule told how long the training will be, which is judged.
PLAIN, OURS = "suggest_lr", "suggest_lr, total_steps"
DEFAULT = f"lr {DEFAULT_LR:g}, PyTorch's default"
HALVING, SHORT_RUNS, CRITICAL = "successive halving", "short runs", "half of critical_lr"
DRAWS = (1, 2, 4)
HEADLINE = (OURS, PLAIN, "minimum_over_ten", HALVING, DEFAULT, "random search, 2 draws")
SHOWN = (OURS, "minimum_over_ten", HALVING, CRITICAL, DEFAULT)  # columns of the table by problem
N_PROFILES = 8  # lines of the figure
KEY = ["problem", "optimizer", "training", "steps", "choice"]
LOSES_MUCH = 10  # percent of the gain: a suggestion that loses more was rightly called unreliable


@dataclass(frozen=True)
class Rate:
    """What a rule suggests: for a constant rate and for a cycle, NaN where it finds none; and whether it trusts it."""

    lr: float
    peak: float
    reliable: bool | None = None


def read_rates(lr: Floats, loss: Floats, tools: Mapping[str, Tool]) -> dict[str, Rate]:
    """choice -> Rate of the rules that read a range test: lrlib's, and the given tools'.

    lr, loss: (n_steps,) of one sweep. tools: name -> function of both. The peak is a rule's upper bound if it gives one
    for a cycle, else its one rate.
    """
    found = {name: _rate_of(rule(lr, loss)) for name, rule in RULES.items()}
    for name, tool in tools.items():
        rate = tool(lr, loss)
        rate = math.nan if rate is None else rate
        found[name] = Rate(rate, rate)
    return found


def read_ours(lr: Floats, loss: Floats, total_steps: int) -> Rate:
    """What suggest_lr gives for a training of so many steps, or of the sweep's own where these are more."""
    return _rate_of(suggest_lr(lr, loss, total_steps=max(total_steps, len(lr))))


def _rate_of(suggestion: Suggestion) -> Rate:
    peak = suggestion.upper if suggestion.heuristic == PLAIN else suggestion.lr
    return Rate(suggestion.lr, peak, suggestion.reliable)


def halve(losses: Mapping[float, Floats], steps: int) -> float:
    """The rate that successive halving keeps (Jamieson & Talwalkar 2016) where all its trainings together take `steps`.

    losses: rate -> training losses of its steps. All rates train for as long; the better half by the mean loss of the
    last half of that goes on for as long again, until one is left.
    """
    rungs, n = [], len(losses)
    while n > 1:
        rungs.append(n)
        n //= 2
    length = max(1, steps // max(1, sum(rungs)))
    left = list(losses)
    for rung, n in enumerate(rungs, 1):
        left = sorted(left, key=lambda lr: _mean_of_last(losses[lr][: rung * length], length // 2))[: n // 2]
    return left[0]


def choose_by_short_runs(losses: Mapping[float, Floats], steps: int) -> float:
    """The rate with the least training loss after each was trained for its share of `steps`, by its last quarter."""
    length = max(1, steps // len(losses))
    return min(losses, key=lambda lr: _mean_of_last(losses[lr][:length], length // 4))


def _mean_of_last(losses, n):
    found = losses[-max(1, n) :].mean()
    return found if np.isfinite(found) else math.inf


class Curves:
    """The losses of one cell and budget over the grid: those of diverged trainings are the loss without training.

    train: whether the best rate gains anything, with every seed; where not, there is no regret.
    """

    def __init__(self, grid: list[float], losses: Floats, start: Floats):
        """losses: (n_rates, n_seeds) at the end, not finite where they diverged; start: (n_seeds,) without training."""
        self.grid, self.start = np.array(grid), start
        self.losses = np.where(np.isfinite(losses), np.minimum(losses, start), start)
        self.best = int(self.losses.mean(1).argmin())
        self.gain = start - self.losses[self.best]  # (n_seeds,)
        self.train = bool((self.gain > 0).all())

    def regret(self, loss: float, seed: int) -> float:
        """Of a training that ends with that loss, in percent of the gain of the best rate."""
        capped = min(loss, self.start[seed]) if math.isfinite(loss) else self.start[seed]
        return float(100 * (capped - self.losses[self.best, seed]) / self.gain[seed])

    def read(self, lr: float, seed: int) -> float:
        """The loss that a rate ends with."""
        from scipy.interpolate import PchipInterpolator

        start = self.start[seed]
        if not math.isfinite(lr):
            return float(start)
        x = np.log10([self.grid[0] / 100, *self.grid, self.grid[-1] * 10])
        curve = PchipInterpolator(x, [start, *self.losses[:, seed], start])
        return float(curve(np.clip(math.log10(lr), x[0], x[-1])))

    def diverges(self, lr: float, seed: int) -> bool:
        """Whether there is no rate, or training at the nearest of the grid, if not below it, diverged."""
        if not math.isfinite(lr):
            return True
        nearest = int(np.abs(np.log10(self.grid / lr)).argmin())
        return bool(lr >= self.grid[0] and self.losses[nearest, seed] >= self.start[seed])


class Benchmark:
    """Every choice's regret on every cell, seed and budget, read off the results of a Beyond's runs.

    tools: as `competitors.list_tools` gives them.
    """

    def __init__(self, results: Results, settings: Beyond, tools: Mapping[str, Tool]):
        self.settings, self._tools = settings, tools
        self._epochs = dict(tuple(results.epochs.groupby(["run", "seed"], sort=False)))
        self._steps = dict(tuple(results.steps.groupby(["run", "seed"], sort=False)))
        self.choices = self._tabulate()

    def sweep(self, cell: Cell, seed: int) -> tuple[Floats, Floats]:
        """Rates and losses of the range test that the choices of a seed are read from."""
        frame = self._steps[cell.label("range test"), FIRST_SWEEP_SEED + seed]
        return frame["lr"].to_numpy(), frame["loss"].to_numpy()

    def curves(self, cell: Cell, budget: Budget) -> Curves:
        """The losses over the grid."""
        what = "lr" if budget.training == CONSTANT else "peak"
        grid, seeds = self.settings.grid(cell.optimizer), range(self.settings.beyond_seeds)
        losses = [[self._loss(cell, f"{what} {lr!r}", seed, budget.steps) for seed in seeds] for lr in grid]
        start = [float(self.sweep(cell, seed)[1][:10].mean()) for seed in seeds]
        return Curves(grid, np.array(losses), np.array(start))

    def _loss(self, cell, what, seed, steps):
        """The test loss after so many steps, rounded up to whole epochs."""
        frame = self._epochs[cell.label(what), seed]
        return float(frame["test_loss"].iloc[cell.count_epochs(steps) - 1])

    def _tabulate(self) -> pd.DataFrame:
        """A row per cell, budget, choice and seed: lr (NaN where there is none), regret, diverged, reliable (of a rule
        of lrlib's)."""
        rows = []
        for cell in self.settings.cells:
            of_seeds = [self._read_rates(cell, seed) for seed in range(self.settings.beyond_seeds)]
            for budget in self.settings.budgets(cell):
                curves = self.curves(cell, budget)
                if not curves.train:
                    continue
                for seed, rates in enumerate(of_seeds):
                    key = (cell.problem, cell.optimizer, budget.training, budget.steps)
                    rows += [(*key, *row) for row in self._judge(cell, budget, curves, seed, rates)]
        return pd.DataFrame(rows, columns=[*KEY, "seed", "lr", "regret", "diverged", "reliable"])

    def _read_rates(self, cell, seed) -> dict[str, Rate]:
        lr, loss = self.sweep(cell, seed)
        grid = self.settings.grid(cell.optimizer)
        losses = {rate: self._steps[cell.label(f"lr {rate!r}"), seed]["loss"].to_numpy() for rate in grid}
        first = cell.run(Constant(DEFAULT_LR), 1, seed, "first step")
        others = {
            CRITICAL: find_critical_lr(first) / 2,
            SHORT_RUNS: choose_by_short_runs(losses, len(lr)),
            HALVING: halve(losses, len(lr)),
        }
        return read_rates(lr, loss, self._tools) | {name: Rate(rate, rate) for name, rate in others.items()}

    def _judge(self, cell, budget, curves, seed, rates):
        """(choice, seed, lr, regret, diverged, reliable) of every choice."""
        ours = read_ours(*self.sweep(cell, seed), budget.steps)
        for choice, rate in {OURS: ours, **rates}.items():
            lr = rate.lr if budget.training == CONSTANT else rate.peak
            regret = curves.regret(curves.read(lr, seed), seed)
            yield choice, seed, lr, regret, curves.diverges(lr, seed), rate.reliable
        if budget.training == CONSTANT:
            steps = budget.steps + self.settings.short_steps
            for choice, what in ((DEFAULT, "default"), *[(label, label) for label in self._tuning_free(cell)]):
                loss = self._loss(cell, what, seed, steps)
                diverged = not loss < curves.start[seed]
                lr = DEFAULT_LR if choice == DEFAULT else math.nan
                yield choice, seed, lr, curves.regret(loss, seed), diverged, None
        else:
            regret = curves.regret(curves.read(DEFAULT_LR, seed), seed)
            yield DEFAULT, seed, DEFAULT_LR, regret, curves.diverges(DEFAULT_LR, seed), None
        for draws in DRAWS:
            regret = curves.regret(expect_least(curves.losses[:, seed], draws), seed)
            share = float((curves.losses[:, seed] >= curves.start[seed]).mean() ** draws)
            yield f"random search, {draws} draw{'s' * (draws > 1)}", seed, math.nan, regret, share, None

    def compare_bases(self) -> pd.DataFrame:
        """A row per cell and seed: the regret of one cycle from the suggested lower bound, and from PyTorch's default
        base, both up to the suggested upper one.

        Needs the results of `Beyond.follow_suggestions`. Columns: problem, optimizer, seed, lower, default (percent).
        """
        rows = []
        for cell in self.settings.cells:
            budget = Budget(ONE_CYCLE, self.settings.short_steps)
            curves = self.curves(cell, budget)
            for seed in range(self.settings.beyond_seeds) if curves.train else ():
                losses = [self._loss(cell, what, seed, budget.steps) for what in (FROM_LOWER, FROM_DEFAULT)]
                rows.append((cell.problem, cell.optimizer, seed, *(curves.regret(loss, seed) for loss in losses)))
        return pd.DataFrame(rows, columns=["problem", "optimizer", "seed", "lower", "default"])

    def _tuning_free(self, cell):
        label = self.settings.tuning_free(cell)
        return [label] if label else []

    def doubts(self) -> tuple[list[str], list[str]]:
        """The cells and budgets whose best rate is the least or the largest of the grid, so that it may lie beyond, and
        those in which no rate trains with every seed, which have no regret."""
        edges, untrained = [], []
        for cell in self.settings.cells:
            for budget in self.settings.budgets(cell):
                curves = self.curves(cell, budget)
                if not curves.train:
                    untrained.append(f"{cell.name} ({budget.name})")
                elif curves.best in (0, len(curves.grid) - 1):
                    edges.append(f"{cell.name} ({budget.name})")
        return edges, untrained


def summarize(choices: pd.DataFrame) -> pd.DataFrame:
    """A row per budget and choice, the least mean regret first.

    choices: `Benchmark.choices`. Columns: training, steps, choice, cells, regret (mean over the cells, in percent) with
    its bootstrap interval over the seeds low, high; worst (mean over the seeds, of the cell that is worst), worst_cell,
    diverged (share).
    """
    rows = []
    for (training, steps, choice), group in choices.groupby(["training", "steps", "choice"], sort=False):
        found = bootstrap_mean(group.groupby("seed")["regret"].mean().to_numpy())
        of_cells = group.groupby(["problem", "optimizer"], sort=False)["regret"].mean()
        worst = of_cells.idxmax()
        row = (training, steps, choice, len(of_cells), found.mean, found.low, found.high, of_cells.max())
        rows.append((*row, ", ".join(worst), group["diverged"].astype(float).mean()))
    columns = ["training", "steps", "choice", "cells", "regret", "low", "high", "worst", "worst_cell", "diverged"]
    table = pd.DataFrame(rows, columns=columns)
    order = {budget: place for place, budget in enumerate(dict.fromkeys(zip(table["training"], table["steps"])))}
    place = [order[budget] for budget in zip(table["training"], table["steps"])]
    table = table.assign(place=place).sort_values(["place", "regret"], kind="stable")
    return table.drop(columns="place").reset_index(drop=True)


def tabulate_cells(choices: pd.DataFrame) -> pd.DataFrame:
    """A row per cell, budget and choice, for others to cite: cells, choice, lr (median over the seeds), regret in
    percent with its bootstrap interval low, high; diverged (share)."""
    rows = []
    for key, group in choices.groupby(KEY, sort=False):
        found = bootstrap_mean(group["regret"].to_numpy())
        diverged = group["diverged"].astype(float).mean()
        rows.append((*key, group["lr"].median(), found.mean, found.low, found.high, diverged, len(group)))
    return pd.DataFrame(rows, columns=[*KEY, "lr", "regret", "low", "high", "diverged", "seeds"])


def count_reliable(choices: pd.DataFrame) -> pd.DataFrame:
    """How far suggest_lr's word can be taken: a row for "reliable" and one for "not reliable".

    Columns: said, suggestions (one a cell, budget and seed), loses_much (lost more than LOSES_MUCH percent), diverged.
    """
    ours = choices[choices["choice"] == OURS]
    rows = []
    for said, wanted in (("reliable", True), ("not reliable", False)):
        group = ours[ours["reliable"] == wanted]
        diverged = group["diverged"].astype(bool)
        rows.append((said, len(group), int((group["regret"] > LOSES_MUCH).sum()), int(diverged.sum())))
    return pd.DataFrame(rows, columns=["said", "suggestions", "loses_much", "diverged"])


def pivot_cells(cells: pd.DataFrame, choices: Sequence[str]) -> pd.DataFrame:
    """tabulate_cells as a table to print: a row per cell and budget, suggest_lr's rate, and a column per choice."""
    named = cells.assign(budget=[f"{t}, {s:,} steps" for t, s in zip(cells["training"], cells["steps"])])
    index = ["problem", "optimizer", "budget"]
    wide = named.pivot(index=index, columns="choice", values="regret").reindex(columns=list(choices))
    ours = named[named["choice"] == OURS].set_index(index)
    within = [_with_interval(row) for row in ours.itertuples()]
    shown = wide.loc[ours.index].assign(**{OURS: within})
    shown.insert(0, "lr", [f"{lr:.2g}" for lr in ours["lr"]])
    return shown.reset_index().rename_axis(columns=None)


def choose_profiles(table: pd.DataFrame) -> list[str]:
    """The choices of the figure: suggest_lr, and the others with the least mean regret over the budgets, as many as can
    be told apart. table: of `summarize`."""
    means = table.groupby("choice")["regret"].mean().sort_values(kind="stable")
    wanted = [OURS, HALVING, DEFAULT]
    return [*wanted, *[choice for choice in means.index if choice not in wanted][: N_PROFILES - len(wanted)]]


def present_summary(table: pd.DataFrame, choices: Sequence[str] | None = None) -> pd.DataFrame:
    """summarize as a table to print: a row per choice, the least mean regret first, and a column per budget; the worst
    cell of any budget, and the share that diverges. choices: those that are shown, all by default."""
    cells = [_with_interval(row) for row in table.itertuples()]
    named = table.assign(budget=[f"{t}, {s:,}" for t, s in zip(table["training"], table["steps"])], cell=cells)
    wide = named.pivot(index="choice", columns="budget", values="cell")[list(dict.fromkeys(named["budget"]))]
    worst = named.loc[named.groupby("choice")["worst"].idxmax()].set_index("choice")
    by_choice = named.groupby("choice")
    wide["worst"] = [f"{worst.loc[c, 'worst']:.1f} ({worst.loc[c, 'worst_cell']})" for c in wide.index]
    wide["diverge"] = [f"{100 * share:.0f} %" for share in by_choice["diverged"].mean()[wide.index]]
    order = by_choice["regret"].mean().sort_values(kind="stable").index
    shown = order if choices is None else [choice for choice in order if choice in choices]
    return wide.loc[shown].reset_index().rename_axis(columns=None)


def _with_interval(row):
    """A regret and its interval, which one seed does not give."""
    within = f" [{row.low:.1f}, {row.high:.1f}]" if math.isfinite(row.low) else ""
    return f"{row.regret:.1f}{within}"
