import math

import numpy as np
import pandas as pd
import pytest

from lrlib.runs.trainer import train
from lrlib.study import bars, beyond_answers, external
from lrlib.study import benchmark as benchmarks
from lrlib.study.benchmark import DEFAULT, HALVING, OURS, PLAIN, Benchmark, Curves
from lrlib.study.beyond import Beyond
from lrlib.study.figures import draw_profiles
from lrlib.study.horizon import DEEPOBS, list_cases

GRID = [1e-3, 1e-2, 1e-1, 1.0]


@pytest.fixture
def curves():
    """The loss is 2 without training and 1 at the best rate, 0.01; 1.0 diverges, and 0.1 with one of two seeds."""
    losses = np.array([[1.5, 1.5], [1.0, 1.0], [5.0, 1.2], [math.nan, math.inf]])
    return Curves(GRID, losses, np.array([2.0, 2.0]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, client):
    """A tiny benchmark on the cheapest problems."""
    settings = Beyond(
        problems=("tabular",), long_problems=("tabular",), deepobs_problems=("quadratic_deep",), beyond_seeds=2,
        short_steps=14, long_steps=28, deepobs_steps=28, rates_per_decade=1,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRLIB_STORE", str(tmp_path_factory.mktemp("store")))
        results = train(settings.runs(), client=client, progress=False)
        results = train(settings.runs() + settings.follow_suggestions(results), client=client, progress=False)
        tools = {"a tool": lambda lr, loss: 1e-2, "no tool": lambda lr, loss: None}
        return settings, Benchmark(results, settings, tools), external.judge_external(results, settings, tools)


def test_regret_is_in_percent_of_what_the_best_rate_gains(curves):
    assert curves.regret(curves.read(1e-2, 0), 0) == pytest.approx(0)
    assert curves.regret(curves.read(1e-3, 1), 1) == pytest.approx(50)
    assert curves.regret(math.nan, 0) == curves.regret(7.0, 0) == 100
    assert 0 < curves.regret(curves.read(3e-3, 0), 0) < 50


def test_far_from_the_grid_and_without_a_rate_nothing_was_trained(curves):
    for lr in (1e-6, 1e-5, 10.0, 1e3, math.nan):
        assert curves.regret(curves.read(lr, 0), 0) == pytest.approx(100)


def test_a_rate_diverges_where_training_at_the_nearest_of_the_grid_does_and_not_where_it_is_too_low(curves):
    assert curves.diverges(0.7, 1) and curves.diverges(0.09, 0) and curves.diverges(math.nan, 0)
    assert not curves.diverges(0.09, 1) and not curves.diverges(1e-7, 0)


def test_where_no_rate_gains_anything_there_is_nothing_to_lose():
    assert not Curves(GRID, np.full((4, 2), 3.0), np.array([2.0, 2.0])).train


def test_the_best_rate_at_an_end_of_the_grid_and_what_does_not_train_are_said(trained, monkeypatch):
    _, benchmark, _ = trained
    falling = Curves(GRID, np.linspace(1.5, 1.0, 4)[:, None].repeat(2, 1), np.array([2.0, 2.0]))
    monkeypatch.setattr(benchmark, "curves", lambda cell, budget: falling)
    assert benchmark.doubts() == (["tabular, adamw (constant, 14 steps)", "tabular, adamw (constant, 28 steps)",
                                   "tabular, adamw (one cycle, 14 steps)"], [])  # fmt: skip
    assert "may lie beyond it, on a" in beyond_answers.say_doubts(["a"], [])
    assert beyond_answers.say_doubts([], ["b"]) == "Left out, since no rate trains with every seed: b."


def test_halving_spends_the_steps_of_the_sweep_and_keeps_what_gets_better():
    # 4 rates for n steps, 2 of them for n more: 6 n = 60. The slow starter is behind at first, the early ones stall.
    steps = np.arange(1, 61)
    losses = {
        1e-3: 2 - 0.001 * steps,
        1e-2: np.maximum(0.5, 1.6 - 0.05 * steps),
        1e-1: np.maximum(1.2, 1.5 - 0.1 * steps),
        1.0: np.where(steps > 3, np.nan, 1.0),
    }
    assert benchmarks.choose_by_short_runs({lr: loss[:40] for lr, loss in losses.items()}, 20) == 1e-1
    assert benchmarks.halve(losses, 60) == 1e-2
    unseen = {lr: np.where(steps > 20, -9.0, loss) for lr, loss in losses.items()}
    assert benchmarks.halve(unseen, 60) == 1e-2


def test_every_choice_is_judged_on_every_cell_budget_and_seed(trained):
    settings, benchmark, judged = trained
    choices = benchmark.choices.set_index("choice")
    for choice in (OURS, PLAIN, HALVING, DEFAULT, "a tool", "no tool", "half of critical_lr", "random search, 2 draws"):
        assert len(choices.loc[choice]) == 3 * 2
    assert (
        choices.loc["no tool", "regret"].to_numpy() == pytest.approx(100) and choices.loc["no tool", "diverged"].all()
    )
    at_1e_2 = benchmark.curves(settings.cells[0], settings.budgets(settings.cells[0])[0])
    found = choices.loc["a tool", "regret"].iloc[0]
    assert found == pytest.approx(at_1e_2.regret(at_1e_2.losses[at_1e_2.grid == 1e-2][0, 0], 0))
    assert choices["regret"].max() <= 100 + 1e-9
    assert set(judged["optimizer"]) == {"sgd", "momentum", "adam"}


def test_the_table_to_cite_has_a_row_a_cell_budget_and_choice(trained):
    _, benchmark, _ = trained
    cells = benchmarks.tabulate_cells(benchmark.choices)
    assert not cells.duplicated(benchmarks.KEY).any()
    assert (cells["low"] <= cells["regret"] + 1e-9).all() and (cells["seeds"] == 2).all()
    summary = benchmarks.summarize(benchmark.choices)
    _, data = draw_profiles(cells, benchmarks.choose_profiles(summary))
    assert len(data) == len(cells)
    assert list(benchmarks.pivot_cells(cells, benchmarks.SHOWN).columns[:4]) == ["problem", "optimizer", "budget", "lr"]
    assert len(benchmarks.present_summary(summary, benchmarks.HEADLINE)) == len(benchmarks.HEADLINE)
    assert "gives away" in beyond_answers.write_beyond_lenet(summary, 1)
    assert beyond_answers.compare_rules(summary).count("\n") == 2


def test_the_base_of_a_cycle_is_judged_by_cycles_that_were_trained(trained):
    _, benchmark, _ = trained
    table = benchmark.compare_bases()
    assert table["seed"].tolist() == [0, 1] and (table[["lower", "default"]] <= 100 + 1e-9).all(axis=None)
    assert "of one cell" in beyond_answers.compare_bases(table)


def test_which_base_is_better_is_said_only_where_the_seeds_agree():
    table = pd.DataFrame({"problem": "p", "optimizer": "sgd", "seed": range(3), "lower": [1.0, 1.1, 0.9], "default": 2.0})
    assert "loses 1.0 %" in beyond_answers.compare_bases(table) and "begin there" in beyond_answers.compare_bases(table)
    swapped = table.rename(columns={"lower": "default", "default": "lower"})
    assert "keep PyTorch's" in beyond_answers.compare_bases(swapped)
    assert "either will do" in beyond_answers.compare_bases(table.assign(default=[0.0, 2.0, 1.0]))
    assert "points, and" in beyond_answers.compare_bases(table[:1])
    assert beyond_answers.compare_bases(table[:0]) == ""


def test_forms_of_a_rate_are_judged_by_the_same_trainings(trained):
    settings, benchmark, _ = trained
    cases = list_cases(benchmark)
    own = [case for case in cases if case.training != DEEPOBS]
    assert len(own) == 3 * 2 and len(cases) - len(own) == 3 * 2
    assert {case.longer for case in own} == {1.0, 2.0}
    ours = benchmark.choices[(benchmark.choices["choice"] == "suggest_lr")]
    assert sorted(case.regret(case.lr) for case in own) == pytest.approx(sorted(ours["regret"]))
    assert {case.longer for case in cases if case.training == DEEPOBS} == {25.0}


def test_one_seed_gives_no_interval():
    [one] = benchmarks.present_summary(benchmarks.summarize(make_choices().query("seed == 0")), [OURS])["constant, 400"]
    [three] = benchmarks.present_summary(benchmarks.summarize(make_choices()), [OURS])["constant, 400"]
    assert (one, three) == ("0.5", "0.5 [0.5, 0.5]")


def make_choices(**changed):
    rows = [
        ("p", "sgd", "constant", 400, choice, seed, 0.1, regret, False, reliable)
        for choice, regret, reliable in (
            (OURS, 0.5, True),
            (PLAIN, 0.6, True),
            (HALVING, 0.8, None),
            (DEFAULT, 30.0, None),
        )
        for seed in range(3)
    ]
    columns = [*benchmarks.KEY, "seed", "lr", "regret", "diverged", "reliable"]
    return pd.DataFrame(rows, columns=columns).assign(**changed)


def test_bars_are_reached_or_not_by_what_was_found():
    table = bars.tabulate_bars(make_choices(), pd.DataFrame()).set_index("bar")["reached"]
    assert list(table) == ["yes"] * 4
    worse = make_choices()
    worse.loc[worse["choice"] == OURS, ["regret", "diverged"]] = [7.0, True]
    assert list(bars.tabulate_bars(worse, pd.DataFrame())["reached"]) == ["no"] * 4
    assert bars.tabulate_bars(pd.DataFrame(), pd.DataFrame()).empty


def test_what_is_called_unreliable_is_right_where_it_loses_much():
    choices = make_choices()
    ours = choices["choice"] == OURS
    choices.loc[ours, "reliable"] = [True, False, False]
    choices.loc[ours, "regret"] = [0.5, 50.0, 0.5]
    table = benchmarks.count_reliable(choices)
    assert table.set_index("said").loc["not reliable", ["suggestions", "loses_much"]].tolist() == [2, 1]
    assert "Of two called not reliable one lost more than 10 %: rightly" in beyond_answers.say_reliability(table)
    assert "two called not reliable none lost more" in beyond_answers.say_reliability(table.assign(loses_much=0))
    none = beyond_answers.say_reliability(table.assign(suggestions=[0, 2]))
    assert none.startswith("None was called reliable. Of two")
