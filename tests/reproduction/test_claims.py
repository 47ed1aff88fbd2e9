"""Each claim against made-up curves whose verdict is known."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up import FakeResults, constants, curve, drops, falling, make_design, schedules, sweep

from lrlib.reproduction import claims
from lrlib.reproduction.claims import INCONCLUSIVE, NOT_REPRODUCED, ONE_SEED, REPRODUCED
from lrlib.reproduction.readings import count_diverged


def judge_alone(id, table=None, steps=None, **settings):
    design = make_design(**settings)
    return claims.judge_claim(id, claims.Tables(FakeResults(table, steps), design.fall_fraction), design)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (sweep(start=-3.3, lowest=-1.0), [REPRODUCED, REPRODUCED, REPRODUCED]),
        (sweep(start=-4.8, lowest=-2.5), [REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED]),
        (sweep(start=-3.3, lowest=-1.0, explodes=False), [NOT_REPRODUCED, None, REPRODUCED]),
        (sweep(falls=False), [NOT_REPRODUCED, None, None]),
        (
            pd.concat([sweep(start=-3.3, seeds=range(4)), sweep(start=-4.8, lowest=-2.5, seeds=range(4, 8))]),
            [REPRODUCED, INCONCLUSIVE, INCONCLUSIVE],
        ),
        (sweep(start=-3.3, seeds=[0]), [ONE_SEED] * 3),
    ],
)
def test_range_test(steps, expected):
    found = claims.judge(FakeResults(steps=steps), make_design(), "1")
    assert [each.id for each in found] == ["C1", "C2", "C3"]
    for each, word in zip(found, expected, strict=True):
        assert word in (None, each.verdict), each


def zigzag(height):
    return lambda epoch: 1 / epoch + 0.5 + height * (epoch % 2)


def rising(rise):
    return lambda epoch: 0.03 + rise * np.clip(epoch - 16, 0, None) / 14


@pytest.mark.parametrize(
    ("id", "expected", "epochs"),
    [
        ("C4", REPRODUCED, constants((falling, falling, falling))),
        ("C4", NOT_REPRODUCED, constants((falling, falling, 2.3))),
        ("C4", ONE_SEED, constants((falling, falling, falling), seeds=1)),
        ("C5", REPRODUCED, constants((0.1, 0.2, 0.4))),
        ("C5", NOT_REPRODUCED, constants((0.4, 0.2, 0.1))),
        ("C5", NOT_REPRODUCED, constants((0.1, 0.101, 0.102))),
        ("C6", REPRODUCED, constants(accuracies=(0.990, 0.9905, 0.97))),
        ("C6", NOT_REPRODUCED, constants(accuracies=(0.990, 0.9880, 0.97))),
        ("C6", ONE_SEED, constants(accuracies=(0.990, 0.9905, 0.97), seeds=1)),
        ("C7", REPRODUCED, drops((0.030, 0.029, 0.031), noise=0.01)),
        ("C7", REPRODUCED, drops((0.029, 0.0295, 0.031))),
        ("C7", NOT_REPRODUCED, drops((0.020, 0.029, 0.031))),
        ("C8", REPRODUCED, drops((0.03, rising(0.001), 0.03))),
        ("C8", NOT_REPRODUCED, drops((0.03, rising(0.05), 0.03))),
        ("C9", REPRODUCED, pd.concat([drops((0.03, 0.03, 0.03)), schedules(losses=(0.0301, 0.03))])),
        ("C9", NOT_REPRODUCED, pd.concat([drops((0.03, 0.03, 0.03)), schedules(losses=(0.02, 0.03))])),
        ("C11", REPRODUCED, schedules(losses=(zigzag(0.4), zigzag(0.05)), noise=0.01)),
        ("C11", NOT_REPRODUCED, schedules(losses=(zigzag(0.05), zigzag(0.4)), noise=0.01)),
        ("C11", INCONCLUSIVE, schedules(losses=(falling, zigzag(0.4)))),
        ("C12", REPRODUCED, pd.concat([constants(), schedules(0.992, 0.991)])),
        ("C12", NOT_REPRODUCED, pd.concat([constants(), schedules(0.992, 0.985)])),
        ("C12", NOT_REPRODUCED, pd.concat([constants(accuracies=(0.98, 0.98, 0.993)), schedules(0.992, 0.992)])),
        ("C13", REPRODUCED, schedules(0.9925, 0.9920)),
        ("C13", NOT_REPRODUCED, schedules(0.9900, 0.9920)),
        ("C13", INCONCLUSIVE, pd.concat([curve("MultiStep [15, 25]", noise=1), curve("OneCycle", noise=-1)])),
    ],
)
def test_verdicts(id, expected, epochs):
    assert judge_alone(id, epochs).verdict == expected


@pytest.mark.parametrize(
    ("id", "table", "settings"),
    [
        ("C4", constants(), {"learning_rates": (0.1, 0.03, 0.001)}),
        ("C6", constants(), {"epochs": 20}),
        ("C7", drops((0.03, 0.03, 0.03)), {"turning_points": (5,)}),
        ("C8", drops((0.03, 0.03, 0.03)), {"turning_points": (5,)}),
        ("C9", drops((0.03, 0.03, 0.03)), {"milestones": (15,)}),
    ],
)
def test_what_was_not_compared_is_inconclusive_and_says_why(id, table, settings):
    found = judge_alone(id, table, **settings)
    assert (found.verdict, found.estimates) == (INCONCLUSIVE, {})
    assert found.evidence


def test_claims_are_quoted_and_judged_with_the_original_s_settings_whatever_else_was_run():
    alone = constants((0.1, 0.2, 0.4))
    added = pd.concat([alone, curve("lr 0.03", 0.5, 0.5)])
    for id in ("C4", "C5", "C6"):
        found = judge_alone(id, added, learning_rates=(0.03, 0.1, 0.01, 0.001))
        assert found == judge_alone(id, alone) and "0.03" not in found.claim


def test_a_claim_without_a_measure_is_named(monkeypatch):
    monkeypatch.setitem(claims.RULES, "C14", claims.RULES["C13"])
    with pytest.raises(ValueError, match="C14 has no measure: add it to MEASURES"):
        judge_alone("C14")


def test_c10_is_a_note_without_a_verdict():
    steps = pd.DataFrame({"run": "OneCycle", "seed": 0, "step": range(3), "lr": [0.004, 0.1, 1e-3]})
    found = judge_alone("C10", steps=steps)
    assert found.verdict == claims.NOTE
    assert "0.001, at step 3 of 3" in found.evidence


def test_a_diverged_run_counts_as_a_uniform_guess():
    epochs = pd.DataFrame({"train_loss": [5.0, np.nan], "test_loss": [200.0, np.nan], "test_accuracy": [0.5, np.nan]})
    guess = {"train_loss": [5.0, math.log(10)], "test_loss": [math.log(10)] * 2, "test_accuracy": [0.5, 0.1]}
    assert count_diverged(epochs).to_dict("list") == guess


def test_an_inconclusive_claim_says_its_direction_size_and_number_of_seeds():
    found = judge_alone("C13", pd.concat([curve("MultiStep [15, 25]", 0.03, 0.992, noise=1), curve("OneCycle")]))
    assert found.verdict == INCONCLUSIVE
    assert "+0.20 points (95 % CI" in found.evidence and "n = 8" in found.evidence


def test_every_rule_stands_in_the_table_with_its_margin():
    rules = claims.tabulate_rules()
    assert rules["id"].tolist() == [f"C{i}" for i in range(1, 14)]
    assert not rules["statistic"].str.contains("[{}]").any()
    assert all(("margin" in rule) == (rule["rule"] != "note") for rule in claims.RULES.values())
