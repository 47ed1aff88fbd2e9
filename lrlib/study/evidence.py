"""Part 3's experiments: which runs each of its sections asks for.

Evidence holds the settings; a section's notebook makes one from its parameters, as sections 1 and 2 make a Design.
Range tests and the runs that judge their suggestions have seeds apart: FIRST_SWEEP_SEED and on, and 0 and on.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pandas as pd
import torch

from lrlib import suggest
from lrlib.problems.data import VALIDATION, choose_dataset
from lrlib.problems.lenet import name_problem
from lrlib.runs.plan import Run
from lrlib.runs.results import Results
from lrlib.schedules import Constant, Exponential, MultiStep, OneCycle
from lrlib.study.experiments import DATASET_NOTES, MAX_SEEDS, FromParameters
from lrlib.study.rows import select_run
from lrlib.training.optimizers import OPTIMIZERS

FIRST_SWEEP_SEED = 100
RULES = {
    rule.__name__: rule
    for rule in (suggest.suggest_lr, suggest.valley, suggest.steepest, suggest.minimum_over_ten, suggest.smith_bounds)
}
MAX_SPREAD_DECADES = 0.5
# Rates that people use without any sweep: torch's default, and optimizers that find their own.
TORCH_DEFAULT = "torch's default"
DEFAULT_LR = inspect.signature(torch.optim.SGD).parameters["lr"].default
TUNING_FREE = {"Prodigy": "prodigy", "D-Adapt Adam": "dadapt_adam", "D-Adapt SGD": "dadapt_sgd"}
CYCLED, UNCYCLED = "OneCycle", "OneCycle, momentum 0.9"


def suggest_each(steps: pd.DataFrame) -> dict[str, list[suggest.Suggestion]]:
    """rule -> the Suggestion of each seed. steps: a row per step of range tests with one label."""
    histories = [(sweep["lr"].to_numpy(), sweep["loss"].to_numpy()) for _, sweep in steps.groupby("seed")]
    return {name: [rule(*history) for history in histories] for name, rule in RULES.items()}


@dataclass(frozen=True)
class Evidence(FromParameters):
    """Settings of part 3.

    evidence_seeds: of the runs that are compared. sweep_seeds: of the range tests. sweep_epochs, adam_sweep_epochs: lengths of
    the range tests in epochs, the first being the usual one. grid_per_decade, grid_from, grid_to: the learning rates of the
    search. budgets: epochs of the constant rates, increasing. cycle_budget: epochs of the OneCycle runs.
    Raises ValueError for a value outside its range; DatasetError where the dataset cannot be had.
    """

    evidence_seeds: int = 5
    dataset: str = "auto"
    batch_size: int = 128
    sweep_seeds: int = 10
    sweep_start_lr: float = 1e-6
    sweep_end_lr: float = 10.0
    sweep_epochs: tuple = (1, 3, 10)
    adam_sweep_epochs: tuple = (1, 3)
    batch_sizes: tuple = (32, 512)
    weight_decays: tuple = (0.0, 5e-3)
    momenta: tuple = (0.0, 0.95)
    grid_from: float = 1e-4
    grid_to: float = 1.0
    grid_per_decade: int = 4
    budgets: tuple = (3, 10)
    cycle_budget: int = 3
    epochs: int = 30
    lr: float = 1e-1
    turning_points: tuple = (5, 15, 25)
    milestones: tuple = (15, 25)
    validation_seeds: int = 2
    final_div_factor: float = 4.0

    def __post_init__(self) -> None:
        self._require_whole("evidence_seeds", "sweep_seeds", "validation_seeds", "grid_per_decade", most=MAX_SEEDS)
        self._require_whole("epochs", "batch_size", "cycle_budget")
        self._fit_default_drops(self.epochs)
        if self.evidence_seeds > FIRST_SWEEP_SEED:
            raise ValueError(
                f"evidence_seeds must be at most {FIRST_SWEEP_SEED}, where those of the range tests begin, got {self.evidence_seeds}"
            )
        if not 0 < self.grid_from < self.grid_to:
            raise ValueError(
                f"grid_from must be positive and less than grid_to, got {self.grid_from!r} and {self.grid_to!r}"
            )
        object.__setattr__(self, "dataset", choose_dataset(self.dataset))
        for name, kind in vars(type(self)).items():
            if isinstance(kind, tuple):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.sweep_epochs or not self.budgets or list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets must be one or more increasing epochs, got {list(self.budgets)}")

    @property
    def dataset_note(self) -> str:
        """What a report says first of its dataset; nothing of the author's."""
        return DATASET_NOTES.get(self.dataset, "")

    @property
    def grid(self) -> list[float]:
        """The learning rates of the search, to three digits: those at whole decades are also the report's own."""
        n = round(np.log10(self.grid_to / self.grid_from) * self.grid_per_decade) + 1
        return [float(f"{lr:.3g}") for lr in np.geomspace(self.grid_from, self.grid_to, n)]

    @property
    def tuning_free(self) -> dict[str, str]:
        """TUNING_FREE, those whose package is installed."""
        return {label: name for label, name in TUNING_FREE.items() if find_spec(str(OPTIMIZERS[name]["package"]))}

    def usual_sweeps(self) -> list[Run]:
        """The range tests whose suggestions are judged: SGD's, of the first length."""
        return self._sweep(self.sweep_label(), epochs=self.sweep_epochs[0])

    def sweeps(self) -> dict[str, list[Run]]:
        """Section 3.1: label -> range tests, over their length and over one setting at a time."""
        found = {}
        for epochs in self.sweep_epochs:
            found[self.sweep_label(epochs=epochs)] = {"epochs": epochs}
        for epochs in self.adam_sweep_epochs:
            found[self.sweep_label("Adam", epochs=epochs)] = {"epochs": epochs, "optimizer": "adam"}
        usual = {"epochs": self.sweep_epochs[0]}
        found |= {f"SGD, batch {size}": usual | {"batch_size": size} for size in self.batch_sizes}
        found |= {f"SGD, decay {decay:g}": usual | {"weight_decay": decay} for decay in self.weight_decays}
        found |= {f"SGD, momentum {momentum:g}": usual | {"momentum": momentum} for momentum in self.momenta}
        return {label: self._sweep(label, **settings) for label, settings in found.items()}

    def sweep_label(self, optimizer: str = "SGD", *, epochs: int | None = None) -> str:
        """What tables and figures call the range tests of an optimizer."""
        epochs = epochs or self.sweep_epochs[0]
        return f"{optimizer}, {epochs} epoch{'s' * (epochs != 1)}"

    def search(self) -> list[Run]:
        """Section 3.2: constant rates and peaks of one cycle over the whole grid, and the optimizers that need no rate."""
        runs = [run for lr in self.grid for run in self.constant(lr) + self.cycle(lr)]
        # Whoever makes no sweep can train for its epochs besides.
        epochs = self.budgets[-1] + self.sweep_epochs[0]
        runs += self._over_seeds(Constant(DEFAULT_LR), TORCH_DEFAULT, epochs=epochs)
        for label, optimizer in self.tuning_free.items():
            runs += self._over_seeds(Constant(1.0), label, epochs=epochs, optimizer=optimizer)
        return runs

    def suggest_rates(self, steps: pd.DataFrame) -> dict[str, suggest.Suggestion]:
        """rule -> Suggestion: what each rule reads off the usual range tests, the medians over their seeds.

        steps: a row per run and step, of at least usual_sweeps().
        """
        found = suggest_each(select_run(steps, self.sweep_label()))
        return {
            rule: suggest.combine(of_seeds, max_spread_decades=MAX_SPREAD_DECADES) for rule, of_seeds in found.items()
        }

    def suggested(self, suggestions: Mapping[str, suggest.Suggestion]) -> list[Run]:
        """Section 3.2: runs at what each rule suggests. suggestions: rule -> Suggestion."""
        return [
            run
            for name, s in suggestions.items()
            for run in self.constant(s.lr) + self.cycle(self.suggested_peak(name, s))
        ]

    def follow_suggestions(self, results: Results) -> list[Run]:
        """Section 3.2: the runs at what each rule suggests. results: of at least usual_sweeps()."""
        return self.suggested(self.suggest_rates(results.steps))

    @staticmethod
    def suggested_peak(rule: str, suggestion: suggest.Suggestion) -> float:
        """The peak of a cycle that a rule suggests: ours has one of its own, the others' users take their one rate."""
        return suggestion.upper if rule == "suggest_lr" else suggestion.lr

    def constant(self, lr: float) -> list[Run]:
        """Runs at a constant rate, for the longest budget; the shorter ones are their beginning."""
        return self._over_seeds(Constant(lr), self.constant_label(lr), epochs=self.budgets[-1])

    def cycle(self, max_lr: float) -> list[Run]:
        """OneCycle runs with that peak."""
        return self._over_seeds(OneCycle(max_lr), self.cycle_label(max_lr), epochs=self.cycle_budget)

    @staticmethod
    def constant_label(lr: float) -> str:
        """What tables call a run at a constant rate."""
        return f"lr {lr!r}"

    @staticmethod
    def cycle_label(max_lr: float) -> str:
        """What tables call a OneCycle run."""
        return f"peak {max_lr!r}"

    def schedules(self) -> list[Run]:
        """Section 3.4: MultiStep, OneCycle, and OneCycle without cycled momentum, on the whole training split."""
        multistep = MultiStep(self.lr, self.milestones)
        return (
            self._over_seeds(multistep, "MultiStep", epochs=self.epochs)
            + self._over_seeds(self._one_cycle(), CYCLED, epochs=self.epochs)
            + self._over_seeds(self._one_cycle(cycle_momentum=False), UNCYCLED, epochs=self.epochs)
        )

    def candidates(self) -> list[Run]:
        """Section 3.4: what the author chose among, trained without the validation split, which stands for the test split."""
        schedules = {
            f"MultiStep {list(m)}": MultiStep(self.lr, m)
            for m in (*((t,) for t in self.turning_points), self.milestones)
        }
        schedules[CYCLED] = self._one_cycle()
        return [
            Run(
                schedule,
                epochs=self.epochs,
                seed=seed,
                problem=name_problem(f"{self.dataset}{VALIDATION}"),
                batch_size=self.batch_size,
                label=label,
            )
            for label, schedule in schedules.items()
            for seed in range(self.validation_seeds)
        ]

    def _one_cycle(self, **settings):
        return OneCycle(self.lr, final_div_factor=self.final_div_factor, **settings)

    def _sweep(self, label, **settings):
        settings = {"batch_size": self.batch_size, **settings}
        return [
            Run(
                Exponential(self.sweep_start_lr, self.sweep_end_lr),
                seed=FIRST_SWEEP_SEED + i,
                problem=name_problem(self.dataset),
                label=label,
                **settings,
            )
            for i in range(self.sweep_seeds)
        ]

    def _over_seeds(self, schedule, label, **settings):
        settings = {"batch_size": self.batch_size, **settings}
        return [
            Run(schedule, seed=seed, problem=name_problem(self.dataset), label=label, **settings)
            for seed in range(self.evidence_seeds)
        ]
