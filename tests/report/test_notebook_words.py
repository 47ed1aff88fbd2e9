"""The section notebooks as they read in JupyterLab: links for citations and references, and nothing raw."""

import re

import nbformat
import pytest

from lrlib.project import project_folder
from lrlib.report.page.citations import find_numbers, link_citations, read_bibliography

NOTEBOOKS = sorted((project_folder() / "notebooks").glob("[0-9]*.ipynb"))
RAW = re.compile(r"\[@|(?<![\w.`])@(fig|tbl|sec)-|(?<!\w)@[a-z]+\d{4}")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_short_form_is_left_in_markdown_which_jupyterlab_shows_as_it_is(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.cell_type == "code" or not RAW.search(cell.source), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_line_within_a_paragraph_begins_like_a_numbered_list(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"^(?!\d+[.)] ).+\n\d+[.)] ", cell.source, re.M), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_references_say_the_number_and_name_the_notebook_that_they_lead_to(path):
    for cell in nbformat.read(path, as_version=4).cells:
        for words, notebook, anchor in re.findall(r"\[([^\]]+)\]\(([\w.-]*)#((?:fig|tbl|sec)-[\w-]+)\)", cell.source):
            number, where = find_numbers(path.parent)[anchor]
            assert (words, notebook or path.name) == (number, where)


def test_citations_read_as_an_author_date_style_has_them():
    works = read_bibliography()
    found = [(works[key].names, works[key].year) for key in ("smith2019", "lecun1998", "coxy1989")]
    assert found == [("Smith and Topin", "2019"), ("LeCun et al.", "1998"), ("coxy1989", "n.d.")]
    urls = [work.url for work in works.values() if work.url]
    assert len(urls) == len(set(urls))


def test_a_link_to_no_work_and_code_are_left_alone():
    text = "[x](https://example.org) `[Smith 2017](https://arxiv.org/abs/1506.01186)`"
    assert link_citations(text) == (text, [])
