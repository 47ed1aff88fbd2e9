"""Whole documents, made in a fresh clone from an empty store as a user makes them, and looked at as a reader does."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from bs4 import BeautifulSoup
from conftest import DONE_WITHIN, ROOT, copy_project, run_lrlib, start_lrlib
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pypdf import PdfReader
from test_page import AXE, chromium, need

from lrlib.report.command_line import main
from lrlib.report.documents import load_document
from lrlib.report.publish import Outcome
from lrlib.report.sections import find_sections, give_values, plan_section
from lrlib.runs.published import write
from lrlib.runs.store import Store

__all__ = ["chromium"]

FIGURES = """\
import pandas as pd
from matplotlib import pyplot as plt
from lrlib.report.display import show_figure
figure, axes = plt.subplots()
axes.plot([1, 2, 3])
axes.set_title("title")
show_figure(figure, label="f", caption="C", alt="A", data=pd.DataFrame({"x": [1]}))
plt.plot([1, 2])
plt.show()"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone of the project, with the changes that are not committed yet."""
    project = tmp_path_factory.mktemp("clone") / "project"
    subprocess.run(["git", "clone", "--quiet", ROOT, project], check=True)
    changed = subprocess.run(["git", "ls-files", "-mo", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in changed.stdout.split():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name) if (ROOT / name).exists() else (project / name).unlink()
    return project


def make(project, *arguments):
    """Run make as a person does, also where make runs the tests."""
    apart = ("LRLIB_STORE", "LRLIB_DATA", "LRLIB_BUILD", "PYTHONPATH", "MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(apart)}
    command = ["make", *arguments, f"PYTHON={sys.executable}"]
    options = {"capture_output": True, "text": True, "timeout": 3 * DONE_WITHIN}
    return subprocess.run(command, cwd=project, env=environment, **options)


@pytest.fixture(scope="module")
def made(project):
    """What `make report QUICK=1` printed."""
    done = make(project, "report", "QUICK=1")
    assert done.returncode == 0, done.stderr
    return done


def read_page(project, name):
    return BeautifulSoup((project / "report" / "build" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


def check_document(project, name, done):
    """A document's files are there, and nothing in them is broken."""
    build = project / "report" / "build"
    assert done.stdout.splitlines() == [str(build / f"{name}.html"), str(build / f"{name}.pdf")]
    page = read_page(project, name)
    assert f"make {name} QUICK=1" in page.header.get_text() and len(page.select(".findings li")) > 2
    ids = {element["id"] for element in page.select("[id]")}
    assert {a["href"][1:] for a in page.select("a[href^='#']")} <= ids
    assert all(len(table.select("thead th")) <= 7 for table in page.select("table"))
    assert len(page.select("a.data[download]")) >= len(page.select("figure"))
    for code in page.select("pre, code, math, .made"):
        code.decompose()
    assert not re.search(r"@(fig|tbl|sec)-|\?\*\*|\{[a-z_]+[:.!}]", page.main.get_text())  # placeholders
    return page


def test_the_report_is_whole(project, made):
    page = check_document(project, "report", made)
    assert re.search(r"\d\d epochs trained, 0 from the cache", made.stderr)
    assert page.select("aside.banner") and len(page.select("figure svg")) > 6
    # Each kernel started in the folder of the notebooks, where it finds the numbers of figures and tables.
    executed = [path.read_text("utf-8") for path in (project / "report" / "build" / "notebooks").glob("*.ipynb")]
    assert len(executed) == 8 and not [text for text in executed if re.search(r"\*\*(Figure|Table)\.\*\*", text)]


@pytest.mark.faults
def test_the_study_is_whole_and_trains_nothing(project):
    done = make(project, "study", "QUICK=1")
    assert "0 epochs trained" in done.stderr
    page = check_document(project, "study", done)
    tables = ("cells", "measured", "regret", "default", "targets", "calibration")
    assert page.select_one("#fig-heatmap") and all(page.select_one(f"#tbl-{name}") for name in tables)
    assert not re.search(r"\bnan\b|object at 0x", page.get_text())


def test_a_browser_shows_the_report_on_a_telephone_and_the_checker_finds_nothing(project, made, chromium):
    need(AXE)
    tab = chromium.new_context(viewport={"width": 390, "height": 844}, offline=True, bypass_csp=True).new_page()
    said = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((project / "report" / "build" / "report.html").as_uri())
    height, width = tab.evaluate("[document.documentElement.scrollHeight, document.documentElement.scrollWidth]")
    assert (width, said) == (390, []) and height <= 25_000
    tab.add_script_tag(path=AXE)
    assert tab.evaluate("axe.run().then(found => found.violations.map(v => [v.id, v.nodes.map(n => n.html)]))") == []


def test_the_pdf_has_at_most_twelve_pages_none_of_them_a_third_empty(project, made):
    pages = PdfReader(project / "report" / "build" / "report.pdf").pages
    assert len(pages) <= 12
    for number, page in enumerate(pages[:-1], 1):
        places, height = [], float(page.mediabox.height)
        page.extract_text(visitor_text=lambda *found, places=places: places.append(found))
        heights = [tm[5] * cm[3] + cm[5] for text, cm, tm, *_ in places if text.strip()]
        assert min(y for y in heights if y > 0.06 * height) < height / 3 + 57, number  # above the page number


def test_a_section_trains_only_what_is_new_and_leaves_the_report(project, made):
    before = (project / "report" / "build" / "report.html").read_bytes()
    done = make(project, "section", "NAME=2-2", "QUICK=1", "PARAMS=turning_points=[1, 2]")
    assert done.returncode == 0 and "3 epochs trained" in done.stderr, done.stderr  # epochs 3 to 5 after a drop at 2
    assert done.stdout == f"{project}/report/build/sections/2-2-multistep.html\n"
    assert "turning_points=[1, 2]" in (project / "report/build/sections/2-2-multistep.html").read_text("utf-8")
    assert (project / "report" / "build" / "report.html").read_bytes() == before


def test_published_results_are_used_instead_of_training_and_named_first(project, made, tmp_path):
    document = load_document(project / "notebooks")
    sections = give_values(find_sections(document), {}, document.quick)
    runs = [run for section in sections for run in plan_section(section)]
    write(tmp_path / "results.npz", runs, commit="f" * 40, store=Store(project / ".lrlib" / "store"))
    copy = copy_project(tmp_path / "copy")
    shutil.copy(tmp_path / "results.npz", copy / "report" / "results.npz")
    outcome = Outcome(command="make publish SEEDS=1 QUICK=1").to_json()
    page = f'<script type="application/json" id="outcome">{outcome}</script>'
    (copy / "report" / "report.html").write_text(page)
    status, _, err = run_lrlib(copy, "section", "2-1", "--quick", "--results", "published")
    assert status == 0 and "\n0 epochs trained" in f"\n{err}", err
    [page] = (copy / "report" / "build" / "sections").glob("*.html")
    notice = BeautifulSoup(page.read_text("utf-8"), "html.parser").select_one("header .notice").get_text()
    assert "f" * 12 in notice and "nothing was trained on this machine" in notice
    assert not (copy / ".lrlib" / "store").exists() or not list((copy / ".lrlib" / "store").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--params", "epoch=3"], "'epoch'.*did you mean 'epochs'"),
        (["report", "--epochs", "0"], "section 0: .*got 0"),
        (["report", "--epochs", "10", "--params", "milestones=[15]"], "milestones"),
        (["report", "--dataset", "mnits"], "got .mnits."),
        (["section", "2-9"], "'2-9'"),
        (["report", "--seeds", "2", "--params", "seeds=3"], "seeds is given twice"),
        (["report", "nothing"], "'nothing'"),
    ],
)
def test_bad_input_is_one_line_and_status_2_before_anything_is_trained(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(f"lrlib: .*{message}.*\n", err), err


def write_project(folder, *cells):
    """A copy of the project with one section, "1"."""
    project = copy_project(folder)
    for path in (project / "notebooks").glob("*.ipynb"):
        path.unlink()
    cells = [new_markdown_cell("# Title"), *(new_code_cell(cell) for cell in cells)]
    about = {"lrlib": {"section": "1", "anchor": "one"}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(new_notebook(cells=cells, metadata=about), project / "notebooks" / "1-one.ipynb")
    return project


@pytest.mark.parametrize(
    ("code", "message"), [("1 / 0", "raised ZeroDivisionError"), ("import os; os._exit(1)", "lost its kernel")]
)
def test_a_notebook_that_fails_is_named_with_its_cell_and_kept(tmp_path, code, message):
    project = write_project(tmp_path, "x = 1", code, "y = 2")
    status, _, err = run_lrlib(project, "section", "1")
    assert status == 1
    assert re.search(rf"^lrlib: section 1: cell 3 of 1-one.ipynb {message}.*build/failed/1-one.ipynb", err, re.M), err
    assert (project / "report" / "build" / "failed" / "1-one.ipynb").exists()


def test_a_build_folder_that_cannot_be_written_is_named_before_anything_is_trained(tmp_path):
    copy = copy_project(tmp_path)
    (copy / "report" / "build").write_text("in the way")
    status, _, err = run_lrlib(copy, "report", "--quick")
    assert status == 1 and re.search(r"^lrlib: .*report/build", err, re.M) and "epoch" not in err


def test_a_user_s_own_settings_do_not_change_the_page(tmp_path):
    """Fonts and colours, startup files, kernels and Python's switches, as files in a home and as variables."""
    home = tmp_path / "home"
    files = {
        ".config/matplotlib/matplotlibrc": "font.size: 30\n",
        "matplotlibrc": "axes.facecolor: red\n",
        ".ipython/profile_default/startup/1.py": "raise SystemExit",
        ".ipython/profile_default/ipython_kernel_config.py": "c.InlineBackend.figure_formats = {'jpeg'}",
        ".jupyter/jupyter_config.py": "1 / 0",
        ".local/share/jupyter/kernels/python3/kernel.json": '{"argv": ["false"]}',
        "start.py": "1 / 0",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    settings = dict.fromkeys(("HOME", "MATPLOTLIBRC", "JUPYTER_PATH"), str(home)) | {
        "PYTHONSTARTUP": f"{home}/start.py", "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "MPLBACKEND": "x"
    }  # fmt: skip
    pages = []
    for environment in ({"HOME": str(tmp_path)}, settings):
        project = write_project(tmp_path / f"project{len(pages)}", FIGURES)
        process = start_lrlib(project, "section", "1", environment=environment)
        _, err = process.communicate(timeout=DONE_WITHIN)
        assert process.returncode == 0, err
        pages.append((project / "report" / "build" / "sections" / "1-one.html").read_text("utf-8"))
    assert pages[0] == pages[1]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_report_trains_nothing_and_a_stopped_one_leaves_nothing(project, made, tmp_path, number, status):
    process = start_lrlib(project, "report", "--quick", start_new_session=True, environment={"TMPDIR": str(tmp_path)})
    said = list(itertools.takewhile(lambda line: not line.startswith("executing"), process.stderr))
    assert said[-1].startswith("0 epochs trained")
    time.sleep(3)  # kernels are starting or at work
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status and "Traceback" not in err, err
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert [path for path in tmp_path.iterdir() if "torchinductor" not in path.name] == []  # torch's own cache


@pytest.mark.faults
def test_of_two_reports_at_once_each_is_whole_and_the_later_stands(project, made):
    first = start_lrlib(project, "report", "--quick", "--epochs", "2")
    time.sleep(3)
    second = start_lrlib(project, "report", "--quick", "--epochs", "2", "--seeds", "2")
    for process in (first, second):
        _, err = process.communicate(timeout=DONE_WITHIN)
        assert process.returncode == 0, err
    page = read_page(project, "report")
    assert ("SEEDS=2" in page.header.get_text()) == ("one seed" not in page.select_one(".findings").get_text())
