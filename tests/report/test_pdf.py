import re

import pypdf
import pytest
from made_documents import (
    FORMULA,
    UNUSUAL_READ,
    figure,
    merge_cells,
    merge_everything,
    prose,
    shows,
    table,
    write_section,
)

from lrlib.report.page.merge import merge_notebooks
from lrlib.report.page.pdf import export_pdf


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    return merge_everything(tmp_path_factory.mktemp("sections"))


@pytest.fixture(scope="module")
def path(notebook, tmp_path_factory):
    out = tmp_path_factory.mktemp("pdf") / "report.pdf"
    export_pdf(notebook, out=out)
    return out


@pytest.fixture(scope="module")
def pdf(path):
    return pypdf.PdfReader(path)


def export(folder, document):
    """The texts of the pages."""
    export_pdf(document, out=folder / "r.pdf")
    return [page.extract_text() for page in pypdf.PdfReader(folder / "r.pdf").pages]


def test_the_words_are_on_the_pages_and_code_is_not(pdf):
    text = " ".join(" ".join(page.extract_text() for page in pdf.pages).split())
    for passage in [
        'Rates < 1 & "more" #1', "the lrlib authors", "1 May 2026 · commit abc", "The sample only.", "1 Part",
        "1.1 The test", "see Section 1.1", f"Figure 1. As in Table 1. {UNUSUAL_READ}", "Table 1. A caption.",
        f"a_b b {UNUSUAL_READ} ? inconclusive", '<Thing "b" #1 *> \\', "References", "Cyclical Learning Rates",
    ]:  # fmt: skip
        assert passage in text
    assert "secret" not in text and "show()" not in text
    assert text.index("Found this.") < text.index("C2 ✗ not reproduced") < text.index("Abstract")
    assert text.count("Found this.") == 1
    assert text.index("a list without a blank line") < text.index("Figure 1. As") < text.index("Table 1. A caption.")


def test_the_pdf_is_tagged_with_title_language_bookmarks_and_alternative_texts(pdf):
    root = pdf.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"].value and root["/Lang"] == "en"
    assert pdf.metadata.title == 'Rates < 1 & "more" #1' and pdf.metadata.author == "the lrlib authors"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"].value
    assert b"pdfuaid:part" in root["/Metadata"].get_data()
    assert [entry.title.split()[-1] for entry in pdf.outline if not isinstance(entry, list)] == ["Part", "References"]
    texts = [r"\eta = 10^{-3}", FORMULA, 'A "line"\\ <up> #1.', "A line."]
    assert alternative_texts(root["/StructTreeRoot"]) == texts


def alternative_texts(element):
    if not isinstance(element, pypdf.generic.DictionaryObject):
        return []
    children = element.get("/K", [])
    children = children if isinstance(children, list) else [children]
    own = [element["/Alt"]] if "/Alt" in element else []
    return own + [alt for child in children for alt in alternative_texts(child.get_object())]


def test_the_same_notebook_gives_the_same_bytes_and_leaves_nothing_else(notebook, path, tmp_path):
    export_pdf(notebook, out=tmp_path / "again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["again.pdf"]
    assert pypdf.PdfReader(path).metadata.creation_date is None


def test_a_figure_that_typst_cannot_read_is_an_error_and_leaves_no_file(tmp_path):
    document = merge_cells(tmp_path, prose("# A"), shows(figure("x", svg="no svg")))
    with pytest.raises(ValueError, match="SVG"):
        export_pdf(document, out=tmp_path / "r.pdf")
    assert not (tmp_path / "r.pdf").exists()


@pytest.mark.parametrize("n_words", [1, 60], ids=["short", "long"])
def test_head_first_and_last_rows_of_a_table_stay_together_wherever_a_page_ends(tmp_path, n_words):
    rows = "\n".join(f"| row{i}. | {'words ' * n_words} |" for i in range(12))
    shown = table("t", f"| h1 | h2 |\n|{'-' * 30}|{'-' * 70}|\n{rows}")
    for n in range(20, 50, 5):
        lines = "\n\n".join(f"Line {i}." for i in range(n))
        pages = export(tmp_path, merge_cells(tmp_path, prose(f"# A\n\n{lines}"), shows(shown)))
        for together in (["Table 1.", "h1", "row0.", "row1.", "row2."], ["row9.", "row10.", "row11."]):
            assert any(all(word in page for word in together) for page in pages), n


def test_a_page_s_head_names_its_own_section(tmp_path):
    long = "\n\n".join(f"Line {i}." for i in range(60))
    sections = [
        write_section(tmp_path, "1", "a", [prose(f"# First\n\n## Inner\n\n{long}")], part="Part"),
        write_section(tmp_path, "2", "b", [prose(f"# Second\n\n{long}")]),
    ]
    heads = [page.splitlines()[0] for page in export(tmp_path, merge_notebooks(sections))[1:]]
    assert "First" in heads[0] and "Second" in heads[-1] and "Inner" not in "".join(heads)


def test_a_name_that_is_wider_than_its_column_goes_on_in_the_next_line(tmp_path):
    names = [f"learning_rate_of_rule_{number}" for number in range(9)]
    rows = "\n".join(["| " + " | ".join(names) + " |", "|---" * 9 + "|", "| 1 " * 9 + "|"])
    read = "".join(export(tmp_path, merge_cells(tmp_path, prose("# A"), shows(table("t", rows)))))
    assert not re.search(r"_\d\s*learning_rate_of", read) and names[0] in "".join(read.split())
