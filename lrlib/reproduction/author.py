"""What the original reports: Xie Yuxi, "Colossalai and LR Range Test", report for CS5260, assignment 6, April 2022.

author_log.csv: the values that the author's notebook printed for its two final runs. author_figures.csv and
author_figure_2b.csv: the curves of its figures, digitised from their pixels (agreement with the log: 0.0006).
"""

from pathlib import Path

import pandas as pd

ACCURACY = {"MultiStep": 99.27, "OneCycle": 99.18}  # percent; section 2.4: one seed, 10,000 test images
LOWEST_LR, START_OF_FALL_LR = 1e-1, 1e-3  # section 1, read by eye
N_TEST_BATCHES = 79  # ceil(10,000 / 128): by it the test losses in the original's figures are divided

_FOLDER = Path(__file__).parent


def load_log() -> pd.DataFrame:
    """A row per run ("MultiStep", "OneCycle") and epoch (1 .. 30): lr (at its end), train_loss, test_loss."""
    return pd.read_csv(_FOLDER / "author_log.csv")


def load_figure(figure: str) -> pd.DataFrame:
    """The test-loss curves of one of the original's figures, "1", "3", "4" or "5(b)".

    Returns a row per run and epoch: run, epoch, step (after it), test_loss, half_width (of the drawn line). Epochs that
    another line covers are missing.
    """
    curves = pd.read_csv(_FOLDER / "author_figures.csv", dtype={"figure": str})
    return curves[curves["figure"] == figure].drop(columns="figure").reset_index(drop=True)


def load_figure_2b() -> pd.DataFrame:
    """The six points of Figure 2(b): lr, train_loss."""
    return pd.read_csv(_FOLDER / "author_figure_2b.csv")
