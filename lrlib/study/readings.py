"""What is read off the results: turning points, final accuracies, the shape of curves."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrlib.runs.results import Results
from lrlib.runs.trainer import find_results
from lrlib.study import author
from lrlib.study.experiments import Design
from lrlib.study.looks import STEP
from lrlib.study.rows import require_one_problem, select_run
from lrlib.study.statistics import estimate_accuracy, estimate_mean
from lrlib.suggest import TurningPoints, smooth, turning_points


def select_last(epochs: pd.DataFrame, label: str, column: str) -> npt.NDArray[np.float64]:
    """One value a seed, (n_seeds,): a column of `Results.epochs` at the run's last epoch."""
    run = select_run(epochs, label)
    return run[run["epoch"] == run["epoch"].max()][column].to_numpy()


def locate_turning_points(steps: pd.DataFrame, label: str) -> tuple[list[npt.NDArray[np.float64]], list[TurningPoints]]:
    """Smoothed losses and turning points of a range test, one of each a seed.

    Returns smoothed, points: lists of float64 arrays (n_steps,), as `lrlib.suggest.smooth` makes them, and of
    `lrlib.suggest.TurningPoints`.
    """
    sweeps = [
        (group["lr"].to_numpy(), group["loss"].to_numpy()) for _, group in select_run(steps, label).groupby("seed")
    ]
    return [smooth(*sweep) for sweep in sweeps], [turning_points(*sweep) for sweep in sweeps]


def tabulate_turning_points(points: Sequence[TurningPoints]) -> pd.DataFrame:
    """A row per seed: seed, start of fall, lowest (learning rates), level before, lowest loss. points: TurningPoints."""
    rows = [(i, p.start_of_fall, p.lowest, p.loss_at_start, p.loss_at_lowest) for i, p in enumerate(points)]
    return pd.DataFrame(rows, columns=["seed", "start of fall", "lowest", "level before", "lowest loss"])


def summarize_turning_points(turning: pd.DataFrame) -> pd.DataFrame:
    """tabulate_turning_points over seeds, each column by itself: rows median, least and largest; as it is up to five."""
    if len(turning) <= STEP:
        return turning
    columns = turning.drop(columns="seed")
    summary = pd.DataFrame({"median": columns.median(), "least": columns.min(), "largest": columns.max()})
    return summary.T.rename_axis("seeds").reset_index()


def tabulate_ends(epochs: pd.DataFrame) -> pd.DataFrame:
    """How runs end, as means over seeds: a row per run.

    Columns: run, train_loss, lowest_test_loss (of any epoch), test_loss, test_accuracy (percent).
    """
    by_seed = require_one_problem(epochs).groupby(["run", "seed"], sort=False)
    ends = by_seed[["train_loss", "test_loss", "test_accuracy"]].last()
    ends.insert(1, "lowest_test_loss", by_seed["test_loss"].min())
    means = ends.groupby("run", sort=False).mean()
    return means.assign(test_accuracy=100 * means["test_accuracy"]).reset_index()


def tabulate_accuracies(results: Results, design: Design) -> pd.DataFrame:
    """Final test accuracy of the two schedules, in percent.

    A row per method: method, accuracy (mean over seeds), low and high (95 % interval, `estimate_accuracy`), sd (NaN for
    one seed), n (seeds), author.
    """
    epochs, rows = results.epochs, []
    for method, label in (("MultiStep", design.multistep_label), ("OneCycle", design.onecycle_label)):
        n_test = int(select_run(epochs, label)["n_test"].max())
        found = estimate_accuracy(select_last(epochs, label, "test_accuracy"), n_test)
        fractions = {"accuracy": found.mean, "low": found.low, "high": found.high, "sd": found.sd}
        percent = {name: 100 * fraction for name, fraction in fractions.items()}
        rows.append({"method": method, **percent, "n": found.n, "author": 100 * author.ACCURACY[method]})
    return pd.DataFrame(rows)


def tabulate_backends(
    design: Design, backends: Sequence[tuple[str, int]] = (("compiled", 1), ("torch", 1), ("colossalai", 1), ("colossalai", 2))
) -> pd.DataFrame:
    """The two schedules as each backend trained them with the first seed, of those whose runs are stored; nothing is trained.

    backends: pairs of a name and a number of processes. A row per backend and method: backend, processes, method,
    test accuracy (percent), test loss, training loss (all of the last epoch), seconds an epoch (mean).
    """
    rows = []
    for backend, processes in backends:
        theirs = replace(design, seeds=1, max_seeds=0, backend=backend, processes=processes)
        results = find_results(theirs.multistep() + theirs.onecycle())
        for method, label in (("MultiStep", design.multistep_label), ("OneCycle", design.onecycle_label)):
            if results is not None:
                values = [
                    select_last(results.epochs, label, name)[0] for name in ("test_accuracy", "test_loss", "train_loss")
                ]
                seconds = select_run(results.epochs, label)["seconds"].mean()
                rows.append((backend, processes, method, 100 * values[0], *values[1:], seconds))
    columns = ["backend", "processes", "method", "test accuracy", "test loss", "training loss", "seconds an epoch"]
    return pd.DataFrame(rows, columns=columns)


def compare_curves(epochs: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Test-loss curves of the two schedules, ours (means over seeds) and the author's.

    A row per curve: run, lowest, last, sum of rises (`measure_roughness`).
    """

    def describe(curve):
        losses = curve["test_loss"].to_numpy()
        return pd.Series({"lowest": losses.min(), "last": losses[-1], "sum of rises": measure_roughness(losses)})

    rows, theirs = [], author.load_curves()
    for method, label in (("OneCycle", design.onecycle_label), ("MultiStep", design.multistep_label)):
        ours = pd.DataFrame([describe(curve) for _, curve in select_run(epochs, label).groupby("seed")]).mean()
        rows.append({"run": label, **ours})
        rows.append({"run": f"author, {method}", **describe(theirs[theirs["run"] == method])})
    return pd.DataFrame(rows)


def compare_drops(epochs: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Last test loss by turning point: a row each, its mean and sd over seeds, and in how many seeds it is the lowest."""
    losses = pd.DataFrame({m: select_last(epochs, design.drop_label([m]), "test_loss") for m in design.turning_points})
    wins = losses.idxmin(axis=1).value_counts()
    return pd.DataFrame(
        {
            "turning point": list(design.turning_points),
            "test loss": losses.mean().to_numpy(),
            "sd": losses.std().to_numpy(),
            "lowest in seeds": [int(wins.get(m, 0)) for m in design.turning_points],
        }
    )


def compare_pairs(epochs: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Two runs over the same seeds, by their last epoch: a row per quantity.

    Columns: quantity (test loss, test accuracy in percent, sum of rises of the test loss), first, second (means over
    seeds), difference (first less second, pair by pair) with its 95 % t interval low, high.
    """

    def read(label):
        rises = select_run(epochs, label).groupby("seed")["test_loss"].apply(measure_roughness).to_numpy()
        accuracy = 100 * select_last(epochs, label, "test_accuracy")
        return {
            "test loss": select_last(epochs, label, "test_loss"),
            "test accuracy, %": accuracy,
            "sum of rises": rises,
        }

    rows, theirs = [], read(second)
    for quantity, ours in read(first).items():
        found = estimate_mean(ours - theirs[quantity])
        means = (ours.mean(), theirs[quantity].mean())
        rows.append((quantity, *means, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=["quantity", "first", "second", "difference", "low", "high"])


def measure_roughness(losses: npt.ArrayLike) -> float:
    """Sum of the rises of a curve from one epoch to the next: 0 for one that never rises."""
    return float(np.clip(np.diff(np.asarray(losses, dtype=float)), 0, None).sum())
