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

from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.training.numerics import THREADS, TRAINING_FILES, code_digest


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


@lru_cache
def describe_numerics(backend: str = "torch", processes: int = 1, problem: str = DEFAULT) -> dict[str, object]:
    """The numerics of this process, as plain values that stand in every epoch's name and in the provenance.

    Raises BackendError where the backend is not installed.
    """
    return {
        "torch": torch.__version__,
        "device": "cpu",
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": THREADS,
        "backend": backend,
        "world_size": processes,
        **load_backend(backend).describe(processes),
        "code": code_digest((*TRAINING_FILES, *load_problem(problem).files, *BACKENDS[backend].files)),
    }
