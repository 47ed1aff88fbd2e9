import re

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import papermill
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
    words = {"label": "loss", "caption": "The loss.", "alt": "A rising line.", "data": LOSSES, **changes}
    display.show_figure(figure, **words)


def test_a_figure_carries_its_words_and_its_data(shown):
    figure = draw()
    show_figure(figure, width="half")
    [(data, metadata), (caption, about)] = shown
    assert data["text/plain"] == "A rising line."
    assert data["text/csv"] == "step,loss\n0,2.30259\n1,1.23457e+06\n"
    assert metadata["report"] == {
        "kind": "figure",
        "label": "loss",
        "caption": "The loss.",
        "alt": "A rising line.",
        "width": "half",
    }
    assert not plt.fignum_exists(figure.number)
    assert (caption["text/markdown"], about["report"]) == (
        '<a id="fig-loss"></a>**Figure.** The loss.',
        {"kind": "caption"},
    )


def test_the_svg_is_the_same_each_time_and_its_text_is_paths(shown):
    for _ in range(2):
        show_figure(draw())
    first, second = (data["image/svg+xml"] for data, _ in shown if "image/svg+xml" in data)
    assert first == second
    assert "<text" not in first and "<dc:date>" not in first


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label": "Loss 1"}, "label must be lower-case letters, digits and hyphens, got 'Loss 1'"),
        ({"caption": " "}, "caption of 'loss' is empty"),
        ({"alt": ""}, "alt of figure 'loss' is empty"),
        ({"width": "wide"}, "width of figure 'loss' must be one of full, half, got 'wide'"),
    ],
)
def test_a_figure_without_its_words_is_an_error(shown, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        show_figure(draw(), **changes)
    assert not shown


def show_table(shown, frame, **options):
    display.show_table(frame, label="t", caption="A table.", **options)
    return shown[-1][0]


def test_a_table_is_a_pipe_table_with_numbers_on_the_right(shown):
    frame = pd.DataFrame({"run": ["a", "b"], "lr": [0.1, np.nan], "n": [5, 12], "done": [True, False]})
    data = show_table(shown, frame, formats={"n": "03d"}, align={"done": "center"})
    assert data["text/markdown"].splitlines() == [
        "| run | lr | n | done |",
        "| :--- | ---: | ---: | :---: |",
        "| a | 0.1 | 005 | True |",
        "| b | – | 012 | False |",
    ]
    assert data["text/csv"] == "run,lr,n,done\na,0.1,5,True\nb,,12,False\n"
    assert "text/html" not in data  # JupyterLab would show it in place of the Markdown, whose marks it does not read
    assert shown[-1][1]["report"] == {"kind": "table", "label": "t", "caption": "A table."}


def test_a_format_may_be_a_callable(shown):
    data = show_table(shown, pd.DataFrame({"accuracy": [0.9927]}), formats={"accuracy": lambda x: f"{x:.1%}"})
    assert data["text/markdown"].endswith("| 99.3% |")


def test_a_table_that_sums_up_keeps_what_it_sums_up_as_its_data(shown):
    data = show_table(shown, pd.DataFrame({"median": [2.0]}), data=pd.DataFrame({"seed": [0, 1], "lr": [1.0, 3.0]}))
    assert data["text/markdown"].splitlines()[0] == "| median |"
    assert data["text/csv"] == "seed,lr\n0,1\n1,3\n"


@pytest.mark.parametrize(
    "cell, written",
    [
        ("a|b\nc", r"a\|b c"),
        ("costs $5 | or $6", r"costs $5 \| or $6"),
        ("`a|b` | $|x|$ | c", r"`a|b` \| $|x|$ \| c"),
        (r"already \| escaped", r"already \| escaped"),
    ],
)
def test_pipes_and_new_lines_stay_inside_their_cell(shown, cell, written):
    data = show_table(shown, pd.DataFrame({"text": [cell]}))
    assert data["text/markdown"].splitlines()[-1] == f"| {written} |"


@pytest.mark.parametrize("widths, dashes", [([1, 3], [25, 75]), ([1, 1], [51, 50]), (None, [3, 3])])
def test_widths_are_told_in_dashes_that_differ_only_when_widths_are_given(shown, widths, dashes):
    data = show_table(shown, pd.DataFrame({"a": ["x"], "b": ["y"]}), widths=widths)
    assert [len(run) for run in re.findall("-+", data["text/markdown"].splitlines()[1])] == dashes


@pytest.mark.parametrize(
    "options, message",
    [
        ({"formats": {"lr": ".2f"}}, "table 't' has no column 'lr'; it has a, b"),
        ({"align": {"a": "middle"}}, "align of 'a' in table 't' must be left, right or center, got 'middle'"),
        ({"widths": [1]}, "table 't' has 2 columns, got 1 widths"),
    ],
)
def test_a_table_that_contradicts_itself_is_an_error(shown, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        show_table(shown, pd.DataFrame({"a": [1], "b": [2]}), **options)


def test_text_and_banners_are_markdown_with_their_kind(shown):
    display.show_text("")
    display.show_text("$n = 5$")
    display.show_banner("*From the sample.*", kind="note")
    assert [(data["text/markdown"], metadata["report"]) for data, metadata in shown] == [
        ("$n = 5$", {"kind": "text"}),
        ("*From the sample.*", {"kind": "banner", "banner": "note"}),
    ]
    with pytest.raises(ValueError, match="kind of a banner must be one of warning, note, got 'error'"):
        display.show_banner("x", kind="error")


def test_captions_cells_and_words_show_links_where_they_were_written_in_short(shown):
    short = "[@smith2017; @lecun1998] and @smith2019 in @fig-sweep, not `@fig-sweep`"
    linked = (
        "([Smith 2017](https://arxiv.org/abs/1506.01186); [LeCun et al. 1998](https://doi.org/10.1109/5.726791)) and "
        "Smith and Topin ([2019](https://arxiv.org/abs/1708.07120)) in [Figure 2](1-range-test.ipynb#fig-sweep), "
        "not `@fig-sweep`"
    )
    show_figure(draw(), caption=short)
    display.show_table(pd.DataFrame({"a": [short]}), label="claims", caption=short)
    display.show_text(short)
    figure, figure_caption, table_caption, table, words = shown
    assert figure[1]["report"]["caption"] == table[1]["report"]["caption"] == words[0]["text/markdown"] == linked
    assert figure_caption[0]["text/markdown"] == f'<a id="fig-loss"></a>**Figure.** {linked}'
    assert table_caption[0]["text/markdown"] == f'<a id="tbl-claims"></a>**Table 10.** {linked}'
    assert table[0]["text/markdown"].splitlines()[-1] == f"| {linked} |"


def test_a_work_that_is_not_in_the_bibliography_is_an_error_where_it_is_cited(shown):
    with pytest.raises(ValueError, match="citation nobody2000 not found; references.bib has xie2022, "):
        display.show_text("As @nobody2000 says.")


def test_rows_may_have_anchors_one_each(shown):
    show_table(shown, pd.DataFrame({"id": ["C1", "C2"]}), anchors=["claim-c1", "claim-c2"])
    assert shown[-1][1]["report"]["anchors"] == ["claim-c1", "claim-c2"]
    with pytest.raises(ValueError, match="table 't' has 2 rows, got 1 anchors; give one a row"):
        show_table(shown, pd.DataFrame({"id": ["C1", "C2"]}), anchors=["claim-c1"])


def test_what_is_shown_survives_execution_by_papermill(tmp_path):
    source = (
        "import matplotlib.pyplot as plt, pandas as pd\n"
        "from lrlib.report.display import show_figure\n"
        "figure, axes = plt.subplots()\n"
        "show_figure(figure, label='a', caption='C', alt='A', data=pd.DataFrame({'x': [1]}))"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False)
    output, _ = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    assert output.metadata.report == {"kind": "figure", "label": "a", "caption": "C", "alt": "A", "width": "full"}
    assert output.data["text/csv"] == "x\n1\n"
