import math

import pytest

from bench.suggestions import deepobs

CELLS = [(problem, optimizer) for problem in deepobs.PROBLEMS for optimizer in deepobs.OPTIMIZERS]


@pytest.mark.parametrize(("problem", "optimizer"), CELLS)
def test_every_cell_has_thirty_six_rates_whose_best_loses_nothing(problem, optimizer):
    cell = deepobs._cell(problem, optimizer)
    assert len(cell) == 36
    regrets = [deepobs.read_regret(problem, optimizer, lr, "loss_last") for lr in cell["lr"]]
    assert min(regrets) == pytest.approx(0)
    assert deepobs.expect_draw(problem, optimizer, "loss_last") == pytest.approx(sum(regrets) / 36)


def test_the_default_rate_loses_with_adam_what_the_table_says():
    # 1e-3 is a rate of the table: its loss over the least, 0.256443, of fmnist_2c2d with Adam.
    cell = deepobs._cell("fmnist_2c2d", "adam").set_index("lr")
    expected = math.log10(min(cell.loc[0.001, "loss_last"], 2.30091) / 0.256443)
    assert deepobs.read_regret("fmnist_2c2d", "adam", 1e-3, "loss_last") == pytest.approx(expected, abs=1e-5)


def test_between_two_rates_it_is_interpolated_and_beyond_the_table_nothing_was_trained():
    lrs = deepobs._cell("quadratic_deep", "sgd")["lr"].to_numpy()
    low, high = (deepobs.read_regret("quadratic_deep", "sgd", lr, "loss_best") for lr in lrs[3:5])
    middle = deepobs.read_regret("quadratic_deep", "sgd", math.sqrt(lrs[3] * lrs[4]), "loss_best")
    assert middle == pytest.approx((low + high) / 2, abs=1e-6)
    assert deepobs.read_regret("quadratic_deep", "sgd", 1e3, "loss_last") == pytest.approx(
        math.log10(353.447 / 87.2796), abs=1e-4
    )
    assert math.isnan(deepobs.read_regret("quadratic_deep", "sgd", 0.01, "accuracy_last"))


def test_a_cell_in_which_no_rate_trains_as_another_optimizer_does_is_known():
    assert [cell for cell in CELLS if not deepobs.trains(*cell)] == [("mnist_vae", "momentum")]


def test_their_trainings_have_so_many_updates():
    assert deepobs.count_steps("quadratic_deep", "sgd") == 700
    assert deepobs.count_steps("mnist_vae", "adam") == 50 * 937
