"""Choices made on a validation split, beside the author's way of choosing on the test split."""

from collections.abc import Sequence

import pandas as pd

from lrlib.problems.data import VALIDATION
from lrlib.problems.registry import load_problem
from lrlib.runs.plan import Run
from lrlib.runs.results import Results
from lrlib.training.epoch import evaluate


def measure_candidates(results: Results, runs: Sequence[Run]) -> pd.DataFrame:
    """Each trained candidate on the validation split it was trained without, and on the test split.

    runs: Runs of a problem with a validation split, all on the same. Returns a row per run: run (its label), seed,
    validation_loss, validation_accuracy, test_loss, test_accuracy (fractions).
    """
    epochs = results.epochs[results.epochs["problem"] == runs[0].problem]
    last = epochs[epochs["epoch"] == epochs["epoch"].max()].set_index(["run", "seed"])
    problem = load_problem(runs[0].problem.removesuffix(VALIDATION))
    inputs, targets = problem.load_data().test
    rows = []
    for run in runs:
        state = {f"model.{name}": value for name, value in results.model(run).state_dict().items()}
        loss, n_correct = evaluate(
            state, problem=problem.name, inputs=inputs, targets=targets, batch_size=run.batch_size or problem.batch_size
        )
        assert n_correct is not None  # what has a validation split has right answers
        held_out = last.loc[(run.label, run.seed)]
        accuracy = n_correct / len(inputs)
        rows.append((run.label, run.seed, held_out["test_loss"], held_out["test_accuracy"], loss, accuracy))
    columns = ["run", "seed", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy"]
    return pd.DataFrame(rows, columns=columns)


def choose(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidate of each seed with the lowest validation loss, and the one with the lowest test loss.

    candidates: as `measure_candidates` gives them. Returns a row per seed: seed, chosen (by validation), test_loss,
    test_accuracy; by_test, by_test_loss, by_test_accuracy.
    """
    rows = []
    for seed, group in candidates.groupby("seed"):
        honest = group.loc[group["validation_loss"].idxmin()]
        peeking = group.loc[group["test_loss"].idxmin()]
        rows.append(
            {
                "seed": seed,
                "chosen": honest["run"],
                "test_loss": honest["test_loss"],
                "test_accuracy": honest["test_accuracy"],
                "by_test": peeking["run"],
                "by_test_loss": peeking["test_loss"],
                "by_test_accuracy": peeking["test_accuracy"],
            }
        )
    return pd.DataFrame(rows)
