import re

import pypdf
import pytest
from nbformat.v4 import new_output
from test_merge import SVG, figure, prose, shows, table, words, write_section

from lrlib.report.page.merge import merge_notebooks
from lrlib.report.page.pdf import export_pdf, typst_width

UNUSUAL = r"C\# costs \$5 \@ 100% a\*b snake_case lr<1e-3 & Łódź a\|b \[1\] \"q\" // <b>x</b>"
FORMULA = r'\begin{align} a &= \text{a "b"} \\ b &= c \end{align}'
UNUSUAL_READ = 'C# costs $5 @ 100% a*b snake_case lr<1e-3 & Łódź a|b [1] "q" // <b>x</b>'


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sections")
    merged = merge_notebooks(
        [
            write_section(
                folder,
                "",
                "abstract",
                [
                    prose('# A "title" #1\n\nAfter @smith2017 and $\\eta$, see @sec-test.'),
                    shows(words("The **sample** only.", "banner")),
                ],
            ),
            write_section(
                folder,
                "1.1",
                "test",
                [
                    prose(f"# The test\n\nA formula:\n\n$${FORMULA}$$\n\n## Detail"),
                    shows(source="secret = 3", tags=["parameters"]),
                    shows(figure("one", caption=f"As in @tbl-t. {UNUSUAL}", alt='A "line"\\ #1.'), source="code()"),
                    shows(table("t", f"| a | b |\n|:--|--:|\n| {UNUSUAL} | 1 |")),
                    shows(new_output("execute_result", {"text/plain": 'a "b"\n  #c \\'}, execution_count=1)),
                ],
                part="Part",
            ),
        ]
    )
    merged.metadata["report"] = {"date": "1 May", "commit": "abc"}
    return merged


@pytest.fixture(scope="module")
def path(notebook, tmp_path_factory):
    out = tmp_path_factory.mktemp("pdf") / "report.pdf"
    export_pdf(notebook, out=out)
    return out


@pytest.fixture(scope="module")
def pdf(path):
    return pypdf.PdfReader(path)


@pytest.fixture(scope="module")
def text(pdf):
    return " ".join(" ".join(page.extract_text() for page in pdf.pages).split())


def test_the_words_are_on_the_pages(text):
    for passage in [
        'A "title" #1',
        "the lrlib authors",
        "1 May · commit abc",
        "Abstract",
        "The sample only.",
        "1 Part",
        "1.1 The test",
        "see Section 1.1",
        "Figure 1. As in Table 1.",
        "Table 1. A caption.",
        "References",
        "Cyclical Learning Rates for Training Neural Networks",
    ]:
        assert passage in text


def test_code_is_not_printed_and_unusual_signs_survive(text):
    assert "secret" not in text and "code()" not in text
    assert 'a "b" #c \\' in text
    assert f"As in Table 1. {UNUSUAL_READ}" in text
    assert f"a b {UNUSUAL_READ} 1" in text


def test_the_pdf_is_tagged_with_title_language_and_bookmarks(pdf):
    root = pdf.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"].value
    assert "/StructTreeRoot" in root
    assert root["/Lang"] == "en"
    assert pdf.metadata.title == 'A "title" #1' and pdf.metadata.author == "the lrlib authors"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"].value
    assert b"pdfuaid:part" in root["/Metadata"].get_data()
    assert [entry.title.split()[-1] for entry in pdf.outline if not isinstance(entry, list)] == ["Part", "References"]
    assert alternative_texts(root["/StructTreeRoot"]) == [r"\eta", FORMULA, r'A "line"\ #1.']


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
    section = write_section(tmp_path, "1", "a", [prose("# A"), shows(figure("x", svg="no svg"))])
    with pytest.raises(ValueError, match="SVG"):
        export_pdf(merge_notebooks([section]), out=tmp_path / "r.pdf")
    assert not (tmp_path / "r.pdf").exists()


@pytest.mark.parametrize("n_words", [1, 60], ids=["short", "long"])
def test_head_first_and_last_rows_of_a_table_stay_together_wherever_a_page_ends(tmp_path, n_words):
    rows = "\n".join(f"| row{i}. | {'words ' * n_words} |" for i in range(12))
    shown = table("t", f"| h1 | h2 |\n|{'-' * 30}|{'-' * 70}|\n{rows}")
    for n in range(20, 50, 5):
        lines = "\n\n".join(f"Line {i}." for i in range(n))
        section = write_section(tmp_path, "1", "a", [prose(f"# A\n\n{lines}"), shows(shown)])
        export_pdf(merge_notebooks([section]), out=tmp_path / "r.pdf")
        pages = [page.extract_text() for page in pypdf.PdfReader(tmp_path / "r.pdf").pages]
        for together in (["Table 1.", "h1", "row0.", "row1.", "row2."], ["row9.", "row10.", "row11."]):
            assert any(all(word in page for word in together) for page in pages), n


def test_a_figure_stands_between_the_words_before_and_after_it_at_its_own_size(tmp_path):
    svg = SVG.replace('"9pt" height="9pt"', '"300pt" height="200pt"')
    cells = [prose("# A\n\nBefore it."), shows(figure("one", svg=svg)), prose("After it.")]
    section = write_section(tmp_path, "1", "a", cells)
    export_pdf(merge_notebooks([section]), out=tmp_path / "r.pdf")
    [page] = pypdf.PdfReader(tmp_path / "r.pdf").pages
    text = page.extract_text()
    assert text.index("Before it.") < text.index("Figure 1.") < text.index("After it.")
    assert typst_width(svg) == "calc.min(16cm, 228pt)"


def test_the_findings_stand_first_and_link_to_the_rows_of_the_evidence(tmp_path):
    rows = table("t", "| id | verdict |\n|---|---|\n| C1 | ✓ reproduced |", anchors=["claim-c1"])
    found = words(
        "One of *two* holds.\n\n- [C1](#claim-c1) ✓ reproduced\n- [C2](#claim-c2) ✗ not reproduced", "findings"
    )
    sections = [
        write_section(tmp_path, "", "abstract", [prose("# T\n\nAbstract's words."), shows(found)]),
        write_section(tmp_path, "1", "a", [prose("# A"), shows(rows)]),
    ]
    export_pdf(merge_notebooks(sections), out=tmp_path / "r.pdf")
    page = pypdf.PdfReader(tmp_path / "r.pdf").pages[0]
    text = " ".join(page.extract_text().split())
    assert text.index("One of two holds.") < text.index("C2 ✗ not reproduced") < text.index("Abstract’s words.")
    assert text.count("One of two") == 1
    assert len(page["/Annots"]) == 1  # the evidence on C2 is not in this document


def test_a_page_s_head_names_its_own_section(tmp_path):
    long = "\n\n".join(f"Line {i}." for i in range(60))
    sections = [
        write_section(tmp_path, "1", "a", [prose(f"# First\n\n## Inner\n\n{long}")], part="Part"),
        write_section(tmp_path, "2", "b", [prose(f"# Second\n\n{long}")]),
    ]
    export_pdf(merge_notebooks(sections), out=tmp_path / "r.pdf")
    heads = [page.extract_text().splitlines()[0] for page in pypdf.PdfReader(tmp_path / "r.pdf").pages[1:]]
    assert "First" in heads[0] and "Second" in heads[-1] and "Inner" not in "".join(heads)


def test_a_name_that_is_wider_than_its_column_goes_on_in_the_next_line(tmp_path):
    names = [f"learning_rate_of_rule_{number}" for number in range(9)]
    rows = "\n".join(["| " + " | ".join(names) + " |", "|---" * 9 + "|", "| 1 " * 9 + "|"])
    section = write_section(tmp_path, "1", "a", [prose("# A"), shows(table("t", rows))])
    export_pdf(merge_notebooks([section]), out=tmp_path / "r.pdf")
    read = "".join(page.extract_text() for page in pypdf.PdfReader(tmp_path / "r.pdf").pages)
    assert not re.search(r"_\d\s*learning_rate_of", read) and names[0] in "".join(read.split())
