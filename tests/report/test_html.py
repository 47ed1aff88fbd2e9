import base64
import gzip
import hashlib
import re
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_output
from test_merge import figure, prose, shows, table, words, write_section

from lrlib.report.page import html
from lrlib.report.page.html import export_html
from lrlib.report.page.merge import merge_notebooks
from lrlib.report.publish import Outcome, read_outcome

INKED = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'width="468pt" height="187pt" viewBox="0 0 468 187"><g id="figure_1"><path d="M 0 0 L 468 0.123456" id="patch_1" '
    'style="fill: #ffffff; stroke: #1f2328"/><path d="M 0 9 L 468 9" style="stroke: #d0d7de" clip-path="url(#p1)"/>'
    '<path d="M 0 20 L 99 90" style="stroke: #4c72b0; stroke-width: 9"/><defs><path id="m1" d="M 0 0 L 9 9"/></defs>'
    '<use xlink:href="#m1"/></g><defs><clipPath id="p1"><rect width="468" height="187"/></clipPath></defs></svg>'
)
UNUSUAL = r"C\# costs \$5 \@ 100% a\*b snake_case lr<1e-3 & Łódź ∑ a\|b \[1\] <b>x</b>"
UNUSUAL_READ = "C# costs $5 @ 100% a*b snake_case lr<1e-3 & Łódź ∑ a|b [1] <b>x</b>"
OUTCOME = {"verdicts": {"C1": "reproduced"}, "values": {"a": "1 < 2 %"}, "command": "make report", "commit": "abc"}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sections")
    frame = {"text/html": '<table border="1"><tr><td>7.5</td></tr></table>', "text/plain": "   a\n0  7.5"}
    abstract = [
        prose("# Rates < 1 & more\n\nAfter @smith2017 and $\\eta = 10^{-3}$, see @sec-test."),
        shows(words("**Sample**", "banner"), source="hidden()", tags=["hide"]),
        shows(words("Found.\n\n- [C1](#claim-c1) ✓ reproduced\n- C2 ✗ not reproduced", "findings")),
    ]
    test = [
        prose("# The *test*\n\nWords:\n- a list without a blank line\n\n$$\\frac{a}{b}$$\n\n## Detail"),
        shows(source="epochs = 3  # <all>", tags=["parameters"]),
        shows(source="setup()"),
        shows(figure("one", caption=UNUSUAL, alt='A "line" <up>.', svg=INKED)),
        shows(figure("two", svg=INKED)),
        shows(table("t", f"| a_b | b |\n|:--|--:|\n| {UNUSUAL} | ? inconclusive |", anchors=["claim-c1"])),
        shows(table("wide", f"| a | b |\n|{'-' * 30}|{'-' * 70}|\n| x | y |")),
        shows(new_output("execute_result", frame, execution_count=1)),
        shows(new_output("execute_result", {"text/plain": "<Thing #1 *>"}, execution_count=2)),
    ]
    merged = merge_notebooks(
        [write_section(folder, "", "abstract", abstract), write_section(folder, "1", "test", test)]
    )
    merged.metadata["report"] = {"subtitle": "S", "date": "1 May 2026", "commit": "abc",
                                 "command": "make report", "outcome": OUTCOME}  # fmt: skip
    return merged


@pytest.fixture(scope="module")
def path(notebook, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    export_html(notebook, out=out)
    return out


@pytest.fixture(scope="module")
def page(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def text_of(element):
    return " ".join(element.get_text().split())


def test_the_header_has_title_facts_and_findings_with_coloured_verdicts(page):
    assert page.title.string == page.h1.string == "Rates < 1 & more"
    assert [text_of(part) for part in page.header.select(".subtitle, .facts span")] == [
        "S",
        "the lrlib authors",
        "1 May 2026",
        "commit abc",
    ]
    assert [text_of(item) for item in page.header.select(".findings li")] == ["C1 ✓ reproduced", "C2 ✗ not reproduced"]
    classes = [" ".join(span["class"]) for span in page.select(".verdict")]
    assert classes == ["verdict reproduced", "verdict not-reproduced", "verdict inconclusive"]
    assert page.select_one(".findings a[href='#claim-c1']") and page.select_one("td #claim-c1")


def test_the_page_carries_its_outcome(path, tmp_path):
    assert read_outcome(path) == Outcome(**OUTCOME)
    assert read_outcome(tmp_path / "none.html") is None


def test_every_id_is_unique_and_every_link_within_the_page_has_its_target(page):
    ids = [element["id"] for element in page.select("[id]")]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in page.select("a[href^='#']")] + [use["xlink:href"] for use in page.select("use")]
    links += [f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", str(page.main))]
    assert "#fig-one-p1" in links and "#sec-test" in links
    assert {link[1:] for link in links} <= set(ids)


def test_nothing_is_loaded_from_anywhere_and_only_the_page_s_script_may_run(page):
    for element in page.select("[src], [srcset], link, iframe, object, embed, base"):
        assert element.name == "link" and element["href"] == "data:,"
    css = "".join(style.string for style in page.select("style"))
    assert "@import" not in css and all(url.startswith("data:") for url in re.findall(r"url\(([^)]*)", css))
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    [script] = [s.string for s in page.select("script") if not s.get("type")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        policy.startswith("default-src 'none'") and "http" not in policy and f"script-src 'sha256-{digest}';" in policy
    )


def test_figures_follow_the_colours_of_the_page_and_are_described(page):
    svg = page.select_one("#fig-one svg")
    assert svg["aria-label"] == 'A "line" <up>.'
    assert "fill: var(--paper); stroke: var(--ink)" in str(svg) and "stroke: var(--grid)" in str(svg)
    assert "stroke: #4c72b0" in str(svg) and not re.search("#(1f2328|d0d7de|ffffff)", str(svg))


def test_unusual_signs_survive_and_only_a_table_with_widths_fills_the_page(page):
    assert text_of(page.select_one("#fig-one figcaption")) == f"Figure 1. {UNUSUAL_READ}"
    assert text_of(page.select_one("#tbl-t td")) == UNUSUAL_READ
    assert "a_<wbr/>b" in str(page.select_one("#tbl-t th"))
    assert not page.select("#tbl-t colgroup")
    assert [col["style"] for col in page.select("#tbl-wide col")] == ["width: 30%", "width: 70%"]


def test_each_output_has_one_mark_that_opens_command_data_and_code(page):
    marks = page.select("details.made")
    assert [mark.summary["aria-label"].split()[2] for mark in marks] == [
        "section", "section", "figure", "figure", "table", "table", "text", "text"
    ]  # fmt: skip
    made = page.select_one("#fig-one details.made")
    assert made.select_one("pre").get_text().strip() == "show()"
    assert [code.get_text() for code in made.select("p code")] == ["make section NAME=1"]
    head, _, data = made.select_one("a[download='fig-one.csv']")["href"].partition(",")
    assert head == "data:text/csv;charset=utf-8" and unquote(data) == "x,y\n1,2\n"
    assert marks[1].select_one("pre").get_text().strip() == "setup()"
    assert "hidden()" not in page.get_text() and "epochs = 3" not in page.get_text()
    assert text_of(page.select_one("aside.banner")) == "Sample"


def test_much_data_is_packed(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(html, "PLAIN_DATA", 3)
    export_html(notebook, out=tmp_path / "r.html")
    link = BeautifulSoup((tmp_path / "r.html").read_text("utf-8"), "html.parser").select_one("#fig-one a[download]")
    head, _, data = link["href"].partition(",")
    assert (link["download"], head) == ("fig-one.csv.gz", "data:application/gzip;base64")
    assert gzip.decompress(base64.b64decode(data)) == b"x,y\n1,2\n"


def test_contents_lists_the_headings_and_the_references(page):
    entries = [(a["href"], text_of(a)) for a in page.select("nav a")]
    assert entries == [("#sec-test", "1 The test"), ("#sec-test-detail", "Detail"), ("#references", "References")]
    assert page.select_one("#references").find(string=re.compile("Cyclical Learning Rates"))
    assert page.select_one("a[href='#ref-smith2017']")


def test_plain_results_formulas_and_lists_are_shown(page):
    assert page.select_one(".plain td").string == "7.5"
    assert page.select_one("pre.plain").string == "<Thing #1 *>"
    assert page.select_one("math mfrac") and page.select_one("math msup")
    assert text_of(page.select_one("main ul li")) == "a list without a blank line"


def test_the_same_notebook_gives_the_same_page_and_leaves_nothing_else(notebook, path, tmp_path):
    export_html(notebook, out=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["again.html"]


def test_markdown_that_cannot_be_rendered_is_an_error_and_leaves_no_page(tmp_path):
    section = write_section(tmp_path, "1", "a", [prose("# A\n\n```\nnever closed"), prose("More.")])
    with pytest.raises(ValueError, match="code fence"):
        export_html(merge_notebooks([section]), out=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_words_cite_and_hold_tables_that_scroll(tmp_path):
    text = "# A\n\nSee @nobody2000, @smith2017.\n\n| a_b | b |\n|---|---|\n| 1 | 2 |"
    section = write_section(tmp_path, "1", "a", [prose(text)])
    with pytest.warns(UserWarning, match="nobody2000 not found"):
        export_html(merge_notebooks([section]), out=tmp_path / "r.html")
    page = BeautifulSoup((tmp_path / "r.html").read_text(encoding="utf-8"), "html.parser")
    assert "nobody2000?" in page.get_text()
    assert "a_<wbr/>b" in str(page.select_one("section > .scroll > table"))
