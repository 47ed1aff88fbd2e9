import re

import nbformat
import pandas as pd
import pytest

from lrlib.report import publish
from lrlib.report.driver import Made

ACCURACIES = pd.DataFrame(
    {"method": ["MultiStep", "OneCycle"], "accuracy": [99.2, 99.1], "low": [99.0, 99.0], "high": [99.4, 99.3], "n": [5, 5],
     "author": [99.27, 99.18]}
)  # fmt: skip


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "project_folder", lambda: tmp_path)
    (tmp_path / "report").mkdir()
    build = tmp_path / "build"
    build.mkdir()
    (build / "report.html").write_text("the page")
    (build / "report.pdf").write_bytes(b"the paper")
    output = nbformat.v4.new_output(
        "display_data", {"image/svg+xml": "<svg/>"}, metadata={"report": {"label": publish.FIGURE}}
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    nbformat.write(notebook, build / "2-3.ipynb")
    return Made(build / "report.html", build / "report.pdf", build, ACCURACIES, 0, 1.0, "515dfb8b41dd, clean")


def test_publishing_copies_the_report_and_puts_its_numbers_into_the_readme(made, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- published -->\nold\n<!-- /published -->\nafter\n")
    for _ in range(2):
        publish.publish_report(made, command="make publish SEEDS=5")
    text = readme.read_text()
    assert text.startswith("before\n<!-- published -->\n") and text.endswith("<!-- /published -->\nafter\n")
    assert "old" not in text
    assert text.count("| MultiStep | 99.20 % | 99.00 to 99.40 % | 5 | 99.27 % |") == 1
    assert "`make publish SEEDS=5`" in text and "from commit `515dfb8b41dd, clean`" in text
    assert (tmp_path / "report" / "report.html").read_text() == "the page"
    assert (tmp_path / "report" / "report.pdf").read_bytes() == b"the paper"
    assert (tmp_path / "report" / "onecycle.svg").read_text() == "<svg/>"


def test_a_block_replaces_what_readme_has_between_its_lines_as_it_is():
    readme = "before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n"
    expected = "before\n<!-- bench -->\nnew \\1\n<!-- /bench -->\nafter\n"
    assert publish.fill_block(readme, "bench", "new \\1\n") == expected
    with pytest.raises(publish.PublishError, match="README.md has no lines <!-- bench --> and <!-- /bench -->"):
        publish.fill_block("nothing", "bench", "new\n")


def test_a_readme_without_a_place_is_refused_before_anything_is_copied(made, tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(publish.PublishError, match="has no lines <!-- published -->"):
        publish.publish_report(made, command="make publish")
    assert list((tmp_path / "report").iterdir()) == []


def test_the_readme_s_accuracies_are_those_of_the_published_report(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    page = re.sub(r"\s+", " ", (root / "report" / "report.html").read_text(encoding="utf-8"))
    rows = re.findall(r"\| (MultiStep|OneCycle) \| ([\d.]+) % \| ([\d.]+) to ([\d.]+) % \| (\d+) \|", readme)
    assert [row[0] for row in rows] == ["MultiStep", "OneCycle"]
    for method, accuracy, low, high, n in rows:
        # Other tables have rows of that name too.
        cells = re.findall(rf"<tr[^>]*> ?<td[^>]*>{method}</td>(.*?)</tr>", page)
        assert [accuracy, low, high] in [re.findall(r">([\d.]+)</td>", row)[:3] for row in cells]
        assert int(n) >= 5
