"""The section notebooks as they read in JupyterLab: links for citations and references, and nothing raw."""

import re

import nbformat
import pytest

from lrlib.project import project_folder
from lrlib.report.page.citations import find_numbers

NOTEBOOKS = sorted((project_folder() / "notebooks").glob("[0-9]*.ipynb"))
RAW = re.compile(r"\[@|(?<![\w.`])@(fig|tbl|sec)-|(?<!\w)@[a-z]+\d{4}")
LINK = re.compile(r"\[([^\]]+)\]\(([\w.-]*)#((?:fig|tbl|sec)-[\w-]+)\)")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_markdown_cells_read_right_in_jupyterlab(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not RAW.search(cell.source), cell.source
            assert not re.search(r"^(?!\d+[.)] ).+\n\d+[.)] ", cell.source, re.M), cell.source  # a list by accident
        for words, notebook, anchor in LINK.findall(cell.source):
            assert (words, notebook or path.name) == find_numbers(path.parent)[anchor]
