"""Where a document comes from: commit, command, versions, hardware, data and time."""

import contextlib
import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version

import joblib
import pandas as pd
import psutil

from lrlib.problems.lenet import name_problem
from lrlib.problems.registry import load_data
from lrlib.project import project_folder
from lrlib.training.registry import describe_numerics

MAKING = "LRLIB_MAKING"
_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "papermill", "nbconvert")
_SAME_BITS = "tests/training/test_kernels.py::test_bits_are_the_same_for_every_target"
# What decides a document: a file here that is not committed counts as a change.
_SOURCES = ("lrlib", "notebooks", "bench/suggestions", "report/templates", "report/references.bib")


@dataclass(frozen=True)
class Origin:
    """The commit of a document's sources: its whole hash, "" if unknown; and its state, or why it is unknown."""

    commit: str
    state: str

    def describe(self, digits: int = 40) -> str:
        """The commit and whether the files are its own, or why it is unknown."""
        return f"{self.commit[:digits]}, {self.state}" if self.commit else f"unknown: {self.state}"


def read_origin() -> Origin:
    """The Origin of the project's files as they are now."""
    try:
        commit = _git("rev-parse", "--verify", "HEAD").strip()
        # An archive that was unpacked within another repository is not of that one's commit.
        _git("cat-file", "-e", "HEAD:./lrlib/report/provenance.py")
        with tempfile.TemporaryDirectory() as folder:  # git's own index can be told not to look whether a file changed
            index = f"{folder}/index"
            _git("read-tree", "HEAD", index=index)
            changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", index=index)
            changed += _git("ls-files", "--others", "--exclude-standard", "--", *_SOURCES, index=index)
    except OSError as err:
        return Origin("", f"git cannot be run ({err.strerror or err})")
    except subprocess.CalledProcessError as err:
        said = (err.stderr.strip().splitlines() or ["no message"])[0].removeprefix("fatal: ")
        return Origin("", f"git says: {said}")
    return Origin(commit, "with uncommitted changes" if changed else "no uncommitted changes")


def _git(*arguments, index=None):
    """git's answer about the project's folder; the environment may name another repository, which is not asked."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"} | ({"GIT_INDEX_FILE": index} if index else {})
    return subprocess.run(
        ["git", *arguments], cwd=project_folder(), env=environment,
        capture_output=True, encoding="utf-8", errors="surrogateescape", check=True,
    ).stdout  # fmt: skip


@dataclass(frozen=True)
class Making:
    """How a document is being made; the driver passes it to the notebooks' kernels as JSON in $LRLIB_MAKING."""

    command: str
    commit: str  # in words
    started: float  # seconds since 1970
    n_trained: int = 0  # epochs trained for it
    training_seconds: float = 0.0  # their time on one core
    results: str = ""  # which published results were used, as a sentence


def tabulate_provenance(results, design) -> pd.DataFrame:
    """What made the results and this document: a row per item, with columns item and value.

    results: Results of the document's runs. design: what names their `dataset`, `backend`, `processes` and `seeds`.
    """
    if MAKING in os.environ:
        making = Making(**json.loads(os.environ[MAKING]))
    else:
        making = Making("this notebook by itself", read_origin().describe(), time.time())
    data, numerics = load_data(name_problem(design.dataset)), describe_numerics(design.backend, design.processes)
    rows = {
        "command": f"`{making.command}`",
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(making.started)),
        "commit": making.commit,
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in _PACKAGES)]),
        "hardware": describe_hardware(),
        "trained by": ", ".join(f"{name} {value}" for name, value in numerics.items())
        + (f"; bit-identical on any x86-64 with FMA ({_SAME_BITS})" if numerics["backend"] == "compiled" else ""),
        "dataset": f"{design.dataset}: {len(data.train[0]):,} training and {len(data.test[0]):,} test images, "
        f"sha256 {data.digest[:16]}…",
        "seeds": f"0 to {design.seeds - 1}, their number fixed in advance" if design.seeds > 1 else "0",
        "epochs": f"{results.n_epochs:,}, trained in {results.seconds:,.0f} s of one core; runs that begin alike share "
        f"their first epochs (without that {results.n_epochs_apart:,})",
        "time": f"{time.time() - making.started:.0f} s until this table; {making.n_trained:,} epochs were trained "
        f"meanwhile ({making.training_seconds:.0f} s of one core), all others were read",
    }
    rows |= {"results": making.results} if making.results else {}
    return pd.DataFrame(rows.items(), columns=["item", "value"])


def describe_hardware() -> str:
    """Processor, usable cores, and memory."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as file:
        processor = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    return f"{processor}, {joblib.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
