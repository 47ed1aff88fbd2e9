"""Where a report comes from: code, versions, hardware, data, time, and the command that makes it again."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version

import pandas as pd
import psutil
from dask.system import CPU_COUNT

from lrlib.problems.data import find_dataset
from lrlib.report.sources import read_origin
from lrlib.study.looks import STEP
from lrlib.training.registry import describe_numerics

_MAKING = "LRLIB_MAKING"
_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "distributed", "papermill", "nbconvert", "seaborn")


@dataclass(frozen=True)
class Making:
    """How this report is being made; the report's driver hands it to the notebooks through the environment.

    commit, sources: the origin and the digest of the sources (`Origin`) when it began.
    started: seconds since 1970. n_trained: epochs trained for it. training_seconds: their time on one core.
    """

    command: str
    commit: str
    sources: str
    started: float
    n_trained: int
    training_seconds: float

    def as_environment(self):
        """The environment variable that `read_making` reads in the notebooks' kernels."""
        return {_MAKING: json.dumps(asdict(self))}


def read_making():
    """The Making of the report that this notebook is executed for, None where it runs by itself."""
    value = os.environ.get(_MAKING)
    return Making(**json.loads(value)) if value else None


def tabulate_provenance(results, design):
    """What made the results and this document: a row per item, with columns item and value."""
    info, numerics, making, origin = (
        find_dataset(design.dataset),
        describe_numerics(design.backend, design.processes),
        read_making(),
        read_origin(),
    )
    rows = {
        "command": f"`{making.command}`" if making else "this notebook by itself",
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(making.started if making else time.time())),
        "commit": making.commit if making else origin.describe(),
        "sources": describe_sources(making.sources if making else origin.digest, origin.digest),
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in _PACKAGES)]),
        "hardware": describe_hardware(),
        "numerics": f"{numerics['device']}, {numerics['cpu_capability']}, {numerics['threads']} thread a worker, "
        f"training code {numerics['code']}",
        "trained by": describe_backend(numerics),
        "dataset": f"{info.name}: {info.n_train:,} training and {info.n_test:,} test images, sha256 {info.checksum[:16]}…",
        "seeds": f"{', '.join(str(seed) for seed in range(design.seeds))}; {describe_seeds(design)}",
        "epochs": f"{results.n_epochs} distinct epochs, {results.n_epochs_apart} if each run were trained by itself; "
        f"{results.seconds:,.0f} s on one core",
    }
    if making:
        rows["time"] = describe_time(making, now=time.time(), n_workers=CPU_COUNT)
    return pd.DataFrame(rows.items(), columns=["item", "value"])


def describe_seeds(design):
    """How the number of seeds came about."""
    if design.max_seeds:
        return f"added in steps of {STEP} until the claims were settled, at most {design.max_seeds}"
    return "their number was fixed in advance"


def describe_backend(numerics):
    """What carried the epochs out, in words. numerics: as describe_numerics gives them."""
    if numerics["backend"] == "torch":
        return "plain PyTorch"
    about = ", ".join(f"{name} {numerics[name]}" for name in ("colossalai", "plugin", "cuda") if name in numerics)
    n = numerics["world_size"]
    return f"backend {numerics['backend']} ({about}), {'one process' if n == 1 else f'{n} processes that share each batch'}"


def describe_time(making, *, now, n_workers):
    """The wall time of a report so far, beside the bare training time of its epochs spread over the workers."""
    wall = now - making.started
    if not making.n_trained:
        return f"{wall:.0f} s up to this table; every epoch was in the store"
    bare = making.training_seconds / n_workers
    return (
        f"{wall:.0f} s up to this table; bare training of the {making.n_trained} epochs that were not in the store: "
        f"{bare:.0f} s on {n_workers} workers ({making.training_seconds:.0f} s on one core); all the rest: "
        f"{wall - bare:.0f} s, {100 * (wall / bare - 1):.0f} % of it"
    )


def describe_sources(at_first, now):
    """The digest of the project's sources, and whether they were edited since."""
    edited = "" if at_first == now else f"; edited since, now {now[:16]}…"
    return f"sha256 {at_first[:16]}… over package, sections and templates{edited}"


def describe_hardware():
    """Processor, cores that may be used, and memory."""
    return f"{_processor()}, {CPU_COUNT} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
