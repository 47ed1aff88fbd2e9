from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from trainings import build, sweep

from lrlib import suggest
from lrlib.finder.result import RangeTestResult


def test_schedulers_of_torch_take_the_keyword_arguments():
    model, optimizer, loader = build(batch_size=128, momentum=0.9)
    result = sweep(model, optimizer, loader, num_iter=300, start_lr=1e-5, end_lr=1e3)
    found = result.suggest()
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, **result.one_cycle(total_steps=100))
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < 100:
            scheduler.step()
    assert max(rates) == pytest.approx(found.upper) and rates[0] == pytest.approx(found.upper / 20)
    _, optimizer, _ = build(momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, **result.cyclic(step_size_up=5))
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert (rates[0], rates[5], rates[10]) == pytest.approx((found.lower, found.upper, found.lower))
    assert optimizer.param_groups[0]["momentum"] < 0.9  # cycled, as torch does where there is a momentum


def test_a_momentum_that_the_optimizer_does_not_use_is_not_cycled():
    model, optimizer, loader = build()
    result = sweep(model, optimizer, loader, num_iter=200, start_lr=1e-5, end_lr=1e3)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, **result.one_cycle(total_steps=10))
    assert optimizer.param_groups[0]["momentum"] == 0
    rprop = torch.optim.Rprop(model.parameters(), lr=0.01)
    result = replace(result, settings=sweep(model, rprop, loader, num_iter=10).settings)
    assert result.cyclic(step_size_up=3)["cycle_momentum"] is False


def test_an_unreliable_suggestion_warns_when_a_schedule_is_made_of_it():
    model, optimizer, loader = build()
    result = sweep(model, optimizer, loader, start_lr=1e-9, end_lr=1e-8, repeats=3)
    assert not result.suggest().reliable
    with pytest.warns(UserWarning, match="the suggested lr is not reliable: "):
        result.one_cycle(total_steps=10)


@pytest.fixture(scope="module")
def result():
    model, optimizer, loader = build(momentum=0.9)
    return sweep(model, optimizer, loader, num_iter=150, start_lr=1e-5, repeats=3, val_loader=loader)


def test_a_training_that_cannot_be_is_refused_and_other_rules_know_no_length(result):
    for total_steps in (0, -3, 149):
        with pytest.raises(ValueError, match=f"at least the sweep's own 150 steps, got {total_steps}; it counts"):
            result.suggest(total_steps=total_steps)
    with pytest.raises(ValueError, match="total_steps must be given with suggest_lr alone, got 500 with valley"):
        result.suggest(suggest.valley, total_steps=500)


def test_a_longer_training_gets_a_lower_constant_rate_and_the_same_peak(result):
    plain, as_long, longer = result.suggest(), result.suggest(total_steps=150), result.suggest(total_steps=15_000)
    assert as_long == plain
    assert longer.lr == pytest.approx(plain.lr * 100**-0.32) and longer.upper == plain.upper
    assert longer.lower <= longer.lr and longer.reliable == plain.reliable
    assert [s.lr for s in result.suggest_each(total_steps=15_000)] == pytest.approx(
        [s.lr * 100**-0.32 for s in result.suggest_each()]
    )
    assert result.suggest(total_steps=10**12).lr >= 1e-5  # where the sweep began


def test_the_result_is_frozen(result):
    with pytest.raises(FrozenInstanceError):
        result.sweeps = ()
    with pytest.raises(ValueError, match="read-only"):
        result.sweeps[0].loss[0] = 1


def test_the_dataframe_has_a_row_a_step(result):
    frame = result.to_dataframe()
    assert list(frame.columns) == ["sweep", "seed", "step", "lr", "loss", "smoothed", "val"]
    assert len(frame) == sum(len(swept.loss) for swept in result.sweeps)
    second = frame[frame["sweep"] == 1]
    assert np.array_equal(second.lr, result.sweeps[1].lr) and np.array_equal(second.loss, result.sweeps[1].loss)
    assert np.array_equal(second.val.dropna(), result.sweeps[1].val)
    assert set(result.versions) >= {"torch", "numpy", "python"}


def test_the_median_curve_is_the_median_of_the_smoothed_sweeps(result):
    curve = result.median_curve()
    smoothed = [suggest.smooth(*swept.curve())[3] for swept in result.sweeps]
    assert curve.median_loss[3] == np.median(smoothed)
    assert (curve.least[3], curve.greatest[3]) == (min(smoothed), max(smoothed))


def test_text_and_html_say_lr_spread_and_why_each_sweep_stopped(result):
    text, page = repr(result), result._repr_html_()
    found = result.suggest()
    for words in (f"suggested lr = {found.lr:.3g}", f"spread {found.spread_decades:.2f} decades", "reliable"):
        assert words in text and words in page
    assert all(swept.stop_reason in text for swept in result.sweeps)
    assert '<img alt="' in page and "data:image/png;base64," in page


def test_plot_draws_on_the_given_axes_and_marks_what_it_is_given(result):
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    marks = [result.suggest(), result.suggest(suggest.steepest)]
    assert result.plot(ax, marks=marks) is ax
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "validation loss"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"suggest_lr: lr = {marks[0].lr:.2g}" in labels and f"steepest: lr = {marks[1].lr:.2g}" in labels
    verticals = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert marks[0].lr in verticals and marks[1].lr in verticals


def test_a_result_whose_every_loss_is_nan_is_still_shown(result):
    dead = replace(result.sweeps[0], lr=[1e-3], loss=[np.nan], val_step=[], val=[], val_metric=None)
    made = RangeTestResult((dead,), replace(result.settings, val_metric=None), {}, 0.0)
    assert not made.suggest().reliable
    assert "no loss is finite" in made._repr_html_()
