import base64
import hashlib
import re
from copy import deepcopy
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_output
from test_merge import SVG, figure, prose, shows, table, words, write_section

from lrlib.report.page.merge import merge_notebooks
from lrlib.report.page.html import PLAIN_DATA, data_link, export_html
from lrlib.report.page.tables import finish_table

CHROMIUM = Path("/usr/bin/chromium")

INKED = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'width="468pt" height="187pt" viewBox="0 0 468 187"><g id="figure_1"><path d="M 0 0 L 468 0.123456" id="patch_1" '
    'style="fill: #ffffff; stroke: #1f2328"/><path d="M 0 9 L 468 9" style="stroke: #d0d7de" clip-path="url(#p1)"/>'
    '<path d="M 0 20 L 99 90" style="stroke: #4c72b0; stroke-width: 9"/><defs><path id="m1" d="M 0 0 L 9 9"/></defs>'
    '<use xlink:href="#m1"/></g><defs><clipPath id="p1"><rect width="468" height="187"/></clipPath></defs></svg>'
)
UNUSUAL = r"C\# costs \$5 \@ 100% a\*b snake_case lr<1e-3 & Łódź ∑ a\|b \[1\] <b>x</b>"
UNUSUAL_READ = "C# costs $5 @ 100% a*b snake_case lr<1e-3 & Łódź ∑ a|b [1] <b>x</b>"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sections")
    frame = {"text/html": '<table border="1"><tr><td>7.5</td></tr></table>', "text/plain": "   a\n0  7.5"}
    return merge_notebooks(
        [
            write_section(
                folder,
                "00-abstract",
                "",
                "abstract",
                [
                    prose("# Rates < 1 & more\n\nAfter @smith2017 and $\\eta = 10^{-3}$, see @sec-test."),
                    shows(words("**Sample**", "banner", banner="warning"), source="hidden()", tags=["hide"]),
                ],
            ),
            write_section(
                folder,
                "1-test",
                "1",
                "test",
                [
                    prose("# The *test*\n\nWords:\n- a list without a blank line\n\n$$\\frac{a}{b}$$\n\n## Detail"),
                    shows(source="epochs = 3  # <all>", tags=["parameters"]),
                    shows(figure("one", caption=UNUSUAL, alt='A "line" <up>.', svg=INKED)),
                    shows(figure("two", svg=INKED)),
                    shows(table("t", f"| a | b |\n|:--|--:|\n| {UNUSUAL} | 1 |")),
                    shows(table("wide", f"| a | b |\n|{'-' * 30}|{'-' * 70}|\n| x | y |")),
                    shows(new_output("execute_result", frame, execution_count=1)),
                    shows(new_output("execute_result", {"text/plain": "<Thing #1 *>"}, execution_count=2)),
                ],
            ),
        ]
    )


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


def test_title_and_facts_come_from_the_metadata_of_the_report(notebook, page, tmp_path):
    assert page.title.string == page.h1.string == "Rates < 1 & more"
    notebook = deepcopy(notebook)
    notebook.metadata["report"] = {
        "title": "T",
        "subtitle": "S",
        "date": "1 May",
        "authors": ["A", "B"],
        "commit": "abc",
    }
    export_html(notebook, out=tmp_path / "r.html")
    header = BeautifulSoup((tmp_path / "r.html").read_text(encoding="utf-8"), "html.parser").header
    assert [text_of(part) for part in header.select("h1, .subtitle, .facts span")] == [
        "T",
        "S",
        "A, B",
        "1 May",
        "commit abc",
    ]


def test_every_id_is_unique_and_every_link_within_the_page_has_its_target(page):
    ids = [element["id"] for element in page.select("[id]")]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in page.select("a[href^='#'], use") if a.has_attr("href")]
    links += [use["xlink:href"] for use in page.select("use")]
    links += [f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", str(page.main))]
    assert "#fig-one-p1" in links and "#sec-test" in links
    assert {link[1:] for link in links} <= set(ids)


def test_nothing_is_loaded_from_anywhere(page):
    for element in page.select("[src], [srcset], link, iframe, object, embed, base, script[src]"):
        assert element.name == "link" and element["href"] == "data:,"
    css = "".join(style.string for style in page.select("style"))
    assert "@import" not in css
    assert all(url.startswith("data:") for url in re.findall(r"url\(([^)]*)", css))
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert policy.startswith("default-src 'none'") and "http" not in policy
    runs = [s.string for s in page.select("script") if s.get("type") not in ("application/json", "application/ld+json")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in runs]
    assert f"script-src 'sha256-{hashes[0]}';" in policy and len(hashes) == 1 and len(runs[0]) < 60_000


def test_figures_are_described_and_numbered(page):
    assert [svg["aria-label"] for svg in page.select("figure svg[role=img]")] == ['A "line" <up>.', "A line."]
    assert [text_of(caption)[:9] for caption in page.select("figcaption")] == [
        "Figure 1.",
        "Figure 2.",
        "Table 1. ",
        "Table 2. ",
    ]


def test_figures_follow_the_colours_of_the_page(page):
    svg = str(page.select_one("#fig-one svg"))
    assert "fill: var(--paper); stroke: var(--ink)" in svg and "stroke: var(--grid)" in svg
    assert "stroke: #4c72b0" in svg
    assert not re.search("#(1f2328|d0d7de|ffffff)", svg)


def test_unusual_signs_survive_in_captions_and_tables(page):
    assert text_of(page.select_one("#fig-one figcaption")) == f"Figure 1. {UNUSUAL_READ}"
    assert text_of(page.select_one("#tbl-t td")) == UNUSUAL_READ


def test_only_a_table_with_widths_fills_the_page(page):
    assert not page.select("#tbl-t colgroup")
    assert [col["style"] for col in page.select("#tbl-wide col")] == ["width: 30%", "width: 70%"]


def test_the_data_of_figures_and_tables_can_be_downloaded(page):
    links = {a["download"]: a["href"] for a in page.select("a[download]")}
    assert list(links) == ["fig-one.csv", "fig-two.csv", "tbl-t.csv", "tbl-wide.csv"]
    head, _, data = links["fig-one.csv"].partition(",")
    assert head == "data:text/csv;charset=utf-8"
    assert unquote(data) == "x,y\n1,2\n"


def test_much_data_is_packed_as_pandas_reads_it(tmp_path):
    csv = "x,y\n" + "".join(f"{i},{i % 7}\n" for i in range(PLAIN_DATA // 4))
    link = data_link(csv, "fig-one")
    assert link["download"] == "fig-one.csv.gz"
    head, _, data = link["href"].partition(",")
    assert head == "data:application/gzip;base64"
    assert len(link["href"]) < len(csv) / 2
    file = tmp_path / link["download"]
    file.write_bytes(base64.b64decode(data))
    assert pd.read_csv(file).to_csv(index=False, lineterminator="\n") == csv
    assert data_link(csv, "fig-one") == link


def test_each_figure_table_and_result_says_how_it_was_made_and_hidden_code_is_gone_but_not_its_output(page):
    summaries = [summary.get_text() for summary in page.select("details.made summary")]
    assert summaries == [
        *["How this figure was made"] * 2,
        *["How this table was made"] * 2,
        *["How this was computed"] * 2,
    ]
    made = page.select_one("#fig-one details.made")
    assert made.select_one("pre").get_text().strip() == "show()"
    assert [code.get_text() for code in made.select("p code")] == ["make section NAME=1", "epochs=3"]
    assert "hidden()" not in page.get_text()
    assert text_of(page.select_one("aside.banner.warning")) == "Sample"


def test_plain_results_are_shown(page):
    assert page.select_one(".plain td").string == "7.5"
    assert page.select_one("pre.plain").string == "<Thing #1 *>"


def test_contents_lists_the_headings_and_the_references(page):
    entries = [(a["href"], text_of(a)) for a in page.select("nav a")]
    assert entries == [
        ("#sec-test", "1 The test"),
        ("#sec-test-detail", "Detail"),
        ("#references", "References"),
    ]
    assert page.select_one("#references").find(string=re.compile("Cyclical Learning Rates"))
    assert page.select_one("a[href='#ref-smith2017']")


def test_formulas_are_mathml_and_a_list_needs_no_blank_line(page):
    assert page.select_one("math mfrac") and page.select_one("math msup")
    assert page.select_one("li").find_next(string=True)
    assert text_of(page.select_one("main ul li")) == "a list without a blank line"


def test_the_same_notebook_gives_the_same_page_and_leaves_nothing_else(notebook, path, tmp_path):
    export_html(notebook, out=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["again.html"]


def test_markdown_that_cannot_be_rendered_is_an_error_and_leaves_no_page(tmp_path):
    section = write_section(tmp_path, "1", "1", "a", [prose("# A\n\n```\nnever closed"), prose("More.")])
    with pytest.raises(ValueError, match="a Markdown cell opens a code fence"):
        export_html(merge_notebooks([section]), out=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_citation_of_nothing_is_marked_and_warned_of(tmp_path):
    section = write_section(tmp_path, "1", "1", "a", [prose("# A\n\nSee @nobody2000, @smith2017.")])
    with pytest.warns(UserWarning, match="in the report's Markdown: Citeproc: citation nobody2000 not found"):
        export_html(merge_notebooks([section]), out=tmp_path / "r.html")
    text = text_of(BeautifulSoup((tmp_path / "r.html").read_text(encoding="utf-8"), "html.parser").select_one("main"))
    assert "nobody2000?" in text and "Smith" in text


@pytest.mark.filterwarnings("ignore:.*has no alternative text")
def test_an_image_without_words_is_shown_in_the_page(tmp_path):
    shown = new_output("display_data", {"image/svg+xml": SVG, "text/plain": "<Figure>"})
    section = write_section(tmp_path, "1", "1", "a", [prose("# A"), shows(shown)])
    export_html(merge_notebooks([section]), out=tmp_path / "r.html")
    figure = BeautifulSoup((tmp_path / "r.html").read_text(encoding="utf-8"), "html.parser").select_one(
        "figure#plain-a-1"
    )
    assert figure.select_one("svg") and not figure.select_one("figcaption")


@pytest.fixture(scope="module")
def chromium():
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_opens_the_page_without_error_request_or_sideways_scroll(chromium, path, width):
    context = chromium.new_context(viewport={"width": width, "height": 800}, offline=True)
    tab = context.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for drawing in tab.query_selector_all("figure svg"):
        box = drawing.bounding_box()
        assert drawing.is_visible() and box["width"] > 300 and box["height"] > 100
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.wait_for_selector("nav a[aria-current]", state="attached")
    context.close()


def test_figures_are_dark_where_the_reader_asks_for_dark(chromium, path):
    colours = {}
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme)
        tab = context.new_page()
        tab.goto(path.as_uri())
        colours[scheme] = tab.evaluate("getComputedStyle(document.querySelector('#fig-one svg path')).fill")
        context.close()
    assert colours["light"] == "rgb(255, 255, 255)"
    assert colours["dark"] == "rgb(20, 24, 29)"


def test_a_name_in_a_table_may_go_on_in_the_next_line_and_what_is_no_text_stays():
    head = "<table><thead><tr><th>a_rule</th><th>of</th></tr></thead><tbody>"
    made = finish_table(head + '<tr><td title="x_y">minimum_over_ten</td><td>_</td></tr></tbody></table>', ["row_1"])
    assert "<th>a_<wbr>rule</th>" in made and ">minimum_<wbr>over_<wbr>ten</td>" in made and ">_</td>" in made
    assert 'title="x_y"' in made and 'id="row_1"' in made
