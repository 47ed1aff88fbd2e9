"""The page in a browser: values under the pointer and by keys, series, previews, narrow screens, no script."""

import os
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_documents import prose, shows, write_section
from nbformat.v4 import new_output

from lrlib.report import display
from lrlib.report.page.html import export_html
from lrlib.report.page.merge import merge_notebooks

matplotlib.use("Agg")

CHROMIUM = Path("/usr/bin/chromium")
AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"  # .ci/run puts it there
LONG = "words that fill a line and a second one, so that its length can be measured by the test that asks for it. " * 4


def need(path):
    """Skip without a tool; fail where all tools must be there."""
    if not path.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{path} not found")


def draw():
    """Two panels of two series: curves over the same points, and a row of dots."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.2, 2.7), layout="constrained")
    series = {"ours": ([2, 1, 0.5, 0.3, 0.15], [94, 95]), "theirs": ([3, 2, 1, 0.5, 0.25], [96, 95])}
    for row, (name, (losses, dots)) in enumerate(series.items()):
        left.plot([1, 2, 3, 4, 5], losses, label=name)
        right.plot(dots, [row] * 2, "o", label=name)
    left.set(xlabel="epoch", ylabel="loss", title="(a)")
    right.set(xlabel="accuracy, %", title="(b)", yticks=[0, 1], yticklabels=["ours", "theirs"])
    left.legend()
    return figure


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder, outputs = tmp_path_factory.mktemp("page"), []
    with pytest.MonkeyPatch.context() as patched:
        show = lambda data, *, metadata, raw: outputs.append(new_output("display_data", data, metadata=metadata))  # noqa: E731
        patched.setattr(display, "display", show)
        data = pd.DataFrame({"run": ["ours", "theirs"], "loss": [1.0, 2.0]})
        display.show_figure(draw(), label="curves", caption="Curves of @smith2017.", alt="Two panels.", data=data)
        columns = {"id": ["C1", "C2"], "claim": [LONG] * 2, "verdict": ["✓ reproduced", "✗ not reproduced"]}
        columns |= {"evidence": ["it fell by 90 %", "it rose by 3 %"]} | {f"more{i}": ["12.345"] * 2 for i in range(3)}
        display.show_table(pd.DataFrame(columns), label="evidence", caption="Claims.", anchors=["claim-c1", "claim-c2"])
        display.show_text("Words that were computed.")
        found = "One of *three*.\n\n- ✓ reproduced: [C1. It falls.](#claim-c1)\n- ✗ not reproduced: [C2](#claim-c2)"
        display.show_findings(found, values={})
    text = "# The test\n\n[Smith 2017](https://arxiv.org/abs/1506.01186) in [x](#fig-curves), [y](#tbl-evidence)."
    sections = [
        write_section(folder, "", "abstract", [prose(f"# Title\n\n{LONG}"), shows(outputs[-1])]),
        write_section(folder, "1", "test", [prose(text), shows(*outputs[:-1])]),
    ]
    document = merge_notebooks(sections)
    document.metadata["report"] = {"date": "25 November 2026", "commit": "abc", "command": "make report"}
    export_html(document, out=folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium():
    need(CHROMIUM)
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, path):
    def open_page(width=1280, **options):
        tab = chromium.new_context(viewport={"width": width, "height": 900}, offline=True, **options).new_page()
        tab.said, tab.asked = [], []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.goto(path.as_uri())
        return tab

    return open_page


def point_at(tab, series, point):
    """Move the pointer to a drawn point of the left panel: where the path of its line has it."""
    place = tab.evaluate(
        """([series, point]) => { const path = document.querySelector(`[data-of="0"][data-series="${series}"] path`);
        const [x, y] = path.getAttribute("d").trim().split(/\\s*[ML]\\s*/)[point + 1].split(" ").map(Number);
        const at = new DOMPoint(x, y).matrixTransform(path.getScreenCTM()); return [at.x, at.y]; }""",
        [series, point],
    )
    tab.mouse.move(*place)


def readout(tab):
    return [line.strip() for line in tab.locator(".readout > div").all_inner_texts()]


def test_the_pointer_reads_the_nearest_point_and_the_others_at_the_same_place(open_page):
    tab = open_page()
    tab.locator(".plot").scroll_into_view_if_needed()
    point_at(tab, 0, 2)
    assert readout(tab) == ["epoch 3 · loss", "ours: 0.5", "theirs: 1"]
    assert tab.locator(".readout .this").inner_text().strip() == "ours: 0.5"
    tab.mouse.move(1, 1)
    assert not tab.locator(".readout").is_visible()
    assert tab.said == [] and [url for url in tab.asked if not url.startswith(("data:", "file:"))] == []


def test_arrow_keys_read_every_point_and_series_aloud(open_page):
    tab = open_page()
    tab.locator(".plot").focus()
    heard = []
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowDown", "ArrowDown", "Home"):
        tab.keyboard.press(key)
        heard.append(tab.locator("figure [role=status]").inner_text())
    assert heard == [
        "ours: epoch 1, loss 2, point 1 of 5",
        "ours: epoch 2, loss 1, point 2 of 5",
        "ours: epoch 5, loss 0.15, point 5 of 5",
        "theirs: epoch 5, loss 0.25, point 5 of 5",
        "ours: accuracy, % 94, y ours, point 1 of 2",
        "ours: accuracy, % 94, y ours, point 1 of 2",
    ]
    tab.keyboard.press("Escape")
    assert not tab.locator(".readout").is_visible()


def test_the_page_s_legend_replaces_the_drawn_one_and_hides_series(open_page):
    tab = open_page()
    line = tab.locator('[data-of="0"][data-series="1"]')
    assert not tab.locator(".legend").is_visible()
    button = tab.locator(".tools button", has_text="theirs")
    button.click()
    assert not line.is_visible() and button.get_attribute("aria-pressed") == "false"
    point_at(tab, 0, 2)
    assert readout(tab) == ["epoch 3 · loss", "ours: 0.5"]
    button.click()
    assert line.is_visible()


def test_the_data_of_a_figure_is_behind_its_mark(open_page, tmp_path):
    tab = open_page()
    mark = tab.locator("#fig-curves .made summary")
    column = tab.locator("#fig-curves .plot").bounding_box()
    assert mark.bounding_box()["x"] >= column["x"] + column["width"] - 1  # in the margin
    mark.click()
    with tab.expect_download() as waiting:
        tab.locator("#fig-curves .made a.data").click()
    assert waiting.value.suggested_filename == "fig-curves.csv"
    waiting.value.save_as(tmp_path / "data.csv")
    assert pd.read_csv(tmp_path / "data.csv")["run"].tolist() == ["ours", "theirs"]


def test_a_citation_and_a_reference_are_previewed_on_hover_and_on_focus(open_page):
    tab = open_page()
    card = tab.locator("#preview")
    tab.locator("main p a[href='#ref-smith2017']").first.hover()
    card.wait_for(state="visible")
    assert "Cyclical Learning Rates" in card.inner_text()
    tab.keyboard.press("Escape")
    assert not card.is_visible()
    tab.mouse.move(1, 1)
    evidence = {"fig-curves": "Curves of", "tbl-evidence": "it fell by 90 %", "claim-c2": "it rose by 3 %"}
    for target, words in evidence.items():
        link = tab.locator(f"a[href='#{target}']").first
        tab.keyboard.press("Tab")  # so that focus is seen
        link.focus()
        assert card.is_visible() and words in card.inner_text(), target
        assert link.get_attribute("aria-describedby") == "preview"
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids)) and tab.said == []


def test_without_script_and_in_print_the_page_is_whole(open_page):
    tab = open_page(java_script_enabled=False)
    assert tab.locator("figure svg[role=img]").is_visible() and tab.locator(".legend").is_visible()
    assert tab.locator("nav a").first.is_visible() and tab.locator("button, .readout, #preview").count() == 0
    tab = open_page()
    tab.emulate_media(media="print")
    assert not tab.locator(".tools, .copy, .made, nav").locator("visible=true").count()
    assert tab.locator(".legend").is_visible()


def test_the_first_screen_has_the_findings_and_lines_have_at_most_75_characters(open_page):
    tab = open_page()
    findings = tab.locator(".findings").bounding_box()
    assert findings["y"] + findings["height"] < 900
    longest = tab.evaluate(
        """() => Math.max(...[...document.querySelectorAll("main p:not(.unseen)")]
          .filter(p => p.offsetHeight && !p.closest("td, .made"))
          .map(p => p.textContent.length / Math.round(p.offsetHeight / parseFloat(getComputedStyle(p).lineHeight))))"""
    )
    assert 50 < longest <= 75


def test_on_a_narrow_screen_panels_are_stacked_tables_scroll_and_contents_stay_at_hand(open_page):
    tab = open_page(390)
    boxes = [tab.locator(f'[data-panel="{i}"]').bounding_box() for i in (0, 1)]
    assert boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"] - 1
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    caption = tab.locator("#fig-curves figcaption").bounding_box()
    assert caption["y"] >= boxes[1]["y"] + boxes[1]["height"] - 1
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.locator("#tbl-evidence .scroll").evaluate("box => box.scrollWidth > box.clientWidth")
    assert tab.locator("#tbl-evidence tr").nth(1).evaluate("row => getComputedStyle(row).display") == "table-row"
    tab.evaluate("scrollTo(0, 1e6)")
    summary = tab.locator("nav summary")
    assert summary.bounding_box()["y"] < 5
    summary.click()
    tab.locator("nav a").first.click()
    assert tab.evaluate("location.hash") == "#sec-test" and not tab.locator("nav a").first.is_visible()
    assert tab.said == []


def test_what_is_to_be_copied_can_be(open_page):
    tab = open_page(permissions=["clipboard-read", "clipboard-write"])
    tab.locator("#cite button").click()
    tab.get_by_text("Copied").wait_for()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("@misc{") and "year = {2026}" in copied and "Commit abc" in copied


def test_figures_are_dark_where_the_reader_asks_for_dark(open_page):
    fill = "getComputedStyle(document.querySelector('#fig-curves svg text')).fill"
    light, dark = (open_page(color_scheme=scheme).evaluate(fill) for scheme in ("light", "dark"))
    assert (light, dark) == ("rgb(31, 35, 40)", "rgb(228, 231, 235)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_accessibility_checker_finds_nothing(open_page, width, scheme):
    need(AXE)
    tab = open_page(width, color_scheme=scheme, bypass_csp=True)
    tab.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    tab.add_script_tag(path=AXE)
    violations = tab.evaluate("axe.run().then(found => found.violations.map(v => [v.id, v.nodes.map(n => n.html)]))")
    assert violations == []
