"""Folders that a report is made in: what is in the way is said before training, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import DONE_WITHIN
from test_surroundings import make_project, run, write_section

from lrlib.report import folders
from lrlib.report.folders import BuildError, move, own_folder, socket_folder


def test_a_folder_of_one_s_own_is_gone_when_it_ends_and_two_are_apart(tmp_path):
    with own_folder(tmp_path / "build") as first, own_folder(tmp_path / "build") as second:
        assert first != second and first.is_dir() and second.is_dir()
        (first / "file").write_text("")
    assert list((tmp_path / "build").iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path):
    script = (
        "import sys, os; from pathlib import Path; from lrlib.report.folders import own_folder\n"
        "with own_folder(Path(sys.argv[1])) as folder: os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)])
    assert len(list(tmp_path.glob(".making-*"))) == 1
    with own_folder(tmp_path) as folder:
        assert list(tmp_path.glob(".making-*")) == [folder]


def test_a_build_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "build").write_text("in the way")
    with (
        pytest.raises(
            BuildError, match=r"the report's folder .*build cannot be written \(File exists\); free space .*LRLIB_"
        ),
        own_folder(tmp_path / "build"),
    ):
        pass
    if os.path.exists("/dev/full"):
        monkeypatch.setattr(folders.Path, "write_bytes", lambda *_: open("/dev/full", "wb", buffering=0).write(b"x"))
        with pytest.raises(BuildError, match="No space left on device"), own_folder(tmp_path / "other"):
            pass


def test_a_folder_for_sockets_is_short_and_where_it_can_be(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(folders.tempfile, "tempdir", str(deep))
    with socket_folder() as folder:
        assert len(str(folder)) <= folders.SOCKET_FOLDER_LENGTH
    assert not folder.exists()
    near = tmp_path.parent / "t"
    near.mkdir(exist_ok=True)
    monkeypatch.setattr(folders.tempfile, "tempdir", str(near))
    monkeypatch.setattr(folders, "SOCKET_FOLDER_LENGTH", 200)
    with socket_folder() as folder:
        assert folder.parent == near


def test_moving_a_folder_replaces_the_whole_of_another(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    move(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_unwritable_build_folder_is_said_before_anything_is_trained(tmp_path):
    project = make_project(tmp_path / "project")
    (project / "report" / "build").write_text("in the way")
    done = run(project, "section", "1", home=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1 and "set LRLIB_BUILD to another folder" in done.stderr
    assert not (project / ".lrlib").exists()
    done = run(project, "section", "1", home=tmp_path, variables={"LRLIB_BUILD": "../elsewhere"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere" / "sections" / "1-small.html").is_file()
    assert done.stdout.strip() == str(project / ".." / "elsewhere" / "sections" / "1-small.html")


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_command_that_is_told_to_end_leaves_nothing_behind(tmp_path):
    project, temporary = make_project(tmp_path / "project"), tmp_path / "t"
    temporary.mkdir()
    write_section(project / "notebooks" / "1-small.ipynb", cells=["import time\ntime.sleep(600)"], runs="runs = []")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [sys.executable, "-m", "lrlib", "section", "1"], cwd=project, env=environment, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("executing"):
            break
    time.sleep(8)  # its kernel is starting or at work
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=DONE_WITHIN)
    assert process.returncode == 143 and "stopped" in err and "Traceback" not in err
    assert time.monotonic() - begin < 60
    assert list((project / "report" / "build").iterdir()) == []
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("dask")] == []


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_too_few_open_files_are_said_with_how_many_it_takes(tmp_path):
    project = make_project(tmp_path / "project")
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 60; exec "$0" -m lrlib section 1', sys.executable],
        cwd=project, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "only 60 open files are allowed" in done.stderr and "ulimit -n" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="a shell's")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "| true"])
def test_a_section_is_made_with_nobody_to_print_to(tmp_path, closed):
    project = make_project(tmp_path / "project")
    write_section(project / "notebooks" / "1-small.ipynb", cells=["1"], runs="runs = []")
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" -m lrlib section 1 {closed}', sys.executable],
        cwd=project, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
    assert (project / "report" / "build" / "sections" / "1-small.html").is_file()


def test_a_kernel_that_ends_is_said_with_its_cell(tmp_path):
    project = make_project(tmp_path / "project")
    cells = ["1", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"]
    write_section(project / "notebooks" / "1-small.ipynb", cells=cells, runs="runs = []")
    done = run(project, "section", "1", home=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    kept = project / "report" / "build" / "sections" / "1-small.ipynb"
    assert done.stderr.splitlines()[-1] == (
        "lrlib: section 1: cell 5 of 1-small.ipynb lost its kernel, perhaps for want of memory; "
        f"what it did before is in {kept}"
    )
    assert kept.is_file()
