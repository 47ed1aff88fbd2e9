"""Backends, which carry an epoch out, and what each adds to an epoch's name.

A backend is a module with `check(processes, problem)`, `describe(processes, optimizer)`,
`train_epoch(state, *, processes, **settings)` and `evaluate(state, **settings)`, with the settings of
`lrlib.training.epoch`; and `prepare()` if something is to be done once before workers start.
"""

import hashlib
import importlib
import math
from functools import lru_cache
from types import ModuleType

import numpy as np
import torch

from lrlib.problems.data import Data
from lrlib.problems.problem import Problem
from lrlib.problems.registry import DEFAULT, find_module
from lrlib.training import epoch
from lrlib.training.backends import compiled
from lrlib.training.compute import Settings
from lrlib.training.numerics import code_digest, fixed_numerics

AUTO = "auto"
BACKENDS = {
    "compiled": "lrlib.training.backends.compiled",
    "torch": "lrlib.training.backends.plain",
    "cuda": "lrlib.training.backends.cuda",
    "colossalai": "lrlib.training.backends.colossal",
}


def load_backend(name: str) -> ModuleType:
    """Return a backend by its name. Raises ValueError for an unknown name."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    return importlib.import_module(BACKENDS[name])


def choose_backend(name: str, problem: Problem) -> str:
    """Return the backend that a name stands for: "auto" is "compiled" if that can train the problem, else "torch"."""
    if name != AUTO:
        return name
    return "compiled" if problem.has_kernels and compiled.is_available() else "torch"


def describe_numerics(
    backend: str = "torch", processes: int = 1, problem: str = DEFAULT, optimizer: str = "sgd"
) -> dict[str, object]:
    """Return what decides the bits of an epoch besides its settings and data, as plain values.

    `code` is a digest of the import closure of the backend, the problem and `lrlib.training.compute`.

    Raises:
        BackendError: The backend is not installed.
    """
    about = load_backend(backend).describe(processes, optimizer)
    modules = ("lrlib.training.compute", BACKENDS[backend], find_module(problem))
    return {"backend": backend, "world_size": processes, **about, "code": code_digest(*modules)}


def name_numerics(settings: Settings, data: Data) -> dict[str, object]:
    """Return `describe_numerics`, with a fingerprint where the processor decides bits: what stands in an epoch's name.

    Libraries choose their kernels by the processor and by variables such as MKL_CBWR and ONEDNN_MAX_CPU_ISA; no list of
    those is complete, so two steps of training and a test are tried: 0.2 s, once a process.
    """
    problem, optimizer = settings.problem, settings.optimizer
    numerics = describe_numerics(settings.backend, settings.processes, problem, optimizer)
    if "cpu_capability" in numerics:
        numerics["fingerprint"] = _take_fingerprint(problem, optimizer, settings.batch_size, data)
    return numerics


@lru_cache(maxsize=64)
def _take_fingerprint(problem, optimizer, batch_size, data):
    inputs, targets = (part[: 2 * batch_size] for part in data.train)
    steps = math.ceil(len(inputs) / batch_size)
    about = {"inputs": inputs, "targets": targets, "batch_size": batch_size, "problem": problem}
    with fixed_numerics(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state, losses = epoch.train_epoch(
            epoch.initial_state(0, problem),
            lr=np.full(steps, 0.01),
            momentum=np.full(steps, 0.9),
            order=torch.arange(len(inputs)),
            optimizer=optimizer,
            weight_decay=5e-4,
            **about,
        )
        loss, _ = epoch.evaluate(state, **about)
    digest = hashlib.sha256(losses.tobytes() + np.float64(loss).tobytes())
    for _, tensor in sorted(state.items()):
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
