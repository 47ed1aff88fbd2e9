"""A section comes out the same, byte for byte, on a machine whose user has set up everything otherwise."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
from conftest import DONE_WITHIN, copy_project
from pypdf import PdfReader

PARAMETERS = 'dataset: str = "sample"  # the data\nepochs: int = 1  # of the run\n'
RUNS = """
from lrlib import Run
from lrlib.schedules import Constant

design, runs = None, [Run(Constant(0.01), problem="lenet5_sample", epochs=epochs)]
"""
# Draws, and shows what settings of a user would show in: a docstring, and stray values.
SHOWN = """
import os

import matplotlib.pyplot as plt
import pandas as pd

from lrlib import train
from lrlib.report.display import show_figure, show_text

results = train(runs)
figure, axes = plt.subplots()
axes.plot([1, 2], [1, 2])
axes.set_title("a title")
show_figure(figure, label="line", caption="A line [@smith2017].", alt="A line.", data=pd.DataFrame({"x": [1, 2]}))
1 + 1
show_text(f"{' '.join(show_text.__doc__.split())} {results.n_computed} computed here.")
show_text(f"A terminal's variables: {[name for name in os.environ if name.startswith('JPY_SESSION')]}.")
"""


# A figure that is shown plainly.
PLAIN = "plt.plot([1, 2]);"
PLAINLY = (
    "warning: 1-small.ipynb: a figure has no alternative text, number or caption; "
    "lrlib.report.display.show_figure gives it those"
)


def write_section(path, *, number="1", anchor="small", cells=(SHOWN, PLAIN), runs=RUNS):
    """Write a section's notebook: a heading, parameters, runs, and other cells."""
    new = nbformat.v4
    code = [new.new_code_cell(source.strip()) for source in (PARAMETERS, runs, *cells)]
    code[0].metadata["tags"], code[1].metadata["tags"] = ["parameters"], ["runs"]
    notebook = new.new_notebook(cells=[new.new_markdown_cell("# A section"), *code])
    notebook.metadata["lrlib"] = {"section": number, "anchor": anchor}
    nbformat.write(notebook, path)


def make_project(folder):
    """A copy of the project with one small section in place of all others."""
    folder.mkdir(parents=True)
    project = copy_project(folder)
    for path in (project / "notebooks").iterdir():
        path.unlink()
    write_section(project / "notebooks" / "1-small.ipynb")
    return project


def run(project, *arguments, home, variables=None, python=(), cwd=None):
    """`python -m lrlib` for a user with that home. Returns the finished process."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment = kept | {"HOME": str(home)} | (variables or {})
    return subprocess.run(
        [sys.executable, *python, "-m", "lrlib", *arguments],
        cwd=cwd or project, env=environment, capture_output=True, text=True, timeout=DONE_WITHIN,
    )  # fmt: skip


def read_page(project):
    return (project / "report" / "build" / "sections" / "1-small.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The section's page as it is made for a user who has set nothing up."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "home").mkdir()
    project = make_project(folder / "project")
    done = run(project, "section", "1", home=folder / "home")
    assert done.returncode == 0, done.stderr
    page = read_page(project)
    assert "0 computed here" in page and 'id="fig-line"' in page and 'id="plain-small-1"' in page
    return page


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def set_matplotlib(home, project):
    wrong = "font.size: 20\naxes.facecolor: red\nfont.family: serif\ntext.usetex: True\nsavefig.transparent: True\n"
    write(home / ".config" / "matplotlib" / "matplotlibrc", wrong)
    write(project / "notebooks" / "matplotlibrc", wrong)
    write(project / "matplotlibrc", wrong)
    write(home / "mpl" / "matplotlibrc", wrong)
    # Drawn at another date, in another language and zone, by who wants no colours.
    there = {
        "SOURCE_DATE_EPOCH": "86400",
        "LC_ALL": "de_DE.UTF-8",
        "TZ": "Asia/Tokyo",
        "NO_COLOR": "1",
        "FORCE_COLOR": "1",
    }
    return {"MPLBACKEND": "TkAgg", "MPLCONFIGDIR": str(home / "mpl"), "COLUMNS": "20"} | there


def set_ipython(home, project):
    profile = home / ".ipython" / "profile_default"
    write(profile / "ipython_config.py", "c = get_config()\nc.InteractiveShell.ast_node_interactivity = 'all'\n")
    write(profile / "ipython_kernel_config.py", "c = get_config()\nc.InlineBackend.rc = {'font.size': 20.0}\n")
    write(
        profile / "startup" / "00.py", "import matplotlib; matplotlib.rcParams['lines.linewidth'] = 9; print('hello')"
    )
    write(home / "startup.py", "1 / 0")
    # As in a terminal of JupyterLab's, whose server is another process.
    terminal = {"JPY_PARENT_PID": "1", "JPY_SESSION_NAME": "/x.ipynb", "JUPYTER_SERVER_ROOT": "/", "TERM": "dumb"}
    return {"PYTHONSTARTUP": str(home / "startup.py"), "IPYTHONDIR": str(home / ".ipython")} | terminal


def set_jupyter(home, project):
    """Kernels named python3 of another Python, for the user and by JUPYTER_PATH; a user's templates, pandoc's style."""
    kernel = json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "Python 3", "language": "python"})
    write(home / ".local" / "share" / "jupyter" / "kernels" / "python3" / "kernel.json", kernel)
    write(home / "more" / "kernels" / "python3" / "kernel.json", kernel)
    for place in (home / ".local" / "share" / "jupyter", home / "more"):
        write(place / "nbconvert" / "templates" / "base" / "display_priority.j2", "mine")
        write(place / "nbconvert" / "templates" / "html" / "conf.json", '{"preprocessors": {"x": {"type": "no.such"}}}')
    style = (
        '<style xmlns="http://purl.org/net/xbiblio/csl" class="in-text" version="1.0"><info><title>m</title><id>m</id>'
    )
    style += (
        "<updated>2020-01-01T00:00:00+00:00</updated></info><citation><layout><text value='MINE'/></layout></citation>"
    )
    write(home / ".local" / "share" / "pandoc" / "default.csl", style + "</style>")
    write(home / ".local" / "share" / "pandoc" / "abbreviations", "in.\n")
    for name in ("jupyter_config.py", "jupyter_nbconvert_config.py", "jupyter_nbclient_config.py"):
        write(home / ".jupyter" / name, "raise RuntimeError")
    write(home / ".jupyter" / "jupyter_config.json", '{"NbConvertApp": {"export_format": "pdf"}}')
    more = {"JUPYTER_CONFIG_PATH": str(home / ".jupyter"), "JUPYTER_PLATFORM_DIRS": "1", "JUPYTER_NO_CONFIG": "0"}
    return {"JUPYTER_PATH": str(home / "more"), "JUPYTER_DEFAULT_PROVISIONER_NAME": "no-such"} | more


def set_python(home, project):
    more = {"PYTHONDEVMODE": "1", "PYTHONUTF8": "0", "PYTHONUNBUFFERED": "1"}
    return {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONHASHSEED": "7", "PYTHONIOENCODING": "ascii"} | more


def set_dask(home, project):
    """Settings for a cluster elsewhere, in files and variables; and a file that cannot be read."""
    elsewhere = {
        "temporary-directory": str(home / "not" / "there" / "\0"),
        "distributed": {
            "comm": {"require-encryption": True, "tls": {"ca-file": "/no/ca.pem"}, "default-scheme": "tls"},
            "worker": {"preload": ["no_such_module"], "lifetime": {"duration": "2s", "restart": True}},
            "nanny": {"environ": {"OMP_NUM_THREADS": "7"}, "preload": ["no_such_module"]},
            "scheduler": {"preload": ["no_such_module"], "allowed-failures": 0},
        },
    }
    write(home / ".config" / "dask" / "mine.yaml", json.dumps(elsewhere))
    write(home / ".config" / "dask" / "broken.yaml", "a: [1\nb: }")
    write(
        home / "more.yaml",
        "distributed: {comm: {timeouts: {connect: 0s}}, worker: {daemon: false, use-file-locking: 3}}",
    )
    more = {
        "DASK_CONFIG": str(home / "more.yaml"),
        "DASK_INTERNAL_INHERIT_CONFIG": "none",
        "DASK_SCHEDULER_ADDRESS": "",
    }
    return {"DASK_DISTRIBUTED__WORKER__PRELOAD": "no_such_module", "DASK_TEMPORARY_DIRECTORY": "/dev/null/x"} | more


def set_folders(home, project):
    return {"LRLIB_STORE": "a-store", "LRLIB_DATA": "data", "LRLIB_BUILD": "report/build"}


SETTINGS = [set_matplotlib, set_ipython, set_jupyter, set_python, set_dask, set_folders]


@pytest.mark.parametrize(
    "settings",
    [pytest.param(SETTINGS, id="all"), *(pytest.param([s], id=s.__name__, marks=pytest.mark.faults) for s in SETTINGS)],
)
def test_what_a_user_has_set_does_not_touch_the_page(bare, tmp_path, settings):
    project, home, variables = make_project(tmp_path / "project"), tmp_path / "home", {}
    home.mkdir()
    for set_up in settings:
        variables |= set_up(home, project)
    done = run(project, "section", "1", home=home, variables=variables)
    assert done.returncode == 0, done.stderr
    assert read_page(project) == bare
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    assert [line for line in done.stderr.splitlines() if "warning" in line] == [PLAINLY]
    if set_folders in settings:
        assert (project / "a-store").is_dir() and not (project / "notebooks" / "a-store").exists()


@pytest.mark.parametrize(
    "switches", [("-OO", "-W", "error"), pytest.param(("-bb", "-X", "dev", "-E", "-u"), marks=pytest.mark.faults)]
)
def test_switches_of_python_s_command_line_do_not_touch_the_page(bare, tmp_path, switches):
    project = make_project(tmp_path / "project")
    done = run(project, "section", "1", home=tmp_path, python=switches)
    assert done.returncode == 0, done.stderr
    assert read_page(project) == bare
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "a{b}c",
        *(pytest.param(n, marks=pytest.mark.faults) for n in ("a'b\"c $d", "ä ö:ü", "{connection_file}", "%d#&")),
    ],
)
def test_a_project_in_a_folder_of_any_name_is_made(bare, tmp_path, name):
    project = make_project(tmp_path / name)
    done = run(project, "section", "1", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_page(project) == bare


def leave_out_times(text):
    """A report's text without what tells of the time that it took, and when it was."""
    text = re.sub(r"(<td[^>]*>(?:made|time)</td>).*?</tr>", r"\1</tr>", text, flags=re.S)
    text = re.sub(r"%0A(made|time),.*?%0A", r"%0A\1%0A", text)  # the same table's data
    return re.sub(r"[\d,]+(\u00a0| |%20)s(\1)on", "s on", text)


@pytest.mark.faults
def test_a_whole_report_made_under_all_settings_at_once_is_that_of_a_bare_machine(tmp_path):
    pages, papers = [], []
    for name in ("bare", "theirs"):
        (tmp_path / name / "project").mkdir(parents=True)
        copy_project(tmp_path / name / "project")
    for name, settings in (("bare", []), ("theirs", SETTINGS)):
        project, home, variables = tmp_path / name / "project", tmp_path / name / "home", {}
        home.mkdir()
        for set_up in settings:
            variables |= set_up(home, project)
        done = run(project, "report", "--quick", home=home, variables=variables)
        assert done.returncode == 0, done.stderr
        assert "36 epochs trained" in done.stderr  # by workers of its own, not from the other's store
        build = project / "report" / "build"
        pages.append(leave_out_times((build / "report.html").read_text(encoding="utf-8")))
        paper = PdfReader(build / "report.pdf")
        words = " ".join(" ".join(page.extract_text() for page in paper.pages).split())
        words = re.sub(r"\d+ s up to this table.*? % of it|[\d,]+ s on one core|\d{4}-\d\d-\d\d \d\d:\d\d", "", words)
        papers.append(words)
    assert pages[0].count("<svg") >= 7 and re.search(r"sha256 [0-9a-f]{16}… over package", pages[0])
    assert pages[0] == pages[1]
    assert papers[0] == papers[1]


TLS = """
distributed:
  comm:
    require-encryption: true
    tls:
      ca-file: {folder}/cert.pem
      scheduler: {{cert: {folder}/cert.pem, key: {folder}/key.pem}}
      worker: {{cert: {folder}/cert.pem, key: {folder}/key.pem}}
      client: {{cert: {folder}/cert.pem, key: {folder}/key.pem}}
"""


@pytest.mark.faults
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the key")
def test_an_encrypted_cluster_is_joined_by_who_has_the_key_and_by_nobody_else(tmp_path, bare):
    make_key = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lrlib -keyout key.pem -out cert.pem"
    subprocess.run(make_key.split(), cwd=tmp_path, check=True, capture_output=True)
    write(tmp_path / ".config" / "dask" / "tls.yaml", TLS.format(folder=tmp_path))
    project, processes = make_project(tmp_path / "project"), []
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(project)}

    def start(*words):
        log = open(tmp_path / words[0], "w")
        command = [sys.executable, "-m", "dask", *words]
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log))

    try:
        start("scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + 120
        while not (found := re.search(r"Scheduler at: +(tls://\S+)", (tmp_path / "scheduler").read_text())):
            assert time.monotonic() < deadline, (tmp_path / "scheduler").read_text()
            time.sleep(0.1)
        start("worker", found[1], "--nthreads", "1", "--no-dashboard", "--no-nanny")
        variables = {"DASK_SCHEDULER_ADDRESS": found[1]}
        (tmp_path / "stranger").mkdir()
        refused = run(project, "section", "1", home=tmp_path / "stranger", variables=variables)
        assert refused.returncode == 1 and "Traceback" not in refused.stderr
        assert "is encrypted, and Dask's configuration must name the key" in refused.stderr
        done = run(project, "section", "1", home=tmp_path, variables=variables)
        assert done.returncode == 0 and "1 epochs trained" in done.stderr, done.stderr
        assert read_page(project) == bare
    finally:
        for process in processes:
            process.kill()
            process.wait()
