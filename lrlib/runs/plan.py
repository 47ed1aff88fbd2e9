"""Runs: what a person asks for, and the epochs that it is made of.

A run is its learning-rate history. Each of its epochs is named by everything that decides it, so runs that begin
alike share epochs, a stored epoch is never trained again, and a broken-off run goes on where it stopped.
"""

import hashlib
import importlib.metadata
import json
import math
from dataclasses import dataclass, field
from functools import lru_cache

from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.runs.epochs import Epoch
from lrlib.schedules import Schedule, lr_per_step
from lrlib.training.optimizers import OPTIMIZERS
from lrlib.training.registry import AUTO, choose_backend, describe_numerics, load_backend


@dataclass(frozen=True)
class Run:
    """One training of a problem: a schedule and the settings around it.

    schedule: one of lrlib.schedules. problem: what is trained, a name of lrlib.problems.registry. epochs: passes over
    the training split, or as many steps as the problem calls an epoch.
    optimizer: a name of lrlib.training.optimizers: "sgd", "momentum", "adam", "adamw", "muon", or one that finds its
    own learning rate ("prodigy", "dadapt_adam", "dadapt_sgd"). optimizer, batch_size, momentum, weight_decay: None
    for what is usual for the problem, else for the optimizer (LeNet-5 with sgd: 128, 0.9 and 5e-4). backend: a name of
    lrlib.training.registry, or "auto" for "compiled" where that can train the problem, else "torch"; processes: how
    many share each batch, where the backend can.
    label: how tables and figures call the run; by default its schedule.
    Raises ValueError for a value outside its range.
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
        _require_whole("epochs", self.epochs, 1)
        _require_whole("seed", self.seed, 0)
        problem = load_problem(self.problem)
        for name in ("optimizer", "batch_size"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(problem, name))
        _require_whole("batch_size", self.batch_size, 1)
        if self.optimizer is None or self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        usual = {**OPTIMIZERS[self.optimizer], **problem.settings.get(self.optimizer, {})}
        for name in ("momentum", "weight_decay"):
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, usual[name])
            elif not 0 <= value < (1 if name == "momentum" else math.inf):
                raise ValueError(f"{name} must be at least 0{' and below 1' * (name == 'momentum')}, got {value!r}")
        _require_whole("processes", self.processes, 1)
        object.__setattr__(self, "backend", choose_backend(self.backend, problem))
        load_backend(self.backend).check(self.processes, problem)
        self.schedule.check_epochs(self.epochs)
        if not self.label:
            object.__setattr__(self, "label", str(self.schedule))


def plan_epochs(run: Run) -> list[Epoch]:
    """The epochs of a run, first to last, each with its name.

    Raises DatasetError where the data cannot be had, ValueError where the optimizer's package cannot.
    """
    assert run.optimizer and run.batch_size and run.weight_decay is not None  # which Run has settled
    problem = load_problem(run.problem)
    info = problem.find_data()
    steps_per_epoch = problem.count_steps(info.n_train, run.batch_size)
    lr, momentum = _plan_steps(run.schedule, run.epochs, steps_per_epoch, run.momentum)
    name = _digest(
        {
            "problem": run.problem,
            "optimizer": run.optimizer,
            "optimizer_settings": _settle_optimizer(run),
            "batch_size": run.batch_size,
            "seed": run.seed,
            "data": info.checksum,
            "numerics": describe_numerics(run.backend, run.processes, run.problem, run.optimizer),
        }
    )
    chain: list[Epoch] = []
    for number in range(1, run.epochs + 1):
        steps = slice((number - 1) * steps_per_epoch, number * steps_per_epoch)
        history = [name, lr[steps].astype("<f8").tobytes().hex(), momentum[steps].astype("<f8").tobytes().hex()]
        name = _digest(history)
        chain.append(
            Epoch(
                name=name,
                parent=chain[-1].name if chain else None,
                seed=run.seed,
                number=number,
                lr=lr[steps],
                momentum=momentum[steps],
                optimizer=run.optimizer,
                weight_decay=run.weight_decay,
                batch_size=run.batch_size,
                problem=run.problem,
                data_checksum=info.checksum,
                backend=run.backend,
                processes=run.processes,
            )
        )
    return chain


def _settle_optimizer(run):
    """All settings of a run's optimizer but its momentum, which is given at each step."""
    settings = OPTIMIZERS[run.optimizer] | {"momentum": None, "weight_decay": run.weight_decay}
    if "package" in settings:
        try:
            settings["version"] = importlib.metadata.version(settings["package"])
        except importlib.metadata.PackageNotFoundError as err:
            raise ValueError(
                f"optimizer {run.optimizer!r} is in the package {settings['package']}, which is not installed; "
                f"pip install {settings['package']}"
            ) from err
    return settings


@lru_cache(maxsize=256)
def _plan_steps(schedule, epochs, steps_per_epoch, momentum):
    """`lr_per_step`, once for all seeds: driving torch's scheduler takes 6 ms for an epoch of 469 steps."""
    arrays = lr_per_step(schedule, epochs=epochs, steps_per_epoch=steps_per_epoch, momentum=momentum)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _digest(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _require_whole(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
