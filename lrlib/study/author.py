"""What the reproduced report found: the author's own figures, from its text and its notebook's log.

Source: Xie Yuxi, "Colossalai and LR Range Test", report for CS5260, assignment 6, April 2022. The curves are
the per-epoch values that the author's notebook printed for its two final runs.
"""

from pathlib import Path

import pandas as pd

ACCURACY = {"MultiStep": 0.9927, "OneCycle": 0.9918}  # section 2.4; one seed, 10,000 test images
N_TEST = 10_000
N_TEST_BATCHES = 79  # 79 = ceil(10000 / 128)
LOWEST_LR = 1e-1  # section 1
START_OF_FALL_LR = 1e-3  # section 1


def load_curves() -> pd.DataFrame:
    """A row per run ("MultiStep", "OneCycle") and epoch (1 .. 30): lr (at its end), train_loss, test_loss."""
    curves = pd.read_csv(Path(__file__).parent / "author_curves.csv")
    names = {"multistep_15_25": "MultiStep", "onecycle": "OneCycle"}
    return curves.assign(run=curves["run"].map(names)).rename(columns={"lr_at_epoch_end": "lr"})
