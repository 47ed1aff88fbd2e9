import numpy as np
import pytest

from lrlib.runs.plan import plan_epochs
from lrlib.study.evidence import FIRST_SWEEP_SEED, Evidence
from lrlib.study.experiments import Design
from lrlib.suggest import Suggestion


def names_of(runs):
    return {epoch.name for run in runs for epoch in plan_epochs(run)}


def test_the_grid_has_four_rates_a_decade_over_four_decades_with_the_report_s_own_among_them():
    grid = Evidence(dataset="sample").grid
    assert len(grid) == 17
    assert np.diff(np.log10(grid)) == pytest.approx(0.25, abs=0.003)
    assert {1e-1, 1e-2, 1e-3} <= set(grid)


def test_constant_rates_that_the_report_trains_too_are_its_epochs():
    evidence, design = Evidence(dataset="sample"), Design(dataset="sample", seeds=5)
    shared = names_of(evidence.search()) & names_of(design.no_scheduling())
    assert len(shared) == 3 * 5 * 10 + 5  # torch's default rate, 1e-3, goes on for one epoch more


def test_range_tests_and_the_runs_that_judge_them_have_seeds_apart():
    evidence = Evidence(dataset="sample")
    sweeps = {run.seed for runs in evidence.sweeps().values() for run in runs}
    judges = {run.seed for run in evidence.search() + evidence.schedules() + evidence.candidates()}
    assert min(sweeps) == FIRST_SWEEP_SEED > max(judges)


def test_part_3_s_lenet_5_stays_at_about_2300_epochs_beside_those_of_the_report():
    evidence = Evidence(dataset="sample")
    suggestions = {
        name: Suggestion(lr, lr, lr * 1.5, None, True, "", name)
        for name, lr in zip("abcde", (0.011, 0.012, 0.013, 0.014, 0.015))
    }
    runs = evidence.search() + evidence.suggested(suggestions) + evidence.schedules() + evidence.candidates()
    runs += [run for of_label in evidence.sweeps().values() for run in of_label]
    beside = names_of(runs) - names_of(Design(dataset="sample", seeds=5).all_runs())
    assert len(beside) < 2370


def test_ours_suggests_a_peak_of_its_own_and_other_rules_their_one_rate():
    suggestion = Suggestion(0.1, 0.01, 0.3, None, True, "", "")
    assert Evidence.suggested_peak("suggest_lr", suggestion) == 0.3
    assert Evidence.suggested_peak("valley", suggestion) == 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evidence_seeds": 0}, "evidence_seeds must be a whole number of at least 1, got 0"),
        ({"evidence_seeds": 101}, "evidence_seeds must be at most 100"),
        ({"grid_from": 2.0}, "grid_from must be positive and less than grid_to, got 2.0 and 1.0"),
        ({"budgets": (10, 3)}, r"budgets must be one or more increasing epochs, got \[10, 3\]"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        Evidence(dataset="sample", **settings)
