"""Backends, which carry an epoch out, and what each adds to an epoch's name.

A backend is a module with `describe(processes, optimizer)`, `train_epoch(state, *, processes, **settings)` and
`evaluate(state, **settings)`, with the settings of `lrlib.training.epoch`; and `prepare(folder)` if something is to be
done once before workers start.
"""

import hashlib
import importlib
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch

from lrlib.problems.data import Data
from lrlib.problems.problem import Problem
from lrlib.problems.registry import DEFAULT, find_module, load_problem
from lrlib.training import epoch
from lrlib.training.backends import compiled
from lrlib.training.numerics import code_digest, fixed_numerics

AUTO = "auto"
BACKENDS = {
    "compiled": "lrlib.training.backends.compiled",
    "torch": "lrlib.training.backends.plain",
    "cuda": "lrlib.training.backends.cuda",
    "colossalai": "lrlib.training.backends.colossal",
}


def load_backend(name: str) -> ModuleType:
    """Return a backend by its name."""
    return importlib.import_module(BACKENDS[name])


def choose_backend(name: str, problem: Problem, processes: int = 1) -> str:
    """Return the backend that a name stands for: "auto" is "compiled" if that can train the problem, else "torch".

    Raises:
        ValueError: There is no such backend, or it cannot train the problem, or not in so many processes.
    """
    if name == AUTO:
        name = "compiled" if problem.has_kernels and compiled.is_available() else "torch"
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    if processes != 1 and name != "colossalai":
        raise ValueError(f"processes must be 1 for backend {name}, got {processes}; only colossalai shares a batch")
    if name == "compiled" and not problem.has_kernels:
        raise ValueError(f"backend compiled trains LeNet-5 only, got problem {problem.name!r}; use backend='torch'")
    return name


def describe_numerics(
    backend: str = "torch", processes: int = 1, problem: str = DEFAULT, optimizer: str = "sgd"
) -> dict[str, object]:
    """Return what decides the bits of an epoch besides its settings and data, as plain values.

    `code` is a digest of the import closure of the backend, the problem and `lrlib.training.epoch`.

    Raises:
        BackendError: The backend is not installed.
    """
    about = load_backend(backend).describe(processes, optimizer)
    modules = ("lrlib.training.epoch", BACKENDS[backend], find_module(problem))
    return {"backend": backend, "world_size": processes, **about, "code": code_digest(*modules)}


def name_numerics(run: Any, data: Data) -> dict[str, object]:
    """Return `describe_numerics` of a Run, with a fingerprint where the processor decides bits: part of each name.

    Libraries choose their kernels by the processor and by variables such as MKL_CBWR and ONEDNN_MAX_CPU_ISA; no list of
    those is complete, so two steps of training and a test are tried: 0.2 s, once a process.
    """
    numerics = describe_numerics(run.backend, run.processes, run.problem, run.optimizer)
    if "cpu_capability" in numerics:
        numerics["fingerprint"] = _take_fingerprint(run.problem, run.batch_size, data)
    return numerics


@lru_cache(maxsize=64)
def _take_fingerprint(problem, batch_size, data):
    find_losses, parts = load_problem(problem).losses, [part[: 2 * batch_size].split(batch_size) for part in data.train]
    with fixed_numerics():
        model = epoch.load_model(epoch.initial_state(0, problem), problem).train()
        for inputs, targets in zip(*parts, strict=True):
            model.zero_grad()
            find_losses(model(inputs), targets).mean().backward()
            with torch.no_grad():  # not by an optimizer of torch, which imports a compiler for seconds
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.01 * parameter.grad
        with torch.inference_mode():
            losses = find_losses(model.eval()(inputs), targets)
    digest = hashlib.sha256(losses.double().contiguous().numpy())
    for _, tensor in sorted(model.state_dict().items()):
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
