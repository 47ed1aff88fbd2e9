import numpy as np
import pandas as pd
import pytest

from lrlib.study.readings import (
    summarize_suggestions,
    summarize_turning_points,
    tabulate_suggestions,
    tabulate_turning_points,
)
from lrlib.suggest import TurningPoints, suggest_lr


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


def test_suggestions_are_each_rule_s_for_each_sweep_and_summed_up_over_seeds():
    lr = np.geomspace(1e-5, 10, 200)
    frames = []
    for seed, shift in ((100, 1.0), (101, 2.0)):
        loss = 2.3 - 2 / (1 + (0.01 * shift / lr) ** 2) + np.maximum(0, np.log10(lr / (0.3 * shift))) * 5
        frames.append(pd.DataFrame({"run": "sweep", "seed": seed, "lr": lr, "loss": loss}))
    found = tabulate_suggestions(pd.concat(frames))
    ours = found[found["rule"] == "suggest_lr"].set_index("seed")["lr"]
    assert ours[100] == suggest_lr(lr, frames[0]["loss"]).lr
    summary = summarize_suggestions(found).set_index("rule").loc["suggest_lr"]
    assert summary["spread_decades"] == pytest.approx(abs(np.log10(ours[101] / ours[100])))
    assert summary["lr"] == pytest.approx(np.sqrt(ours[100] * ours[101]))
    assert summary["n"] == 2
