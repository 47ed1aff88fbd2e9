"""Should a suggested rate fall with the length of the training? Forms of it, each judged where it was not fitted.

A form has one parameter. It is fitted on the cells of all problems but one, by the least mean regret, and judged on the
cells of that one; so for each problem in turn.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from lrlib.study import deepobs
from lrlib.study.benchmark import PLAIN, Benchmark, Curves, read_rates
from lrlib.study.beyond import CONSTANT, Cell
from lrlib.suggest import LENGTH_POWER

DEEPOBS = "DeepOBS, to the end"
TENTH = "minimum_over_ten"
AS_IT_IS, RULE = "without the length", "told the length, as suggest_lr is"


@dataclass(frozen=True)
class Case:
    """One range test and one training that a rate is read off it for.

    lr: what suggest_lr gives (its upper bound for a cycle); tenth: a tenth of the lowest point. longer: the updates of
    the training over those of the range test. regret: rate -> regret; in percent, for DeepOBS in log10 of the loss.
    """

    training: str
    problem: str
    lr: float
    tenth: float
    longer: float
    regret: Callable[[float], float]


@dataclass(frozen=True)
class Form:
    """A way of changing the rate: rate(case, parameter), and the parameters that it is fitted over."""

    name: str
    rate: Callable[[Case, float], float]
    parameters: tuple[float, ...]


FORMS = (
    Form(AS_IT_IS, lambda case, _: case.lr, (1.0,)),
    Form(RULE, lambda case, p: case.lr * case.longer**-p, (LENGTH_POWER,)),
    Form("times p", lambda case, p: case.lr * p, (0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)),
    Form("over the p-th power of the length", lambda case, p: case.lr * case.longer**-p, (0, 0.1, 0.2, 0.3, 0.4, 0.5)),
    Form(
        "a tenth of the lowest point from p lengths on",
        lambda case, p: case.tenth if case.longer >= p else case.lr,
        (math.inf, 1, 2, 4, 10, 30, 100),
    ),
)


def list_cases(benchmark: Benchmark) -> list[Case]:
    """Every cell, seed and training: those that are trained here, and DeepOBS's."""
    return [*_list_own(benchmark), *_list_deepobs(benchmark)]


def compare_forms(cases: Sequence[Case]) -> pd.DataFrame:
    """A row per training and form: regret, the mean over the problems of what the form loses on each when it is fitted on
    the others; p, the parameters that were chosen, in words; and the number of problems.

    Of a training with fewer than two problems there are no rows, nor of a form whose parameter makes no difference to it.
    """
    rows = []
    for training in dict.fromkeys(case.training for case in cases):
        group = [case for case in cases if case.training == training]
        problems = list(dict.fromkeys(case.problem for case in group))
        as_it_is = np.array([[case.regret(case.lr)] for case in group])
        for form in FORMS if len(problems) > 1 else ():
            regrets = np.array([[case.regret(form.rate(case, p)) for p in form.parameters] for case in group])
            if form.name != AS_IT_IS and (regrets == as_it_is).all():
                continue  # all these trainings are as long as their range test
            found, chosen = [], set()
            for problem in problems:
                is_left_out = np.array([case.problem == problem for case in group])
                place = regrets[~is_left_out].mean(0).argmin()
                found.append(regrets[is_left_out, place].mean())
                chosen.add(form.parameters[place])
            p = _say_range(chosen) if form.name != AS_IT_IS else ""
            rows.append((training, form.name, float(np.mean(found)), p, len(problems)))
    return pd.DataFrame(rows, columns=["training", "form", "regret", "p", "problems"])


def _list_own(benchmark: Benchmark) -> Iterator[Case]:
    settings = benchmark.settings
    for cell in settings.cells:
        for budget in settings.budgets(cell):
            curves = benchmark.curves(cell, budget)
            for seed in range(settings.beyond_seeds) if curves.train else ():
                rates = read_rates(*benchmark.sweep(cell, seed), {})
                yield Case(
                    training=budget.training,
                    problem=cell.problem,
                    lr=rates[PLAIN].lr if budget.training == CONSTANT else rates[PLAIN].peak,
                    tenth=rates[TENTH].lr,
                    longer=budget.steps / settings.short_steps,
                    regret=partial(_read_own, curves, seed),
                )


def _list_deepobs(benchmark: Benchmark) -> Iterator[Case]:
    for cell in benchmark.settings.deepobs_cells:
        for seed in range(benchmark.settings.beyond_seeds):
            lr, loss = benchmark.sweep(cell, seed)
            rates = read_rates(lr, loss, {})
            yield Case(
                training=DEEPOBS,
                problem=cell.problem,
                lr=rates[PLAIN].lr,
                tenth=rates[TENTH].lr,
                longer=deepobs.count_steps(cell.problem, cell.optimizer) / len(lr),
                regret=partial(_read_deepobs, cell),
            )


def _read_own(curves: Curves, seed: int, rate: float) -> float:
    return curves.regret(curves.read(rate, seed), seed)


def _read_deepobs(cell: Cell, rate: float) -> float:
    return deepobs.read_regret(cell.problem, cell.optimizer, rate, "loss_last")


def _say_range(parameters):
    least, most = min(parameters), max(parameters)
    words = ["never" if math.isinf(p) else f"{p:g}" for p in (least, most)]
    return words[0] if least == most else " to ".join(words)
