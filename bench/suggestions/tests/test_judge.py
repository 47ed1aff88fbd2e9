"""Regret against curves with known answers."""

import numpy as np
import pandas as pd
import pytest

from bench.suggestions import judge

LRS = [10 ** (k / 3) for k in range(-12, 1)]


def parabola(lr, center=-2.0):
    """1 at the best learning rate, and one more for each decade from it, squared."""
    return 1 + (np.log10(lr) - center) ** 2


def trainings(steps=(25, 50, 100, 200, 300, 400), seeds=(0, 1), start=3.0):
    rows = [("cell", "constant", lr, seed, 0, np.nan, start) for lr in LRS for seed in seeds]
    for schedule, of in (("constant", steps), ("one cycle", steps[-1:])):
        rows += [
            ("cell", schedule, lr, seed, step, parabola(lr) + 10 / step, np.nan if lr > 0.9 else parabola(lr))
            for lr in LRS
            for seed in seeds
            for step in of
        ]
    return pd.DataFrame(rows, columns=["cell", "schedule", "lr", "seed", "steps", "train_loss", "test_loss"])


@pytest.fixture
def curve():
    return judge.make_curves(trainings())["cell", "constant", 400]


def test_the_best_learning_rate_has_no_regret_and_no_training_has_all(curve):
    assert curve.best_lr == pytest.approx(0.01) and curve.best == pytest.approx(1)
    assert curve.regret(curve.loss(0.01)) == pytest.approx(0)
    assert curve.regret(curve.loss(np.nan)) == 100
    assert curve.regret(curve.loss(1.0)) == 100  # diverged: it counts as no training


def test_between_two_learning_rates_the_loss_is_interpolated(curve):
    between = float(np.sqrt(LRS[6] * LRS[7]))
    expected = (parabola(LRS[6]) + parabola(LRS[7])) / 2
    assert curve.loss(between) == pytest.approx(expected)
    assert curve.regret(expected) == pytest.approx(100 * (expected - 1) / 2)


def test_successive_halving_finds_the_lowest_train_loss_within_the_steps_of_three_sweeps():
    lr, steps = judge.halve(trainings(), "cell", 0)
    assert lr == pytest.approx(0.01)
    assert steps == 13 * 25 + 6 * 25 + 3 * 50 + 2 * 100 <= judge.SEARCH_STEPS


def test_halving_does_not_choose_what_diverged():
    table = trainings()
    table.loc[table["lr"] < 0.05, "train_loss"] = np.nan
    assert judge.halve(table, "cell", 0)[0] > 0.05


def test_three_learning_rates_are_tried_at_the_nearest_of_the_grid():
    assert judge.try_three(trainings(), "cell", 0, (1e-4, 1e-3, 1e-2)) == pytest.approx(0.01)


def test_choices_are_judged_for_every_purpose_or_for_their_own():
    curves = judge.make_curves(trainings())
    choices = pd.DataFrame(
        {
            "cell": "cell",
            "seed": [100, 100],
            "rule": ["tool", "ours"],
            "schedule": [np.nan, "one cycle"],
            "total_steps": [np.nan, 400],
            "lr": [0.1, 0.01],
        }
    )
    judged = judge.judge(choices, curves).set_index(["rule", "schedule"])
    assert list(judged.index) == [("tool", "constant"), ("tool", "one cycle"), ("ours", "one cycle")]
    assert judged.loc[("tool", "constant"), "regret"] == pytest.approx(50)
    assert judged.loc[("tool", "constant"), "ratio"] == pytest.approx(2)
    assert judged.loc[("ours", "one cycle"), "regret"] == pytest.approx(0)


def test_a_training_of_its_own_counts_for_its_length_alone_and_may_beat_the_grid():
    curves = judge.make_curves(trainings(steps=(400, 1600)))
    choices = pd.DataFrame({"cell": ["cell"], "seed": 0, "rule": "free", "total_steps": 400, "loss": 0.8})
    judged = judge.judge(choices, curves)
    assert judged["purpose"].tolist() == [judge.STEADY]
    assert judged["regret"].item() == pytest.approx(-10)


def test_the_default_is_that_of_the_optimizer_s_family():
    chosen = judge.choose_without_sweep(trainings(), {"cell": "adam"}).query("seed == 0").set_index("rule")["lr"]
    assert chosen["default"] == 1e-3
    assert chosen["successive halving, x 1/2"] == pytest.approx(chosen["successive halving"] / 2)
    sgd = judge.choose_without_sweep(trainings(), {"cell": "sgd"}).set_index("rule")["lr"]
    assert set(sgd["default"]) == {0.1}


def test_a_summary_is_over_cells_and_names_the_worst():
    judged = pd.DataFrame(
        {
            "cell": ["a", "a", "b"],
            "rule": "r",
            "purpose": "p",
            "regret": [0.0, 2.0, 9.0],
            "ratio": [1.0, 1.0, 4.0],
            "diverged": [False, False, True],
        }
    )
    [row] = judge.summarize(judged).to_dict("records")
    assert (row["mean"], row["worst"], row["worst_cell"], row["n"]) == (5.0, 9.0, "b", 2)
    assert row["ratio"] == pytest.approx(2) and row["diverged"] == pytest.approx(100 / 3)
    assert (row["low"], row["high"]) == (1.0, 9.0)


def test_a_paired_comparison_counts_the_cells_that_both_have():
    rows = [("a", "one", 1.0), ("a", "two", 3.0), ("b", "one", 2.0), ("b", "two", 4.0), ("c", "one", 50.0)]
    judged = pd.DataFrame(rows, columns=["cell", "rule", "regret"]).assign(purpose="p")
    found = judge.compare(judged, "one", "two", "p")
    assert (found.mean, found.low, found.high, found.n) == (-2.0, -2.0, -2.0, 2)


def test_the_bootstrap_covers_the_mean_of_normal_cells_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [judge.estimate(rng.normal(size=22), n_draws=500) for _ in range(200)]
    inside = [each.low <= 0 <= each.high for each in found]
    assert 0.88 < np.mean(inside) < 0.99


def test_a_rule_is_compared_with_every_other_one_and_its_wins_are_counted():
    rows = [("a", "one", 1.0), ("a", "two", 3.0), ("b", "one", 9.0), ("b", "two", 4.0), ("b", "three", 8.0)]
    judged = pd.DataFrame(rows, columns=["cell", "rule", "regret"]).assign(purpose="p")
    found = judge.compare_with_all(judged, "one").set_index("baseline")
    assert found.loc["two", ["mean", "better", "n"]].tolist() == [1.5, 1, 2]
    assert found.loc["three", ["mean", "better", "n"]].tolist() == [1.0, 0, 1]


def make_judged(regrets):
    """Suggestions of high confidence: rule -> regret, on 20 cells and for both purposes of 400 steps."""
    rows = [
        (f"cell {i}", 100, rule, purpose, regret, "high")
        for i in range(20)
        for purpose in (judge.STEADY, judge.CYCLE)
        for rule, regret in regrets.items()
    ]
    return pd.DataFrame(rows, columns=["cell", "seed", "rule", "purpose", "regret", "confidence"])


def test_a_cell_is_below_5_percent_if_every_suggestion_of_its_range_tests_is():
    judged = make_judged({judge.REFINED: 1.0})
    worse = judged[judged["cell"] == "cell 0"].assign(seed=101).assign(regret=[1.0, 7.0])
    [row] = judge.calibrate(pd.concat([judged, worse])).to_dict("records")
    assert (row["tests"], row["tests_below"], row["cells"], row["cells_below"]) == (21, 20, 20, 19)
    assert (row["low"], row["high"]) == pytest.approx((75.1, 99.9), abs=0.1)
    assert row["worst"] == 7


def test_targets_are_met_by_regrets_below_them_and_missed_by_those_above():
    judged = make_judged({judge.REFINED: 0.5, judge.OURS: 6.0, judge.HALF: 0.2, judge.HALVING: 2.0})
    met = judge.check_targets(judged).set_index(["choice", "target", "purpose"])["met"].unstack("purpose")
    assert met[judge.LONG].dropna().tolist() == ["not tested"]
    met = met.drop(columns=judge.LONG).dropna()
    assert (met[judge.STEADY] == met[judge.CYCLE]).all()
    assert sorted(target for (_, target), yes in met[judge.STEADY].items() if yes == "no") == [
        "high confidence: 95 % lose less than 5 %",
        "mean of reliable suggestions at most 1.5 %",
        "not worse than successive halving, x 1/2",
    ]


def test_at_1600_steps_refine_may_lose_0_3_points_more_than_the_sweeps():
    regrets = {judge.REFINED: 1.2, judge.OURS: 1.0, judge.HALF: 1.0}
    longer = make_judged(regrets).query("purpose == @judge.STEADY").assign(purpose=judge.LONG)
    for more, met in ((0.0, "yes"), (0.2, "no")):
        extra = longer.assign(regret=longer["regret"] + more * (longer["rule"] == judge.REFINED))
        assert judge.check_targets(pd.concat([make_judged(regrets), extra]))["met"].iloc[-1] == met


def test_a_half_is_one_of_two():
    with pytest.raises(ValueError, match="held-out or development, got 'both'"):
        judge.load_half("both")
