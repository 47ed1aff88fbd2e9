"""lrlib.read on what needs no tool: arrays, tables, files; test_histories.py has the tools."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_undoing import corrected_mean, epoch_mean, running_mean

import lrlib
from lrlib import suggest
from lrlib.finder.result import RangeTestResult
from lrlib.peers.reading import together


def curve(seed=0, n=150):
    """Level, falling, exploding, with noise: (lr, loss)."""
    lr = 10 ** np.linspace(-5, 1, n)
    loss = 2.3 - 1.8 / (1 + (2e-2 / lr) ** 1.5) + (lr / 2) ** 2 + np.random.default_rng(seed).normal(0, 0.03, n)
    return lr, loss


def write(path, lr, loss, header="lr,loss"):
    np.savetxt(path, np.stack([lr, loss], 1), "%.17g", ",", header=header, comments="", encoding="utf-8")
    return path


def write_scalars(folder, lr, loss):
    """The two files that TensorBoard's download button writes."""
    paths = [folder / "lr.csv", folder / "loss.csv"]
    for path, values in zip(paths, (lr, loss), strict=True):
        table = np.stack([np.full(len(values), 1.5), np.arange(len(values)), values], 1)
        np.savetxt(path, table, "%.17g", ",", header="Wall time,Step,Value", comments="")
    return paths


def test_every_kind_of_raw_history_reads_as_one_sweep_with_the_rules_own_suggestion(tmp_path):
    lr, loss = curve()
    table = pd.DataFrame({"step": range(len(lr)), " LR": lr, "Loss": loss})
    kinds = {
        "two arguments": lrlib.read(lr, loss),
        "a pair": lrlib.read((lr, loss)),
        "lists": lrlib.read(lr.tolist(), loss.tolist()),
        "tensors": lrlib.read(torch.tensor(lr), torch.tensor(loss, requires_grad=True)),
        "a list of tensors": lrlib.read(lr, [torch.tensor(value, dtype=torch.float64) for value in loss]),
        "a mapping": lrlib.read({"lr": lr, "loss": loss}),
        "a table": lrlib.read(table),
        "a path": lrlib.read(write(tmp_path / "a.csv", lr, loss)),
        "a name": lrlib.read(str(write(tmp_path / "b.csv", lr, loss, header="\ufeffLR , Loss"))),
    }
    for kind, result in kinds.items():
        [sweep] = result.sweeps
        assert np.array_equal(sweep.lr, lr) and np.array_equal(sweep.loss, loss), kind
        assert result.suggest() == suggest.suggest_lr(lr, loss), kind
        assert result.settings.num_iter == 150, kind


def test_a_mean_is_undone_as_given_or_as_the_losses_show_it(tmp_path):
    lr, loss = curve()
    result = lrlib.read(lr, running_mean(loss, 0.1), smooth_f=0.1)
    assert np.allclose(result.sweeps[0].loss, loss, rtol=0, atol=1e-12)
    for given in ({"first_step": 2}, {"beta": 0.98, "first_step": 2}):
        result = lrlib.read(lr, corrected_mean(loss, first_step=2), **given)
        assert np.allclose(result.sweeps[0].loss, loss, rtol=0, atol=1e-11)
    single = loss.astype(np.float32).astype(np.float64)
    kept = {"lr": lr, "loss": running_mean(single, 0.3)}  # a finder's history, without the finder
    assert np.allclose(lrlib.read(kept).sweeps[0].loss, single, rtol=0, atol=1e-12)
    assert "smooth_f=0.3" in lrlib.read(kept).sweeps[0].stop_reason
    path = write(tmp_path / "a.csv", lr, corrected_mean(single, first_step=2))
    assert np.allclose(lrlib.read(path).sweeps[0].loss, single, rtol=0, atol=1e-11)
    path = write(tmp_path / "b.csv", lr, epoch_mean(loss, 25))
    with pytest.raises(ValueError, match="restarts about every 25 steps"):
        lrlib.read(path)
    assert np.allclose(lrlib.read(path, epoch_steps=25).sweeps[0].loss, loss, atol=1e-3)


def test_what_was_read_is_a_result_that_is_saved_loaded_drawn_and_read_again(tmp_path):
    result = lrlib.read(*curve())
    result.save(tmp_path / "a.json")
    assert RangeTestResult.load(tmp_path / "a.json") == lrlib.read(tmp_path / "a.json") == result
    assert result.plot().get_xlabel() == "learning rate"
    assert "two arrays" in result.sweeps[0].stop_reason
    assert result.one_cycle(total_steps=100)["max_lr"] == result.suggest().upper
    assert lrlib.read(result) is result
    with pytest.raises(ValueError, match="smooth_f does not apply"):
        lrlib.read(result, smooth_f=0.05)


def test_repeated_learning_rates_are_one_step_with_the_mean_of_their_losses():
    lr, loss = curve()
    [sweep] = lrlib.read(np.repeat(lr, 3), np.repeat(loss, 3) + np.tile([-1, 0, 1], 150)).sweeps
    assert np.array_equal(sweep.lr, lr) and np.allclose(sweep.loss, loss)
    assert "300 repeated learning rates averaged" in sweep.stop_reason


def test_a_history_ends_at_its_first_of_the_last_losses_that_are_not_finite():
    lr, loss = curve()
    loss[140:] = np.nan
    [sweep] = lrlib.read(lr, loss).sweeps
    assert len(sweep.lr) == 141 and np.isnan(sweep.loss[-1])
    [sweep] = lrlib.read(lr, np.full(150, np.inf)).sweeps
    assert len(sweep.lr) == 1


def test_several_results_are_the_sweeps_of_one():
    result = together([lrlib.read(*curve(seed)) for seed in range(3)])
    each = [suggest.suggest_lr(*curve(seed)) for seed in range(3)]
    assert len(result.sweeps) == 3
    assert result.suggest() == suggest.combine(each, max_spread_decades=0.5)


@pytest.mark.parametrize(
    ("error", "sentence", "history", "more"),
    [
        (TypeError, "must be a finder.*got int", 3, {}),
        (TypeError, "must be a finder.*got list", ["a.csv", "b.csv", "c.csv"], {}),
        (ValueError, r"got shapes \(3,\), \(2,\)", [1, 2, 3], {"loss": [1, 2]}),
        (ValueError, "at least two steps, got 1", [1], {"loss": [1]}),
        (ValueError, "positive and increase", [1, 2, 1], {"loss": [1, 2, 3]}),
        (ValueError, "positive and increase", [0, 1, 2], {"loss": [1, 2, 3]}),
        (ValueError, "one column with the loss, got columns lr, losses", {"lr": [1, 2], "losses": [1, 2]}, {}),
        (ValueError, "one column 'rate', got lr, loss", {"lr": [1, 2], "loss": [1, 2]}, {"columns": ("rate", "loss")}),
        (ValueError, "got smooth_f and beta", [1, 2], {"loss": [1, 2], "smooth_f": 0.05, "beta": 0.98}),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(error, sentence, history, more):
    with pytest.raises(error, match=sentence):
        lrlib.read(history, **more)
