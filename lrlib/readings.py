"""What is read off the results: turning points, final accuracies, the shape of curves."""

import numpy as np
import pandas as pd

from lrlib import author
from lrlib.statistics import estimate_accuracy
from lrlib.suggest import smooth, turning_points


def select_run(frame, label):
    """The rows of a results table that belong to the run of that label. Raises ValueError where there are none."""
    selected = frame[frame["run"] == label]
    if selected.empty:
        raise ValueError(f"the results hold no run {label!r}; train it with them")
    return selected


def select_last(epochs, label, column):
    """One value a seed, (n_seeds,): a column of `Results.epochs` at the run's last epoch."""
    run = select_run(epochs, label)
    return run[run["epoch"] == run["epoch"].max()][column].to_numpy()


def locate_turning_points(steps, label):
    """Smoothed losses and turning points of a range test, one of each a seed.

    Returns smoothed, points: lists of float64 arrays (n_steps,), as `lrlib.suggest.smooth` makes them, and of
    `lrlib.suggest.TurningPoints`.
    """
    sweeps = [(group["lr"].to_numpy(), group["loss"].to_numpy()) for _, group in select_run(steps, label).groupby("seed")]
    return [smooth(*sweep) for sweep in sweeps], [turning_points(*sweep) for sweep in sweeps]


def tabulate_accuracies(results, design):
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


def compare_curves(epochs, design):
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


def measure_roughness(losses):
    """Sum of the rises of a curve from one epoch to the next: 0 for one that never rises."""
    return float(np.clip(np.diff(np.asarray(losses, dtype=float)), 0, None).sum())
