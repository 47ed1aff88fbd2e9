import json
import os
import random
import signal
import warnings
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_restore import fingerprint, plain
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrlib import suggest
from lrlib.finder.result import Overlay, RangeTestResult, Settings, Sweep
from lrlib.finder.sweeps import READ_EVERY, overlay, range_test

cross_entropy = nn.functional.cross_entropy


def blobs(n=512, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=generator)
    centres = 2 * torch.randn(3, 6, generator=generator)
    return centres[targets] + torch.randn(n, 6, generator=generator), targets


def build(n=512, batch_size=32, lr=0.1, **optimizer_settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **optimizer_settings)
    loader = DataLoader(
        TensorDataset(*blobs(n)), batch_size=batch_size, shuffle=True, generator=torch.Generator().manual_seed(1)
    )
    return model, optimizer, loader


def sweep(model, optimizer, loader, **changes):
    changes = {"num_iter": 60, "start_lr": 1e-4, "repeats": 1, "progress": False, **changes}
    return range_test(model, optimizer, changes.pop("loss_fn", cross_entropy), loader, **changes)


def record_lrs(optimizer):
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append([float(g["lr"]) for g in optimizer.param_groups]))
    return seen


# What a sweep does


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
        sweep(model, optimizer, loader, loss_fn=None, step_fn=step_fn, schedulers=[scheduler])
    assert fingerprint(model, optimizer, loader, schedulers=[scheduler]) == before


# Batches and loaders


def test_step_fn_takes_dict_batches_from_any_iterable():
    model, optimizer, _ = build()
    inputs, targets = blobs()

    class Batches:
        def __iter__(self):
            for i in range(0, len(inputs), 64):
                yield {"features": inputs[i : i + 64], "label": targets[i : i + 64]}

    def step_fn(batch):
        logits = model(batch["features"])
        return cross_entropy(logits, batch["label"]) + 1e-3 * logits.square().mean()

    result = sweep(model, optimizer, Batches(), loss_fn=None, step_fn=step_fn, num_iter=30)
    assert len(result.sweeps[0].loss) == 30  # 8 batches: begun again three times


@pytest.mark.parametrize("spread", [lambda a, b: (a, b), lambda a, b: {"first": a, "second": b}], ids=["tuple", "dict"])
def test_several_inputs_are_spread_over_the_models_arguments(spread):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, first, second):
            return self.linear(torch.cat([first, second], dim=1))

    inputs, targets = blobs(64)
    model = Two()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    result = sweep(model, optimizer, [(spread(inputs[:, :2], inputs[:, 2:]), targets)], num_iter=10)
    assert len(result.sweeps[0].loss) == 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_go_to_the_models_device_and_the_device_state_comes_back():
    model, _, loader = build()
    model.cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    before = fingerprint(model, optimizer, loader), torch.cuda.get_rng_state().tolist()
    scaler = torch.amp.GradScaler("cuda")
    result = sweep(model, optimizer, loader, scaler=scaler, autocast_dtype=torch.float16, repeats=2)
    assert (fingerprint(model, optimizer, loader), torch.cuda.get_rng_state().tolist()) == before
    assert result.settings.device.startswith("cuda")


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


# Bad input


def grown(model):
    """A training step that widens the model's last layer at its third call."""
    calls = []

    def step_fn(batch):
        calls.append(1)
        if len(calls) == 3:
            model[4].weight.data = torch.zeros(5, 16)
            model[4].bias.data = torch.zeros(5)
        return cross_entropy(model(batch[0]), batch[1])

    return step_fn


def bad_inputs():
    model, optimizer, loader = build()
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    lbfgs = torch.optim.LBFGS(model.parameters())
    return {
        "empty loader": (ValueError, "train_loader must give at least one batch, got none", {"loader": []}),
        "one-shot loader": (TypeError, "iterable that can begin again, got a list_iterator", {"loader": iter([1])}),
        "empty val": (ValueError, "val_loader must give at least one batch", {"val_loader": []}),
        "vector loss": (ValueError, r"must be a scalar, got shape \(32, 3\)", {"loss_fn": lambda out, _: out}),
        "float loss": (TypeError, "must be a tensor, got a float", {"loss_fn": lambda *_: 1.0}),
        "detached loss": (ValueError, "must require grad", {"loss_fn": lambda out, _: out.detach().mean()}),
        "foreign optimizer": (ValueError, "optimizer must hold parameters of the model", {"optimizer": other}),
        "start above end": (ValueError, "below end_lr, got 1 and 0.1", {"start_lr": 1, "end_lr": 0.1}),
        "start zero": (ValueError, "start_lr must be above 0", {"start_lr": 0}),
        "own lr above end": (ValueError, "below end_lr, got 0.1 and 0.01", {"start_lr": None, "end_lr": 0.01}),
        "infinite end": (ValueError, "end_lr must be finite", {"end_lr": float("inf")}),
        "few steps": (ValueError, "num_iter must be at least 10, got 9", {"num_iter": 9}),
        "step mode": (ValueError, 'step_mode must be "exp" or "linear", got \'log\'', {"step_mode": "log"}),
        "smooth": (ValueError, r"smooth_f must be in \[0, 1\), got 1", {"smooth_f": 1}),
        "diverge": (ValueError, "diverge_th must be above 1, got 1", {"diverge_th": 1}),
        "repeats": (ValueError, "repeats must be at least 1, got 0", {"repeats": 0}),
        "no step": (ValueError, "loss_fn must be given unless step_fn is", {"loss_fn": None}),
        "metric": (ValueError, "val_metric must be", {"val_metric": "f1"}),
        "accuracy": (
            ValueError,
            "must be a function with step_fn alone",
            {"loss_fn": None, "step_fn": lambda b: b, "val_loader": loader, "val_metric": "accuracy"},
        ),
        "closure": (TypeError, "must step without a closure, got LBFGS", {"optimizer": lbfgs}),
        "zero lr": (ValueError, "first parameter group's lr must be above 0", {"optimizer": frozen}),
        "dict batch": (TypeError, "must be a pair .* got a dict; give step_fn", {"loader": [{"a": 1}]}),
        "triple": (TypeError, "must be a pair .* got a list of 3; give step_fn", {"loader": [[1, 2, 3]]}),
        "new shape": (ValueError, r"4\.weight of \(3, 16\) turned into \(5, 16\)", {"step_fn": grown(model)}),
        "offload": (ValueError, "offload must be None", {"offload": "tape"}),
    }, (model, optimizer, loader)


@pytest.mark.parametrize("case", bad_inputs()[0])
def test_bad_input_is_refused_in_one_sentence_and_everything_is_as_before(case):
    cases, (model, optimizer, loader) = bad_inputs()
    error, message, changes = cases[case]
    used = {
        "optimizer": optimizer,
        "loader": loader,
        **{k: v for k, v in changes.items() if k in ("optimizer", "loader")},
    }
    before = fingerprint(model, used["optimizer"], loader)
    options = {k: v for k, v in changes.items() if k not in used}
    with pytest.raises(error, match=message) as caught:
        sweep(model, used["optimizer"], used["loader"], **options)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)
    assert fingerprint(model, used["optimizer"], loader) == before


def test_settings_are_checked_before_the_first_batch():
    class Untouchable:
        def __iter__(self):
            raise AssertionError("a batch was asked for")

    model, optimizer, _ = build()
    with pytest.raises(ValueError, match="num_iter"):
        sweep(model, optimizer, Untouchable(), num_iter=1)


# The result


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


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_saving_and_loading_gives_the_same_result(result, tmp_path, ending):
    path = tmp_path / f"sweep.{ending}"
    result.save(path)
    loaded = RangeTestResult.load(path)
    assert loaded == result and repr(loaded) == repr(result)
    assert loaded.suggest() == result.suggest()
    assert list(tmp_path.iterdir()) == [path]
    if ending == "json":
        json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN and Infinity are no JSON


number = st.floats(width=64)


@settings(max_examples=50, deadline=None)
@given(
    curves=st.lists(st.lists(st.tuples(number, st.none() | number), min_size=1, max_size=8), min_size=1, max_size=3),
    ending=st.sampled_from(["json", "csv"]),
    reason=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_any_losses_survive_a_round_trip_to_the_bit(tmp_path_factory, curves, ending, reason):
    made_with = Settings(
        1e-3, 1.0, 10, "exp", 0.05, 5.0, 1, 0.5, "loss", 1, None, "cpu", "SGD", (1.0, 0.1), False, False
    )
    sweeps = [
        Sweep(
            seed=i,
            lr=np.logspace(-3, 0, len(points)),
            loss=[loss for loss, _ in points],
            val_step=[step for step, (_, val) in enumerate(points) if val is not None],
            val=[val for _, val in points if val is not None],
            val_metric="loss",
            stop_reason=reason,
            seconds=0.1,
        )
        for i, points in enumerate(curves)
    ]
    made = RangeTestResult(tuple(sweeps), made_with, {"torch": "2"}, 0.1)
    path = tmp_path_factory.mktemp("round") / f"sweep.{ending}"
    made.save(path)
    loaded = RangeTestResult.load(path)
    assert loaded == made
    for one, other in zip(made.sweeps, loaded.sweeps, strict=True):
        for name in ("lr", "loss", "val", "val_step"):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name in ("loss", "val"))


def test_files_that_are_no_result_are_refused(result, tmp_path):
    with pytest.raises(ValueError, match="path must end in .json or .csv"):
        result.save(tmp_path / "sweep.txt")
    for name, text in (("a.json", "{}"), ("b.csv", "lr,loss\n1,2\n"), ("c.json", '{"format": 99, "sweeps": []}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="must be"):
            RangeTestResult.load(tmp_path / name)


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


# Several results


def test_overlay_sweeps_over_weight_decay_and_puts_it_back():
    model, _, loader = build()
    groups = [{"params": model[0].parameters(), "weight_decay": 0.01}, {"params": model[1:].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append([g["weight_decay"] for g in optimizer.param_groups]))
    before = fingerprint(model, optimizer, loader)
    settings_ = {"num_iter": 100, "start_lr": 1e-5, "repeats": 1, "progress": False}
    made = overlay(model, optimizer, cross_entropy, loader, weight_decay=[0, 0.5], **settings_)
    assert fingerprint(model, optimizer, loader) == before
    assert [0, 0] in seen and [0.5, 0] in seen and len({tuple(s) for s in seen}) == 2
    assert isinstance(made, Overlay) and list(made.results) == [0, 0.5]
    assert list(made.suggestions().weight_decay) == [0, 0.5]
    assert set(made.to_dataframe().weight_decay) == {0, 0.5}
    labels = [text.get_text() for text in made.plot().get_legend().get_texts()]
    assert labels == ["weight_decay = 0", "weight_decay = 0.5"]
    assert "weight_decay = 0.5: suggested lr" in made._repr_html_()


@pytest.mark.parametrize("kind", ["momentum", "betas"])
def test_overlay_sweeps_over_momentum_or_the_first_beta(kind):
    model, optimizer, loader = build()
    if kind == "betas":
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = fingerprint(model, optimizer, loader)
    seen = set()
    optimizer.register_step_pre_hook(lambda *_: seen.add(optimizer.param_groups[0][kind]))
    overlay(model, optimizer, cross_entropy, loader, momentum=[0.8, 0.95], num_iter=10, repeats=1, progress=False)
    assert seen == ({0.8, 0.95} if kind == "momentum" else {(0.8, 0.999), (0.95, 0.999)})
    assert fingerprint(model, optimizer, loader) == before


def test_overlay_sweeps_over_batch_size():
    model, optimizer, loader = build()
    sizes = set()
    model.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    before = fingerprint(model, optimizer, loader)
    made = overlay(model, optimizer, cross_entropy, loader, batch_size=[16, 64], num_iter=10, repeats=1, progress=False)
    assert sizes == {16, 64} and list(made.results) == [16, 64]
    assert fingerprint(model, optimizer, loader) == before


def test_overlay_takes_exactly_one_setting_that_the_optimizer_has():
    model, optimizer, loader = build()
    with pytest.raises(ValueError, match="exactly one of weight_decay, momentum, batch_size, got none"):
        overlay(model, optimizer, cross_entropy, loader)
    with pytest.raises(ValueError, match="must have momentum .* got Rprop"):
        overlay(model, torch.optim.Rprop(model.parameters()), cross_entropy, loader, momentum=[0.9])
    with pytest.raises(TypeError, match="must be a DataLoader"):
        overlay(model, optimizer, cross_entropy, [1], batch_size=[1])
    with pytest.raises(ValueError, match="momentum must hold at least one value"):
        overlay(model, optimizer, cross_entropy, loader, momentum=[])


def test_progress_can_be_turned_off(capfd):
    model, optimizer, loader = build()
    sweep(model, optimizer, loader, num_iter=10)
    assert capfd.readouterr() == ("", "")
    sweep(model, optimizer, loader, num_iter=10, progress=True)
    assert "range test" in capfd.readouterr().err
