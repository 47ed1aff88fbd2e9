"""The whole report, made in a copy of the project as a person makes it, and looked at as a reader does."""

import csv
import io
import os
import re
import shutil
import signal
import time

import nbformat
import psutil
import pytest
from conftest import copy_project, run_lrlib, start_lrlib
from pypdf import PdfReader

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def made(project):
    """What `make report QUICK=1` printed, its files being in the project's copy."""
    status, out, err = run_lrlib(project, "report", "--quick")
    assert status == 0, err
    return out, err


@pytest.fixture(scope="module")
def html(project, made):
    return (project / "report" / "build" / "report.html").read_text(encoding="utf-8")


def test_the_last_lines_are_the_accuracies_and_the_two_files(project, made):
    out, err = made
    build = project / "report" / "build"
    accuracies, paths = out.splitlines()[:2], out.splitlines()[2:]
    assert re.fullmatch(r"MultiStep: +\d\d\.\d\d % test accuracy \(author: 99\.27 %\)", accuracies[0])
    assert re.fullmatch(r"OneCycle: +\d\d\.\d\d % test accuracy \(author: 99\.18 %\)", accuracies[1])
    assert paths == [str(build / "report.html"), str(build / "report.pdf")]
    assert "epoch" in err and "36/36" in err


def test_executed_notebooks_lie_beside_the_report_without_errors(project, made):
    executed = sorted((project / "report" / "build" / "notebooks").glob("*.ipynb"))
    assert [path.name for path in executed] == sorted(p.name for p in (project / "notebooks").glob("[0-2]*.ipynb"))
    for path in executed:
        cells = nbformat.read(path, as_version=4).cells
        assert all(o.output_type != "error" for c in cells if c.cell_type == "code" for o in c.outputs)


def test_the_html_has_all_claims_errata_figures_and_the_sample_s_banner(html):
    for number in range(1, 14):
        assert re.search(rf"<td[^>]*>C{number}</td>", html), number
    for figure in ("range-test", "sweep", "adam", "no-scheduling", "multistep", "onecycle", "accuracies"):
        assert f'id="fig-{figure}"' in html, figure
    for table in ("claims", "rules", "errata", "provenance", "accuracies"):
        assert f'id="tbl-{table}"' in html, table
    assert html.count("Made from the embedded sample") == 1
    assert "make report QUICK=1" in html


def test_the_accuracies_in_the_text_are_those_printed(html, made):
    for accuracy in re.findall(r"(\d\d\.\d\d) % test", made[0]):
        assert f"{accuracy} %" in re.sub(r"[\u00a0\s]+", " ", html)


def test_the_data_of_every_figure_is_behind_a_link(html):
    import base64
    import urllib.parse

    links = re.findall(r'<a[^>]*href="data:text/csv([^,"]*),([^"]*)"[^>]*download="(fig-[^"]+)"', html) or [
        (kind, data, name)
        for name, kind, data in re.findall(r'<a[^>]*download="([^"]+)"[^>]*href="data:text/csv([^,"]*),([^"]*)"', html)
        if name.startswith("fig")
    ]
    assert len(links) == 7
    for kind, data, name in links:
        text = base64.b64decode(data).decode() if "base64" in kind else urllib.parse.unquote(data)
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) >= 2 and "run" in rows[0], name


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "light"), (1280, "dark")])
def test_a_real_browser_shows_every_figure_with_the_network_off(project, made, width, scheme):
    from playwright.sync_api import sync_playwright

    problems, requests = [], []
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((project / "report" / "build" / "report.html").as_uri())
        boxes = [figure.bounding_box() for figure in page.locator("figure svg").all()]
        scrolls_sideways = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        browser.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len(boxes) == 7
    assert all(box and box["width"] > 250 and box["height"] > 50 for box in boxes)
    assert not scrolls_sideways


def test_the_pdf_is_tagged_and_holds_every_section_and_claim(project, made):
    pdf = PdfReader(project / "report" / "build" / "report.pdf")
    text = "\n".join(page.extract_text() for page in pdf.pages)
    assert 6 <= len(pdf.pages) <= 14
    assert pdf.trailer["/Root"]["/MarkInfo"]["/Marked"]
    assert "/StructTreeRoot" in pdf.trailer["/Root"]
    assert pdf.metadata.title == "A Learning-Rate Range Test for LeNet-5 on MNIST"
    for words in ("Learning-rate range test", "No scheduling", "MultiStep schedule", "OneCycle schedule", "Conclusion",
                  "Errata", "Provenance", "References", "Made from the embedded sample", "C13"):  # fmt: skip
        assert words in text, words


def test_a_second_report_trains_nothing(project, made):
    status, out, err = run_lrlib(project, "report", "--quick")
    assert status == 0
    assert "0 epochs trained, 36 from the store" in err
    assert out == made[0]


def test_a_section_with_other_parameters_trains_what_is_new_and_leaves_the_report_alone(project, made):
    report = project / "report" / "build" / "report.html"
    before = report.stat().st_mtime_ns
    status, out, err = run_lrlib(project, "section", "2-2", "--quick", "--params", "turning_points=[1, 2]")
    assert status == 0, err
    assert "3 epochs trained" in err  # epochs 3 to 5 after a drop at 2
    made_html = project / "report" / "build" / "sections" / "2-2-multistep.html"
    assert out.splitlines() == [str(made_html)]
    assert "MultiStep [2]" in made_html.read_text(encoding="utf-8")
    assert made_html.with_suffix(".ipynb").exists()
    assert report.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["report", "--params", "epoch=3"],
            "no section declares a parameter 'epoch'; there are .*; did you mean 'epochs'?",
        ),
        (["report", "--epochs", "0"], "section 0: .* got 0"),
        (
            ["report", "--epochs", "10", "--params", "milestones=[15]"],
            "milestones must not lie past the last epoch, 10",
        ),
        (["report", "--dataset", "mnits"], "dataset must be one of mnist, fashion_mnist, sample, "),
        (["section", "2-9"], "there is no section '2-9'; sections are"),
        (["report", "--dataset", ""], "dataset must be a word, got nothing"),
    ],
)
def test_bad_input_is_one_line_and_status_2_before_anything_is_trained(project, arguments, message):
    status, out, err = run_lrlib(project, *arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert re.match(f"lrlib: .*{message}", err)


def test_a_report_without_its_abstract_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "project").mkdir()
    project = copy_project(tmp_path / "project")
    (project / "notebooks" / "0-abstract.ipynb").unlink()
    status, out, err = run_lrlib(project, "report", "--quick")
    assert (status, out) == (2, "")
    assert err.startswith("lrlib: the report has no abstract") and len(err.splitlines()) == 1


def test_a_notebook_that_raises_is_named_with_its_cell_and_kept_with_its_traceback(project, made):
    path = project / "notebooks" / "2-1-no-scheduling.ipynb"
    original = path.read_text(encoding="utf-8")
    try:
        notebook = nbformat.reads(original, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell("1 / 0"))
        nbformat.write(notebook, path)
        status, out, err = run_lrlib(project, "section", "2-1", "--quick")
    finally:
        path.write_text(original, encoding="utf-8")
    assert status == 1
    assert re.search(
        r"lrlib: section 2-1: cell \d+ of 2-1-no-scheduling.ipynb raised ZeroDivisionError: division by zero", err
    )
    kept = project / "report" / "build" / "sections" / "2-1-no-scheduling.ipynb"
    assert "ZeroDivisionError" in kept.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_named(project, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("build"))
    (copy / "report" / "build").write_text("in the way")
    status, out, err = run_lrlib(copy, "report", "--quick")
    assert status == 1
    assert re.search(r"lrlib: .*report/build cannot be written", err.splitlines()[-1])


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_while_notebooks_are_executed_ends_in_seconds_and_leaves_no_process(project, made):
    process = start_lrlib(project, "report", "--quick", start_new_session=True)
    for line in process.stderr:
        if line.startswith("executing"):
            break
    time.sleep(3)  # kernels are starting or at work
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finished epochs are stored" in err
    assert "Traceback" not in err
    assert time.monotonic() - begin < 15
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


@pytest.mark.faults
def test_of_two_reports_at_once_in_a_checkout_each_is_whole_and_the_later_stands(project):
    start = ["report", "--quick", "--epochs", "2"]
    first = start_lrlib(project, *start)
    time.sleep(3)
    second = start_lrlib(project, *start, "--seeds", "2")
    ended = {}
    while len(ended) < 2:
        for process in {first, second} - ended.keys():
            if process.poll() is not None:
                ended[process] = process.communicate()
                made = project / "report" / "build"
                page = (made / "report.html").read_text(encoding="utf-8")
                assert ("SEEDS=2" in page) == ("over 2 seeds" in page), "one report's words in another"
                assert process.returncode == 0, ended[process][1]
        time.sleep(0.05)
    assert not list((project / "report" / "build").glob(".making-*"))
