"""What each rule's rate would have come to in DeepOBS's own trainings, to the end: only the sweeps are run here."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lrlib.runs.results import Results
from lrlib.schedules import Constant
from lrlib.study import deepobs
from lrlib.study.benchmark import CRITICAL, DEFAULT, OURS, read_ours, read_rates
from lrlib.study.beyond import FIRST_SWEEP_SEED, Beyond
from lrlib.study.competitors import Rule as Tool
from lrlib.study.curvature import find_critical_lr
from lrlib.study.evidence import DEFAULT_LR

RANDOM = "random search, 1 draw"
CELL = ["problem", "optimizer", "choice"]


def judge_external(results: Results, settings: Beyond, tools: Mapping[str, Tool]) -> pd.DataFrame:
    """A row per DeepOBS cell, choice and seed of its range test.

    results: of at least the sweeps. tools: of `competitors.list_tools`. Columns: problem, optimizer, choice, seed, lr,
    reliable (of a rule of lrlib's), and the regret by each of deepobs.MEASURES, in log10 of the loss or points of
    accuracy.
    """
    steps, rows = dict(tuple(results.steps.groupby(["run", "seed"], sort=False))), []
    for cell in settings.deepobs_cells:
        for seed in range(settings.beyond_seeds):
            sweep = steps[cell.label("range test"), FIRST_SWEEP_SEED + seed]
            history = (sweep["lr"].to_numpy(), sweep["loss"].to_numpy())
            ours = read_ours(*history, deepobs.count_steps(cell.problem, cell.optimizer))
            found = {OURS: ours, **read_rates(*history, tools)}
            rates = {choice: (rate.lr, rate.reliable) for choice, rate in found.items()}
            first = cell.run(Constant(DEFAULT_LR), 1, seed, "first step")
            rates |= {CRITICAL: (find_critical_lr(first) / 2, None), DEFAULT: (DEFAULT_LR, None)}
            for choice, (lr, reliable) in rates.items():
                regrets = [deepobs.read_regret(cell.problem, cell.optimizer, lr, m) for m in deepobs.MEASURES]
                rows.append((cell.problem, cell.optimizer, choice, seed, lr, reliable, *regrets))
            drawn = [deepobs.expect_draw(cell.problem, cell.optimizer, m) for m in deepobs.MEASURES]
            rows.append((cell.problem, cell.optimizer, RANDOM, seed, math.nan, None, *drawn))
    return pd.DataFrame(rows, columns=[*CELL, "seed", "lr", "reliable", *deepobs.MEASURES])


def summarize_external(judged: pd.DataFrame) -> pd.DataFrame:
    """A row per choice, the least mean regret of the last loss first: cells, and the median and the mean over the cells
    of the regret of the last and of the best loss; the mean of those of the accuracies. judged: of `judge_external`."""
    rows = []
    of_cells = judged.groupby(CELL, sort=False)[list(deepobs.MEASURES)].mean().reset_index()
    for choice, group in of_cells.groupby("choice", sort=False):
        last, best = group["loss_last"], group["loss_best"]
        accuracies = (group["accuracy_last"].mean(), group["accuracy_best"].mean())
        rows.append((choice, len(group), last.median(), last.mean(), best.median(), best.mean(), *accuracies))
    columns = ["choice", "cells", "last_median", "last_mean", "best_median", "best_mean"]
    table = pd.DataFrame(rows, columns=[*columns, "accuracy_last", "accuracy_best"])
    return table.sort_values("last_mean", kind="stable").reset_index(drop=True)


def list_rates(judged: pd.DataFrame) -> pd.DataFrame:
    """A row per cell: the rate that suggest_lr gives (median over the seeds), what it loses in log10 of the last loss,
    in how many sweeps it calls itself reliable, and whether any rate trains there."""
    rows = []
    for (problem, optimizer), group in judged[judged["choice"] == OURS].groupby(["problem", "optimizer"], sort=False):
        reliable = int(group["reliable"].astype(bool).sum())
        trains = "yes" if deepobs.trains(problem, optimizer) else "no"
        row = (problem, optimizer, 10 ** np.log10(group["lr"]).median(), group["loss_last"].mean())
        rows.append((*row, f"{reliable} of {len(group)}", trains))
    return pd.DataFrame(rows, columns=["problem", "optimizer", "lr", "regret", "reliable", "trains"])
