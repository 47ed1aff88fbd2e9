"""Kernels as processes: what they are started with, and that they end."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import papermill
import psutil
import pytest

from lrlib.report import kernels
from lrlib.report.execution import kernel_settings


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook of one code cell to a folder, and returns its path."""

    def write(source):
        path = tmp_path / "one.ipynb"
        cell = nbformat.v4.new_code_cell(source)
        kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernelspec}), path)
        return path

    return write


def run(path):
    settings = kernel_settings(path.parent, path.parent, path.parent, {})
    made = papermill.execute_notebook(path, None, progress_bar=False, config=settings)
    return json.loads(made.cells[0].outputs[0].text)


LOOK = """
import json, os, sys
loaded = [name for name in ("torch", "pandas", "seaborn", "distributed", "torchvision") if name in sys.modules]
print(json.dumps({"python": sys.executable, "cwd": os.getcwd(), "mark": os.environ.get("LRLIB_MARK"), "loaded": loaded,
                  "session": os.getsid(0) == os.getpid()}))
"""


@pytest.mark.parametrize("can_fork", [True, False])
def test_a_kernel_is_this_python_in_its_folder_with_this_environment(notebook, tmp_path, monkeypatch, can_fork):
    if can_fork and not kernels.CAN_FORK:
        pytest.skip("no process is forked on this system")
    monkeypatch.setattr(kernels, "CAN_FORK", can_fork)
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    spec.joinpath("kernel.json").write_text(
        json.dumps({"argv": ["/no/such/python", "{connection_file}"], "display_name": "another", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("LRLIB_MARK", str(can_fork))
    found = run(notebook(LOOK))
    assert found["python"] == sys.executable
    assert os.path.samefile(found["cwd"], tmp_path)
    assert found["mark"] == str(can_fork)
    assert found["session"]  # of its own, so that the terminal's Ctrl-C is the driver's


@pytest.mark.skipif(not kernels.CAN_FORK, reason="no process is forked on this system")
def test_a_prepared_kernel_has_what_sections_share_and_nothing_that_only_training_needs(notebook):
    driver = (
        "import sys; from pathlib import Path; from lrlib.report.kernels import prepare_kernels; prepare_kernels();"
        "from test_kernels import run; print(); print(*run(Path(sys.argv[1]))['loaded'])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", driver, str(notebook(LOOK))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1].split() == ["torch", "pandas", "seaborn"], done.stderr


def test_kernels_end_with_a_driver_that_is_killed(notebook, tmp_path):
    mark = tmp_path / "pid"
    path = notebook(
        f"import os, time, pathlib; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    driver = "import sys; from pathlib import Path; from test_kernels import run; run(Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", driver, str(path)], env=environment)
    deadline = time.monotonic() + 120
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel = psutil.Process(int(mark.read_text()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs([kernel], timeout=60)
    assert not alive
