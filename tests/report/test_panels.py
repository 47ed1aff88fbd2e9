"""What a figure's panels say of themselves to the page."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lrlib.report.panels import describe_panels, name_panels
from lrlib.study import author, figures

STEPS = 40
PDF_TEXT_WIDTH = 15.8 / 2.54  # inches


def results(labels, seeds=2, epochs=4):
    steps, by_epoch = [], []
    for i, label in enumerate(labels, 1):
        for seed in range(seeds):
            step = np.arange(epochs * STEPS)
            columns = {
                "run": label,
                "seed": seed,
                "step": step,
                "lr": np.geomspace(1e-6, 1, len(step)),
                "momentum": 0.9,
            }
            steps.append(pd.DataFrame(columns | {"loss": i + seed + 1 / (1 + step)}))
            epoch = np.arange(1, epochs + 1)
            columns = {"run": label, "seed": seed, "epoch": epoch, "test_loss": i + seed / epoch, "test_accuracy": 0.9}
            by_epoch.append(pd.DataFrame(columns | {"n_test": 1000}))
    return pd.concat(by_epoch, ignore_index=True), pd.concat(steps, ignore_index=True)


def draw_all():
    epochs, steps = results(["MultiStep", "OneCycle"])
    suggestions = pd.DataFrame(
        [("SGD", rule, seed, 0.01 + seed / 100) for rule in ("suggest_lr", "minimum_over_ten") for seed in range(3)],
        columns=["run", "rule", "seed", "lr"],
    )
    rows = pd.DataFrame({"row": ["inv, 85 epochs"], "ours": [99.0], "ours sd": [0.1]})
    labels = ["MultiStep", "OneCycle"]
    cells = pd.DataFrame({"choice": ["ours", "ours", "default"], "regret": [0.01, 3.0, 40.0]})
    return {
        "range_test": figures.draw_range_test(epochs, steps, "MultiStep"),
        "sweeps": figures.draw_sweeps(steps, labels),
        "losses": figures.draw_losses(epochs, steps, labels),
        "schedules": figures.draw_schedules(epochs, steps, labels, author.load_curves()),
        "accuracies": figures.draw_accuracies(epochs, labels, author.ACCURACY),
        "suggestions": figures.draw_suggestions(suggestions, ["SGD"], [1e-3]),
        "rows": figures.draw_rows(rows, ["ours"]),
        "profiles": figures.draw_profiles(cells, ["ours", "default"]),
    }


def describe(figure, data):
    series = name_panels(figure)
    svg = io.StringIO()
    figure.savefig(svg, format="svg")
    return describe_panels(figure, series, seeds=data.attrs.get("seeds", ())), svg.getvalue()


@pytest.mark.parametrize("name", draw_all())
def test_no_type_is_below_seven_points_and_no_figure_wider_than_the_text(name):
    figure, _ = draw_all()[name]
    figure.draw_without_rendering()
    shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert min(text.get_fontsize() for text in shown) >= 7
    assert not [text.get_text() for text in shown if "^" in text.get_text()]  # exponents would be smaller
    assert figure.get_size_inches()[0] <= PDF_TEXT_WIDTH


@pytest.mark.parametrize("name", draw_all())
def test_every_series_of_a_panel_has_its_name_its_values_and_its_mark_in_the_drawing(name):
    panels, svg = describe(*draw_all()[name])
    for i, panel in enumerate(panels):
        assert panel["series"] and f'id="panel{i}"' in svg
        left, top, right, bottom = panel["box"]
        assert (
            panel["area"][0] <= left < right <= panel["area"][2]
            and panel["area"][1] <= top < bottom <= panel["area"][3]
        )
        for j, series in enumerate(panel["series"]):
            assert f'id="panel{i}-series{j}-0"' in svg
            assert len(series["x"]) == len(series["y"]) > 0
            assert not re.match("_|panel", series["name"])


def test_a_line_says_its_mean_and_its_band_and_where_its_seeds_are():
    epochs, steps = results(["a"])
    (test, train), _ = describe(*figures.draw_losses(epochs, steps, ["a"]))
    [series] = test["series"]
    assert (series["name"], series["x"], series["y"]) == ("a", [1, 2, 3, 4], [1.5, 1.25, 1.1667, 1.125])
    assert series["band"] == [[1, 2, 3, 4], [1, 1, 1, 1], [2, 1.5, 1.3333, 1.25]]
    assert test["seeds"] == {"x": "epoch", "y": "loss", "by": "run", "where": {"split": "test"}}
    assert (test["x"]["label"], train["y"]["scale"]) == ("epoch", "log")


def test_several_lines_of_one_name_are_one_series_with_a_gap_between():
    axes = (figure := Figure()).subplots()
    for y in ([1, 2], [3, 4]):
        axes.plot([0, 1], y, gid="each")
    [panel], _ = describe(figure, pd.DataFrame())
    assert [(one["name"], one["x"], one["y"]) for one in panel["series"]] == [
        ("each", [0, 1, None, 0, 1], [1, 2, None, 3, 4])
    ]


def test_one_seed_has_no_band_and_no_seeds():
    epochs, steps = results(["a"], seeds=1)
    panels, _ = describe(*figures.draw_losses(epochs, steps, ["a"]))
    assert not any("band" in series or "seeds" in panel for panel in panels for series in panel["series"])


def test_what_is_not_finite_is_null_and_scenery_is_no_series():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], [np.nan, np.inf], label="a")
    axes.plot([1, 2], [1, 2])
    axes.axvline(1.5, color="#112233")
    axes.set_yticks([1, 2], ["low", "high"])
    [panel], _ = describe(figure, pd.DataFrame())
    assert [(series["name"], series["y"]) for series in panel["series"]] == [("a", [None, None])]
    assert panel["marks"] == [{"x": 1.5, "color": "#112233"}]
    assert panel["y"]["words"] == [[1, "low"], [2, "high"]]
