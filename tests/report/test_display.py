import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lrlib.report import display

matplotlib.use("Agg")

LOSSES = pd.DataFrame({"step": [0, 1], "loss": [2.302585093, 1234567.891]})


@pytest.fixture
def shown(monkeypatch):
    """What was displayed: list of (data, metadata)."""
    bundles = []
    monkeypatch.setattr(display, "display", lambda data, *, metadata, raw: bundles.append((data, metadata)))
    return bundles


def draw():
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.plot(LOSSES.step, LOSSES.loss)
    axes.set_title("loss")
    return figure


def show_figure(figure, **changes):
    words = {"label": "loss", "caption": "The loss.", "alt": "A line.", "data": LOSSES}
    display.show_figure(figure, **words | changes)


def test_a_figure_carries_its_words_and_its_data_and_is_the_same_each_time(shown):
    for figure in (draw(), draw()):
        show_figure(figure)
        assert not plt.fignum_exists(figure.number)
    (data, metadata), (caption, about), (again, _), _ = shown
    assert data["text/plain"] == "A line." and data["text/csv"] == "step,loss\n0,2.30259\n1,1.23457e+06\n"
    assert data == again and ">loss</text>" in data["image/svg+xml"] and "<dc:date>" not in data["image/svg+xml"]
    assert metadata["report"] == {"kind": "figure", "label": "loss", "caption": "The loss.", "alt": "A line."}
    assert caption["text/markdown"] == '<a id="fig-loss"></a>**Figure.** The loss.'
    assert about["report"] == {"kind": "caption"}


def test_panels_hold_the_points_that_are_drawn(shown):
    figure, axes = plt.subplots()
    axes.plot([1, 10, 100], [1.0, float("nan"), 0.5], color="#0072B2", label="ours")
    axes.plot([5, 5], [0, 1])  # without a name: scenery
    axes.set(xscale="log", xlabel="step", xlim=(1, 100))
    axes.set_yticks([0, 1], ["no", "yes"])
    show_figure(figure)
    [panel] = shown[0][0]["application/vnd.lrlib.panels+json"]
    assert panel["series"] == [{"name": "ours", "color": "#0072b2", "x": [1, 10, 100], "y": [1.0, None, 0.5]}]
    assert panel["x"] == {"label": "step", "scale": "log", "limits": [1, 100]}
    assert panel["y"]["words"] == [[0, "no"], [1, "yes"]]


@pytest.mark.parametrize(
    "changes, message",
    [({"label": "Loss 1"}, "'Loss 1'"), ({"caption": " "}, "caption of 'loss'"), ({"alt": ""}, "alt of 'loss'")],
)
def test_a_figure_without_its_words_is_an_error(shown, changes, message):
    with pytest.raises(ValueError, match=message):
        show_figure(draw(), **changes)
    assert not shown


def show_table(shown, frame, **options):
    display.show_table(frame, label="t", caption="A table.", **options)
    return shown[-1][0]


def test_a_table_is_a_pipe_table_with_numbers_on_the_right(shown):
    frame = pd.DataFrame({"run": ["a", "b"], "lr": [0.1, np.nan], "n": [5, 12], "done": [True, False]})
    data = show_table(shown, frame, formats={"n": "03d", "lr": lambda value: f"{value:.1%}"})
    assert data["text/markdown"].splitlines() == [
        "| run | lr | n | done |",
        "| :--- | ---: | ---: | :--- |",
        "| a | 10.0% | 005 | True |",
        "| b | – | 012 | False |",
    ]
    assert data["text/csv"] == "run,lr,n,done\na,0.1,5,True\nb,,12,False\n"
    assert "text/html" not in data  # JupyterLab would show it in place of the Markdown, whose marks it does not read
    assert shown[-1][1]["report"] == {"kind": "table", "label": "t", "caption": "A table."}
    assert show_table(shown, frame, data=LOSSES)["text/csv"].startswith("step,loss\n")


@pytest.mark.parametrize(
    "cell, written",
    [
        ("a|b\nc", r"a\|b c"),
        ("costs $5 | or $6", r"costs $5 \| or $6"),
        ("`a|b` | $|x|$ | c", r"`a|b` \| $|x|$ \| c"),
        (r"already \| escaped", r"already \| escaped"),
        ("+0.01 [0.00, 0.02], 9.1 to 9.2 %", "+0.01 [0.00,\u00a00.02], 9.1\u00a0to\u00a09.2\u00a0%"),
    ],
)
def test_pipes_and_new_lines_stay_inside_their_cell(shown, cell, written):
    data = show_table(shown, pd.DataFrame({"text": [cell]}))
    assert data["text/markdown"].splitlines()[-1] == f"| {written} |"


@pytest.mark.parametrize("widths, dashes", [([1, 3], [25, 75]), ([1, 1], [51, 50]), (None, [3, 3])])
def test_widths_are_told_in_dashes_that_differ_only_when_widths_are_given(shown, widths, dashes):
    data = show_table(shown, pd.DataFrame({"a": ["x"], "b": ["y"]}), widths=widths)
    assert [len(run) for run in re.findall("-+", data["text/markdown"].splitlines()[1])] == dashes


def test_a_table_that_contradicts_itself_is_an_error(shown):
    for wrong in ({"formats": {"lr": ".2f"}}, {"widths": [1, 2]}):
        with pytest.raises(ValueError, match="no column 'lr'; it has a|must have 1 entries, got 2"):
            show_table(shown, pd.DataFrame({"a": [1]}), **wrong)


def test_text_banners_and_findings_are_markdown_with_their_kind(shown):
    display.show_text("")
    display.show_text("$n = 5$")
    display.show_banner("Beware.")
    display.show_findings("Found.", verdicts={"C1": "reproduced"}, values={"a": "1 %"})
    assert [(data["text/markdown"], metadata["report"]) for data, metadata in shown] == [
        ("$n = 5$", {"kind": "text"}),
        ("Beware.", {"kind": "banner"}),
        ("Found.", {"kind": "findings", "verdicts": {"C1": "reproduced"}, "values": {"a": "1 %"}}),
    ]


def test_short_references_become_links(shown, monkeypatch, root):
    monkeypatch.chdir(root / "notebooks")
    display.show_text("@smith2019 in @sec-range-test, not `@fig-x`, @fig-nowhere, a\\@fig-range-test")
    assert shown[0][0]["text/markdown"] == (
        "@smith2019 in [Section 1](1-range-test.ipynb#sec-range-test), not `@fig-x`, @fig-nowhere, a\\@fig-range-test"
    )
