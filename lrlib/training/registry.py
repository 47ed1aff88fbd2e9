"""The ways in which an epoch can be trained, by name, and what each puts into an epoch's name.

A backend is a module, or an object in one, with `check(processes, problem)`, `describe(processes)`,
`train_epoch(state, *, processes, **settings)` and `evaluate(state, **settings)`; the settings are those of
lrlib.training.epoch. What `describe` returns, and the code of the backend's files, stand in the name of every epoch
that it
trains: results of two backends never mix.
"""

import importlib
import platform
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from lrlib.problems.problem import Problem
from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.training.backends import compiled
from lrlib.training.kernels import FILES as KERNEL_FILES
from lrlib.training.numerics import THREADS, TRAINING_FILES, code_digest

AUTO = "auto"


@dataclass(frozen=True)
class Backend:
    """place: what carries it out, as module or module:object.

    files: those of its code, besides the problem's and the loop's, that decide bits.
    epochs_at_once: how many epochs one worker process trains at once, each in a thread of its own.
    """

    place: str
    files: tuple = ()
    epochs_at_once: int = 1


BACKENDS = {
    "compiled": Backend(
        "lrlib.training.backends.compiled",
        files=("training/backends/compiled.py", *KERNEL_FILES),
    ),
    "torch": Backend("lrlib.training.backends.plain"),
    "cuda": Backend(
        "lrlib.training.backends.cuda",
        files=("training/backends/cuda.py", "training/backends/thin_conv.py"),
        epochs_at_once=16,
    ),
    "colossalai": Backend("lrlib.training.backends.colossal:torch_ddp", files=("training/backends/colossal_rank.py",)),
    "colossalai:LowLevelZeroPlugin": Backend(
        "lrlib.training.backends.colossal:low_level_zero", files=("training/backends/colossal_rank.py",)
    ),
}


def load_backend(name: str) -> Any:
    """A backend by its name. Raises ValueError for an unknown name."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    module, _, attribute = BACKENDS[name].place.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def choose_backend(name: str, problem: Problem) -> str:
    """The backend that a name stands for: "auto" is "compiled" where that can train the problem, else "torch"."""
    if name != AUTO:
        return name
    return "compiled" if problem.has_kernels and compiled.is_available() else "torch"


@lru_cache
def describe_numerics(
    backend: str = "torch", processes: int = 1, problem: str = DEFAULT, optimizer: str = "sgd"
) -> dict[str, object]:
    """What decides the bits of an epoch besides its settings, as plain values that stand in its name.

    With backend "compiled" that is the code alone, unless the optimizer's update is torch's.
    Raises BackendError where the backend is not installed.
    """
    numerics = {
        "backend": backend,
        "world_size": processes,
        **load_backend(backend).describe(processes),
        "code": code_digest((*TRAINING_FILES, *load_problem(problem).files, *BACKENDS[backend].files)),
    }
    if backend == "compiled" and optimizer in compiled.SGD:
        return numerics
    return {
        "torch": torch.__version__,
        "device": "cpu",
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": THREADS,
        **numerics,
    }
