"""Readings of the results: turning points, last values, the shape of curves. One value a seed, or a table."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrlib.suggest import TurningPoints, smooth, turning_points

Floats = npt.NDArray[np.float64]

CHANCE_LOSS, CHANCE_ACCURACY = float(np.log(10)), 0.1  # of a uniform guess among ten classes


def count_diverged(epochs: pd.DataFrame) -> pd.DataFrame:
    """`Results.epochs` with the loss and accuracy of a uniform guess where a run diverged, and no larger test loss."""
    return epochs.assign(
        train_loss=epochs["train_loss"].fillna(CHANCE_LOSS),
        test_loss=epochs["test_loss"].fillna(CHANCE_LOSS).clip(upper=CHANCE_LOSS),
        test_accuracy=epochs["test_accuracy"].fillna(CHANCE_ACCURACY),
    )


def select_run(frame: pd.DataFrame, label: str) -> pd.DataFrame:
    """The rows of a results table that belong to the run of that label. Raises ValueError if there are none."""
    selected = frame[frame["run"] == label]
    if selected.empty:
        others = ", ".join(frame["run"].unique())
        raise ValueError(f"the results have no run {label!r}, only {others}; train it with them")
    return selected


def select_curves(epochs: pd.DataFrame, label: str, column: str = "test_loss") -> pd.DataFrame:
    """A column of `Results.epochs` for the run of that label: a row per seed, a column per epoch, in their order."""
    return select_run(epochs, label).pivot(index="seed", columns="epoch", values=column)


def select_last(epochs: pd.DataFrame, label: str, column: str) -> Floats:
    """A column of `Results.epochs` at the run's last epoch: (n_seeds,), in the order of the seeds."""
    return select_curves(epochs, label, column).iloc[:, -1].to_numpy()


def locate_turning_points(steps: pd.DataFrame, label: str, fraction: float) -> tuple[list[Floats], list[TurningPoints]]:
    """Smoothed losses (n_steps,) and turning points of a range test, one a seed; fraction: as in turning_points."""
    groups = [group for _, group in select_run(steps, label).groupby("seed")]
    sweeps = [(group["lr"].to_numpy(), group["loss"].to_numpy()) for group in groups]
    return [smooth(*sweep) for sweep in sweeps], [turning_points(*sweep, fraction=fraction) for sweep in sweeps]


def tabulate_ends(epochs: pd.DataFrame) -> pd.DataFrame:
    """How runs end, as means over seeds: a row per run.

    Columns: run, train loss, lowest test loss (of any epoch), test loss, test accuracy (percent), n (seeds).
    """
    by_seed = count_diverged(epochs).sort_values("epoch").groupby(["run", "seed"], sort=False)
    ends = by_seed[["train_loss", "test_loss", "test_accuracy"]].last()
    ends.insert(1, "lowest_test_loss", by_seed["test_loss"].min())
    by_run = ends.groupby("run", sort=False)
    means = by_run.mean().assign(test_accuracy=lambda frame: 100 * frame["test_accuracy"], n=by_run.size())
    order = epochs["run"].drop_duplicates()
    return means.loc[order].reset_index().rename(columns=lambda name: name.replace("_", " "))


def compare_with_original(epochs: pd.DataFrame, label: str, curve: pd.DataFrame) -> pd.Series:
    """How far a test-loss curve of the original is from ours, over the epochs that both have.

    Args:
        curve: epoch, test_loss and half_width (of the drawn line; 0 for printed values).

    Returns:
        n (epochs); inside (those where the original lies between the min and max of our seeds, up to the half width);
        distance (median over these epochs of its relative distance from our median). Losses above CHANCE_LOSS, the
        original's too, count as that.
    """
    ours = select_run(count_diverged(epochs), label).groupby("epoch")["test_loss"].agg(["min", "median", "max"])
    both = curve.set_index("epoch").join(ours, how="inner")
    theirs, slack = both["test_loss"].clip(upper=CHANCE_LOSS), both.get("half_width", 0.0)
    inside = (theirs >= both["min"] - slack) & (theirs <= both["max"] + slack)
    distance = (theirs / both["median"] - 1).abs().median()
    return pd.Series({"n": len(both), "inside": int(inside.sum()), "distance": distance}, dtype=object)


def measure_roughness(losses: npt.ArrayLike) -> Floats:
    """Sum of the rises from one epoch to the next, along the last axis: 0 for a curve that never rises."""
    return np.clip(np.diff(np.asarray(losses, dtype=float)), 0, None).sum(axis=-1)
