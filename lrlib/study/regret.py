"""What a suggested learning rate costs: its regret against an exhaustive search, in log10 of the test loss.

The best rate of the grid is the one with the lowest mean log10 test loss over the seeds. A choice's regret is the mean
over the same seeds of its log10 test loss less that rate's: 0.1 is a loss 26 % higher, and below zero the choice beat
the grid. A run that diverged counts with the loss of guessing, log10(ln 10).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrlib.study.evidence import DEFAULT_LR, TORCH_DEFAULT, Evidence
from lrlib.study.rows import select_run
from lrlib.study.statistics import bootstrap_mean
from lrlib.suggest import Suggestion

GUESSING = math.log10(math.log(10))
CONSTANT, ONE_CYCLE = "constant", "one cycle"
DRAWS = (1, 2, 4, 8)


def tabulate_grid(epochs: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Log10 test loss over the grid: a row per training (constant or one cycle), budget, lr and seed.

    epochs: `Results.epochs` of at least evidence.search(). Columns: training, budget (epochs), lr, seed, log_loss.
    """
    rows = []
    for training, budget, label in _list_trainings(evidence):
        for lr in evidence.grid:
            for seed, log_loss in enumerate(_log_losses(epochs, label(lr), budget)):
                rows.append((training, budget, lr, seed, log_loss))
    return pd.DataFrame(rows, columns=["training", "budget", "lr", "seed", "log_loss"])


def find_best(grid: pd.DataFrame, training: str, budget: int) -> tuple[float, npt.NDArray[np.float64]]:
    """The best lr of the grid for a training and budget, and its log10 test losses, one a seed."""
    table = _pivot(grid, training, budget)
    best = table.mean(axis=1).idxmin()
    return best, table.loc[best].to_numpy()


def tabulate_regret(epochs: pd.DataFrame, evidence: Evidence, suggestions: Mapping[str, Suggestion]) -> pd.DataFrame:
    """The regret of every choice: a row per choice, training and budget.

    epochs: of at least evidence.search() and evidence.suggested(suggestions). suggestions: rule -> Suggestion.
    Columns: choice, lr (the rate or peak; NaN where there is none), training, budget, spent (epochs with those
    of the sweep), log_loss (mean over seeds), regret with its bootstrap interval low, high. A choice that makes no sweep
    trains for the sweep's epochs too, where it was trained for so long. Random search takes the best of so many
    draws from the grid, each a whole training; its value is the expectation over the draws, for every seed apart.
    """
    grid, rows = tabulate_grid(epochs, evidence), []
    sweep = evidence.sweep_epochs[0]

    def add(choice, lr, training, budget, spent, log_losses):
        found = bootstrap_mean(log_losses - find_best(grid, training, budget)[1])
        rows.append((choice, lr, training, budget, spent, log_losses.mean(), found.mean, found.low, found.high))

    for training, budget, label in _list_trainings(evidence):
        for rule, suggestion in suggestions.items():
            lr = evidence.suggested_peak(rule, suggestion) if training == ONE_CYCLE else suggestion.lr
            add(rule, lr, training, budget, budget + sweep, _log_losses(epochs, label(lr), budget))
        if training == CONSTANT:
            for choice in (TORCH_DEFAULT, *evidence.tuning_free):
                log_losses = _log_losses(epochs, choice, budget + sweep)
                add(
                    choice,
                    DEFAULT_LR if choice == TORCH_DEFAULT else math.nan,
                    training,
                    budget,
                    budget + sweep,
                    log_losses,
                )
        for draws in DRAWS:
            expected = np.array(
                [expect_least(of_seed, draws) for of_seed in _pivot(grid, training, budget).to_numpy().T]
            )
            choice = f"random search, {draws} draw{'s' * (draws > 1)}"
            add(choice, math.nan, training, budget, draws * budget, expected)
    columns = ["choice", "lr", "training", "budget", "spent", "log_loss", "regret", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def judge_rule(rule: str, grid: pd.DataFrame, table: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """How a rule's suggestion fares: a row per training and budget.

    grid, table: as tabulate_grid and tabulate_regret give them. rules: names of the rules to compare with.
    Columns: training, budget, regret, low, high (of the rule), least (the rule with the least regret), least_regret,
    draws (of a random search that is as good in expectation; None where none is).
    """
    rows = []
    for (training, budget), group in table[table["choice"].isin(list(rules))].groupby(
        ["training", "budget"], sort=False
    ):
        by_rule = group.set_index("choice")
        ours, least = by_rule.loc[rule], by_rule["regret"].idxmin()
        draws = count_draws_to_match(grid, training, budget, ours["log_loss"])
        found = (ours["regret"], ours["low"], ours["high"], least, by_rule.loc[least, "regret"], draws)
        rows.append((training, budget, *found))
    columns = ["training", "budget", "regret", "low", "high", "least", "least_regret", "draws"]
    return pd.DataFrame(rows, columns=columns).astype({"draws": object})


def pivot_regret(table: pd.DataFrame) -> pd.DataFrame:
    """tabulate_regret as a table to print: a row per choice, its constant lr, and a column per training and budget."""
    columns = [f"{training}, {budget} ep." for training, budget in zip(table["training"], table["budget"])]
    cells = [
        f"{r:+.3f} [{low:+.3f}, {high:+.3f}]" for r, low, high in zip(table["regret"], table["low"], table["high"])
    ]
    shown = table.assign(column=columns, cell=cells)
    wide = shown.pivot(index="choice", columns="column", values="cell").loc[
        table["choice"].unique(), list(dict.fromkeys(columns))
    ]
    rates = table[table["training"] == CONSTANT].groupby("choice")["lr"].first()
    wide.insert(0, "lr", rates.map("{:.3g}".format).replace("nan", None))
    return wide.reset_index()


def expect_least(values: npt.NDArray[np.float64], draws: int) -> float:
    """Expected least of so many draws from values, each as likely as another, with replacement: a float.

    The i-th smallest of n is the least with probability ((n - i + 1) / n) ** draws - ((n - i) / n) ** draws.
    """
    values = np.sort(np.asarray(values, dtype=float))
    n = len(values)
    reached = (np.arange(n, -1, -1) / n) ** draws  # probability that no draw is below the i-th smallest
    return float((values * (reached[:-1] - reached[1:])).sum())


def count_draws_to_match(
    grid: pd.DataFrame, training: str, budget: int, log_losses: npt.NDArray[np.float64], *, most: int = 1000
) -> int | None:
    """How many random draws from the grid are as good in expectation as a choice; None if more than `most`.

    log_losses: of the choice: its mean, or one a seed.
    """
    table = _pivot(grid, training, budget).to_numpy()
    for draws in range(1, most + 1):
        if np.mean([expect_least(of_seed, draws) for of_seed in table.T]) <= np.mean(log_losses):
            return draws
    return None


def _pivot(grid, training, budget):
    """Log10 test losses: a row per lr, a column per seed."""
    chosen = grid[(grid["training"] == training) & (grid["budget"] == budget)]
    return chosen.pivot(index="lr", columns="seed", values="log_loss")


def _list_trainings(evidence):
    """(training, budget, lr -> label) of each way in which a rate is judged."""
    constant = [(CONSTANT, budget, evidence.constant_label) for budget in evidence.budgets]
    return [*constant, (ONE_CYCLE, evidence.cycle_budget, evidence.cycle_label)]


def _log_losses(epochs, label, epoch):
    run = select_run(epochs, label)
    losses = run[run["epoch"] == epoch].sort_values("seed")["test_loss"].to_numpy()
    return np.where(np.isfinite(losses), np.log10(losses), GUESSING)
