from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lrlib.problems.data import DatasetMissing
from lrlib.runs.plan import plan_epochs
from lrlib.study import beyond, beyond_answers
from lrlib.study.beyond import (
    CONSTANT,
    DEFAULT_LR,
    FIRST_SWEEP_SEED,
    FROM_DEFAULT,
    FROM_LOWER,
    GRIDS,
    ONE_CYCLE,
    Beyond,
    Budget,
)
from lrlib.suggest import suggest_lr
from lrlib.training.optimizers import OPTIMIZERS

TABULAR = {"problems": ("tabular",), "deepobs_problems": ()}


@pytest.fixture
def without_fashion(monkeypatch):
    why = "fashion_mnist is not here; connect to the network"
    monkeypatch.setattr(
        beyond, "_find_fault", lambda problem: why if "fmnist" in problem or "fashion" in problem else ""
    )


@pytest.mark.parametrize("optimizer", GRIDS)
def test_the_default_rate_is_on_every_grid(optimizer):
    assert optimizer in OPTIMIZERS
    assert DEFAULT_LR in Beyond(**TABULAR).grid(optimizer)
    assert len(Beyond(**TABULAR).grid(optimizer)) == 9


def test_range_tests_and_the_runs_that_judge_them_have_seeds_apart():
    settings = Beyond(**TABULAR)
    assert (
        min(run.seed for run in settings.sweeps()) == FIRST_SWEEP_SEED > max(run.seed for run in settings.trainings())
    )


def test_a_short_budget_is_the_beginning_of_the_long_one_and_only_some_have_it():
    settings = Beyond(problems=("tabular", "char_rnn"), long_problems=("tabular",), deepobs_problems=())
    tabular, rnn = settings.cells
    assert settings.budgets(rnn) == [Budget(CONSTANT, 400), Budget(ONE_CYCLE, 400)]
    assert Budget(CONSTANT, 1600) in settings.budgets(tabular)
    [run] = [r for r in settings.trainings() if r.label == tabular.label("lr 0.01") and r.seed == 0]
    assert run.epochs == tabular.count_epochs(1600) == 115  # of 14 steps


def test_the_default_rate_goes_on_from_what_the_grid_trains_of_it():
    runs = [run for run in Beyond(**TABULAR).trainings() if run.seed == 0]
    longer, shorter = (next(run for run in runs if run.label.endswith(f", {what}")) for what in ("default", "lr 0.001"))
    names = [epoch.name for epoch in plan_epochs(longer)]
    assert names[: shorter.epochs] == [epoch.name for epoch in plan_epochs(shorter)]


def test_a_cycle_goes_up_to_the_suggested_upper_bound_from_the_lower_one_and_from_pytorchs_base():
    settings = Beyond(**TABULAR, beyond_seeds=2)
    lr = np.geomspace(1e-7, 10, 400)
    loss = 2 - 1 / (1 + (3e-3 / lr) ** 2) + 5 * (lr > 1)
    found = suggest_lr(lr, loss)
    steps = [pd.DataFrame({"run": "tabular, adamw, range test", "seed": 100 + i, "lr": lr, "loss": loss}) for i in (0, 1)]
    runs = settings.follow_suggestions(SimpleNamespace(steps=pd.concat(steps)))
    assert {(run.label, run.seed) for run in runs} == {
        (f"tabular, adamw, {what}", seed) for what in (FROM_LOWER, FROM_DEFAULT) for seed in (0, 1)
    }
    for run in runs:
        assert run.schedule.max_lr == pytest.approx(found.upper, rel=5e-3) and run.epochs == 29
        lowest = found.lower if run.label.endswith(FROM_LOWER) else found.upper / 25
        assert run.schedule.max_lr / run.schedule.div_factor == pytest.approx(lowest, rel=1e-2)
    assert Beyond(problems=(), deepobs_problems=("quadratic_deep",)).follow_suggestions(SimpleNamespace()) == []


def test_what_cannot_be_had_is_left_out_and_said_and_the_rest_goes_on(without_fashion):
    settings = Beyond(problems=("tabular", "lenet5_fashion"), deepobs_problems=("quadratic_deep", "fmnist_vae"))
    assert {cell.problem for cell in settings.cells} == {"tabular"}
    assert {cell.problem for cell in settings.deepobs_cells} == {"quadratic_deep"}
    said = beyond_answers.say_missing(settings.missing, ["monai"])
    assert "`lenet5_fashion` is left out: fashion_mnist is not here; connect to the network" in said
    assert "not installed: monai" in said
    with pytest.raises(DatasetMissing, match="fashion_mnist is not here"):
        Beyond(problems=("lenet5_fashion",), deepobs_problems=())


def test_one_optimizer_of_a_problem_can_be_named():
    settings = Beyond(problems=("tabular/sgd", "tabular", "tabular/adamw"), deepobs_problems=())
    assert [cell.name for cell in settings.cells] == ["tabular, sgd", "tabular, adamw"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problems": ("char_gtp",)}, "problem must be one of .*, got 'char_gtp'; the nearest is 'char_gpt'"),
        ({"problems": ("tabular/agd",)}, "the optimizer of 'tabular/agd' must be one of sgd, .*; e.g. 'tabular/adam'"),
        ({"deepobs_problems": ("tabular",)}, "deepobs_problems must be among quadratic_deep, .*, got 'tabular'"),
        ({"problems": (), "deepobs_problems": ()}, "problems must be one or more names, got none"),
        ({"short_steps": 0}, "short_steps must be a whole number of at least 1, got 0"),
        ({"long_steps": 400}, "long_steps must be above short_steps, 400, got 400"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        Beyond(**{**TABULAR, **settings})
