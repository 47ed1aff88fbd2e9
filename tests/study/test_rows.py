"""Runs of equal labels on different problems: whatever reads a table by label refuses to mix them."""

import numpy as np
import pandas as pd
import pytest

from lrlib.study import figures, readings
from lrlib.study.rows import require_one_problem, select_run

SWEEP = "SGD range test"


def make_steps(problems, label=SWEEP):
    lr = np.geomspace(1e-5, 10, 60)
    loss = 2.3 - 2 / (1 + (0.01 / lr) ** 2)
    rows = {"run": label, "seed": 0, "step": np.arange(60), "lr": lr, "momentum": 0.9, "loss": loss}
    return pd.concat([pd.DataFrame(rows | {"problem": problem}) for problem in problems], ignore_index=True)


def make_epochs(problems, label=SWEEP):
    columns = ["train_loss", "test_loss", "test_accuracy"]
    rows = [
        {"run": label, "problem": p, "seed": 0, "epoch": e} | dict.fromkeys(columns, 0.5)
        for p in problems
        for e in (1, 2)
    ]
    return pd.DataFrame(rows)


READERS = {
    "select_run": lambda steps, epochs: select_run(steps, SWEEP),
    "select_last": lambda steps, epochs: readings.select_last(epochs, SWEEP, "test_loss"),
    "locate_turning_points": lambda steps, epochs: readings.locate_turning_points(steps, SWEEP),
    "tabulate_ends": lambda steps, epochs: readings.tabulate_ends(epochs),
    "bin_steps": lambda steps, epochs: figures.bin_steps(steps),
    "draw_losses": lambda steps, epochs: figures.draw_losses(epochs, steps, [SWEEP]),
}


@pytest.mark.parametrize("reader", READERS)
def test_one_label_on_two_problems_is_refused_and_on_one_is_read(reader):
    with pytest.raises(
        ValueError, match=f"run '{SWEEP}' is of 2 problems in these results, lenet5_mnist and lenet5_fashion; "
    ):
        READERS[reader](*(make(["lenet5_mnist", "lenet5_fashion"]) for make in (make_steps, make_epochs)))
    READERS[reader](*(make(["lenet5_mnist"]) for make in (make_steps, make_epochs)))


def test_different_labels_on_different_problems_are_no_mixture():
    frame = pd.concat([make_epochs(["lenet5_mnist"], "a"), make_epochs(["lenet5_fashion"], "b")])
    assert require_one_problem(frame) is frame
    assert set(select_run(frame, "a")["problem"]) == {"lenet5_mnist"}
