"""The report's experiments: which runs each section asks for.

A Design holds the settings of the whole report, with the author's protocol as defaults. A section's notebook makes one
from collections.abc import Sequence
from its parameters (`Design.of(globals())`) and asks it for that section's runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

from lrlib.problems.data import SAMPLE, choose_dataset
from lrlib.problems.lenet import name_problem
from lrlib.problems.registry import load_problem
from lrlib.runs.plan import Run
from lrlib.schedules import Constant, Exponential, MultiStep, OneCycle
from lrlib.study.looks import MOST_SEEDS, STEP, Looks, list_looks, plan_looks
from lrlib.training.registry import AUTO, choose_backend

SGD_SWEEP = "SGD range test"
ADAM_SWEEP = "Adam range test"

# What a report says first where it is not made from the author's dataset.
DATASET_NOTES = {
    SAMPLE: "**Made from the embedded sample.** These results come from 5,000 MNIST digits (4,000 to train, 1,000 to test), "
    "not from MNIST's 70,000: the claims about accuracy are not tested by them.",
    "fashion_mnist": "**Made from Fashion-MNIST.** These results come from its clothes, not from MNIST's digits: the author's "
    "numbers beside them, and the claims that name accuracies, are about MNIST.",
}


# How many seeds are taken to be meant: more, and most likely a seed was.
MAX_SEEDS = 1000


def fit_drops(drops: Sequence[int], epochs: int) -> tuple[int, ...]:
    """Those of the drops of a learning rate that lie within the epochs; one in their middle where none does."""
    return tuple(m for m in drops if m <= epochs) or (max(1, epochs // 2),)


class FromParameters:
    """A dataclass of settings that can be made of a notebook's parameters, which so are written once."""

    @classmethod
    def of(cls, parameters: Mapping[str, object], **others: object) -> Self:
        """One with those of its settings that stand in `parameters`; `others` take precedence, the rest are defaults.

        parameters: name -> value, such as a notebook's globals() after its parameters cell; other names are left alone.
        """
        names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in parameters.items() if name in names} | others)

    def _require_whole(self, *names: str, most: float = math.inf) -> None:
        """Raise ValueError unless each setting of these names is a whole number from 1 to most."""
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                hint = "; it is how many, from seed 0 on" if name == "seeds" else ""
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}{hint}")
            if value > most:
                raise ValueError(f"{name} must be at most {most:,}, got {value!r}; it is how many, and no seed itself")

    def _fit_default_drops(self, epochs: int) -> None:
        """Have the default drops lie within the epochs; others stay, and one past the last epoch is an error later."""
        for name in ("turning_points", "milestones"):
            default = getattr(type(self), name)
            if tuple(getattr(self, name)) == default:
                object.__setattr__(self, name, fit_drops(default, epochs))


@dataclass(frozen=True)
class Design(FromParameters):
    """Settings of the report; the defaults are the author's.

    seeds: number of seeds, 0 .. seeds - 1. max_seeds: up to how many they are added by need, of whose looks
    (`lrlib.study.looks`) `seeds` is then one; 0 where their number is fixed in advance.
    dataset: a name, or "auto" for MNIST where it can be had, else the sample.
    backend, processes: what trains, and how many processes share each batch, as of Run.
    range_epochs, start_lr .. adam_end_lr: section 1. learning_rates: 2.1. lr, turning_points, milestones, gamma: 2.2.
    max_lr .. div_factor: 2.3.
    Raises ValueError for a value outside its range; DatasetError where the dataset cannot be had.
    """

    seeds: int = 1
    max_seeds: int = 0
    epochs: int = 30
    batch_size: int = 128
    dataset: str = "auto"
    backend: str = AUTO
    processes: int = 1
    range_epochs: int = 10
    start_lr: float = 1e-6
    end_lr: float = 1.18
    adam_start_lr: float = 1e-8
    adam_end_lr: float = 0.12
    learning_rates: tuple = (1e-1, 1e-2, 1e-3)
    lr: float = 1e-1
    turning_points: tuple = (5, 15, 25)
    milestones: tuple = (15, 25)
    gamma: float = 0.1
    max_lr: float = 1e-1
    final_div_factor: float = 4.0
    pct_start: float = 0.3
    div_factor: float = 25.0

    def __post_init__(self) -> None:
        self._require_whole("seeds", most=MAX_SEEDS)
        self._check_max_seeds()
        self._require_whole("epochs", "range_epochs", "batch_size")
        self._fit_default_drops(self.epochs)
        object.__setattr__(self, "dataset", choose_dataset(self.dataset))
        problem = load_problem(name_problem(self.dataset))
        object.__setattr__(self, "backend", choose_backend(self.backend, problem))
        for name in ("learning_rates", "turning_points", "milestones"):
            values = tuple(getattr(self, name))
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be one or more different values, got {list(values)}")
            object.__setattr__(self, name, values)
        for lr in self.learning_rates:
            if not 0 < lr < math.inf:
                raise ValueError(f"learning_rates must be positive numbers, got {lr!r}; e.g. 0.1")
        labels = {self.constant_label(lr): lr for lr in reversed(self.learning_rates)}
        for lr in self.learning_rates:
            if (other := labels[self.constant_label(lr)]) != lr:
                raise ValueError(f"learning_rates must differ in six digits to be told apart, got {other!r} and {lr!r}")

    def _check_max_seeds(self):
        if self.max_seeds == 0:
            return
        if not isinstance(self.max_seeds, int) or not STEP <= self.max_seeds <= MOST_SEEDS:
            raise ValueError(
                f"max_seeds must be a whole number from {STEP} to {MOST_SEEDS}, or 0 where the number of seeds is fixed "
                f"in advance, got {self.max_seeds!r}"
            )
        if self.seeds not in list_looks(self.max_seeds):
            raise ValueError(
                f"seeds must be one of {', '.join(map(str, list_looks(self.max_seeds)))} where they are added by need "
                f"up to {self.max_seeds}, got {self.seeds}"
            )

    def range_test(self) -> list[Run]:
        """Section 1: SGD's range test, and Adam's from the author's notebook."""
        sgd = Exponential(self.start_lr, self.end_lr)
        adam = Exponential(self.adam_start_lr, self.adam_end_lr)
        return self._over_seeds(sgd, SGD_SWEEP, epochs=self.range_epochs) + self._over_seeds(
            adam, ADAM_SWEEP, epochs=self.range_epochs, optimizer="adam"
        )

    def no_scheduling(self) -> list[Run]:
        """Section 2.1: a constant lr for each of learning_rates."""
        return [run for lr in self.learning_rates for run in self._over_seeds(Constant(lr), self.constant_label(lr))]

    def one_drop(self) -> list[Run]:
        """Section 2.2: one drop of the lr, at each of turning_points.

        Raises ValueError where one lies past the last epoch.
        """
        outside = [m for m in self.turning_points if not isinstance(m, int) or not 1 <= m <= self.epochs]
        if outside:
            raise ValueError(
                f"turning_points must be whole epochs up to the last, {self.epochs}, got {list(self.turning_points)}; "
                f"change {outside} or epochs"
            )
        return [run for m in self.turning_points for run in self._multistep([m])]

    def multistep(self) -> list[Run]:
        """Sections 2.2 to 2.4: the drops that the author settled on."""
        return self._multistep(self.milestones)

    def onecycle(self) -> list[Run]:
        """Sections 2.3 and 2.4: one cycle."""
        schedule = OneCycle(
            self.max_lr,
            final_div_factor=self.final_div_factor,
            pct_start=self.pct_start,
            div_factor=self.div_factor,
        )
        return self._over_seeds(schedule, self.onecycle_label)

    def all_runs(self) -> list[Run]:
        """Every run of the report."""
        return self.range_test() + self.no_scheduling() + self.one_drop() + self.multistep() + self.onecycle()

    @staticmethod
    def constant_label(lr: float) -> str:
        """What tables and figures call a run with a constant lr."""
        return f"lr {lr:g}"

    @staticmethod
    def drop_label(milestones: Sequence[int]) -> str:
        """What tables and figures call a MultiStep run."""
        return f"MultiStep {list(milestones)}"

    @property
    def multistep_label(self) -> str:
        """What tables and figures call the MultiStep run that the author settled on."""
        return self.drop_label(self.milestones)

    @property
    def onecycle_label(self) -> str:
        """What tables and figures call the OneCycle run."""
        return "OneCycle"

    @property
    def looks(self) -> Looks:
        """When results were looked at."""
        return plan_looks(self.seeds, self.max_seeds)

    @property
    def is_sample(self) -> bool:
        """Whether the embedded sample stands in for MNIST."""
        return self.dataset == SAMPLE

    @property
    def dataset_note(self) -> str:
        """What a report says first of its dataset; nothing of the author's."""
        return DATASET_NOTES.get(self.dataset, "")

    @property
    def figures_note(self) -> str:
        """What the first caption says of the lines in the figures of the author's experiments."""
        seeds = "of one seed"
        if self.seeds > 1:
            seeds = f"means over {self.seeds} seeds, and bands reach from the least to the largest"
        return (
            f"Here as in all figures of sections 1 and 2 lines are {seeds}; training losses are averaged over "
            "neighbouring steps."
        )

    @property
    def middle_turning_point(self) -> int:
        """The turning point that claims C7 and C8 are about: the author's is 15 of 5, 15 and 25."""
        return sorted(self.turning_points)[len(self.turning_points) // 2]

    def _multistep(self, milestones):
        return self._over_seeds(MultiStep(self.lr, milestones, self.gamma), self.drop_label(milestones))

    def _over_seeds(self, schedule, label, *, epochs=None, optimizer="sgd"):
        return [
            Run(
                schedule,
                epochs=self.epochs if epochs is None else epochs,
                seed=seed,
                optimizer=optimizer,
                batch_size=self.batch_size,
                problem=name_problem(self.dataset),
                backend=self.backend,
                processes=self.processes,
                label=label,
            )
            for seed in range(self.seeds)
        ]
