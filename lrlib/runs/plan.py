"""Runs: what a person asks for, and the epochs that they are made of.

Each epoch is named by a hash of everything that decides it, so runs that begin alike share epochs, a cached epoch is
never trained again, and an interrupted run resumes where it stopped.
"""

import hashlib
import json
import math
import numbers
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from lrlib.problems.registry import DEFAULT, load_data, load_problem
from lrlib.schedules import Schedule, lr_per_step
from lrlib.training.backends import BackendError
from lrlib.training.optimizers import OPTIMIZERS
from lrlib.training.registry import AUTO, choose_backend, name_numerics


@dataclass(frozen=True)
class Run:
    """One training of a problem: a schedule and the settings around it.

    Args:
        schedule: One of `lrlib.schedules`.
        epochs: Passes over the training split.
        seed: Decides the initialisation and the order of the samples.
        optimizer: "sgd", "adam" or "adamw"; default: the problem's (LeNet-5: "sgd").
        batch_size: Samples a step; default: the problem's (LeNet-5: 128).
        problem: What is trained: a name that `lrlib.problems.registry.load_problem` takes.
        momentum: Momentum, or Adam's first beta; default: the optimizer's (sgd: 0.9).
        weight_decay: Default: the optimizer's (sgd: 5e-4).
        backend: What trains, a name of `lrlib.training.registry.BACKENDS`; default: "compiled" if that can train the
            problem, otherwise "torch".
        processes: Processes that share each batch, where the backend can.
        label: The run's name in tables and figures; default: its schedule.

    Raises:
        ValueError: A value is outside its range.

    Example:
        >>> Run(OneCycle(0.1), epochs=30, seed=1)
    """

    schedule: Schedule
    epochs: int = 30
    seed: int = 0
    optimizer: str | None = None
    batch_size: int | None = None
    problem: str = DEFAULT
    momentum: float | None = None
    weight_decay: float | None = None
    backend: str = AUTO
    processes: int = 1
    label: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        problem, own = load_problem(self.problem), vars(self)  # settable, although the dataclass is frozen
        own["optimizer"] = self.optimizer or problem.optimizer
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        usual = OPTIMIZERS[self.optimizer] | {"batch_size": problem.batch_size}
        for name in ("batch_size", "momentum", "weight_decay"):
            own[name] = usual[name] if own[name] is None else own[name]
        for name, least in (("epochs", 1), ("seed", 0), ("batch_size", 1), ("processes", 1)):
            value = own[name]
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
            own[name] = int(value)
        for name, below in (("momentum", 1), ("weight_decay", math.inf)):
            value = own[name]
            if not isinstance(value, numbers.Real) or not 0 <= float(value) < below:
                raise ValueError(f"{name} must be at least 0{' and below 1' * (below == 1)}, got {value!r}")
            own[name] = float(value) + 0.0  # 0, 0.0 and -0.0 are one name
        own["backend"] = choose_backend(self.backend, problem, self.processes)
        self.schedule.check_epochs(self.epochs)
        own["label"] = self.label or str(self.schedule)


@dataclass(frozen=True, eq=False)
class Epoch:
    """One epoch of a run, with all that decides its result.

    Args:
        name: SHA-256 over `history` and the numerics: what the epoch is cached by.
        history: SHA-256 over the settings, the data and the learning rate and momentum of each step so far. Epochs that
            differ only in what computes them (backend, code, torch, processor) share it.
        parent: The name of the epoch before, None for a run's first.
        number: Counted from 1.
        run: The run.
        lr, momentum: float64 (n_steps,).
        data: Digest of the problem's tensors.
    """

    name: str
    history: str
    parent: str | None
    number: int
    run: Run
    lr: np.ndarray
    momentum: np.ndarray
    data: str


def plan_epochs(run: Run) -> list[Epoch]:
    """Return the epochs of a run, first to last, each with its name.

    Raises:
        DatasetError: The data is unavailable.
    """
    data, about = load_data(run.problem), vars(run)
    steps_per_epoch = math.ceil(len(data.train[0]) / about["batch_size"])
    # The momentum is given at each step; the backend and its processes are in the numerics.
    optimizer = OPTIMIZERS[about["optimizer"]] | {"momentum": None, "weight_decay": run.weight_decay}
    decisive = {name: about[name] for name in ("problem", "seed", "batch_size")}
    decisive |= {"optimizer": [run.optimizer, optimizer], "data": data.digest}
    history, parent = _digest(decisive), None
    try:
        numerics: object = name_numerics(run, data)
    except BackendError as err:  # no store holds what cannot be computed here, but it may be published
        numerics = str(err)
    chain = []
    steps = _plan_steps(run.schedule, run.epochs, steps_per_epoch, run.momentum)
    for number, (lr, momentum, *written) in enumerate(steps, 1):
        history = _digest([history, *written])
        name = _digest([history, numerics])
        chain.append(Epoch(name, history, parent, number, run, lr, momentum, data.digest))
        parent = name
    return chain


@lru_cache(maxsize=256)
def _plan_steps(schedule, epochs, steps_per_epoch, momentum):
    """lr and momentum of each epoch, as arrays and as text, once for all seeds: torch takes 6 ms an epoch."""
    arrays = lr_per_step(schedule, epochs=epochs, steps_per_epoch=steps_per_epoch, momentum=momentum)
    for array in arrays:
        array.flags.writeable = False
    parts = zip(*(np.split(array, epochs) for array in arrays), strict=True)
    return [(*part, *(array.astype("<f8").tobytes().hex() for array in part)) for part in parts]


def _digest(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
