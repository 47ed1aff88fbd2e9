"""The report's experiments: which runs each section asks for.

A section's notebook makes a Design from its parameters, `Design.of(globals())`, and asks it for its runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from lrlib.problems.data import choose_dataset
from lrlib.problems.lenet import name_problem
from lrlib.problems.registry import load_problem
from lrlib.runs.plan import Run
from lrlib.schedules import Constant, Exponential, MultiStep, OneCycle, parse_schedule
from lrlib.training.registry import AUTO, choose_backend

SGD_SWEEP = "SGD range test"
ADAM_SWEEP = "Adam range test"
MAX_SEEDS = 1000  # more is taken for a seed itself
PUBLISHED_SEEDS = 40
# Settings of a Design that are those of its runs too.
SHARED = ("epochs", "batch_size", "backend", "processes", "optimizer", "momentum", "weight_decay")


def fit_drops(drops: Sequence[int], epochs: int) -> tuple[int, ...]:
    """Those of the drops of a learning rate that lie within the epochs; one in their middle if none does."""
    return tuple(m for m in drops if m <= epochs) or (max(1, epochs // 2),)


@dataclass(frozen=True)
class Design:
    """Settings of the report; the defaults are the original's.

    Args:
        seeds: number of seeds, 0 .. seeds - 1.
        epochs, batch_size: of every run but the range tests.
        dataset: a name, or "auto" for MNIST if it is available, else the sample.
        backend, processes: what trains, and how many processes share each batch, as in `Run`.
        optimizer: of every run but the range tests, one of `lrlib.training.optimizers.OPTIMIZERS`.
        momentum, weight_decay: of it, whichever it is. OneCycle cycles the momentum itself.
        range_epochs, start_lr .. adam_end_lr: section 1. fall_fraction: share of the fall that counts as its start.
        learning_rates: section 2.1. lr, turning_points, milestones, gamma: section 2.2. max_lr .. div_factor: 2.3.
        schedules: further schedules of section 2.3 as calls, such as "OneCycle(0.1, pct_start=0.2)".

    Raises ValueError for a value outside its range, and DatasetError if the dataset is unavailable.
    """

    seeds: int = 1
    epochs: int = 30
    batch_size: int = 128
    dataset: str = "auto"
    backend: str = AUTO
    processes: int = 1
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    range_epochs: int = 10
    start_lr: float = 1e-6
    end_lr: float = 1.18
    adam_start_lr: float = 1e-8
    adam_end_lr: float = 0.12
    fall_fraction: float = 0.05
    learning_rates: tuple = (1e-1, 1e-2, 1e-3)
    lr: float = 1e-1
    turning_points: tuple = (5, 15, 25)
    milestones: tuple = (15, 25)
    gamma: float = 0.1
    max_lr: float = 1e-1
    final_div_factor: float = 4.0
    pct_start: float = 0.3
    div_factor: float = 25.0
    schedules: tuple = ()

    onecycle_label: ClassVar[str] = "OneCycle"

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """A Design from a notebook's globals(), of which it takes its own settings."""
        return cls(**{field.name: parameters[field.name] for field in fields(cls) if field.name in parameters})

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "range_epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.seeds > MAX_SEEDS:
            raise ValueError(f"seeds must be at most {MAX_SEEDS}, got {self.seeds}; it is their number, not a seed")
        if not 0 < self.fall_fraction < 1:
            raise ValueError(f"fall_fraction must be between 0 and 1, a share of the fall, got {self.fall_fraction!r}")
        for name in ("learning_rates", "turning_points", "milestones"):
            values = tuple(getattr(self, name))
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be one or more different values, got {list(values)}")
            if name != "learning_rates" and values == getattr(type(self), name):
                values = fit_drops(values, self.epochs)  # the defaults fit any number of epochs; given ones must
            object.__setattr__(self, name, values)
        object.__setattr__(self, "schedules", tuple(dict.fromkeys(self.schedules)))
        object.__setattr__(self, "dataset", choose_dataset(self.dataset))
        problem = load_problem(name_problem(self.dataset))
        object.__setattr__(self, "backend", choose_backend(self.backend, problem))

    def range_test(self) -> list[Run]:
        """Section 1: SGD's range test, and Adam's from the original's notebook."""
        sgd, adam = Exponential(self.start_lr, self.end_lr), Exponential(self.adam_start_lr, self.adam_end_lr)
        return self._over_seeds(sgd, SGD_SWEEP, epochs=self.range_epochs, optimizer="sgd") + self._over_seeds(
            adam, ADAM_SWEEP, epochs=self.range_epochs, optimizer="adam", momentum=None, weight_decay=None
        )

    def no_scheduling(self) -> list[Run]:
        """Section 2.1: a constant learning rate for each of learning_rates."""
        return [run for lr in self.learning_rates for run in self._over_seeds(Constant(lr), self.constant_label(lr))]

    def one_drop(self) -> list[Run]:
        """Section 2.2: one drop of the learning rate, at each of turning_points."""
        return [run for m in self.turning_points for run in self._multistep([m])]

    def multistep(self) -> list[Run]:
        """Sections 2.2 to 2.4: the drops that the original settles on."""
        return self._multistep(self.milestones)

    def onecycle(self) -> list[Run]:
        """Sections 2.3 and 2.4: one cycle."""
        schedule = OneCycle(self.max_lr, self.final_div_factor, self.pct_start, self.div_factor)
        return self._over_seeds(schedule, self.onecycle_label)

    def further_schedules(self) -> list[Run]:
        """Section 2.3: the schedules given as text, which labels their runs. Raises ValueError for any other text."""
        return [run for text in self.schedules for run in self._over_seeds(parse_schedule(text), text)]

    def all_runs(self) -> list[Run]:
        """Every run of the published report: with the defaults 190 distinct epochs a seed."""
        return self.range_test() + self.no_scheduling() + self.one_drop() + self.multistep() + self.onecycle()

    @staticmethod
    def constant_label(lr: float) -> str:
        """Label of a run with a constant learning rate."""
        return f"lr {lr:g}"

    @staticmethod
    def drop_label(milestones: Sequence[int]) -> str:
        """Label of a MultiStep run."""
        return f"MultiStep {list(milestones)}"

    @property
    def multistep_label(self) -> str:
        """Label of the MultiStep run that the original settles on."""
        return self.drop_label(self.milestones)

    @property
    def middle_turning_point(self) -> int:
        """The turning point that claims C7 and C8 are about: 15 of 5, 15 and 25."""
        return sorted(self.turning_points)[len(self.turning_points) // 2]

    @property
    def is_mnist(self) -> bool:
        """Whether the original's numbers are about this dataset."""
        return self.dataset == "mnist"

    @property
    def over_seeds(self) -> str:
        """`one seed`, `40 seeds`."""
        return "one seed" if self.seeds == 1 else f"{self.seeds} seeds"

    @property
    def settings_note(self) -> str:
        """Which settings differ from those of the published report, as a sentence; "" if none does."""
        usual: dict[str, Any] = {field.name: field.default for field in fields(self)} | {"seeds": PUBLISHED_SEEDS}
        usual |= {"dataset": "mnist", "backend": "compiled"}
        fitted = {name: fit_drops(usual[name], self.epochs) for name in ("turning_points", "milestones")}
        changed = [
            f"{name} {_say(getattr(self, name))} (published: {_say(value)})"
            for name, value in usual.items()
            if getattr(self, name) != fitted.get(name, value)
        ]
        return f"*Settings that differ from the published report: {', '.join(changed)}.*" if changed else ""

    def _multistep(self, milestones):
        return self._over_seeds(MultiStep(self.lr, milestones, self.gamma), self.drop_label(milestones))

    def _over_seeds(self, schedule, label, **changes):
        settings = {name: getattr(self, name) for name in SHARED} | {"problem": name_problem(self.dataset)} | changes
        return [Run(schedule, seed=seed, label=label, **settings) for seed in range(self.seeds)]


def _say(value):
    return str(list(value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
