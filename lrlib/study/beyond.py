"""Section 3.6's experiments: which runs a benchmark of suggestions on many problems asks for.

A cell is a problem and an optimizer. Of each there are range tests, constant rates of a grid held for the short and,
of some, the long budget, and peaks of one cycle of the short budget from the same grid. Every rule reads the same range
test, and what its rate comes to is read off the grid, so that all rules share what is trained.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import numpy as np

from lrlib.problems.data import DatasetError, DatasetMissing
from lrlib.problems.registry import load_problem
from lrlib.runs.plan import Run
from lrlib.runs.results import Results
from lrlib.schedules import Constant, Exponential, OneCycle, Schedule
from lrlib.study import deepobs
from lrlib.study.evidence import DEFAULT_LR
from lrlib.study.experiments import MAX_SEEDS, FromParameters
from lrlib.suggest import suggest_lr
from lrlib.training.optimizers import OPTIMIZERS

FIRST_SWEEP_SEED = 100
SWEEP_FROM, SWEEP_TO = 1e-7, 10.0
# The grid of an optimizer: its least rate and its decades. The default rate, 1e-3, is always on it.
GRIDS = {"sgd": (1e-3, 4), "momentum": (1e-4, 4), "adam": (1e-5, 4), "adamw": (1e-5, 4), "muon": (1e-5, 4)}
# Optimizers that find their own rate, beside those whose place they take: (label, name of OPTIMIZERS).
TUNING_FREE = {
    "sgd": ("D-Adapt SGD", "dadapt_sgd"),
    "adam": ("Prodigy", "prodigy"),
    "adamw": ("Prodigy", "prodigy"),
}
# Which optimizers each problem is trained with unless one is named; the others with the one that is usual for them.
OPTIMIZERS_OF = {
    "lenet5_mnist": ("sgd", "adam"),
    "quadratic_deep": ("sgd", "momentum", "adam"),
    "fmnist_2c2d": ("sgd", "momentum", "adam"),
    "mnist_vae": ("sgd", "momentum", "adam"),
    "fmnist_vae": ("sgd", "momentum", "adam"),
    "fmnist_resnet": ("momentum", "adamw"),
    "char_gpt": ("adamw", "muon"),
}
CONSTANT, ONE_CYCLE = "constant", "one cycle"
# Where a cycle that peaks at the suggested upper bound begins and ends: at the suggested lower one, or as OneCycle does.
FROM_LOWER, FROM_DEFAULT = "cycle from lower", "cycle from PyTorch's default"


@dataclass(frozen=True)
class Cell:
    """A problem and an optimizer; steps_per_epoch at the problem's usual batch size."""

    problem: str
    optimizer: str
    steps_per_epoch: int

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        return f"{self.problem}, {self.optimizer}"

    def count_epochs(self, steps: int) -> int:
        """The epochs that hold so many steps."""
        return -(-steps // self.steps_per_epoch)

    def run(self, schedule: Schedule, steps: int, seed: int, what: str, *, optimizer: str | None = None) -> Run:
        """A run of at least so many steps, labelled with the cell and what it is."""
        return Run(
            schedule,
            epochs=self.count_epochs(steps),
            seed=seed,
            problem=self.problem,
            optimizer=optimizer or self.optimizer,
            label=self.label(what),
        )

    def label(self, what: object) -> str:
        """The label of one of its runs."""
        return f"{self.name}, {what}"


@dataclass(frozen=True)
class Budget:
    """A training that a rate is for: constant or one cycle, and its steps, which are rounded up to whole epochs."""

    training: str
    steps: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.training}, {self.steps:,} steps"


@dataclass(frozen=True)
class Beyond(FromParameters):
    """Settings of section 3.6.

    problems: names of lrlib.problems.registry, trained here, "problem/optimizer" with one optimizer;
    long_problems: those of them that are trained for the long budget too. deepobs_problems: those of which only a sweep
    is run (lrlib.study.deepobs). beyond_seeds: seeds of
    everything, from 0 on, of range tests from 100 on. short_steps, long_steps: the budgets; a sweep has short_steps.
    deepobs_steps: steps of a sweep of a DeepOBS problem. rates_per_decade: of the grid.
    Raises ValueError for a value outside its range or an unknown problem; DatasetMissing where no problem's data can be
    had.
    """

    problems: tuple = (
        "lenet5_mnist",
        "lenet5_fashion",
        "tabular",
        "char_rnn",
        "char_gpt",
        "char_gpt_finetune",
    )
    long_problems: tuple = ("lenet5_mnist", "tabular")
    deepobs_problems: tuple = deepobs.PROBLEMS
    beyond_seeds: int = 3
    short_steps: int = 400
    long_steps: int = 1600
    deepobs_steps: int = 100
    rates_per_decade: int = 2

    def __post_init__(self) -> None:
        self._require_whole("beyond_seeds", most=MAX_SEEDS)
        self._require_whole("short_steps", "long_steps", "deepobs_steps", "rates_per_decade")
        if self.long_steps <= self.short_steps:
            raise ValueError(f"long_steps must be above short_steps, {self.short_steps}, got {self.long_steps}")
        for name in ("problems", "long_problems", "deepobs_problems"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        for name in (*self.problems, *self.long_problems):
            problem, _, optimizer = name.partition("/")
            load_problem(problem)
            if optimizer and optimizer not in GRIDS:
                raise ValueError(f"the optimizer of {name!r} must be one of {', '.join(GRIDS)}; e.g. '{problem}/adam'")
        for problem in self.deepobs_problems:
            if problem not in deepobs.PROBLEMS:
                raise ValueError(
                    f"deepobs_problems must be among {', '.join(deepobs.PROBLEMS)}, got {problem!r}; "
                    "give others as problems"
                )
        named = (*self.problems, *self.deepobs_problems)
        if not named:
            raise ValueError("problems must be one or more names, got none; e.g. ['char_gpt']")
        if not self.cells and not self.deepobs_cells:
            raise DatasetMissing(next(iter(self.missing.values())))

    @property
    def missing(self) -> dict[str, str]:
        """problem -> why its data cannot be had, and how to get them; of those that are left out for that."""
        named = [name.partition("/")[0] for name in (*self.problems, *self.deepobs_problems)]
        whys = {problem: _find_fault(problem) for problem in named}
        return {problem: why for problem, why in whys.items() if why}

    @property
    def cells(self) -> list[Cell]:
        """What is trained here."""
        return self._list_cells(self.problems)

    @property
    def deepobs_cells(self) -> list[Cell]:
        """What DeepOBS trained, and is only swept here."""
        return self._list_cells(self.deepobs_problems)

    def budgets(self, cell: Cell) -> list[Budget]:
        """The trainings that a rate is judged by."""
        long = [Budget(CONSTANT, self.long_steps)] if cell.problem in self.long_problems else []
        return [Budget(CONSTANT, self.short_steps), *long, Budget(ONE_CYCLE, self.short_steps)]

    def grid(self, optimizer: str) -> list[float]:
        """The rates that are trained, to three digits; the default rate is one of them."""
        least, decades = GRIDS[optimizer]
        rates = np.geomspace(least, least * 10**decades, decades * self.rates_per_decade + 1)
        return [float(f"{lr:.3g}") for lr in rates]

    def sweeps(self) -> list[Run]:
        """The range tests of every cell."""
        of_cells = [self._sweep(cell, self.short_steps) for cell in self.cells]
        return [run for runs in (*of_cells, *self.deepobs_sweeps()) for run in runs]

    def deepobs_sweeps(self) -> list[list[Run]]:
        """The range tests of the DeepOBS problems that are not trained here anyway."""
        return [self._sweep(cell, self.deepobs_steps) for cell in self.deepobs_cells if cell not in self.cells]

    def trainings(self) -> list[Run]:
        """Constant rates and peaks over the grids, the default rate, and optimizers that need none."""
        runs = []
        for cell in self.cells:
            steps = max(budget.steps for budget in self.budgets(cell) if budget.training == CONSTANT)
            for lr, seed in ((lr, seed) for lr in self.grid(cell.optimizer) for seed in range(self.beyond_seeds)):
                runs.append(cell.run(Constant(lr), steps, seed, f"lr {lr!r}"))
                runs.append(cell.run(OneCycle(lr), self.short_steps, seed, f"peak {lr!r}"))
            for seed in range(self.beyond_seeds):
                # Whoever makes no sweep can train for its steps besides.
                runs.append(cell.run(Constant(DEFAULT_LR), steps + self.short_steps, seed, "default"))
                if label := self.tuning_free(cell):
                    optimizer = TUNING_FREE[cell.optimizer][1]
                    more = cell.run(Constant(1.0), steps + self.short_steps, seed, label, optimizer=optimizer)
                    runs.append(more)
        return runs

    def runs(self) -> list[Run]:
        """All that the section trains."""
        return self.sweeps() + self.trainings()

    def follow_suggestions(self, results: Results) -> list[Run]:
        """One cycle up to the suggested upper bound, from the suggested lower one and from PyTorch's default base.

        results: of at least sweeps(). Bounds are taken to three digits.
        """
        runs = []
        sweeps = dict(tuple(results.steps.groupby(["run", "seed"], sort=False))) if self.cells else {}
        for cell, seed in ((cell, seed) for cell in self.cells for seed in range(self.beyond_seeds)):
            sweep = sweeps[cell.label("range test"), FIRST_SWEEP_SEED + seed]
            found = suggest_lr(sweep["lr"], sweep["loss"])
            lower, upper = float(f"{found.lower:.3g}"), float(f"{found.upper:.3g}")
            cycles = {FROM_LOWER: OneCycle(upper, div_factor=upper / lower), FROM_DEFAULT: OneCycle(upper)}
            runs += [cell.run(cycle, self.short_steps, seed, what) for what, cycle in cycles.items()]
        return runs

    @staticmethod
    def tuning_free(cell: Cell) -> str | None:
        """The label of the optimizer that needs no rate and stands beside a cell's; None where it is not installed."""
        label, name = TUNING_FREE.get(cell.optimizer, (None, None))
        return label if name and find_spec(str(OPTIMIZERS[name]["package"])) else None

    def _sweep(self, cell, steps):
        schedule = Exponential(SWEEP_FROM, SWEEP_TO)
        seeds = range(FIRST_SWEEP_SEED, FIRST_SWEEP_SEED + self.beyond_seeds)
        return [cell.run(schedule, steps, seed, "range test") for seed in seeds]

    def _list_cells(self, problems: Iterable[str]) -> list[Cell]:
        cells = []
        for name, _, wanted in (entry.partition("/") for entry in problems):
            if name in self.missing:
                continue
            problem = load_problem(name)
            steps = problem.count_steps(problem.find_data().n_train, problem.batch_size)
            optimizers = (wanted,) if wanted else OPTIMIZERS_OF.get(name, (problem.optimizer,))
            cells += [Cell(name, optimizer, steps) for optimizer in optimizers]
        return list(dict.fromkeys(cells))


@lru_cache
def _find_fault(problem: str) -> str:
    """Why a problem's data cannot be had; "" where they can. It is asked once, since it may try to download."""
    try:
        load_problem(problem).find_data()
    except DatasetError as err:
        return str(err)
    return ""
