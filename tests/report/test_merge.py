import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lrlib.report.page.merge import merge_notebooks

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt" viewBox="0 0 9 9"><path d="M 0 0 L 9 9"/></svg>'


def write_section(folder, name, number, anchor, cells, **about):
    notebook = new_notebook(cells=cells, metadata={"lrlib": {"section": number, "anchor": anchor, **about}})
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def prose(text):
    return new_markdown_cell(text)


def shows(*outputs, source="show()", tags=()):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def figure(label, caption="A caption.", alt="A line.", svg=SVG):
    report = {"kind": "figure", "label": label, "caption": caption, "alt": alt, "width": "full"}
    data = {"image/svg+xml": svg, "text/csv": "x,y\n1,2\n", "text/plain": alt}
    return new_output("display_data", data, metadata={"report": report})


def table(label, markdown="| a |\n|---|\n| b |", caption="A caption."):
    report = {"kind": "table", "label": label, "caption": caption}
    data = {"text/markdown": markdown, "text/html": "<table></table>", "text/csv": "a\nb\n", "text/plain": "a"}
    return new_output("display_data", data, metadata={"report": report})


def words(markdown, kind="text", **more):
    report = {"kind": kind, **more}
    return new_output("display_data", {"text/markdown": markdown, "text/plain": markdown}, metadata={"report": report})


@pytest.fixture
def three_sections(tmp_path):
    return [
        write_section(tmp_path, "00-abstract", "", "abstract", [prose("# The *report*\n\nSee @sec-first and @tbl-t.")]),
        write_section(
            tmp_path,
            "1-first",
            "1",
            "first",
            [prose("# First\n\n## Detail\n\n## Detail\n\n#### Deep"), shows(figure("one"), figure("two"))],
        ),
        write_section(
            tmp_path,
            "2-1-second",
            "2.1",
            "second",
            [
                prose("# Second\n\n## Detail"),
                shows(figure("three", caption="Unlike @fig-one."), table("t", "| a |\n|---|\n| @fig-three |")),
                shows(words("From @sec-experiments, @sec-abstract and @fig-two.")),
            ],
            part="Experiments",
        ),
    ]


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


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
    markdown = [output.data["text/markdown"] for output in outputs_of(merged) if "text/markdown" in output.data]
    assert markdown == [
        "| a |\n|---|\n| [Figure\u00a03](#fig-three) |",
        "From [Section\u00a02](#sec-experiments), [Abstract](#sec-abstract) and [Figure\u00a02](#fig-two).",
    ]


def test_links_to_a_notebook_s_label_and_to_a_work_lead_to_places_in_the_report(tmp_path):
    text = (
        "# A\n\n[Figure 9](#fig-x), [that](2-b.ipynb#sec-b), `[Figure 9](#fig-x)`, "
        "[Smith 2017](https://arxiv.org/abs/1506.01186), [elsewhere](https://example.org)"
    )
    paths = [
        write_section(tmp_path, "1-a", "1", "a", [prose(text), shows(figure("x"))]),
        write_section(tmp_path, "2-b", "2", "b", [prose("# B")]),
    ]
    merged = merge_notebooks(paths)
    assert merged.cells[0].source.splitlines()[-1] == (
        "[Figure\u00a01](#fig-x), [Section\u00a02](#sec-b), `[Figure 9](#fig-x)`, [Smith 2017](#ref-smith2017), "
        "[elsewhere](https://example.org)"
    )
    assert merged.metadata.lrlib.cited == ["smith2017"]


def test_a_link_that_gives_a_work_another_year_is_an_error(tmp_path):
    path = write_section(tmp_path, "1-a", "1", "a", [prose("# A\n\n[Smith 2016](https://arxiv.org/abs/1506.01186)")])
    with pytest.raises(ValueError, match="1-a.ipynb: a link to .* says 'Smith 2016'; that work is Smith 2017"):
        merge_notebooks([path])


def test_a_caption_displayed_for_jupyterlab_is_left_out(tmp_path):
    path = write_section(
        tmp_path, "1", "1", "a", [prose("# A"), shows(words("**Figure 1.** C", "caption"), words("W"))]
    )
    assert [output.data["text/plain"] for output in outputs_of(merge_notebooks([path]))] == ["W"]


def test_a_section_s_recipe_holds_what_differs_from_the_notebooks_defaults(tmp_path):
    source = "import math\nseeds: int = 1\nlrs: list[float] = [0.1]\nname: str = 'a'\na, b = 1, 2\nc = 2 * 3"
    declared = shows(source=source, tags=["parameters"])
    path = write_section(tmp_path, "mine", "2.2", "a", [prose("# A"), declared])
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["papermill"] = {"parameters": {"seeds": 5, "lrs": [0.1, 1], "name": "a"}}
    nbformat.write(notebook, path)
    recipe = merge_notebooks([path]).metadata.lrlib.recipes["a"]
    assert recipe.command == "make section NAME=2-2 SEEDS=5 PARAMS='lrs=[0.1, 1]'"
    assert recipe.parameters == {"seeds": 5, "lrs": [0.1, 1], "name": "a"}


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
        write_section(tmp_path, "1", "1", "range", [prose("# Range\n\n## Test\n\n@sec-range-test")]),
        write_section(tmp_path, "2", "2", "range-test", [prose("# The test")]),
    ]
    first, second = merge_notebooks(paths).cells
    assert "{#sec-range-test-again}" in first.source and "](#sec-range-test)" in first.source
    assert second.source == "# [2]{.section-number} The test {#sec-range-test}"


def test_code_keeps_its_signs(tmp_path):
    code = "```python\n# no heading\n@fig-none\n```\n\nand `@fig-none`, C# \\@fig-none"
    path = write_section(tmp_path, "1", "1", "a", [prose(f"# A\n\n{code}")])
    assert merge_notebooks([path]).cells[0].source.endswith(code)


def test_the_merged_notebook_is_valid_with_ids_that_say_where_a_cell_is_from(three_sections):
    merged = merge_notebooks(three_sections)
    nbformat.validate(json.loads(nbformat.writes(merged)))
    assert [cell.id for cell in merged.cells][:3] == ["abstract-0", "first-0", "first-1"]
    assert [cell.metadata.lrlib["opens"] for cell in merged.cells] == [True, True, False, True, False, False]
    assert [cell.metadata.lrlib["closes"] for cell in merged.cells] == [True, False, True, False, False, True]


def test_streams_and_widgets_are_left_out(tmp_path):
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "100%"}
    outputs = [
        new_output("stream", text="100%|####|"),
        new_output("display_data", widget),
        new_output("execute_result", {"text/plain": "42"}, execution_count=1),
    ]
    path = write_section(tmp_path, "1", "1", "a", [prose("# A"), shows(*outputs)])
    [output] = outputs_of(merge_notebooks([path]))
    assert output.data["text/plain"] == "42"


def test_a_banner_that_every_section_shows_stands_once(tmp_path):
    banners = [words("From the sample.", "banner"), words("Other.", "banner"), words("Other.")]
    paths = [
        write_section(tmp_path, name, name, f"section-{name}", [prose("# A"), shows(*banners)]) for name in ("1", "2")
    ]
    shown = [output.data["text/plain"] for output in outputs_of(merge_notebooks(paths))]
    assert shown == ["From the sample.", "Other.", "Other.", "Other."]


def test_a_part_of_the_report_says_in_words_what_it_does_not_hold(three_sections):
    merged = merge_notebooks(three_sections[2:], partial=True)
    assert outputs_of(merged)[0].metadata.report.caption == "[Figure 1.]{.number} Unlike another figure."
    assert "and another figure" in outputs_of(merged)[2].data["text/markdown"]
    assert "another section" in outputs_of(merged)[2].data["text/markdown"]
    assert "[Section\u00a02](#sec-experiments)" in outputs_of(merged)[2].data["text/markdown"]


@pytest.mark.parametrize("cells", [[prose("Words first")], []])
def test_a_notebook_without_a_heading_is_named(tmp_path, cells):
    path = write_section(tmp_path, "1-a", "1", "a", cells)
    with pytest.raises(ValueError, match="1-a.ipynb must start with a Markdown cell"):
        merge_notebooks([path])


@pytest.mark.parametrize("words_", ["@fig-none", "[Figure 1](1-a.ipynb#fig-none)"])
def test_a_reference_to_nothing_is_marked_and_warned_of(tmp_path, words_):
    path = write_section(tmp_path, "1-a", "1", "a", [prose(f"# A\n\nSee {words_}.")])
    with pytest.warns(UserWarning, match="1-a.ipynb refers to @fig-none, which is nowhere; it is marked in the report"):
        merged = merge_notebooks([path])
    assert "See **fig-none?**." in merged.cells[0].source


def test_of_two_equal_labels_references_mean_the_first(tmp_path):
    cells = [prose("# A\n\nSee @fig-x."), shows(figure("x"), figure("x"), figure("x"))]
    path = write_section(tmp_path, "1-a", "1", "a", cells)
    with pytest.warns(
        UserWarning, match="1-a.ipynb: label 'fig-x' is already used in 1-a.ipynb, which references mean"
    ):
        merged = merge_notebooks([path])
    assert "[Figure\u00a01](#fig-x)" in merged.cells[0].source
    anchors = [output.metadata.report.anchor for output in outputs_of(merged)]
    assert anchors == ["fig-x", "fig-x-again", "fig-x-again-again"]


def test_an_image_without_words_is_a_figure_without_a_number(tmp_path):
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    plain = [new_output("display_data", {"image/png": pixel}), new_output("display_data", {"image/svg+xml": SVG})]
    path = write_section(tmp_path, "1-a", "1", "a", [prose("# A"), shows(*plain, figure("x", alt=" "), figure("y"))])
    with pytest.warns(UserWarning, match="1-a.ipynb: .*figure.* has no alternative text, number or caption"):
        first, second, third, last = outputs_of(merge_notebooks([path]))
    assert len({output.metadata.report.anchor for output in (first, second, third)}) == 3
    assert all(
        output.metadata.report.kind == "plain" and output.metadata.report.alt for output in (first, second, third)
    )
    assert 'width="1pt" height="1pt"' in first.data["image/svg+xml"] and pixel in first.data["image/svg+xml"]
    assert last.metadata.report.caption == "[Figure 1.]{.number} A caption."


def test_a_notebook_without_its_section_is_an_error(tmp_path):
    nbformat.write(new_notebook(cells=[prose("# A")]), tmp_path / "a.ipynb")
    with pytest.raises(ValueError, match="a.ipynb has no section in its metadata"):
        merge_notebooks([tmp_path / "a.ipynb"])


def test_tags_show_a_cell_s_code_or_keep_its_outputs_for_jupyterlab(tmp_path):
    cells = [
        prose("# First"),
        shows(words("for both"), source="shown = 1", tags=["shown"]),
        shows(words("for the lab"), source="y = 2", tags=["lab"]),
    ]
    merged = merge_notebooks([write_section(tmp_path, "1-first", "1", "first", cells)])
    assert [cell.source for cell in merged.cells if "shown = 1" in cell.source and cell.cell_type == "markdown"] == [
        "```python\nshown = 1\n```"
    ]
    assert [len(cell.outputs) for cell in merged.cells if cell.cell_type == "code"] == [1, 0]
