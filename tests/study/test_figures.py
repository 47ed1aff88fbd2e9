"""Figures draw what they are given: means, bands, marks, and the author's curves at the right place."""

import numpy as np
import pandas as pd
import pytest

from lrlib.study import author, figures
from lrlib.suggest import turning_points

STEPS_PER_EPOCH = 100


def tables(labels, *, seeds=2, epochs=3, diverge=None):
    epoch_rows, step_rows = [], []
    for i, label in enumerate(labels, 1):
        for seed in range(seeds):
            step = np.arange(epochs * STEPS_PER_EPOCH)
            loss = i + seed + 1 / (1 + step)
            if label == diverge:
                loss[150:] = np.nan
            step_rows.append(
                pd.DataFrame({"run": label, "seed": seed, "step": step, "lr": 0.1 * i, "momentum": 0.9, "loss": loss})
            )
            epoch = np.arange(1, epochs + 1)
            epoch_rows.append(
                pd.DataFrame(
                    {"run": label, "seed": seed, "epoch": epoch, "test_loss": i + seed / epoch, "test_accuracy": 0.9 + seed / 100,
                     "n_test": 1000}
                )
            )  # fmt: skip
    return pd.concat(epoch_rows), pd.concat(step_rows)


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def test_lines_are_means_over_seeds_and_bands_reach_from_least_to_largest():
    epochs, steps = tables(["a", "b"])
    figure, data = figures.draw_losses(epochs, steps, ["a", "b"])
    left = figure.axes[0]
    np.testing.assert_allclose(left.lines[0].get_ydata(), [1.5, 1.25, 1 + 1 / 6])
    band = left.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1.0, 2.0)
    assert set(data["run"]) == {"a", "b"}
    assert set(data["split"]) == {"test", "train"}


def test_the_author_s_training_loss_stands_in_the_middle_of_its_epoch():
    epochs, steps = tables(["a"], seeds=1)
    curve = author.load_curves().query("run == 'MultiStep' and epoch <= 3")
    figure, _ = figures.draw_losses(epochs, steps, ["a"], author_curve=curve, author_label="author")
    np.testing.assert_allclose(lines(figure.axes[0])["author"].get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(figure.axes[1].lines[-1].get_xdata(), [50, 150, 250])
    np.testing.assert_allclose(figure.axes[1].lines[-1].get_ydata(), curve["train_loss"])


def test_turning_points_are_marked_where_they_were_located():
    x = np.linspace(-6, 0, 300)
    loss = 2.3 - 2.2 / (1 + np.exp(-6 * (x + 3))) + 5 * np.clip(x + 1, 0, None) ** 2
    steps = pd.DataFrame({"run": "sweep", "seed": 0, "step": range(300), "lr": 10**x, "loss": loss})
    points = turning_points(10**x, loss)
    figure, _ = figures.draw_sweep(steps, "sweep", [loss], [points])
    marked = [line.get_xdata()[0] for line in figure.axes[1].lines if len(set(line.get_xdata())) == 1]
    assert marked == [points.start_of_fall, points.lowest]


def test_a_run_that_diverged_ends_with_a_cross():
    epochs, steps = tables(["a", "b"], seeds=1, diverge="b")
    figure, _ = figures.draw_losses(epochs, steps, ["a", "b"])
    crosses = [line for line in figure.axes[1].lines if line.get_marker() == "X"]
    assert len(crosses) == 1
    assert 140 < crosses[0].get_xdata()[0] < 150


def test_more_runs_than_colours_are_drawn():
    labels = [f"run {i}" for i in range(8)]
    figure, _ = figures.draw_losses(*tables(labels, seeds=1), labels)
    assert len([line for line in figure.axes[0].lines if len(line.get_xdata())]) == 8


def test_binned_steps_are_means_and_few_enough_to_draw():
    _, steps = tables(["a"], seeds=2, epochs=30)
    binned = figures.bin_steps(steps)
    assert len(binned) <= 2 * figures.N_BINS
    first = binned.query("seed == 0").iloc[0]
    width = int(2 * first["step"] + 1)
    assert first["loss"] == pytest.approx(steps.query("seed == 0")["loss"].iloc[:width].mean())


def test_accuracies_show_every_seed_their_mean_and_the_author_s():
    epochs, _ = tables(["MultiStep [1]", "OneCycle"])
    figure, data = figures.draw_accuracies(epochs, ["MultiStep [1]", "OneCycle"], author.ACCURACY)
    drawn = [tuple(np.round(line.get_xdata(), 6)) for line in figure.axes[0].lines]
    assert (90.0, 91.0) in drawn
    assert (90.5,) in drawn
    assert (99.27,) in drawn
    assert len(data) == 4


def test_a_run_that_is_not_there_is_named():
    epochs, steps = tables(["a"])
    with pytest.raises(ValueError, match="the results hold no run 'b'; train it"):
        figures.draw_losses(epochs, steps, ["a", "b"])
