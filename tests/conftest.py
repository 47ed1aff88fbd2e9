"""What several tests share: the project's folder, one small cluster, and runs that nothing interrupted."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# What the report needs is imported where it is used, so that the tests of the range test run without it.

# Where the tests run in the background, Ctrl-C is ignored, and by all that they start too; some of them press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several tests run at once, each with processes of its own
os.environ.setdefault("LRLIB_KERNELS", str(ROOT / ".lrlib" / "kernels"))  # compiled once for all tests
DONE_WITHIN = 300  # seconds; far more than a quick report takes, so that a hanging command fails


def pytest_collection_modifyitems(items):
    """Begin with the whole documents, which take longest."""
    items.sort(key=lambda item: item.path.name != "test_report.py")


def __getattr__(name):
    """RUNS: of two seeds, so that they share no epoch: one run keeps one worker busy, both keep two."""
    if name != "RUNS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lrlib import Run
    from lrlib.schedules import OneCycle

    schedule = OneCycle(0.1, final_div_factor=4)
    return [Run(schedule, problem="lenet5_sample", epochs=6, seed=seed) for seed in (0, 1)]


@pytest.fixture
def root():
    return ROOT


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """A store in which RUNS were trained without interruption, in this process."""
    from in_process import train_in_process

    from lrlib.runs.store import Store

    store = Store(tmp_path_factory.mktemp("uninterrupted"))
    with pytest.MonkeyPatch.context() as patch:
        train_in_process(patch)(__getattr__("RUNS"), store=store, progress=False)
    return store


def copy_project(folder):
    """Copy what documents are made of into a folder, where it then has a store of its own. Returns the folder."""
    ignored = shutil.ignore_patterns("build", "__pycache__", "report.html", "report.pdf")
    for name in ("lrlib", "notebooks", "report"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "CITATION.cff", folder)
    return folder


def start_lrlib(project, *arguments, environment=None, **options):
    """Start `python -m lrlib` in a copy of the project, which alone then decides where data and store are."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LRLIB_STORE", "LRLIB_DATA", "LRLIB_BUILD", "PYTHONPATH")}
    return subprocess.Popen(
        [sys.executable, "-m", "lrlib", *arguments],
        cwd=project, env=kept | (environment or {}), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def run_lrlib(project, *arguments):
    """`start_lrlib` to its end. Returns its status, and what it wrote to stdout and stderr."""
    process = start_lrlib(project, *arguments)
    try:
        out, err = process.communicate(timeout=DONE_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"{arguments} did not end within {DONE_WITHIN} s: {process.communicate()[1][-2000:]}")
    return process.returncode, out, err


def wait_until(condition, what, seconds=300):
    """Wait until a condition holds; return what it returns."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} not after {seconds} s"
        time.sleep(0.02)
    return found


def find_workers(above=None):
    """The processes of loky below this one, or below another."""
    import psutil

    found = []
    for child in psutil.Process(above).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "LokyProcess" in " ".join(child.cmdline()):
                found.append(child)
    return found


def assert_same_epochs(store, expected, runs):
    """Every epoch of the runs is in both stores, with the same bits in every tensor and the same test figures."""
    from torch.testing import assert_close

    from lrlib.runs.plan import plan_epochs

    for name in [epoch.name for run in runs for epoch in plan_epochs(run)]:
        found, wanted = store.load(name), expected.load(name)
        assert_close(found.tensors, wanted.tensors, rtol=0, atol=0)
        assert found.values | {"seconds": 0} == wanted.values | {"seconds": 0}
