"""Where a document comes from: commit, command, versions, hardware, data and time."""

import hashlib
import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version

import joblib
import pandas as pd
import psutil

from lrlib.problems.lenet import name_problem
from lrlib.problems.registry import load_data
from lrlib.project import project_folder
from lrlib.training.registry import describe_numerics

_MAKING = "LRLIB_MAKING"
_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "papermill", "nbconvert", "seaborn")
# What decides a document.
_SOURCES = ("lrlib/**/*.py", "lrlib/**/*.csv", "notebooks/*", "bench/suggestions/**/*.*", "report/templates/**/*",
            "report/references.bib")  # fmt: skip
_REASONS = {
    "not a git repository": "not a git checkout",
    "dubious ownership": "git does not trust a checkout that belongs to another user; see git's safe.directory",
    "Needed a single revision": "the git checkout has no commit yet",
}


@dataclass(frozen=True)
class Origin:
    """The sources of a document.

    Args:
        commit: the whole hash; "" if unknown.
        changed: whether sources or tracked files differ from it.
        why_not: why it is unknown.
        digest: sha256 of the sources.
    """

    commit: str
    changed: bool
    why_not: str
    digest: str

    def describe(self, digits: int = 40) -> str:
        """The commit and whether the files are its own, or why it is unknown."""
        if not self.commit:
            return f"unknown: {self.why_not}"
        return f"{self.commit[:digits]}, {'with uncommitted changes' if self.changed else 'clean'}"


def read_origin() -> Origin:
    """The Origin of the project's files as they are now."""
    root, digest, names = project_folder(), hashlib.sha256(), []
    for path in sorted({path for pattern in _SOURCES for path in root.glob(pattern) if path.is_file()}):
        name = path.relative_to(root).as_posix()
        if not any(part.startswith((".", "__pycache__")) for part in name.split("/")):
            names.append(name)
            content = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return Origin(*_find_commit(names), digest.hexdigest())


def _find_commit(names):
    """(commit, whether files differ from it, "") of the checkout that tracks the sources, or ("", False, why not)."""
    try:
        commit = _git("rev-parse", "--verify", "HEAD").strip()
        tracked = {}  # name -> hash of its content in the commit
        for entry in _git("ls-tree", "-r", "-z", "HEAD", "--", ".").split("\0")[:-1]:
            about, name = entry.split("\t", 1)
            tracked[name] = about.split()[2]
        if 2 * len(tracked.keys() & set(names)) < len(names):  # an archive unpacked within another repository
            return "", False, "the git repository around these files does not track them"
        # Compared by content: git can be told not to look whether a file has changed.
        above = _git("rev-parse", "--show-prefix").removesuffix("\n")
        hashes = _git("hash-object", "--stdin-paths", given="".join(f"{above}{name}\n" for name in names)).split()
        changed = any(tracked.get(name) != found for name, found in zip(names, hashes, strict=True))
        changed = changed or bool(_git("status", "--porcelain", "--untracked-files=no", "--", "."))
    except OSError as err:
        return "", False, f"git cannot be run ({err.strerror or err})"
    except subprocess.CalledProcessError as err:
        said = (err.stderr.strip().splitlines() or ["no message"])[0].removeprefix("fatal: ")
        return "", False, next((reason for mark, reason in _REASONS.items() if mark in err.stderr), f"git: {said}")
    return commit, changed, ""


def _git(*arguments, given=""):
    """git's answer about the project's folder; the environment may name another repository, which is not asked."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(
        ["git", *arguments], cwd=project_folder(), env=environment, input=given,
        capture_output=True, encoding="utf-8", errors="surrogateescape", check=True,
    ).stdout  # fmt: skip


@dataclass(frozen=True)
class Making:
    """How a document is being made; the driver passes it to the notebooks through the environment.

    Args:
        command: the command that makes it.
        commit: the sources' commit in words.
        sources: their digest.
        started: seconds since 1970.
        n_trained: epochs that were trained for it.
        training_seconds: their time on one core.
        results: which published results were used, as a sentence; "" for none.
    """

    command: str
    commit: str
    sources: str
    started: float
    n_trained: int
    training_seconds: float
    results: str = ""

    def publish(self) -> None:
        """Set the environment variable that `read_making` reads in the notebooks' kernels."""
        os.environ[_MAKING] = json.dumps(asdict(self))


def read_making() -> Making | None:
    """The Making of the document that this notebook is executed for; None if it runs by itself."""
    value = os.environ.get(_MAKING)
    return Making(**json.loads(value)) if value else None


def tabulate_provenance(results, design) -> pd.DataFrame:
    """What made the results and this document: a row per item, with columns item and value.

    Args:
        results: Results of the document's runs.
        design: what names their `dataset`, `backend`, `processes` and `seeds`.
    """
    data, making = load_data(name_problem(design.dataset)), read_making()
    numerics = describe_numerics(design.backend, design.processes)
    if making is None:
        origin = read_origin()
        making = Making("this notebook by itself", origin.describe(), origin.digest, time.time(), 0, 0.0)
    rows = {
        "command": f"`{making.command}`",
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(making.started)),
        "commit": making.commit,
        "sources": f"sha256 {making.sources[:16]}… of package, sections and templates",
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in _PACKAGES)]),
        "hardware": describe_hardware(),
        "numerics": describe_bits(numerics),
        "trained by": describe_backend(numerics),
        "dataset": f"{design.dataset}: {len(data.train[0]):,} training and {len(data.test[0]):,} test images, "
        f"sha256 {data.digest[:16]}…",
        "seeds": f"0 to {design.seeds - 1}, their number fixed in advance",
        "epochs": f"{results.n_epochs} distinct epochs, {results.n_epochs_apart} if each run were trained by itself; "
        f"{results.seconds:,.0f} s on one core",
        "time": f"{time.time() - making.started:.0f} s up to this table, {making.n_trained} epochs trained "
        f"({making.training_seconds:.0f} s on one core), all others from the cache or published results",
    }
    rows |= {"results": making.results} if making.results else {}
    return pd.DataFrame(rows.items(), columns=["item", "value"])


def describe_bits(numerics) -> str:
    """What the bits of the results depend on. numerics: as `describe_numerics` returns them."""
    code = f"training code {numerics['code']}"
    if "cpu_capability" in numerics:
        return f"{numerics['device']}, {numerics['cpu_capability']}, {numerics['threads']} thread per worker, {code}"
    test = "tests/training/test_kernels.py::test_bits_are_the_same_for_every_target"
    return f"bit-identical on any x86-64 with FMA ({test}), {code}"


def describe_backend(numerics) -> str:
    """What trained, in words. numerics: as `describe_numerics` returns them."""
    if numerics["backend"] == "compiled":
        return "compiled kernels (lrlib.training.kernels)"
    if numerics["backend"] == "torch":
        return "plain PyTorch"
    about = ", ".join(f"{name} {numerics[name]}" for name in ("colossalai", "plugin", "cuda") if name in numerics)
    n = numerics["world_size"]
    return f"backend {numerics['backend']} ({about}), {'one process' if n == 1 else f'{n} processes that share each batch'}"


def describe_hardware() -> str:
    """Processor, usable cores, and memory."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {joblib.cpu_count()} cores, {memory:.0f} GiB"


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
