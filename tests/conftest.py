"""What several tests share: the project's folder, one small cluster, and runs that nothing interrupted."""

import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# What the report needs is imported where it is used, so that the tests of the range test run without it.

# Where the tests run in the background, Ctrl-C is ignored, and by all that they start too; some of them press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several tests run at once, each with processes of its own
os.environ.setdefault("LRLIB_KERNELS", str(ROOT / ".lrlib" / "kernels"))  # compiled once for all tests
DONE_WITHIN = 300  # seconds; far more than a quick report takes, so that a hanging command fails


@functools.cache
def runs_of_two_seeds():
    """So that they share no epoch: one run keeps one worker busy, both keep two. RUNS is what they are called."""
    from lrlib import Run
    from lrlib.schedules import OneCycle

    return tuple(
        Run(OneCycle(0.1, final_div_factor=4), problem="lenet5_sample", epochs=6, seed=seed) for seed in (0, 1)
    )


def __getattr__(name):
    if name == "RUNS":
        return runs_of_two_seeds()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@pytest.fixture
def root():
    return ROOT


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """A store in which RUNS were trained without interruption, in this process."""
    from in_process import InProcess

    from lrlib import train
    from lrlib.runs.store import Store

    store = Store(tmp_path_factory.mktemp("uninterrupted"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrlib.runs.local.LocalWorkers", lambda n, data: InProcess(data))
        train(runs_of_two_seeds(), store=store, progress=False)
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


def names_of(runs):
    from lrlib.runs.plan import plan_epochs

    return [epoch.name for run in runs for epoch in plan_epochs(run)]


def assert_same_epochs(store, expected, runs):
    """Every epoch of the runs is in both stores, with the same bits in every tensor and the same test figures."""
    import torch

    for name in names_of(runs):
        found, wanted = store.load(name), expected.load(name)
        assert found.tensors.keys() == wanted.tensors.keys()
        for key, tensor in wanted.tensors.items():
            assert torch.equal(found.tensors[key], tensor), key
        keys = ("test_loss", "test_accuracy", "n_test", "diverged")
        assert [found.values[key] for key in keys] == [wanted.values[key] for key in keys]
