import os
import random
import signal
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainings import blobs, build, cross_entropy, fingerprint, plain, record_lrs, sweep

from lrlib.finder.sweeps import READ_EVERY


def test_three_sweeps_give_a_suggestion_that_trains_and_change_nothing():
    model, optimizer, loader = build(batch_size=128, momentum=0.9)
    before = fingerprint(model, optimizer, loader)
    result = sweep(model, optimizer, loader, num_iter=300, repeats=3, start_lr=1e-5, end_lr=1e3)
    assert fingerprint(model, optimizer, loader) == before
    found = result.suggest()
    assert found.reliable and found.spread_decades < 0.5 and found.heuristic == "suggest_lr"
    assert [s.seed for s in result.sweeps] == [0, 1, 2]
    for group in optimizer.param_groups:
        group["lr"] = found.lr
    losses = []
    for inputs, targets in [batch for _ in range(3) for batch in loader]:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("step_mode", ["exp", "linear"])
def test_the_optimizer_takes_the_rates_of_the_closed_form_at_every_step(step_mode):
    model, optimizer, loader = build()
    seen = record_lrs(optimizer)
    result = sweep(model, optimizer, loader, num_iter=20, start_lr=1e-5, end_lr=1e-2, step_mode=step_mode)
    if step_mode == "exp":
        expected = [1e-5 * 1000 ** (k / 19) for k in range(20)]
    else:
        expected = [1e-5 + k / 19 * (1e-2 - 1e-5) for k in range(20)]
    assert np.allclose(np.ravel(seen), expected, rtol=1e-12)
    assert np.array_equal(np.ravel(seen), result.sweeps[0].lr)
    assert seen[-1] == [pytest.approx(1e-2)]
    assert result.sweeps[0].stop_reason == "reached end_lr 0.01"


def test_losses_are_those_of_a_bare_loop_to_the_bit():
    model, optimizer, loader = build(momentum=0.9)
    result = sweep(model, optimizer, loader, num_iter=30, end_lr=0.1, seed=7)
    random.seed(7)
    torch.manual_seed(7)
    loader.generator.manual_seed(7)
    losses = []
    batches = [batch for _ in range(2) for batch in loader]  # 16 batches an epoch, each epoch in an order of its own
    torch.manual_seed(7)
    for lr, (inputs, targets) in zip(result.sweeps[0].lr, batches, strict=False):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert len(losses) == 30 and result.sweeps[0].loss.tolist() == losses


def test_parameter_groups_keep_their_ratio_and_tensor_rates_stay_tensors():
    model, _, loader = build()
    lr = torch.tensor(0.01)
    optimizer = torch.optim.Adam(
        [
            {"params": model[0].parameters(), "lr": lr},
            {"params": model[1].parameters(), "lr": torch.tensor(0.001)},
            {"params": model[4].parameters(), "lr": 0.0},
        ]
    )
    seen = record_lrs(optimizer)
    result = sweep(model, optimizer, loader, num_iter=10)
    assert np.allclose([rates[1] / rates[0] for rates in seen], 0.1)
    assert all(rates[2] == 0 for rates in seen)
    assert optimizer.param_groups[0]["lr"] is lr and lr.item() == pytest.approx(0.01)
    with pytest.warns(UserWarning, match="not reliable"):  # ten steps are too few
        peaks = result.one_cycle(total_steps=100)["max_lr"]
    assert peaks[1] == pytest.approx(0.1 * peaks[0]) and peaks[2] == 0


def test_accumulated_batches_give_the_curve_of_one_large_batch():
    inputs, targets = blobs(128)
    small = [(inputs[i : i + 32], targets[i : i + 32]) for i in range(0, 128, 32)]
    curves = []
    for loader, steps in (([(inputs, targets)], 1), (small, 4)):
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        curves.append(sweep(model, optimizer, loader, num_iter=25, end_lr=1, accumulation_steps=steps).sweeps[0].loss)
    assert np.allclose(curves[0], curves[1], rtol=1e-5)


def test_a_shuffling_loader_gives_every_sweep_another_order_and_the_same_seed_the_same():
    model, optimizer, loader = build()
    first = sweep(model, optimizer, loader, repeats=2, num_iter=20)
    random.random()
    torch.rand(5)
    second = sweep(model, optimizer, loader, repeats=2, num_iter=20)
    assert not np.array_equal(first.sweeps[0].loss, first.sweeps[1].loss)
    for one, other in zip(first.sweeps, second.sweeps, strict=True):
        assert np.array_equal(one.loss, other.loss)


def test_identical_sweeps_are_said_to_count_as_one():
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, targets = blobs(64)
    result = sweep(model, optimizer, [(inputs, targets)], repeats=3)
    found = result.suggest()
    assert found.spread_decades is None and "the 3 sweeps are identical" in found.reason


def test_init_fn_begins_each_sweep_from_weights_of_its_own():
    model, optimizer, loader = build()
    before = plain(model.state_dict())
    starts = []

    def init_fn(model):
        model[0].reset_parameters()
        starts.append(model[0].weight.detach().clone())

    result = sweep(model, optimizer, loader, repeats=2, num_iter=10, init_fn=init_fn)
    assert len(starts) == 2 and not torch.equal(*starts)
    assert plain(model.state_dict()) == before and result.settings.fresh_weights


def test_a_model_in_eval_mode_is_swept_in_train_mode_and_frozen_layers_stay_frozen():
    model, optimizer, loader = build()
    modes = []
    model.register_forward_pre_hook(lambda *_: modes.append((model.training, model[1].training)))
    model[1].eval()
    sweep(model, optimizer, loader, num_iter=10)
    assert set(modes) == {(True, False)}
    modes.clear()
    model.eval()
    sweep(model, optimizer, loader, num_iter=10)
    assert set(modes) == {(True, True)} and not model.training


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_sweep_and_is_kept_out_of_the_fit(bad):
    model, optimizer, loader = build()
    calls = []

    def loss_fn(logits, targets):
        calls.append(1)
        return cross_entropy(logits, targets) * (bad if len(calls) == 40 else 1)

    result = sweep(model, optimizer, loader, loss_fn=loss_fn)
    [swept] = result.sweeps
    assert len(swept.loss) == 40 and swept.stop_reason == f"the loss was {bad} at lr {swept.lr[-1]:.3g}"
    assert np.isfinite(swept.loss[:-1]).all() and not np.isfinite(swept.loss[-1])
    assert np.isnan(swept.smoothed[-1]) and np.isfinite(swept.smoothed[:-1]).all()
    assert np.isfinite(result.suggest().lr)


def test_a_sweep_stops_where_the_running_mean_is_diverge_th_times_its_best():
    parameter = nn.Parameter(torch.zeros(1))
    model = nn.ParameterList([parameter])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    series = iter([3.0] * 20 + [8.9] + [9.1] * 5)
    result = sweep(
        model, optimizer, [0], loss_fn=None, step_fn=lambda _: next(series) + 0 * parameter, smooth_f=0, diverge_th=3
    )
    assert result.sweeps[0].loss.tolist() == pytest.approx([3.0] * 20 + [8.9, 9.1])
    assert result.sweeps[0].stop_reason.startswith("the loss diverged at lr")


def test_a_loss_near_or_below_zero_does_not_stop_the_sweep_by_itself():
    parameter = nn.Parameter(torch.zeros(1))
    model = nn.ParameterList([parameter])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for last in (0.001, -0.5):
        series = iter([2.0] * 20 + [last, last + 0.3] * 20)
        result = sweep(
            model, optimizer, [0], loss_fn=None, step_fn=lambda _, s=series: next(s) + 0 * parameter, smooth_f=0
        )
        assert len(result.sweeps[0].loss) == 60


def test_reading_losses_several_at_a_time_changes_no_value(monkeypatch):
    curves = []
    for read_every in (1, 7):
        monkeypatch.setitem(READ_EVERY, "cpu", read_every)
        model, optimizer, loader = build()
        result = sweep(model, optimizer, loader, num_iter=100, end_lr=1e6, val_loader=loader, val_every=9)
        curves.append(result.sweeps[0])
    assert len(curves[0].loss) < 100
    for name in ("lr", "loss", "val_step", "val"):
        assert np.array_equal(getattr(curves[0], name), getattr(curves[1], name))


@pytest.mark.parametrize("scaled", [False, True])
def test_autocast_and_grad_scaler_are_used_and_put_back(scaled):
    model, optimizer, loader = build()
    types = []
    model[0].register_forward_hook(lambda _, __, output: types.append(output.dtype))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5) if scaled else None
    before = fingerprint(model, optimizer, loader, scaler)
    result = sweep(model, optimizer, loader, autocast_dtype=torch.bfloat16, scaler=scaler, end_lr=1)
    assert set(types) == {torch.bfloat16}
    assert fingerprint(model, optimizer, loader, scaler) == before
    assert result.settings.autocast_dtype == "torch.bfloat16"
    if not scaled:
        return
    plain_curve = sweep(model, optimizer, loader, autocast_dtype=torch.bfloat16, end_lr=1).sweeps[0].loss
    assert np.allclose(result.sweeps[0].loss, plain_curve, atol=0.02)


def test_attached_schedulers_are_tolerated_and_do_not_notice():
    model, optimizer, loader = build(momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=50)
    before = fingerprint(model, optimizer, loader, schedulers=[scheduler])
    sweep(model, optimizer, loader, repeats=2)
    assert fingerprint(model, optimizer, loader, schedulers=[scheduler]) == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        scheduler.step()


def test_a_scheduler_that_the_step_moves_is_put_back():
    model, optimizer, loader = build()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)

    def step_fn(batch):
        scheduler.step()
        return cross_entropy(model(batch[0]), batch[1])

    before = fingerprint(model, optimizer, loader, schedulers=[scheduler])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stepped before the optimizer
        sweep(model, optimizer, loader, loss_fn=None, step_fn=step_fn, also=[scheduler])
    assert fingerprint(model, optimizer, loader, schedulers=[scheduler]) == before


def test_progress_can_be_turned_off(capfd):
    model, optimizer, loader = build()
    sweep(model, optimizer, loader, num_iter=10)
    assert capfd.readouterr() == ("", "")
    sweep(model, optimizer, loader, num_iter=10, progress=True)
    assert "range test" in capfd.readouterr().err


# Validation


def test_accuracy_is_that_of_the_fixed_subset_over_samples_and_is_what_suggestions_read():
    model, optimizer, loader = build(n=300, batch_size=70)  # last batch of 20
    val_loader = DataLoader(TensorDataset(*blobs(90, seed=0)), batch_size=40)  # 40, 40, 10
    seen = []
    result = sweep(
        model, optimizer, loader, val_loader=val_loader, val_metric="accuracy", val_every=20, val_batches=3, end_lr=0.1,
        init_fn=lambda model: model.register_forward_hook(lambda m, i, o: seen.append((m.training, o.argmax(1)))),
    )  # fmt: skip
    [swept] = result.sweeps
    assert swept.val_step.tolist() == [19, 39, 59]
    predicted = torch.cat([out for training, out in seen if not training][-3:])
    assert swept.val[-1] == pytest.approx((predicted == blobs(90, seed=0)[1]).float().mean().item())
    lr, objective = swept.curve()
    assert np.array_equal(lr, swept.lr[[19, 39, 59]]) and np.allclose(objective, 1 - swept.val)
    assert result.objective == "1 - validation accuracy"


def test_validation_loss_with_step_fn_is_computed_in_eval_mode_and_train_mode_comes_back():
    model, optimizer, loader = build()
    model[1].eval()
    modes = []

    def step_fn(batch):
        modes.append((model.training, model[1].training, torch.is_grad_enabled()))
        return cross_entropy(model(batch[0]), batch[1])

    options = {"loss_fn": None, "step_fn": step_fn, "num_iter": 10, "val_every": 5, "val_batches": 1}
    result = sweep(model, optimizer, loader, val_loader=loader, **options)
    assert modes == ([(True, False, True)] * 5 + [(False, False, False)]) * 2
    assert len(result.sweeps[0].val) == 2 and result.settings.val_metric == "loss"


def test_validation_does_not_change_the_training_curve():
    curves = []
    for val_loader in (None, [blobs(40, seed=3)]):
        model, optimizer, loader = build()
        curves.append(sweep(model, optimizer, loader, val_loader=val_loader, val_every=3).sweeps[0].loss)
    assert np.array_equal(*curves)


def test_a_metric_of_the_users_is_called_with_each_batch():
    model, optimizer, loader = build()

    def accuracy(batch):
        return (model(batch[0]).argmax(1) != batch[1]).float().mean()

    result = sweep(model, optimizer, loader, val_loader=loader, val_metric=accuracy)
    assert result.settings.val_metric == "function accuracy"
    assert np.array_equal(result.sweeps[0].curve()[1], result.sweeps[0].val)


# Exceptions and Ctrl-C


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()], ids=["exception", "interrupt"])
@pytest.mark.parametrize("where", ["loss_fn", "init_fn", "val_metric", "loader"])
def test_everything_is_put_back_when_the_users_code_fails(error, where):
    model, optimizer, loader = build(momentum=0.9)
    calls = []

    def fails_at_last(value):
        calls.append(1)
        if len(calls) == (2 if where in ("init_fn", "loader") else 5):
            raise error
        return value

    class Loader:
        def __init__(self):
            self.generator = loader.generator

        def __iter__(self):
            fails_at_last(None)
            yield from loader

    code = {
        "loss_fn": lambda logits, targets: fails_at_last(cross_entropy(logits, targets)),
        "init_fn": lambda model: fails_at_last(model[0].reset_parameters()),
        "val_metric": lambda batch: fails_at_last(0.5),
    }
    options = {where: code[where]} if where in code else {}
    before = fingerprint(model, optimizer, loader)
    with pytest.raises(type(error)) as caught:
        sweep(model, optimizer, Loader() if where == "loader" else loader, repeats=3, val_loader=loader, **options)
    assert caught.value is error
    assert fingerprint(model, optimizer, loader) == before


def test_everything_is_put_back_after_a_real_ctrl_c():
    model, optimizer, loader = build(momentum=0.9)
    before = fingerprint(model, optimizer, loader)
    calls = []

    def loss_fn(logits, targets):
        calls.append(1)
        if len(calls) == 25:
            os.kill(os.getpid(), signal.SIGINT)
        return cross_entropy(logits, targets)

    with pytest.raises(KeyboardInterrupt):
        sweep(model, optimizer, loader, loss_fn=loss_fn)
    assert fingerprint(model, optimizer, loader) == before


def test_the_users_exception_is_noted_with_the_step_and_the_shapes():
    model, optimizer, _ = build()
    batches = [blobs(32), blobs(32), (torch.zeros(5, 9), torch.zeros(5, dtype=torch.long))]
    with pytest.raises(RuntimeError) as caught:
        sweep(model, optimizer, batches)
    assert "range_test: at step 2, on a batch of tensors of shapes [(5, 9), (5,)]" in caught.value.__notes__[0]


def test_a_sweep_validates_often_enough_by_itself_and_says_val_every_where_it_was_told_not_to():
    model, optimizer, loader = build()
    often = sweep(model, optimizer, loader, val_loader=loader, num_iter=100, val_batches=1)
    assert often.settings.val_every == 3 and "val_every" not in often.suggest().reason
    rarely = sweep(model, optimizer, loader, val_loader=loader, num_iter=100, val_batches=1, val_every=25)
    assert not rarely.suggest().reliable
    assert "it takes 10; use a val_every below 25, or more steps" in rarely.suggest().reason
