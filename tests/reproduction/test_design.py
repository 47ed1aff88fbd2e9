"""The runs that a Design asks for, and the values that it refuses."""

import pytest
from made_up import make_design

from lrlib.reproduction.design import PUBLISHED_SEEDS, Design
from lrlib.runs.plan import plan_epochs
from lrlib.training.backends import compiled


def test_a_seed_takes_190_epochs_with_the_original_s_settings():
    design = Design(dataset="sample")
    names = {epoch.name for run in design.all_runs() for epoch in plan_epochs(run)}
    assert len(names) == 190


def test_momentum_and_weight_decay_are_those_of_sgd_and_a_notebook_s_other_names_are_left_alone():
    design = Design.of({"dataset": "sample", "momentum": 0.8, "weight_decay": 0.0, "seeds": 2, "results": object()})
    for run in design.all_runs():
        assert (run.momentum, run.weight_decay) == ((0.9, 0.0) if run.optimizer == "adam" else (0.8, 0.0))
    assert sorted({run.seed for run in design.all_runs()}) == [0, 1]
    design = Design(dataset="sample", optimizer="adamw", weight_decay=0.1)
    assert {(run.optimizer, run.momentum, run.weight_decay) for run in design.one_drop()} == {("adamw", 0.9, 0.1)}
    assert {run.weight_decay for run in Design(dataset="sample", optimizer="adamw").no_scheduling()} == {5e-4}
    assert [run.optimizer for run in design.range_test()] == ["sgd", "adam"]


@pytest.mark.parametrize(
    ("epochs", "milestones", "turning_points"), [(30, (15, 25), (5, 15, 25)), (20, (15,), (5, 15)), (2, (1,), (1,))]
)
def test_the_default_drops_fit_the_epochs(epochs, milestones, turning_points):
    design = Design(dataset="sample", epochs=epochs)
    assert (design.milestones, design.turning_points) == (milestones, turning_points)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "seeds must be a whole number of at least 1"),
        ({"seeds": 2000}, "it is their number, not a seed"),
        ({"learning_rates": [0.1, 0.1]}, "learning_rates must be one or more different values"),
        ({"fall_fraction": 1.0}, "fall_fraction must be between 0 and 1"),
        ({"turning_points": (5, 12)}, "past the last epoch"),
        ({"milestones": [12]}, "past the last epoch"),
        ({"learning_rates": ["0.1"]}, "must be a positive number"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, adamw, got 'lion'"),
        ({"schedules": ["x"]}, "x"),
    ],
)
def test_bad_values_are_one_sentence_before_training(settings, message):
    with pytest.raises(ValueError, match=message):
        design = Design(**{"dataset": "sample", "epochs": 10, **settings})
        design.all_runs() + design.further_schedules()


def test_further_schedules_are_given_as_calls_and_labelled_by_them():
    design = Design(dataset="sample", seeds=2, schedules=["OneCycle(0.2, pct_start=0.5)"])
    assert [run.label for run in design.further_schedules()] == ["OneCycle(0.2, pct_start=0.5)"] * 2
    assert len(Design(dataset="sample", seeds=2).all_runs()) == len(design.all_runs())


def test_a_section_names_the_settings_that_differ_from_the_published_ones():
    note = make_design(seeds=PUBLISHED_SEEDS).settings_note
    assert note == "" or "backend torch (published: compiled)" in note and not compiled.is_available()
    assert "dataset sample (published: mnist)" in Design(dataset="sample").settings_note
    note = Design(dataset="sample", seeds=1, epochs=20, weight_decay=1e-4).settings_note
    assert f"seeds 1 (published: {PUBLISHED_SEEDS})" in note and "weight_decay 0.0001 (published: 0.0005)" in note
    assert "turning_points" not in note
    note = Design(dataset="sample", epochs=5, turning_points=[2, 4], optimizer="adam").settings_note
    assert "turning_points [2, 4] (published: [5, 15, 25])" in note and "optimizer adam (published: sgd)" in note
    assert "milestones" not in note
