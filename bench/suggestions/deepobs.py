"""An external truth: what DeepOBS's constant learning rates end with, 12 cells for which only a sweep has to be run.

deepobs_baselines.csv: 4 problems x 3 optimizers (sgd, momentum 0.99, adam) x 36 constant rates from 1e-5 to 100, each
trained to the end (50 or 100 epochs) with seed 42; test loss before training, last and best of all epochs, and
accuracies where the problem has one. Source and licence stand in its first lines: DeepOBS_Baselines, commit 3da285a,
of DeepOBS (Schneider, Balles, Hennig, ICLR 2019).
"""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

PROBLEMS = ("quadratic_deep", "mnist_vae", "fmnist_vae", "fmnist_2c2d")
OPTIMIZERS = ("sgd", "momentum", "adam")
# Updates of one of their epochs: passes over 1,000 or 60,000 samples, a short last batch left out.
STEPS_PER_EPOCH = {"quadratic_deep": 7, "mnist_vae": 937, "fmnist_vae": 937, "fmnist_2c2d": 468}
MEASURES = ("loss_last", "loss_best", "accuracy_last", "accuracy_best")


@lru_cache
def load_baselines() -> pd.DataFrame:
    """A row per problem, optimizer and lr: epochs, loss_start, loss_last, loss_best, accuracy_last, accuracy_best.

    A training that diverged has no losses.
    """
    return pd.read_csv(Path(__file__).with_name("deepobs_baselines.csv"), comment="#")


def count_steps(problem: str, optimizer: str) -> int:
    """The updates of one of their trainings."""
    return int(_cell(problem, optimizer)["epochs"].iloc[0]) * STEPS_PER_EPOCH[problem]


def trains(problem: str, optimizer: str) -> bool:
    """Whether any rate ends below one and a half times what another optimizer reaches on the problem."""
    table = load_baselines()
    least = table[table["problem"] == problem].groupby("optimizer")["loss_last"].min()
    return bool(least[optimizer] < 1.5 * least.min())


def read_regret(problem: str, optimizer: str, lr: float, measure: str) -> float:
    """What a constant rate loses against the best of the table: log10 of the loss, or points of accuracy in percent.

    Read by linear interpolation over log lr; beyond the table, and where a training diverged or ended above the loss
    it began with, it counts as no training at all. NaN where the problem has no accuracy, or there is no rate.
    """
    curve = _curve(problem, optimizer, measure)
    if not math.isfinite(lr) or np.isnan(curve).all():
        return math.nan
    x = np.log10(_cell(problem, optimizer)["lr"].to_numpy())
    return float(np.interp(math.log10(lr), x, curve, left=curve.max(), right=curve.max()))


def expect_draw(problem: str, optimizer: str, measure: str) -> float:
    """The mean regret of a rate drawn from the table."""
    return float(_curve(problem, optimizer, measure).mean())


def _cell(problem: str, optimizer: str) -> pd.DataFrame:
    table = load_baselines()
    return table[(table["problem"] == problem) & (table["optimizer"] == optimizer)]


def _curve(problem: str, optimizer: str, measure: str) -> npt.NDArray[np.float64]:
    """Regret of each rate of the table, (36,)."""
    cell = _cell(problem, optimizer)
    if measure.startswith("accuracy"):
        percent = 100 * cell[measure].fillna(cell[measure].min()).to_numpy()
        return percent.max() - percent
    losses = np.log10(cell[measure].fillna(np.inf).clip(upper=cell["loss_start"]).to_numpy())
    return losses - losses.min()
