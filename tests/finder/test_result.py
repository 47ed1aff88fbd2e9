"""What is made of the sweeps: suggestions, schedules, text, pictures and files."""

import json
import os
import pickle
import stat
from dataclasses import FrozenInstanceError, replace

import matplotlib.figure
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from trainings import build, fingerprint, sweep

from lrlib import suggest
from lrlib.finder.result import RangeTestResult, Sweep
from lrlib.finder.settings import Settings


@pytest.fixture(scope="module")
def wide():
    """A result that is reliable, of SGD with momentum."""
    return sweep(*build(batch_size=128, momentum=0.9), num_iter=300, start_lr=1e-5, end_lr=1e3)


@pytest.fixture(scope="module")
def result():
    model, optimizer, loader = build(momentum=0.9)
    return sweep(model, optimizer, loader, num_iter=150, start_lr=1e-5, repeats=3, val_loader=loader)


@pytest.fixture(scope="module")
def doubtful():
    return sweep(*build(), start_lr=1e-9, end_lr=1e-8, repeats=3)


def run(kind, made, n_steps, optimizer=None):
    """(learning rates, momenta) of the first group in a training with one of torch's schedulers."""
    optimizer = optimizer or build(momentum=0.9)[1]
    scheduler, group = getattr(torch.optim.lr_scheduler, kind)(optimizer, **made), optimizer.param_groups[0]
    seen = []
    for step in range(n_steps):
        seen.append((group["lr"], group.get("momentum")))
        optimizer.step()
        if step + 1 < n_steps:
            scheduler.step()
    return zip(*seen, strict=True)


# Schedules


def test_schedulers_of_torch_take_the_keyword_arguments(wide):
    found = wide.suggest()
    rates, momenta = run("OneCycleLR", wide.one_cycle(100), 100)
    assert (max(rates), rates[0]) == pytest.approx((found.upper, found.upper / 20))
    assert (min(momenta), max(momenta)) == pytest.approx((0.85, 0.95))
    rates, _ = run("CyclicLR", wide.cyclic(5), 11)
    assert (rates[0], rates[5], rates[10]) == pytest.approx((found.lower, found.upper, found.lower))
    rates, momenta = run("OneCycleLR", wide.warmup_cosine(200), 200)
    assert (max(rates), rates[9]) == pytest.approx((found.lr, found.lr)) and rates[-1] < 1e-4 * found.lr
    assert set(momenta) == {0.9}
    for total_steps in (10, 11, 1000):  # the warm-up is two steps at least
        assert max(next(run("OneCycleLR", wide.warmup_cosine(total_steps), total_steps))) == pytest.approx(found.lr)


@pytest.mark.parametrize(("momentum", "bounds"), [(0.99, (0.985, 0.995)), (0.5, (0.25, 0.75)), (0.2, (0.0, 0.6))])
def test_the_momentum_of_a_cycle_moves_around_the_optimizers_own(wide, momentum, bounds):
    _, optimizer, _ = build(momentum=momentum)
    made = wide.one_cycle(100, optimizer=optimizer)
    assert (made["base_momentum"], made["max_momentum"]) == pytest.approx(bounds)
    _, momenta = run("OneCycleLR", made, 100, optimizer)
    assert (min(momenta), max(momenta)) == pytest.approx(bounds)


def test_a_momentum_that_the_optimizer_does_not_use_is_not_cycled(wide):
    model, optimizer, _ = build()
    assert set([*run("OneCycleLR", wide.one_cycle(10, optimizer=optimizer), 10, optimizer)][1]) == {0}
    assert wide.cyclic(3, optimizer=torch.optim.Rprop(model.parameters(), lr=0.01))["cycle_momentum"] is False


def two_groups(rates=(0.1, 0.01)):
    model, _, _ = build()
    groups = [{"params": model[i].parameters(), "lr": lr} for i, lr in zip((0, 4), rates, strict=True)]
    return torch.optim.AdamW(groups)


def test_schedules_have_the_groups_of_the_optimizer_that_they_are_given(wide):
    found = wide.suggest()
    for name, peak in {"one_cycle": found.upper, "warmup_cosine": found.lr, "cyclic": found.upper}.items():
        optimizer = two_groups()
        made = getattr(wide, name)(100, optimizer=optimizer)
        assert made["max_lr"] == pytest.approx([peak, peak / 10])
        run("CyclicLR" if name == "cyclic" else "OneCycleLR", made, 10, optimizer)


@pytest.mark.parametrize("tensors", [False, True])
def test_apply_sets_a_constant_rate_in_the_groups_ratios(wide, tensors):
    rates = [torch.tensor(0.1), torch.tensor(0.01)] if tensors else [0.1, 0.01]
    optimizer = two_groups(rates)
    found = wide.apply(optimizer)
    now = [group["lr"] for group in optimizer.param_groups]
    assert found == wide.suggest() and list(map(float, now)) == pytest.approx([found.lr, found.lr / 10])
    assert [lr is before for lr, before in zip(now, rates, strict=True)] == [tensors] * 2


def test_an_unreliable_suggestion_warns_and_is_not_applied(doubtful):
    model, optimizer, loader = build()
    before = fingerprint(model, optimizer, loader)
    with pytest.warns(UserWarning, match="the suggested lr is not reliable: "):
        doubtful.one_cycle(total_steps=10)
    with pytest.warns(UserWarning, match="lr was not set: the suggestion is not reliable"):
        doubtful.apply(optimizer)
    assert fingerprint(model, optimizer, loader) == before


# Suggestions


def test_heuristics_go_by_name_and_the_recommended_one_alone_knows_a_length(result):
    assert result.suggest("valley") == result.suggest(suggest.valley)
    with pytest.raises(ValueError, match="heuristic must be one of suggest_lr, .* got 'vally'"):
        result.suggest("vally")
    with pytest.raises(ValueError, match="heuristic must be one of suggest_lr, .* got None"):
        result.suggest(None)
    with pytest.raises(ValueError, match="total_steps applies to suggest_lr"):
        result.suggest("valley", total_steps=500)
    plain, longer = result.suggest(), result.suggest(total_steps=15_000)
    assert longer.lr < plain.lr and longer.upper == plain.upper and longer.lower <= longer.lr


@pytest.mark.parametrize("length", ["10", 1.5, 0, True, float("inf")])
def test_a_length_is_a_whole_number(result, length):
    for use in (lambda n: result.suggest(total_steps=n), result.one_cycle, result.warmup_cosine):
        with pytest.raises((TypeError, ValueError), match="total_steps must be .*; pass"):
            use(length)


def test_text_and_picture_compute_no_suggestion_and_no_smoothing_anew(result, monkeypatch):
    text = repr(result)
    result.plot(matplotlib.figure.Figure().add_subplot())
    for name in ("smooth", "suggest_lr", "combine"):
        monkeypatch.setattr(suggest, name, lambda *_, **__: pytest.fail("computed anew"))
    assert repr(result) == text
    result.plot(matplotlib.figure.Figure().add_subplot())


# Tables, text and pictures


def test_the_result_is_frozen_and_its_dataframe_has_a_row_a_step(result):
    frame = result.to_dataframe()
    assert list(frame.columns) == ["sweep", "seed", "step", "lr", "loss", "smoothed", "val"]
    assert len(frame) == sum(len(swept.loss) for swept in result.sweeps)
    second = frame[frame["sweep"] == 1]
    assert np.array_equal(second.lr, result.sweeps[1].lr) and np.array_equal(second.loss, result.sweeps[1].loss)
    assert np.array_equal(second.val.dropna(), result.sweeps[1].val)
    assert set(result.versions) >= {"torch", "numpy", "python"}
    with pytest.raises(FrozenInstanceError):
        result.sweeps = ()
    with pytest.raises(ValueError, match="read-only"):
        result.sweeps[0].loss[0] = 1


def test_the_median_curve_ends_where_the_first_sweep_does():
    lr = np.logspace(-4, 0, 100)
    loss = 2 / (1 + (lr / 0.01) ** 2) + (lr / 0.3) ** 3
    noise = np.random.default_rng(0).standard_normal((3, 100)) / 100
    sweeps = [
        Sweep(i, lr[:n], (loss + noise[i])[:n], [], [], None, "the loss diverged") for i, n in enumerate((90, 100, 95))
    ]
    made = RangeTestResult(tuple(sweeps), Settings(), {})
    smoothed = [suggest.smooth(*swept.curve())[:90] for swept in sweeps]
    assert np.array_equal(made.median_curve.lr, lr[:90])
    assert np.array_equal(made.median_curve.loss, np.median(smoothed, axis=0))
    assert np.array_equal(made.median_curve.high, np.max(smoothed, axis=0))


def test_the_text_is_a_rate_a_cycle_and_a_verdict_also_beside_the_picture(wide, doubtful):
    found = wide.suggest()
    first, second, third, *rest = repr(wide).splitlines()
    assert f"{found.lr:.3g}" in first and "300" in first
    assert f"{found.upper:.3g}" in second and f"{found.lower:.3g}" in second
    assert third.startswith("confidence medium: ") and repr(doubtful).splitlines()[2].startswith("confidence low: ")
    assert all(word in "".join(rest) for word in ("apply", "one_cycle", "plot", "total_steps"))
    assert all(swept.stop_reason in repr(wide.sweeps) for swept in wide.sweeps)
    assert all(part in wide._repr_html_() for part in ('<img alt="', "data:image/png;base64,", f"{found.lr:.3g}"))


def test_a_picture_names_what_was_swept_and_marks_what_it_is_given(result, doubtful, tmp_path):
    with pytest.raises(TypeError, match=r"ax must be matplotlib axes, got .*; save the picture with plot\(path="):
        result.plot("sweep.png")
    ax = result.plot(path=tmp_path / "sweep.png", marks=["suggest_lr", result.suggest("steepest"), 3e-4])
    assert (tmp_path / "sweep.png").stat().st_size > 1000
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "validation loss"
    assert "SGD" in ax.get_title() and "3 sweeps" in ax.get_title()
    drawn = [list(line.get_xdata()) for line in ax.lines]
    assert [x[0] for x in drawn if len(x) == 2 and x[0] == x[1]] == [
        result.suggest().lr,
        result.suggest("steepest").lr,
        3e-4,
    ]
    for mark, lr in (("steepest", result.suggest("steepest").lr), (1, 1)):
        ax = result.plot(matplotlib.figure.Figure().add_subplot(), marks=mark)
        assert lr in [line.get_xdata()[0] for line in ax.lines]
    ax = doubtful.plot(matplotlib.figure.Figure().add_subplot())
    assert not [line for line in ax.lines if len(line.get_xdata()) == 2] and not ax.patches


def test_every_loss_is_in_the_frame_unless_the_sweep_diverged(wide, doubtful):
    def is_in_frame(made):
        ax = made.plot(matplotlib.figure.Figure().add_subplot())
        low, high = ax.get_ylim()
        marked = [line for line in ax.lines if line.get_label() == "diverged"]
        return [(low < s.loss.min(), s.loss.max() < high) for s in made.sweeps], marked

    assert is_in_frame(doubtful) == ([(True, True)] * 3, [])
    seen, [marked] = is_in_frame(wide)
    assert seen == [(True, False)] and list(marked.get_xdata()) == [wide.sweeps[0].lr[-1]]


def test_a_result_whose_every_loss_is_nan_is_still_shown(result):
    dead = Sweep(0, [1e-3], [np.nan], [], [], None, "the loss was nan", "the loss is nan before any update")
    made = RangeTestResult((dead,), replace(result.settings, val_metric=None), {})
    assert not made.suggest().reliable and np.isnan(made.suggest().lr)
    assert "before any update" in made._repr_html_()


# Files


def test_a_saved_result_is_the_same_when_loaded_and_its_file_has_the_usual_mode(result, tmp_path):
    path = tmp_path / "sweep.json"
    before = os.umask(0o022)
    try:
        result.save(path)
    finally:
        os.umask(before)
    loaded = RangeTestResult.load(path)
    result.suggest(lambda lr, loss: suggest.valley(lr, loss))  # leaves nothing behind that could not be pickled
    assert pickle.loads(pickle.dumps(result)) == result
    assert loaded == result and repr(loaded) == repr(result) and loaded.suggest() == result.suggest()
    assert list(tmp_path.iterdir()) == [path] and stat.S_IMODE(path.stat().st_mode) == 0o644
    json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN and Infinity are no JSON


number = st.floats(width=64)


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    curves=st.lists(st.lists(st.tuples(number, st.none() | number), min_size=1, max_size=8), min_size=1, max_size=3),
    reason=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_any_losses_survive_a_round_trip_to_the_bit(tmp_path_factory, curves, reason):
    sweeps = []
    for i, points in enumerate(curves):
        val = [(step, val) for step, (_, val) in enumerate(points) if val is not None]
        lr, loss = np.logspace(-3, 0, len(points)), [loss for loss, _ in points]
        sweeps.append(Sweep(i, lr, loss, [step for step, _ in val], [value for _, value in val], "loss", reason))
    made = RangeTestResult(tuple(sweeps), Settings(group_ratios=(1.0, 0.1)), {"torch": "2"})
    path = tmp_path_factory.mktemp("round") / "sweep.json"
    made.save(path)
    loaded = RangeTestResult.load(path)
    assert loaded == made and loaded.settings == made.settings
    for one, other in zip(made.sweeps, loaded.sweeps, strict=True):
        for name in ("lr", "loss", "val", "val_step"):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name in ("loss", "val"))


@pytest.mark.parametrize("text", ["{}", "lr,loss\n1,2\n", '{"format": 99, "sweeps": []}', "[1]"])
def test_files_that_are_no_result_are_refused(result, tmp_path, text):
    with pytest.raises(ValueError, match=r"path must end in .json, got .*; to_dataframe\(\)"):
        result.save(tmp_path / "sweep.csv")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="a.json"):
        RangeTestResult.load(tmp_path / "a.json")
