"""Figures show what they were given: the data beside each, bands of several seeds, and what one seed lacks."""

import numpy as np
import pandas as pd
import pytest
from made_up import FakeResults, constants, curve, drops, make_design, schedules, sweep

from lrlib.reproduction import author, claims, figures
from lrlib.reproduction.design import SGD_SWEEP, Design
from lrlib.reproduction.drawing import add_legend, bin_steps, open_panels, swarm


def names(panel):
    return panel.get_legend_handles_labels()[1]


def test_a_legend_is_not_cut_off_by_the_figure_s_edge():
    with open_panels(1, width=4.4) as (figure, [axes]):
        for name in ("seed 0, binned", "reproduction, smoothed", "original, one point a decade"):
            axes.plot([1, 2], label=name)
        add_legend(figure, [axes])
    [legend] = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width and len(legend.get_texts()) == 3


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_range_test_lies_over_the_original(n_seeds):
    steps = sweep(seeds=range(n_seeds))
    epochs = curve(SGD_SWEEP, 2.0, seeds=n_seeds, epochs=10)
    figure, data = figures.draw_range_test(epochs, steps, SGD_SWEEP, {"": author.load_figure("1")})
    assert names(figure.axes[0]) == ["reproduction", "original"]
    assert len(figure.axes[0].collections) == (n_seeds > 1)
    original = data[data["run"] == "original"]
    assert original["loss"].tolist() == author.load_figure("1")["test_loss"].tolist()
    ours = data.query("split == 'test' and run != 'original'")
    assert ours["step"].unique().tolist() == list(range(100, 1001, 100))


def test_the_sweep_marks_the_medians_of_the_turning_points():
    steps = pd.concat([sweep(lowest=-1.0, seeds=[0]), sweep(lowest=-1.2, seeds=[1]), sweep(lowest=-1.4, seeds=[2])])
    turning = pd.DataFrame({"lowest": [0.1, 0.2, 0.4]})
    figure, data = figures.draw_sweep(steps, [np.ones(1000)] * 3, turning, {"six": author.load_figure_2b()})
    assert [text.get_text() for text in figure.axes[0].texts] == ["lowest\n0.2"]
    assert data["run"].value_counts()["original, six"] == 6


def test_a_diverged_seed_lifts_the_band_and_not_the_median():
    steps = sweep(seeds=[0, 1, 2])
    steps.loc[(steps["seed"] == 2) & (steps["step"] >= 500), "loss"] = np.nan
    binned = bin_steps(steps)
    assert binned.query("seed == 2 and step > 510")["loss"].isna().all()
    assert binned.query("seed == 0")["loss"].notna().all()


def test_losses_have_the_colour_of_their_run_in_the_original_too():
    curves = {"lr 0.1": author.load_figure("3").query("run == 'lr 0.1'")}
    figure, _ = figures.draw_losses(constants(), ["lr 0.1", "lr 0.01"], curves)
    colors = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
    assert colors["original, lr 0.1"] == colors["lr 0.1"] != colors["lr 0.01"]


def test_schedules_are_drawn_before_training():
    design = Design(dataset="sample", seeds=2)
    figure, data = figures.draw_schedules(design.multistep() + design.onecycle())
    assert data["run"].unique().tolist() == ["MultiStep [15, 25]", "OneCycle"]
    cycle = data[data["run"] == "OneCycle"]
    assert cycle["momentum"].max() == pytest.approx(0.95) and cycle["lr"].max() == pytest.approx(0.1, rel=1e-3)


def test_the_forest_shows_every_estimate_in_its_unit():
    epochs = pd.concat([constants(noise=0.1), drops((0.03, 0.029, 0.028), noise=0.1), schedules(noise=0.1)])
    steps = pd.concat([sweep(), pd.DataFrame({"run": "OneCycle", "seed": 0, "step": range(2), "lr": [0.1, 1e-3]})])
    verdicts = claims.judge(FakeResults(epochs, steps), make_design())
    figure, data = figures.draw_forest(verdicts)
    assert len(data) == sum(len(verdict.estimates) for verdict in verdicts)
    units = ["share of seeds, %", "loss or roughness, %", "accuracy, points"]
    assert [axes.get_xlabel() for axes in figure.axes] == units


@pytest.mark.parametrize("n_seeds", [1, 40])
def test_every_seed_is_a_dot_beside_the_original(n_seeds):
    values = np.linspace(99.1, 99.3, n_seeds)
    figure, data = figures.draw_seeds({"OneCycle": values}, "accuracy, %", originals={"OneCycle": 99.18})
    assert data["run"].value_counts().to_dict() == {"OneCycle": n_seeds, "original, OneCycle": 1}
    assert names(figure.axes[0]) == ["95 % prediction interval of one seed", "mean", "original, one seed"]
    figure, data = figures.draw_seeds({"a": values, "b": -values}, "points")
    assert len(data) == 2 * n_seeds and names(figure.axes[0])[0] == "95 % confidence interval"


def test_a_swarm_spreads_equal_values_evenly():
    first, second, third, apart = swarm(np.array([1.0, 1.0, 1.0, 2.0]), 0.1)
    assert first == -third < second == apart == 0
