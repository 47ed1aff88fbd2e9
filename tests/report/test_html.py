import base64
import gzip
import hashlib
import re
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup
from made_documents import OUTCOME, UNUSUAL_READ, merge_cells, merge_everything, prose

from lrlib.report.page import html
from lrlib.report.page.html import export_html
from lrlib.report.publish import Outcome, read_outcome


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    return merge_everything(tmp_path_factory.mktemp("sections"))


@pytest.fixture(scope="module")
def path(notebook, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    export_html(notebook, out=out)
    return out


@pytest.fixture(scope="module")
def page(path):
    return read(path)


def read(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def text_of(element):
    return " ".join(element.get_text().split())


def test_the_header_has_title_facts_and_findings_with_coloured_verdicts(page, path):
    assert read_outcome(path) == Outcome(**OUTCOME) and read_outcome(path.with_name("none.html")) is None
    assert page.title.string == page.h1.string == 'Rates < 1 & "more" #1'
    facts = [text_of(part) for part in page.header.select(".subtitle, .facts span")]
    assert facts == ["S", "the lrlib authors", "1 May 2026", "commit abc"]
    assert [text_of(item) for item in page.header.select(".findings li")] == ["C1 ✓ reproduced", "C2 ✗ not reproduced"]
    classes = [" ".join(span["class"]) for span in page.select(".verdict")]
    assert classes == ["verdict reproduced", "verdict not-reproduced", "verdict inconclusive"]
    assert page.select_one(".findings a[href='#claim-c1']") and page.select_one("td #claim-c1")


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
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert f"script-src 'sha256-{digest}';" in policy


def test_figures_follow_the_colours_of_the_page_and_are_described(page):
    svg = page.select_one("#fig-one svg")
    assert svg["aria-label"] == 'A "line"\\ <up> #1.'
    assert "fill: var(--paper); stroke: var(--ink)" in str(svg) and "stroke: var(--grid)" in str(svg)
    assert "stroke: #4c72b0" in str(svg) and not re.search("#(1f2328|d0d7de|ffffff)", str(svg))


def test_words_tables_formulas_and_plain_results_are_shown(page):
    assert text_of(page.select_one("#fig-one figcaption")) == f"Figure 1. As in Table 1. {UNUSUAL_READ}"
    assert text_of(page.select_one("#tbl-t td")) == UNUSUAL_READ
    assert "a_<wbr/>b" in str(page.select_one("#tbl-t th"))
    assert not page.select("#tbl-t colgroup")
    assert [col["style"] for col in page.select("#tbl-wide col")] == ["width: 30%", "width: 70%"]
    assert page.select_one(".plain td").string == "7.5" and "<Thing" in page.select_one("pre.plain").string
    assert page.select_one("math mfrac") and page.select_one("math msup")
    assert text_of(page.select_one("main ul li")) == "a list without a blank line"
    assert text_of(page.select_one("aside.banner")) == "The sample only."


def test_each_output_has_one_mark_that_opens_command_data_and_code(page):
    marks = page.select("details.made")
    assert [mark.summary["aria-label"].split()[2] for mark in marks] == [
        "section", "section", "figure", "figure", "table", "table", "text", "text"
    ]  # fmt: skip
    made = page.select_one("#fig-one details.made")
    assert made.select_one("pre").get_text().strip() == "show()"
    assert [code.get_text() for code in made.select("p code")] == ["make section NAME=1.1"]
    head, _, data = made.select_one("a[download='fig-one.csv']")["href"].partition(",")
    assert head == "data:text/csv;charset=utf-8" and unquote(data) == "x,y\n1,2\n"
    assert marks[1].select_one("pre").get_text().strip() == "setup()"
    assert "hidden()" not in page.get_text() and "secret" not in page.get_text()


def test_much_data_is_packed(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(html, "PLAIN_DATA", 3)
    export_html(notebook, out=tmp_path / "r.html")
    link = read(tmp_path / "r.html").select_one("#fig-one a[download]")
    head, _, data = link["href"].partition(",")
    assert (link["download"], head) == ("fig-one.csv.gz", "data:application/gzip;base64")
    assert gzip.decompress(base64.b64decode(data)) == b"x,y\n1,2\n"


def test_contents_lists_the_headings_and_the_references(page):
    assert [(a["href"], text_of(a)) for a in page.select("nav a")] == [
        ("#sec-part", "1 Part"), ("#sec-test", "1.1 The test"), ("#references", "References")
    ]  # fmt: skip
    assert page.select_one("#references").find(string=re.compile("Cyclical Learning Rates"))
    assert page.select_one("a[href='#ref-smith2017']")


def test_the_same_notebook_gives_the_same_page_and_leaves_nothing_else(notebook, path, tmp_path):
    export_html(notebook, out=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["again.html"]


def test_markdown_that_cannot_be_rendered_is_an_error_and_leaves_no_page(tmp_path):
    document = merge_cells(tmp_path, prose("# A\n\n```\nnever closed"), prose("More."))
    with pytest.raises(ValueError, match="code fence"):
        export_html(document, out=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_words_cite_and_hold_tables_that_scroll(tmp_path):
    document = merge_cells(tmp_path, prose("# A\n\n@nobody2000, @smith2017.\n\n| a_b | b |\n|---|---|\n| 1 | 2 |"))
    with pytest.warns(UserWarning, match="nobody2000 not found"):
        export_html(document, out=tmp_path / "r.html")
    page = read(tmp_path / "r.html")
    assert "nobody2000?" in page.get_text()
    assert "a_<wbr/>b" in str(page.select_one("section > .scroll > table"))
