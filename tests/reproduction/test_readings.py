"""Readings of made-up results, and the original's data against each other."""

import numpy as np
import pandas as pd
import pytest
from made_up import curve, falling

from lrlib.reproduction import author
from lrlib.reproduction.readings import compare_with_original, measure_roughness, select_last, tabulate_ends


def test_the_original_is_compared_where_both_have_an_epoch():
    ours = curve("a", 1.0, seeds=3, noise=0.1)  # 0.9, 1.1 and 0.95 at every epoch
    original = pd.DataFrame(
        {"epoch": [1, 2, 3, 99], "test_loss": [1.09, 1.2, 0.85, 1.0], "half_width": [0, 0, 0.06, 0]}
    )
    found = compare_with_original(ours, "a", original)
    assert (found.n, found.inside) == (3, 2)
    assert found.distance == pytest.approx(np.median([1.09 / 0.95 - 1, 1.2 / 0.95 - 1, 1 - 0.85 / 0.95]))


def test_ends_are_means_over_seeds_of_the_last_and_the_lowest_epoch():
    epochs = pd.concat([curve("up", lambda epoch: 0.1 * epoch, 0.98, seeds=2), curve("down", falling, seeds=2)])
    ends = tabulate_ends(epochs).set_index("run")
    assert ends.loc["up", "test loss"] == pytest.approx(np.log(10))  # 3.0, counted as no more than a guess
    assert ends.loc["up", "lowest test loss"] == pytest.approx(0.1)
    assert ends.loc["down", ["test loss", "test accuracy", "n"]].tolist() == pytest.approx([1 / 30, 99.0, 2])


def test_values_come_in_the_order_of_the_seeds_and_a_missing_run_is_named():
    epochs = curve("a", 1.0, seeds=3, noise=0.1).sample(frac=1, random_state=0)
    assert select_last(epochs, "a", "test_loss").tolist() == pytest.approx([0.9, 1.1, 0.95])
    with pytest.raises(ValueError, match="no run 'b', only a"):
        select_last(epochs, "b", "test_loss")


def test_roughness_counts_rises_alone():
    assert measure_roughness([[3.0, 1.0, 1.5, 1.2, 2.2], [5, 4, 3, 2, 1]]) == pytest.approx([0.5 + 1.0, 0])


def test_the_digitised_curve_of_multistep_agrees_with_the_printed_log_and_that_of_onecycle_does_not():
    both = author.load_figure("5(b)").merge(author.load_log(), on=["run", "epoch"])
    apart = (both["test_loss_x"] - both["test_loss_y"]).abs().groupby(both["run"]).max()
    assert apart["MultiStep"] < 6e-4
    assert apart["OneCycle"] > 0.01
    assert author.load_figure_2b()["lr"].tolist() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1])
