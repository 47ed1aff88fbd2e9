import itertools
import math

import numpy as np
import pandas as pd
import pytest

from lrlib.study import answers, regret
from lrlib.study.evidence import DEFAULT_LR, TORCH_DEFAULT, Evidence
from lrlib.suggest import Suggestion

BEST, SUGGESTED, PEAK = 0.1, 0.05, 0.2


@pytest.fixture
def evidence(monkeypatch):
    monkeypatch.setattr(Evidence, "tuning_free", {})
    return Evidence(
        dataset="sample", evidence_seeds=2, grid_per_decade=1, budgets=(1, 2), cycle_budget=1, sweep_epochs=(1,)
    )


@pytest.fixture
def suggestions():
    return {"suggest_lr": Suggestion(SUGGESTED, 0.01, PEAK, None, True, "made up", "suggest_lr")}


def loss_of(lr, epoch, seed):
    """A bowl over log10 lr with its bottom at BEST, lower with every epoch; the largest rate diverges."""
    return math.nan if lr >= 1 else 10 ** (abs(math.log10(lr / BEST)) - epoch + 0.01 * seed)


@pytest.fixture
def epochs(evidence):
    labels = {evidence.constant_label(lr): lr for lr in (*evidence.grid, SUGGESTED)}
    labels |= {evidence.cycle_label(lr): lr for lr in (*evidence.grid, PEAK)} | {TORCH_DEFAULT: DEFAULT_LR}
    rows = [
        (label, seed, epoch, lr, loss_of(lr, epoch, seed))
        for (label, lr), seed, epoch in itertools.product(labels.items(), range(2), range(1, 4))
    ]
    return pd.DataFrame(rows, columns=["run", "seed", "epoch", "lr", "test_loss"])


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_the_expected_least_is_the_mean_over_all_draws(draws):
    values = [3.0, -1.0, 2.0, 2.0]
    expected = np.mean([min(drawn) for drawn in itertools.product(values, repeat=draws)])
    assert regret.expect_least(values, draws) == pytest.approx(expected)


def test_regret_is_the_difference_from_the_best_of_the_grid(epochs, evidence, suggestions):
    table = regret.tabulate_regret(epochs, evidence, suggestions).set_index(["choice", "training", "budget"])
    assert table.loc[("suggest_lr", "constant", 1), "regret"] == pytest.approx(math.log10(2))
    assert table.loc[("suggest_lr", "one cycle", 1), "regret"] == pytest.approx(math.log10(2))
    assert table.loc[("suggest_lr", "one cycle", 1), "lr"] == PEAK


def test_without_a_sweep_one_trains_for_its_epochs_besides(epochs, evidence, suggestions):
    table = regret.tabulate_regret(epochs, evidence, suggestions).set_index(["choice", "training", "budget"])
    found = table.loc[(TORCH_DEFAULT, "constant", 2)]
    assert found["spent"] == 3
    assert found["regret"] == pytest.approx(math.log10(BEST / DEFAULT_LR) - 1)


def test_a_run_that_diverged_counts_with_the_loss_of_guessing(epochs, evidence):
    grid = regret.tabulate_grid(epochs, evidence)
    assert set(grid[grid["lr"] == 1.0]["log_loss"]) == {math.log10(math.log(10))}
    assert regret.find_best(grid, "constant", 1)[0] == BEST


def test_random_search_matches_a_choice_after_as_many_draws_as_its_expectation_says(epochs, evidence):
    grid = regret.tabulate_grid(epochs, evidence)
    best = regret.find_best(grid, "constant", 1)[1]
    draws = regret.count_draws_to_match(grid, "constant", 1, best + 0.3)
    of_seed = [regret._pivot(grid, "constant", 1).to_numpy()[:, seed] for seed in range(2)]
    expected = [np.mean([regret.expect_least(values, n) for values in of_seed]) for n in (draws - 1, draws)]
    assert expected[1] <= best.mean() + 0.3 < expected[0]
    assert regret.count_draws_to_match(grid, "constant", 1, best - 1) is None


def test_where_another_rule_is_better_it_is_named(epochs, evidence, suggestions):
    suggestions["lucky"] = Suggestion(BEST, 0.01, PEAK, None, True, "made up", "lucky")
    grid, table = regret.tabulate_grid(epochs, evidence), regret.tabulate_regret(epochs, evidence, suggestions)
    judged = regret.judge_rule("suggest_lr", grid, table, suggestions)
    assert list(judged["least"]) == ["lucky"] * 3
    assert judged["least_regret"].to_numpy() == pytest.approx(0)
    words = answers.describe_judgement("suggest_lr", judged)
    assert words.startswith(
        "- After one epoch at a constant rate, `suggest_lr` ends with a test loss 2.0 times the best that a search finds"
    )
    assert "`lucky` does better, level with the best" in words
