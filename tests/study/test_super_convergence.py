import numpy as np
import pandas as pd
import pytest

from lrlib.schedules import lr_per_step
from lrlib.study import answers
from lrlib.study.super_convergence import PROBLEM, TABLE, SuperConvergence, name_row, read_accuracies


@pytest.fixture
def short():
    return SuperConvergence(dataset="sample", convergence_seeds=2, cycle_epochs=(12,), inv_epochs=25)


def test_the_cycle_is_straight_as_smith_s_and_its_momentum_goes_against_it(short):
    cycle = short.policies()["1cycle 0.01-0.1", 12]
    lr, momentum = lr_per_step(cycle, epochs=12, steps_per_epoch=100, momentum=0.9)
    assert (lr[0], lr.max(), lr.argmax()) == (pytest.approx(0.01), pytest.approx(0.1), 499)
    assert np.diff(lr[:499], 2) == pytest.approx(0, abs=1e-12)
    assert lr[998] == pytest.approx(0.01)
    assert lr[-1] < 1e-6
    assert (momentum[0], momentum[499], momentum[-1]) == (pytest.approx(0.95), pytest.approx(0.8), pytest.approx(0.95))


def test_their_table_is_run_on_their_network_where_mnist_is(monkeypatch):
    monkeypatch.setattr("lrlib.study.super_convergence.choose_dataset", lambda name: "mnist")
    settings = SuperConvergence(cycle_epochs=(12, 25, 50, 85), inv_epochs=85)
    assert set(settings.policies()) == set(TABLE)
    assert not settings.left_out()
    assert {(run.problem, run.batch_size, run.weight_decay) for run in settings.runs()} == {(PROBLEM, 512, 5e-4)}


def test_what_was_left_out_is_said_with_what_it_takes(short):
    left = short.left_out()
    assert left[("inv", 85)] == (85 - 25) * 2
    assert left[("1cycle 0.01-0.1", 25)] == 25 * 2
    assert ("1cycle 0.01-0.1", 12) not in left
    assert f"{sum(left.values())} epochs of training in all" in answers.name_left_out(left)
    assert answers.name_left_out({}) == "Every row of their table was run."


def test_the_decaying_rate_is_also_read_at_the_length_of_a_cycle(short):
    rows = [
        (name_row(policy, length), seed, epoch, 0.9 + epoch / 1000 + seed / 100)
        for policy, length in short.policies()
        for seed in range(2)
        for epoch in range(1, length + 1)
    ]
    ours, table = read_accuracies(pd.DataFrame(rows, columns=["run", "seed", "epoch", "test_accuracy"]), short)
    assert ours["inv", 12] == pytest.approx([91.2, 92.2])
    assert ours["inv", 25] == pytest.approx([92.5, 93.5])
    assert table.set_index("row").loc["1cycle 0.01-0.1, 12 epochs", "theirs"] == 99.25
    assert table["ours"].isna().sum() == 4
    assert "points from theirs" in answers.compare_with_theirs(table)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cycle_epochs": ()}, r"cycle_epochs must be lengths of at least 2, got \[\]"),
        ({"inv_epochs": -1}, "inv_epochs must be a whole number of at least 1, got -1"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        SuperConvergence(dataset="sample", **settings)
