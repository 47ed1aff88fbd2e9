"""What the page does in a browser: values under the pointer and by keys, series, axes, previews, narrow screens, no script."""

import re
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from nbformat.v4 import new_output
from test_merge import prose, shows, write_section
from test_html import CHROMIUM

from lrlib.report import display, verdicts
from lrlib.report.page.merge import merge_notebooks
from lrlib.report.page.html import export_html
from lrlib.reproduction.claims import Verdict

matplotlib.use("Agg")

AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"  # put there by .ci/run
SEEDS = {"ours": ([1.5, 1.0, 0.4, 0.2], [2.5, 1.0, 0.6, 0.4]), "theirs": ([3.0, 2.0, 1.0, 0.5], [3.0, 2.0, 1.0, 0.5])}


def draw():
    """Two panels of two series over the same points: means of two seeds, and a row of dots beside it."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.2, 2.7), layout="constrained")
    rows = []
    for (name, seeds), color in zip(SEEDS.items(), ("#0072B2", "#D55E00"), strict=True):
        x = [1, 2, 3, 4, 5]
        values = [[*seed, seed[-1] / 2] for seed in seeds]
        left.plot(x, [sum(pair) / 2 for pair in zip(*values, strict=True)], color=color, label=name)
        rows += [(name, i, k, y) for i, seed in enumerate(values) for k, y in zip(x, seed, strict=True)]
        right.plot([90 + len(name), 95], [len(name) - 4] * 2, "o", color=color, label=name)
    left.set(xlabel="epoch", ylabel="loss", title="(a)")
    right.set(xlabel="accuracy, %", title="(b)")
    right.set_yticks([0, 2], ["ours", "theirs"])
    left.legend()
    data = pd.DataFrame(rows, columns=["run", "seed", "epoch", "loss"])
    data.attrs["seeds"] = [{"x": "epoch", "y": "loss", "by": "run", "where": {}}, None]
    return figure, data


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    outputs = []

    def keep(data, *, metadata, raw):
        outputs.append(new_output("display_data", data, metadata=metadata))

    before, display.display = display.display, keep
    try:
        figure, data = draw()
        display.show_figure(figure, label="curves", caption="Curves of @smith2017.", alt="Two panels.", data=data)
        found = [
            Verdict("C1", "1", "the loss falls", "It falls.", "reproduced", "it fell by 90 %"),
            Verdict("C2", "1", "it never rises", "It does not rise.", "not reproduced", "it rose by 3 %"),
            Verdict("C13", "2.4", "elsewhere", "A rule.", "inconclusive", "none"),
        ]
        verdicts.show_verdicts(found[:2], label="evidence")
        display.show_table(pd.DataFrame({"id": ["C1"]}), label="rules", caption="The rules.")
        accuracies = pd.DataFrame({"method": ["MultiStep"], "accuracy": [99.151], "author": [99.27]})
        verdicts.show_result("One of *three* claims holds.", accuracies, found)
        display.show_text("Words that were computed.")
    finally:
        display.display = before
    words = "# The test\n\nAfter [Smith 2017](https://arxiv.org/abs/1506.01186), see [x](#fig-curves) and [y](#tbl-evidence)."
    sections = [
        write_section(folder, "0-abstract", "", "abstract", [prose("# Title"), shows(*outputs[-2:])]),
        write_section(folder, "1-test", "1", "test", [prose(words), shows(*outputs[:-2])]),
    ]
    document = merge_notebooks(sections)
    document.metadata["report"] = {"date": "25 November 2026", "commit": "abc", "subtitle": "S"}
    export_html(document, out=folder / "report.html")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lrlib.report.page.html.PLAIN_DATA", 0)
        export_html(document, out=folder / "packed.html")
    return folder / "report.html"


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


@pytest.fixture
def open_page(chromium, path):
    contexts = []

    def open_page(width=1280, name="report.html", **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.said = []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.goto(path.with_name(name).as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()


def point_at(tab, panel, x, y):
    """Move the pointer to a value of a panel, by the page's own reckoning of where that is."""
    place = tab.evaluate(
        """([panel, x, y]) => { const p = plots[0].panels[panel];
        const at = new DOMPoint(p.at("x", x), p.at("y", y)).matrixTransform(p.group.getScreenCTM()); return [at.x, at.y]; }""",
        [panel, x, y],
    )
    tab.mouse.move(*place)


def readout(tab):
    return [line.strip() for line in tab.locator(".readout > div").all_inner_texts()]


def press(tab, name):
    tab.locator(".tools button", has_text=re.compile(f"^{re.escape(name)}$")).click()


def test_the_pointer_reads_the_nearest_point_and_the_others_at_the_same_place(open_page):
    tab = open_page()
    tab.locator(".plot").scroll_into_view_if_needed()
    point_at(tab, 0, 3.02, 0.52)
    assert readout(tab) == ["epoch 3 · loss", "ours: 0.5", "theirs: 1"]
    assert tab.locator(".readout .this").inner_text().strip() == "ours: 0.5"
    point_at(tab, 1, 95, 2)
    assert readout(tab) == ["accuracy, %", "theirs: 95"]
    tab.mouse.move(1, 1)
    assert not tab.locator(".readout").is_visible()
    assert tab.said == []


def test_the_pointer_is_where_the_mark_in_the_drawing_is(open_page):
    tab = open_page()
    circle, dot = tab.evaluate(
        """() => { const plot = plots[0], p = plot.panels[1], one = p.series[1]; plot.show(p, one, 0);
        const box = element => { const r = element.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; };
        return [box(p.spot.querySelector("circle")), box(document.querySelector('[data-of="1"][data-series="1"] use'))]; }"""
    )
    assert circle == pytest.approx(dot, abs=1.5)


def test_arrow_keys_read_every_point_and_series_aloud(open_page):
    tab = open_page()
    tab.locator(".plot").focus()
    heard = []
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowDown", "ArrowDown", "Home"):
        tab.keyboard.press(key)
        heard.append(tab.locator("figure [role=status]").inner_text())
    assert heard[:4] == [
        "ours: epoch 1, loss 2, point 1 of 5",
        "ours: epoch 2, loss 1, point 2 of 5",
        "ours: epoch 5, loss 0.15, point 5 of 5",
        "theirs: epoch 5, loss 0.25, point 5 of 5",
    ]
    assert heard[4:] == ["ours: accuracy, % 94"] * 2
    tab.keyboard.press("Escape")
    assert not tab.locator(".readout").is_visible()


def test_a_series_goes_and_comes_back_by_its_button(open_page):
    tab = open_page()
    line = tab.locator('[data-of="0"][data-series="1"]')
    press(tab, "theirs")
    assert not line.is_visible()
    assert tab.locator(".tools button", has_text="theirs").get_attribute("aria-pressed") == "false"
    point_at(tab, 0, 3, 1)
    assert readout(tab) == ["epoch 3 · loss", "ours: 0.5"]
    press(tab, "theirs")
    assert line.is_visible()


@pytest.mark.parametrize(("name", "link"), [("report.html", "Data (CSV)"), ("packed.html", "Data (CSV, gzip)")])
def test_each_seed_is_drawn_from_the_page_s_data(open_page, name, link):
    tab = open_page(name=name)
    assert tab.locator("#fig-curves .data a").inner_text() == link
    for n_lines in (4, 0, 4):
        press(tab, "each seed")
        tab.wait_for_function(f"document.querySelectorAll('.own path').length === {n_lines}")
    assert tab.said == []


@pytest.mark.parametrize(("name", "file"), [("report.html", "fig-curves.csv"), ("packed.html", "fig-curves.csv.gz")])
def test_the_data_of_a_figure_is_downloaded_by_its_link(open_page, tmp_path, name, file):
    tab = open_page(name=name)
    with tab.expect_download() as waiting:
        tab.locator("#fig-curves .data a").click()
    assert waiting.value.suggested_filename == file
    waiting.value.save_as(tmp_path / file)
    assert pd.read_csv(tmp_path / file)["run"].unique().tolist() == ["ours", "theirs"]


def test_an_axis_becomes_logarithmic_and_a_curve_is_zoomed_and_all_is_put_back(open_page):
    tab = open_page()
    ticks = tab.locator(".own text")
    press(tab, "log y")
    assert {"0.3", "1"} <= set(ticks.all_text_contents())
    assert not tab.locator('[data-of="0"][data-series="0"]').is_visible()
    assert tab.evaluate("plots[0].panels[0].at('y', 2) - plots[0].panels[0].at('y', 1)") == pytest.approx(
        tab.evaluate("plots[0].panels[0].at('y', 1) - plots[0].panels[0].at('y', 0.5)")
    )
    press(tab, "as printed")
    assert ticks.count() == 0 and tab.locator('[data-of="0"][data-series="0"]').is_visible()
    tab.locator(".plot").focus()
    tab.keyboard.press("+")
    low, high = tab.evaluate("plots[0].panels[0].x.limits")
    assert 1 < low < 3 < high < 5
    tab.keyboard.press("0")
    assert ticks.count() == 0


def test_dragging_zooms_into_what_was_marked(open_page):
    tab = open_page()
    tab.locator(".plot").scroll_into_view_if_needed()
    point_at(tab, 0, 2, 1)
    tab.mouse.down()
    point_at(tab, 0, 4, 1)
    tab.mouse.up()
    assert tab.evaluate("plots[0].panels[0].x.limits") == pytest.approx([2, 4], abs=0.05)
    tab.locator(".plot").dblclick()
    assert tab.evaluate("plots[0].panels[0].isHome")


def test_a_citation_and_a_reference_are_previewed_on_hover_and_on_focus(open_page):
    tab = open_page()
    card = tab.locator("#preview")
    tab.locator("main p a[href='#ref-smith2017']").first.hover()
    card.wait_for(state="visible")
    assert "Cyclical Learning Rates" in card.inner_text()
    tab.keyboard.press("Escape")
    assert not card.is_visible()
    tab.keyboard.press("Tab")  # so that focus is seen
    for target, words in (
        ("#fig-curves", "Figure 1. Curves of"),
        ("#tbl-evidence", "it fell by 90 %"),
        ("#claim-c2", "it rose by 3 %"),
    ):
        link = tab.locator(f"a[href='{target}']").first
        tab.keyboard.press("Tab")
        link.focus()
        assert card.is_visible() and words in card.inner_text(), target
        assert link.get_attribute("aria-describedby") == "preview"
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    assert tab.said == []


def test_the_first_screen_has_the_result_and_each_verdict_leads_to_its_evidence(open_page):
    tab = open_page()
    header = tab.locator("header")
    assert "One of three claims holds." in header.inner_text()
    assert tab.locator(".scores").inner_text().split() == ["MultiStep", "99.15", "%", "author:", "99.27", "%"]
    chips = tab.locator(".verdicts li")
    assert chips.all_inner_texts() == ["C1 ✓ reproduced", "C2 ✗ not reproduced", "C13 ? inconclusive"]
    assert chips.locator("a").evaluate_all("links => links.map(link => link.hash)") == ["#claim-c1", "#claim-c2"]
    colours = chips.evaluate_all("items => items.map(item => getComputedStyle(item).color)")
    assert len(set(colours)) == 3
    assert header.bounding_box()["height"] < 900
    assert "it rose by 3 %" in tab.locator("#claim-c2").inner_text()


def test_without_script_the_page_is_whole(open_page):
    tab = open_page(java_script_enabled=False)
    assert tab.locator("figure svg[role=img]").is_visible()
    assert tab.locator("figure svg").get_attribute("aria-label") == "Two panels."
    assert tab.locator("nav a").first.is_visible()
    assert tab.locator("button, .readout, #preview").count() == 0


def test_in_print_there_is_nothing_of_the_script_and_figures_are_as_drawn(open_page):
    tab = open_page()
    press(tab, "theirs")
    press(tab, "log y")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    assert not tab.locator(".tools, .copy, .made, nav").locator("visible=true").count()
    assert tab.locator('[data-of="0"][data-series="1"]').is_visible()
    assert tab.locator(".redrawn").count() == 0


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_narrow_screen_panels_are_stacked_and_tables_are_cards(open_page, width):
    tab = open_page(width)
    boxes = [tab.locator(f'[data-panel="{i}"]').bounding_box() for i in (0, 1)]
    assert boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"] - 1
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    caption = tab.locator("#fig-curves figcaption").bounding_box()
    assert caption["y"] >= boxes[1]["y"] + boxes[1]["height"] - 1
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.scrollWidth <= box.clientWidth)")
    cells = [cell.bounding_box() for cell in tab.locator("#tbl-evidence td").all()]
    assert all(below["y"] >= above["y"] + above["height"] - 1 for above, below in zip(cells, cells[1:], strict=False))
    labels = tab.evaluate(
        "[...document.querySelectorAll('#tbl-evidence td')].map(cell => getComputedStyle(cell, '::before').content)"
    )
    assert labels[:4] == ['"id"', '"claim"', '"verdict"', '"evidence"']
    tab.locator("#fig-curves figcaption").scroll_into_view_if_needed()
    point_at(tab, 1, 95, 2)
    assert readout(tab) == ["accuracy, %", "theirs: 95"]
    assert tab.said == []


def test_what_is_to_be_copied_can_be(open_page):
    tab = open_page(permissions=["clipboard-read", "clipboard-write"])
    tab.locator("#cite button").click()
    tab.get_by_text("Copied").wait_for()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("@misc{lrlib-report,") and "year = {2026}" in copied and "Commit abc" in copied


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_accessibility_checker_finds_nothing(open_page, width, scheme):
    if not AXE.exists():
        pytest.skip(f"no axe-core at {AXE}; npm install --prefix {AXE.parents[2]} axe-core")
    tab = open_page(width, color_scheme=scheme, bypass_csp=True)
    tab.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    tab.add_script_tag(path=AXE)
    violations = tab.evaluate("axe.run().then(found => found.violations.map(v => [v.id, v.nodes.map(n => n.html)]))")
    assert violations == []
