import pandas as pd
import pytest

import lrlib
from lrlib.problems.data import load_dataset
from lrlib.runs.store import Store
from lrlib.schedules import Constant
from lrlib.study.selection import choose, measure_candidates
from lrlib.training.epoch import evaluate


def test_candidates_are_measured_on_the_test_split_that_they_were_not_chosen_by(tmp_path):
    runs = [lrlib.Run(Constant(lr), epochs=1, problem="lenet5_sample_validation", label=f"{lr}") for lr in (0.1, 0.01)]
    results = lrlib.train(runs, store=Store(tmp_path), progress=False)
    found = measure_candidates(results, runs).set_index("run")
    data = load_dataset("sample")
    state = {f"model.{name}": value for name, value in results.model(runs[0]).state_dict().items()}
    loss, n_correct = evaluate(state, inputs=data.test_images, targets=data.test_labels, batch_size=128)
    assert found.loc["0.1", "test_loss"] == loss
    assert found.loc["0.1", "test_accuracy"] == n_correct / 1000
    epochs = results.epochs.set_index("run")
    assert found.loc["0.01", "validation_loss"] == epochs.loc["0.01", "test_loss"]
    assert epochs.loc["0.01", "n_test"] == 333


def test_the_choice_is_by_validation_and_the_test_split_is_read_for_it_alone():
    candidates = pd.DataFrame(
        {
            "run": ["a", "b", "a", "b"], "seed": [0, 0, 1, 1], "validation_loss": [0.1, 0.2, 0.3, 0.2],
            "test_loss": [0.4, 0.3, 0.2, 0.1], "test_accuracy": [0.90, 0.91, 0.92, 0.93],
        }
    )  # fmt: skip
    chosen = choose(candidates)
    assert list(chosen["chosen"]) == ["a", "b"]
    assert list(chosen["by_test"]) == ["b", "b"]
    assert chosen["test_loss"].to_numpy() == pytest.approx([0.4, 0.1])
    assert chosen["by_test_accuracy"].to_numpy() == pytest.approx([0.91, 0.93])
