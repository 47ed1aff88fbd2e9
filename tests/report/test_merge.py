import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lrlib.report.page.merge import merge_notebooks

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt" viewBox="0 0 9 9"><path d="M 0 0 L 9 9"/></svg>'
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def write_section(folder, number, anchor, cells, **about):
    about = {"section": number, "anchor": anchor, "command": f"make section NAME={number}", **about}
    path = folder / f"{number}-{anchor}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"lrlib": about}), path)
    return path


def prose(text):
    return new_markdown_cell(text)


def shows(*outputs, source="show()", tags=()):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def figure(label, caption="A caption.", alt="A line.", svg=SVG):
    report = {"kind": "figure", "label": label, "caption": caption, "alt": alt}
    data = {"image/svg+xml": svg, "text/csv": "x,y\n1,2\n", "text/plain": alt}
    return new_output("display_data", data, metadata={"report": report})


def table(label, markdown="| a |\n|---|\n| b |", caption="A caption.", **more):
    report = {"kind": "table", "label": label, "caption": caption, **more}
    data = {"text/markdown": markdown, "text/csv": "a\nb\n", "text/plain": "a"}
    return new_output("display_data", data, metadata={"report": report})


def words(markdown, kind="text", **more):
    report = {"kind": kind, **more}
    return new_output("display_data", {"text/markdown": markdown, "text/plain": markdown}, metadata={"report": report})


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


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


def test_figures_and_tables_are_numbered_apart_in_document_order(three_sections):
    captions = [output.metadata.report.get("caption") for output in outputs_of(merge_notebooks(three_sections))]
    assert captions == [
        "[Figure 1.]{.number} A caption.",
        "[Figure 2.]{.number} A caption.",
        "[Figure 3.]{.number} Unlike [Figure\u00a01](#fig-one).",
        "[Table 1.]{.number} A caption.",
        None,
    ]


def test_references_become_links_in_prose_tables_and_computed_text(three_sections):
    merged = merge_notebooks(three_sections)
    assert merged.cells[0].source == "See [Section\u00a01](#sec-first) and [Table\u00a01](#tbl-t)."
    assert [output.data["text/markdown"] for output in outputs_of(merged) if "text/markdown" in output.data] == [
        "| a |\n|---|\n| [Figure\u00a03](#fig-three) |",
        "From [Section\u00a02](#sec-experiments), [Abstract](#sec-abstract) and [Figure\u00a02](#fig-two).",
    ]


def test_links_to_labels_rows_and_works_lead_to_places_in_the_document(tmp_path):
    text = (
        "# A\n\n[Figure 9](#fig-x), [that](2-b.ipynb#sec-b), `[Figure 9](#fig-x)`, [C1](1-a.ipynb#claim-c1), "
        "[C2](#claim-c2), [Smith 2017](https://arxiv.org/abs/1506.01186), [elsewhere](https://example.org)"
    )
    rows = table("t", "| id | x |\n|---|---|\n| C1 | y |", anchors=["claim-c1"])
    paths = [
        write_section(tmp_path, "1", "a", [prose(text), shows(figure("x"), rows)]),
        write_section(tmp_path, "2", "b", [prose("# B")]),
    ]
    merged = merge_notebooks(paths)
    assert merged.cells[0].source.splitlines()[-1] == (
        "[Figure\u00a01](#fig-x), [Section\u00a02](#sec-b), `[Figure 9](#fig-x)`, [C1](#claim-c1), C2, "
        "[Smith 2017](#ref-smith2017), [elsewhere](https://example.org)"
    )
    assert outputs_of(merged)[1].data["text/markdown"].splitlines()[-1] == "| [C1]{#claim-c1} | y |"
    assert merged.metadata.lrlib.cited == ["smith2017"]


def test_a_link_that_gives_a_work_another_year_is_an_error(tmp_path):
    path = write_section(tmp_path, "1", "a", [prose("# A\n\n[Smith 2016](https://arxiv.org/abs/1506.01186)")])
    with pytest.raises(ValueError, match="'Smith 2016'.* smith2017, of 2017"):
        merge_notebooks([path])


def test_headings_are_numbered_by_metadata_and_their_anchors_are_unique(three_sections):
    merged = merge_notebooks(three_sections)
    headings = [line for cell in merged.cells for line in cell.source.splitlines() if line.startswith("#")]
    assert headings == [
        "# [1]{.section-number} First {#sec-first}",
        "## Detail {#sec-first-detail}",
        "## Detail {#sec-first-detail-again}",
        "### Deep {#sec-first-deep}",  # no level is skipped
        "# [2]{.section-number} Experiments {#sec-experiments}",
        "## [2.1]{.section-number} Second {#sec-second}",
        "### Detail {#sec-second-detail}",
    ]
    assert merged.metadata.lrlib.title == "The *report*"


def test_an_inner_heading_leaves_the_anchor_of_a_section_alone(tmp_path):
    paths = [
        write_section(tmp_path, "1", "range", [prose("# Range\n\n## Test\n\n@sec-range-test")]),
        write_section(tmp_path, "2", "range-test", [prose("# The test")]),
    ]
    first, second = merge_notebooks(paths).cells
    assert "{#sec-range-test-again}" in first.source and "](#sec-range-test)" in first.source
    assert second.source == "# [2]{.section-number} The test {#sec-range-test}"


def test_code_keeps_its_signs(tmp_path):
    code = "```python\n# no heading\n@fig-none\n```\n\nand `@fig-none`, C# \\@fig-none"
    path = write_section(tmp_path, "1", "a", [prose(f"# A\n\n{code}")])
    assert merge_notebooks([path]).cells[0].source.endswith(code)


def test_the_merged_notebook_is_valid_and_says_where_sections_open_and_close(three_sections):
    merged = merge_notebooks(three_sections)
    nbformat.validate(json.loads(nbformat.writes(merged)))
    assert [cell.id for cell in merged.cells][:3] == ["abstract-0", "first-0", "first-1"]
    assert [cell.metadata.lrlib["opens"] for cell in merged.cells] == [True, True, False, True, False, False]
    assert [cell.metadata.lrlib["closes"] for cell in merged.cells] == [True, False, True, False, False, True]


def test_streams_widgets_and_captions_for_jupyterlab_are_left_out_and_a_banner_stands_once(tmp_path):
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "100%"}
    result = new_output("execute_result", {"text/plain": "42"}, execution_count=1)
    outputs = [new_output("stream", text="100%"), new_output("display_data", widget), words("C", "caption")]
    outputs += [result, words("From the sample.", "banner")]
    paths = [write_section(tmp_path, name, f"s{name}", [prose("# A"), shows(*outputs)]) for name in ("1", "2")]
    shown = [output.data["text/plain"] for output in outputs_of(merge_notebooks(paths))]
    assert shown == ["42", "From the sample.", "42"]


def test_a_part_says_in_words_what_it_does_not_contain(three_sections):
    merged = merge_notebooks(three_sections[2:], partial=True)
    assert outputs_of(merged)[0].metadata.report.caption == "[Figure 1.]{.number} Unlike another figure."
    assert outputs_of(merged)[2].data["text/markdown"] == (
        "From [Section\u00a02](#sec-experiments), another section and another figure."
    )


@pytest.mark.parametrize("reference", ["@fig-none", "[Figure 1](1-a.ipynb#fig-none)"])
def test_a_reference_to_nothing_is_marked_and_warned_of(tmp_path, reference):
    path = write_section(tmp_path, "1", "a", [prose(f"# A\n\nSee {reference}.")])
    with pytest.warns(UserWarning, match="1-a.ipynb.*fig-none"):
        merged = merge_notebooks([path])
    assert "See **fig-none?**." in merged.cells[0].source


def test_of_two_equal_labels_references_mean_the_first(tmp_path):
    path = write_section(tmp_path, "1", "a", [prose("# A\n\nSee @fig-x."), shows(*[figure("x") for _ in range(3)])])
    with pytest.warns(UserWarning, match="'fig-x'"):
        merged = merge_notebooks([path])
    assert "[Figure\u00a01](#fig-x)" in merged.cells[0].source
    anchors = [output.metadata.report.anchor for output in outputs_of(merged)]
    assert anchors == ["fig-x", "fig-x-again", "fig-x-again-again"]


def test_an_image_without_caption_is_a_figure_without_a_number(tmp_path):
    plain = [new_output("display_data", {"image/png": PIXEL}), new_output("display_data", {"image/svg+xml": SVG})]
    path = write_section(tmp_path, "1", "a", [prose("# A"), shows(*plain, figure("y"))])
    with pytest.warns(UserWarning, match="1-a.ipynb"):
        first, second, last = outputs_of(merge_notebooks([path]))
    assert first.metadata.report.anchor != second.metadata.report.anchor
    assert 'width="1pt" height="1pt"' in first.data["image/svg+xml"] and PIXEL in first.data["image/svg+xml"]
    assert last.metadata.report.caption == "[Figure 1.]{.number} A caption."


def test_tags_show_a_cell_s_code_or_keep_its_outputs_for_jupyterlab(tmp_path):
    cells = [
        prose("# First"),
        shows(words("for both"), source="shown = 1", tags=["shown"]),
        shows(words("for the lab"), source="y = 2", tags=["lab"]),
    ]
    merged = merge_notebooks([write_section(tmp_path, "1", "first", cells)])
    assert "```python\nshown = 1\n```" in [cell.source for cell in merged.cells if cell.cell_type == "markdown"]
    assert [len(cell.outputs) for cell in merged.cells if cell.cell_type == "code"] == [1, 0]
