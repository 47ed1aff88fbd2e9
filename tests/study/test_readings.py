import pytest

from lrlib.study.readings import (
    summarize_turning_points,
    tabulate_turning_points,
)
from lrlib.suggest import TurningPoints


@pytest.mark.parametrize("n_seeds", [1, 5, 6, 30])
def test_turning_points_have_a_row_a_seed_up_to_five_seeds_and_are_summed_up_beyond(n_seeds):
    points = [TurningPoints(0.001 * (seed + 1), 0.1, 2.3, 0.1 - 0.001 * seed, True, "") for seed in range(n_seeds)]
    turning = tabulate_turning_points(points)
    summary = summarize_turning_points(turning)
    if n_seeds <= 5:
        assert summary is turning and list(summary["seed"]) == list(range(n_seeds))
        return
    assert list(summary.columns) == ["seeds", *turning.columns[1:]]
    assert list(summary["seeds"]) == ["median", "least", "largest"]
    assert list(summary["start of fall"]) == pytest.approx([0.0005 * (n_seeds + 1), 0.001, 0.001 * n_seeds])
    assert list(summary["lowest loss"]) == pytest.approx([0.1 - 0.0005 * (n_seeds - 1), 0.101 - 0.001 * n_seeds, 0.1])
