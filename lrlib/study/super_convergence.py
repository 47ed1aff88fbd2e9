"""Smith & Topin's MNIST table on their own network: its settings, its runs, and what is read off them.

Sources: Smith & Topin 2018, arXiv 1708.07120, the table of MNIST accuracies (batches of 512, weight decay 5e-4, LeNet
as Caffe's examples have it); coxy1989, superconv, an independent repeat, whose README states the step sizes and whose
code the end of a cycle.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrlib.problems.data import choose_dataset
from lrlib.problems.lenet import name_problem
from lrlib.runs.plan import Run
from lrlib.schedules import Inverse, OneCycle, Schedule
from lrlib.study.experiments import DATASET_NOTES, MAX_SEEDS, FromParameters
from lrlib.study.rows import select_run
from lrlib.study.statistics import estimate_mean

BATCH_SIZE, WEIGHT_DECAY = 512, 5e-4
PROBLEM = "caffe_lenet_mnist"
INV_EPOCHS = 85
# epochs of a cycle: epochs of one of its two steps, straight up and straight down; then the rate falls on to the end.
STEP_EPOCHS = {12: 5, 25: 12, 50: 23, 85: 40}
# (policy, epochs): test accuracy in percent, its standard deviation; the repeat's, its standard deviation.
TABLE = {
    ("inv", 85): (99.03, 0.04, 98.92, 0.05),
    ("1cycle 0.01-0.1", 12): (99.25, 0.03, 99.05, 0.03),
    ("1cycle 0.01-0.1", 25): (99.28, 0.06, 99.01, 0.12),
    ("1cycle 0.01-0.1", 50): (99.27, 0.07, 99.02, 0.07),
    ("1cycle 0.02-0.2", 85): (99.35, 0.03, 99.07, 0.08),
}
Accuracies = Mapping[tuple[str, int], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class SuperConvergence(FromParameters):
    """Settings of section 3.3.

    convergence_seeds: seeds of each row, from 0 on. cycle_epochs: lengths of the cycles. inv_epochs: length of the run
    with Caffe's decaying rate, 0 to leave it out. dataset: MNIST has their network; on another one LeNet-5 stands in.
    Raises ValueError for a value outside its range; DatasetError where the dataset cannot be had.
    """

    convergence_seeds: int = 3
    dataset: str = "auto"
    cycle_epochs: tuple = (12, 25)
    inv_epochs: int = 25

    def __post_init__(self) -> None:
        self._require_whole("convergence_seeds", most=MAX_SEEDS)
        object.__setattr__(self, "dataset", choose_dataset(self.dataset))
        object.__setattr__(self, "cycle_epochs", tuple(self.cycle_epochs))
        if self.inv_epochs:
            self._require_whole("inv_epochs")
        if not self.cycle_epochs or any(not isinstance(n, int) or n < 2 for n in self.cycle_epochs):
            raise ValueError(
                f"cycle_epochs must be lengths of at least 2, got {list(self.cycle_epochs)}; e.g. [12, 25]"
            )

    @property
    def problem(self) -> str:
        """What is trained."""
        return PROBLEM if self.dataset == "mnist" else name_problem(self.dataset)

    @property
    def dataset_note(self) -> str:
        """What is said first where it is not their network on MNIST."""
        if self.problem == PROBLEM:
            return ""
        return f"{DATASET_NOTES.get(self.dataset, '')} LeNet-5 stands in for their network, which is defined on MNIST."

    def policies(self) -> dict[tuple[str, int], Schedule]:
        """(policy, epochs) -> its schedule."""
        found: dict[tuple[str, int], Schedule] = {}
        for epochs in self.cycle_epochs:
            low, high = (0.02, 0.2) if epochs == max(STEP_EPOCHS) else (0.01, 0.1)
            share = STEP_EPOCHS.get(epochs, 0.4 * epochs) / epochs
            found[f"1cycle {low:g}-{high:g}", epochs] = OneCycle(
                high,
                div_factor=high / low,
                final_div_factor=1e5,
                pct_start=share,
                anneal_strategy="linear",
                three_phase=True,
                base_momentum=0.8,
            )
        if self.inv_epochs:
            found["inv", self.inv_epochs] = Inverse(0.01)
        return found

    def runs(self) -> list[Run]:
        """The runs of every policy, over the seeds."""
        return [
            Run(
                schedule,
                epochs=epochs,
                seed=seed,
                problem=self.problem,
                batch_size=BATCH_SIZE,
                weight_decay=WEIGHT_DECAY,
                label=name_row(policy, epochs),
            )
            for (policy, epochs), schedule in self.policies().items()
            for seed in range(self.convergence_seeds)
        ]

    def left_out(self) -> dict[tuple[str, int], int]:
        """(policy, epochs) of their table that are not run -> the epochs that each would take besides."""
        found = {}
        for policy, epochs in TABLE:
            have = self.inv_epochs if policy == "inv" else epochs if epochs in self.cycle_epochs else 0
            if have < epochs:
                found[policy, epochs] = (epochs - have) * self.convergence_seeds
        return found


def name_row(policy: str, epochs: int) -> str:
    """What tables and figures call a row of the table."""
    return f"{policy}, {epochs} epochs"


def read_accuracies(epochs: pd.DataFrame, settings: SuperConvergence) -> tuple[Accuracies, pd.DataFrame]:
    """Final test accuracies in percent, and a table of them beside those of others.

    epochs: of at least settings.runs(). Returns accuracies, (policy, epochs) -> (n_seeds,), and table, a row per key:
    row (its name), ours, theirs, repeat, and each one's standard deviation ("ours sd" ..).
    The decaying rate is also read where its run had come as far as a cycle is long; rows of theirs that were not run
    have no value of ours.
    """
    at = [(policy, length, length) for policy, length in settings.policies()]
    at += [("inv", settings.inv_epochs, length) for length in settings.cycle_epochs if length < settings.inv_epochs]
    accuracies, rows = {}, []
    for policy, length, epoch in at:
        run = select_run(epochs, name_row(policy, length))
        values = 100 * run[run["epoch"] == epoch].sort_values("seed")["test_accuracy"].to_numpy()
        accuracies[policy, epoch], found = values, estimate_mean(values)
        rows.append((name_row(policy, epoch), found.mean, found.sd, *TABLE.get((policy, epoch), (np.nan,) * 4)))
    for (policy, epoch), theirs in TABLE.items():
        if (policy, epoch) not in accuracies:
            rows.append((name_row(policy, epoch), np.nan, np.nan, *theirs))
    columns = ["row", "ours", "ours sd", "theirs", "theirs sd", "repeat", "repeat sd"]
    return accuracies, pd.DataFrame(rows, columns=columns)
