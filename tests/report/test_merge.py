import json

import nbformat
import pytest
from made_documents import SVG, figure, merge_cells, outputs_of, prose, shows, table, words, write_section
from nbformat.v4 import new_output

from lrlib.report.page.merge import merge_notebooks

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def three_sections(tmp_path):
    first = [prose("# First\n\n## Detail\n\n## Detail\n\n#### Deep"), shows(figure("one"), figure("two"))]
    second = [
        prose("# Second\n\n## Detail"),
        shows(figure("three", caption="Unlike @fig-one."), table("t", "| a |\n|---|\n| @fig-three |")),
        shows(words("From @sec-experiments, @sec-abstract and @fig-two.")),
    ]
    return [
        write_section(tmp_path, "", "abstract", [prose("# The *report*\n\nSee @sec-first and @tbl-t.")]),
        write_section(tmp_path, "1", "first", first),
        write_section(tmp_path, "2.1", "second", second, part="Experiments"),
    ]


def test_figures_tables_and_headings_are_numbered_and_references_become_links(three_sections):
    merged = merge_notebooks(three_sections)
    assert merged.metadata.lrlib.title == "The *report*"
    assert [line for cell in merged.cells for line in cell.source.splitlines() if cell.cell_type == "markdown"] == [
        "See [Section\u00a01](#sec-first) and [Table\u00a01](#tbl-t).",
        "# [1]{.section-number} First {#sec-first}", "", "",
        "## Detail {#sec-first-detail}", "",
        "## Detail {#sec-first-detail-again}", "",
        "### Deep {#sec-first-deep}",  # no level is skipped
        "# [2]{.section-number} Experiments {#sec-experiments}", "",
        "## [2.1]{.section-number} Second {#sec-second}", "", "",
        "### Detail {#sec-second-detail}",
    ]  # fmt: skip
    outputs = outputs_of(merged)
    assert [output.metadata.report.get("caption") for output in outputs] == [
        "[Figure 1.]{.number} A caption.",
        "[Figure 2.]{.number} A caption.",
        "[Figure 3.]{.number} Unlike [Figure\u00a01](#fig-one).",
        "[Table 1.]{.number} A caption.",
        None,
    ]
    assert [output.data["text/markdown"] for output in outputs[3:]] == [
        "| a |\n|---|\n| [Figure\u00a03](#fig-three) |",
        "From [Section\u00a02](#sec-experiments), [Abstract](#sec-abstract) and [Figure\u00a02](#fig-two).",
    ]


def test_the_merged_notebook_is_valid_and_says_where_sections_open_and_close(three_sections):
    merged = merge_notebooks(three_sections)
    nbformat.validate(json.loads(nbformat.writes(merged)))
    assert [cell.id for cell in merged.cells][:3] == ["abstract-0", "first-0", "first-1"]
    assert [cell.metadata.lrlib["opens"] for cell in merged.cells] == [True, True, False, True, False, False]
    assert [cell.metadata.lrlib["closes"] for cell in merged.cells] == [True, False, True, False, False, True]


def test_a_part_says_in_words_what_it_does_not_contain(three_sections):
    figure_, _, text = outputs_of(merge_notebooks(three_sections[2:], partial=True))
    assert figure_.metadata.report.caption == "[Figure 1.]{.number} Unlike another figure."
    assert text.data["text/markdown"] == "From [Section\u00a02](#sec-experiments), another section and another figure."


def test_links_to_labels_rows_and_works_lead_to_places_in_the_document_and_code_stays(tmp_path):
    code = "```python\n# no heading\n@fig-none\n```\n\nand `@fig-none`, C# \\@fig-none\n\n"
    text = (
        f"# A\n\n{code}[Figure 9](#fig-x), [that](1-a.ipynb#sec-a), `[Figure 9](#fig-x)`, [C1](1-a.ipynb#claim-c1), "
        "[C2](#claim-c2), [Smith 2017](https://arxiv.org/abs/1506.01186), [elsewhere](https://example.org), "
        "`[Smith 2016](https://arxiv.org/abs/1506.01186)`"
    )
    rows = table("t", "| id | x |\n|---|---|\n| C1 | y |", anchors=["claim-c1"])
    merged = merge_cells(tmp_path, prose(text), shows(figure("x"), rows))
    assert merged.cells[0].source.endswith(
        f"{code}[Figure\u00a01](#fig-x), [Section\u00a01](#sec-a), `[Figure 9](#fig-x)`, [C1](#claim-c1), C2, "
        "[Smith 2017](#ref-smith2017), [elsewhere](https://example.org), `[Smith 2016](https://arxiv.org/abs/1506.01186)`"
    )
    assert outputs_of(merged)[1].data["text/markdown"].splitlines()[-1] == "| [C1]{#claim-c1} | y |"


def test_a_link_that_gives_a_work_another_year_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="'Smith 2016'.* smith2017, of 2017"):
        merge_cells(tmp_path, prose("# A\n\n[Smith 2016](https://arxiv.org/abs/1506.01186)"))


def test_an_inner_heading_leaves_the_anchor_of_a_section_alone(tmp_path):
    paths = [
        write_section(tmp_path, "1", "range", [prose("# Range\n\n## Test\n\n@sec-range-test")]),
        write_section(tmp_path, "2", "range-test", [prose("# The test")]),
    ]
    first, second = merge_notebooks(paths).cells
    assert "{#sec-range-test-again}" in first.source and "](#sec-range-test)" in first.source
    assert second.source == "# [2]{.section-number} The test {#sec-range-test}"


def test_streams_widgets_and_captions_for_jupyterlab_are_left_out_and_a_banner_stands_once(tmp_path):
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "100%"}
    result = new_output("execute_result", {"text/plain": "42"}, execution_count=1)
    outputs = [new_output("stream", text="100%"), new_output("display_data", widget), words("C", "caption")]
    outputs += [result, words("From the sample.", "banner")]
    paths = [write_section(tmp_path, name, f"s{name}", [prose("# A"), shows(*outputs)]) for name in ("1", "2")]
    shown = [output.data["text/plain"] for output in outputs_of(merge_notebooks(paths))]
    assert shown == ["42", "From the sample.", "42"]


def test_a_reference_to_nothing_is_marked_and_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="1-a.ipynb.*fig-none"):
        merged = merge_cells(tmp_path, prose("# A\n\nSee @fig-none and [Figure 1](1-a.ipynb#fig-none)."))
    assert "See **fig-none?** and **fig-none?**." in merged.cells[0].source


def test_of_two_equal_labels_references_mean_the_first(tmp_path):
    with pytest.warns(UserWarning, match="'fig-x'"):
        merged = merge_cells(tmp_path, prose("# A\n\nSee @fig-x."), shows(*[figure("x") for _ in range(3)]))
    assert "[Figure\u00a01](#fig-x)" in merged.cells[0].source
    anchors = [output.metadata.report.anchor for output in outputs_of(merged)]
    assert anchors == ["fig-x", "fig-x-again", "fig-x-again-again"]


def test_an_image_without_caption_is_a_figure_without_a_number(tmp_path):
    plain = [new_output("display_data", {"image/png": PIXEL}), new_output("display_data", {"image/svg+xml": SVG})]
    with pytest.warns(UserWarning, match="1-a.ipynb"):
        first, second, last = outputs_of(merge_cells(tmp_path, prose("# A"), shows(*plain, figure("y"))))
    assert first.metadata.report.anchor != second.metadata.report.anchor
    assert 'width="1pt" height="1pt"' in first.data["image/svg+xml"] and PIXEL in first.data["image/svg+xml"]
    assert last.metadata.report.caption == "[Figure 1.]{.number} A caption."


def test_tags_show_a_cell_s_code_or_keep_its_outputs_for_jupyterlab(tmp_path):
    cells = [shows(words("for both"), source="shown = 1", tags=["shown"]), shows(words("for the lab"), tags=["lab"])]
    merged = merge_cells(tmp_path, prose("# First"), *cells)
    assert "```python\nshown = 1\n```" in [cell.source for cell in merged.cells if cell.cell_type == "markdown"]
    assert [len(cell.outputs) for cell in merged.cells if cell.cell_type == "code"] == [1, 0]
