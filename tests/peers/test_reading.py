"""lrlib.read on what needs no tool: arrays, tables, files; test_histories.py has the tools."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

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
    rows = [f"{a!r},{b!r}" for a, b in zip(lr.tolist(), loss.tolist(), strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


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
        assert (result.settings.step_mode, result.settings.num_iter) == ("exp", 150), kind


def test_a_file_with_semicolons_comments_empty_losses_and_other_columns_reads(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("# made by hand\nepoch;loss;lr\n0;2.5;0.001\n\n1;;0.01\n2;1.5;0.1\n")
    [sweep] = lrlib.read(path).sweeps
    assert sweep.lr.tolist() == [0.001, 0.01, 0.1]
    assert sweep.loss[0] == 2.5 and np.isnan(sweep.loss[1]) and sweep.loss[2] == 1.5


def test_a_mean_is_undone_where_the_reader_says_that_it_is_one():
    lr, loss = curve()
    kept = [loss[0]]
    for value in loss[1:]:
        kept.append(0.1 * value + 0.9 * kept[-1])
    result = lrlib.read(lr, kept, smooth_f=0.1)
    assert np.allclose(result.sweeps[0].loss, loss, rtol=0, atol=1e-12)
    assert "smooth_f = 0.1" in result.sweeps[0].stop_reason
    mean, kept = 0.0, []
    for step, value in enumerate(loss, 2):
        mean = 0.98 * mean + 0.02 * value
        kept.append(mean / (1 - 0.98**step))
    assert np.allclose(lrlib.read(lr, kept, first_step=2).sweeps[0].loss, loss, rtol=0, atol=1e-11)
    assert np.allclose(lrlib.read(lr, kept, beta=0.98, first_step=2).sweeps[0].loss, loss, rtol=0, atol=1e-11)


def test_what_was_read_is_saved_loaded_drawn_and_listed(tmp_path):
    result = lrlib.read(*curve())
    for name in ("a.json", "a.csv"):
        result.save(tmp_path / name)
        assert RangeTestResult.load(tmp_path / name) == result
        assert lrlib.read(tmp_path / name) == result
    assert result.plot().get_xlabel() == "learning rate"
    assert len(result.to_dataframe()) == 150
    assert "sweep 0: 150 steps, read from two arrays" in repr(result)
    assert result.one_cycle(total_steps=100)["max_lr"] == result.suggest().upper


def test_a_history_ends_at_its_first_of_the_last_losses_that_are_not_finite():
    lr, loss = curve()
    loss[140:] = np.nan
    [sweep] = lrlib.read(lr, loss).sweeps
    assert len(sweep.lr) == 141 and np.isnan(sweep.loss[-1])
    [sweep] = lrlib.read(lr, np.full(150, np.inf)).sweeps
    assert len(sweep.lr) == 1


def test_a_sweep_over_even_steps_is_linear():
    assert lrlib.read(np.linspace(1e-4, 1, 50), np.ones(50)).settings.step_mode == "linear"


def test_several_results_are_the_sweeps_of_one():
    parts = [lrlib.read(*curve(seed)) for seed in range(3)]
    result = together(parts)
    assert len(result.sweeps) == 3
    each = [suggest.suggest_lr(*curve(seed)) for seed in range(3)]
    assert result.suggest() == suggest.combine(each, max_spread_decades=0.5)
    with pytest.raises(ValueError, match="at least one range test"):
        together([])


def test_a_result_is_its_own_reading():
    result = lrlib.read(*curve())
    assert lrlib.read(result) is result
    with pytest.raises(ValueError, match="holds raw losses"):
        lrlib.read(result, smooth_f=0.05)


@pytest.mark.parametrize(
    ("error", "sentence", "history", "more"),
    [
        (TypeError, "must be a finder of torch-lr-finder.*got a int", 3, {}),
        (TypeError, "must be a finder of torch-lr-finder.*got a list", ["a.csv", "b.csv"], {}),
        (ValueError, r"shape \(n,\), got \(3,\) and \(2,\)", [1, 2, 3], {"loss": [1, 2]}),
        (ValueError, "at least two steps, got 1", [1], {"loss": [1]}),
        (ValueError, "positive and increasing", [1, 1, 2], {"loss": [1, 2, 3]}),
        (ValueError, "positive and increasing", [0, 1, 2], {"loss": [1, 2, 3]}),
        (ValueError, "the table must have one column loss, got lr, losses", {"lr": [1, 2], "losses": [1, 2]}, {}),
        (ValueError, "of different means, got 0.05 and 0.98", [1, 2], {"loss": [1, 2], "smooth_f": 0.05, "beta": 0.98}),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(error, sentence, history, more):
    with pytest.raises(error, match=sentence):
        lrlib.read(history, **more)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "one column lr, got none"),
        ("rate,loss\n1,2\n", "one column lr, got rate, loss"),
        ("lr,loss,loss\n1,2,3\n", "one column loss, got lr, loss, loss"),
        ("lr,loss\n1,2\n2,abc\n", "must hold numbers, got 'abc' as the loss of row 2"),
        ("lr,loss\n1,2\n,3\n", "must hold numbers, got '' as the lr of row 2"),
        ("lr,loss\n", "at least two steps, got 0"),
    ],
)
def test_a_file_that_is_not_a_history_is_refused_with_its_name(tmp_path, text, sentence):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        lrlib.read(tmp_path / "a.csv")
    assert "a.csv" in str(caught.value)


def test_reading_loads_no_tool_and_nothing_of_the_report():
    heavy = "pandas matplotlib distributed lightning fastai ignite monai transformers accelerate torch_lr_finder"
    code = (
        "import lrlib, sys; lrlib.read([1e-3, 1e-2, 1e-1], [3, 2, 1]).suggest(); "
        f"print(*[name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
