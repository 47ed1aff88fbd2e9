import io
import random
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainings import batches, blobs, build, cross_entropy, fingerprint, net, record_lrs, sweep, train


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
    losses = train(model, optimizer, [*loader, *loader, *loader])
    assert losses[-1] < 0.5 * losses[0]


def test_rates_are_those_of_the_closed_form_and_losses_those_of_a_bare_loop_to_the_bit():
    model, optimizer, loader = build(momentum=0.9)
    seen = record_lrs(optimizer)
    [swept] = sweep(model, optimizer, loader, num_iter=30, start_lr=1e-5, end_lr=0.1, seed=7).sweeps
    assert np.allclose(swept.lr, [1e-5 * 10_000 ** (k / 29) for k in range(30)], rtol=1e-12)
    assert np.array_equal(np.ravel(seen[:30]), swept.lr) and swept.stop_reason == "reached end_lr 0.1"
    random.seed(7)
    torch.manual_seed(7)
    loader.generator.manual_seed(7)
    losses = []
    both = [batch for _ in range(2) for batch in loader]  # 16 batches an epoch, each epoch in an order of its own
    torch.manual_seed(7)
    for lr, batch in zip(swept.lr, both, strict=False):
        optimizer.param_groups[0]["lr"] = lr
        losses += train(model, optimizer, [batch])
    assert len(losses) == 30 and swept.loss.tolist() == losses


def test_accumulated_batches_give_the_curve_of_one_large_batch():
    curves = []
    for loader, steps in (([blobs(128)], 1), (batches(128), 4)):
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        curves.append(sweep(model, optimizer, loader, num_iter=25, end_lr=1, accumulation_steps=steps).sweeps[0].loss)
    assert np.allclose(*curves, rtol=1e-5)


def test_a_shuffling_loader_gives_every_sweep_another_order_the_same_seed_the_same_and_a_list_no_spread():
    model, optimizer, loader = build()
    first = sweep(model, optimizer, loader, repeats=2, num_iter=20)
    random.random()
    torch.rand(5)
    second = sweep(model, optimizer, loader, repeats=2, num_iter=20)
    losses = [[swept.loss.tolist() for swept in result.sweeps] for result in (first, second)]
    assert losses[0] == losses[1] and losses[0][0] != losses[0][1]
    found = sweep(*net(), [blobs(64)], repeats=3).suggest()
    assert found.spread_decades is None and "the 3 sweeps saw identical batches" in found.reason


def test_a_model_in_eval_mode_is_swept_in_train_mode_and_frozen_layers_stay_frozen():
    model, optimizer, loader = build()
    modes = []
    model.register_forward_pre_hook(lambda *_: modes.append((model.training, model[1].training)))
    for evaluated, expected in ((model[1], (True, False)), (model, (True, True))):
        modes.clear()
        evaluated.eval()
        sweep(model, optimizer, loader, num_iter=10)
        assert set(modes) == {expected} and not evaluated.training


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_sweep_and_is_kept_out_of_the_fit(bad):
    calls = []

    def loss_fn(logits, targets):
        calls.append(1)
        return cross_entropy(logits, targets) * (bad if len(calls) == 40 else 1)

    result = sweep(*build(), loss_fn=loss_fn)
    [swept] = result.sweeps
    assert len(swept.loss) == 40 and swept.stop_reason == f"the loss was {bad} at lr {swept.lr[-1]:.3g}"
    for values in (swept.loss, swept.smoothed):
        assert np.isfinite(values).tolist() == [True] * 39 + [False]
    assert np.isfinite(result.suggest().lr)


@pytest.mark.parametrize("where", ["around the call", "in step_fn"])
@pytest.mark.parametrize("scaled", [False, True])
def test_autocast_and_grad_scaler_are_used_and_put_back(scaled, where):
    model, optimizer, loader = build()
    types = []
    model[0].register_forward_hook(lambda _, __, output: types.append(output.dtype))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5) if scaled else None

    def step_fn(batch):
        with torch.autocast("cpu", torch.bfloat16):
            return cross_entropy(model(batch[0]), batch[1])

    def run(scaler):
        if where == "in step_fn":
            return sweep(model, optimizer, loader, step_fn=step_fn, scaler=scaler, end_lr=1)
        with torch.autocast("cpu", torch.bfloat16):
            return sweep(model, optimizer, loader, scaler=scaler, end_lr=1)

    before = fingerprint(model, optimizer, loader, scaler)
    [swept] = run(scaler).sweeps
    assert set(types) == {torch.bfloat16}
    assert fingerprint(model, optimizer, loader, scaler) == before
    assert swept.loss[-5:].mean() < 0.8 * swept.loss[0]  # the weights that autocast has cast are not the first ones
    if scaled:
        assert np.allclose(swept.loss, run(None).sweeps[0].loss, atol=0.02)


def test_progress_shows_lr_and_loss_to_the_end_in_a_terminal_and_nothing_elsewhere(capfd, monkeypatch):
    model, optimizer, loader = build()
    sweep(model, optimizer, loader, num_iter=10, progress=True)
    assert capfd.readouterr() == ("", "")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    sweep(model, optimizer, loader, num_iter=10)
    assert terminal.getvalue() == ""
    result = sweep(model, optimizer, loader, num_iter=60, end_lr=1e8, repeats=2, progress=True)
    assert len(result.sweeps[1].lr) < 60
    last = terminal.getvalue().split("\r")[-1]
    assert "120 steps" in last and "120/120" in last and "lr " in last and "loss " in last


# Validation


def test_accuracy_is_that_of_the_first_eight_batches_over_samples_and_is_what_suggestions_read():
    model, optimizer, loader = build(n=300, batch_size=70)  # last batch of 20
    val_loader = DataLoader(TensorDataset(*blobs(400, seed=0)), batch_size=45)  # eight of 45, and one of 40
    seen = []
    model.register_forward_hook(lambda m, i, o: seen.append((m.training, o.argmax(1))))
    result = sweep(model, optimizer, loader, val_loader=val_loader, val_metric="accuracy", end_lr=0.1)
    [swept] = result.sweeps
    assert swept.val_step.tolist() == list(range(1, 60, 2))
    predicted = torch.cat([out for training, out in seen if not training][-8:])
    assert swept.val[-1] == pytest.approx((predicted == blobs(400, seed=0)[1][:360]).float().mean().item())
    lr, objective = swept.curve()
    assert np.array_equal(lr, swept.lr[1::2]) and np.allclose(objective, 1 - swept.val)
    assert result.objective == "1 - validation accuracy"


def test_a_metric_of_the_users_is_called_with_each_batch_and_the_training_curve_is_that_without():
    model, optimizer, loader = build()

    def accuracy(batch):
        return (model(batch[0]).argmax(1) != batch[1]).float().mean()

    result = sweep(model, optimizer, loader, val_loader=[blobs(40, seed=3)], val_metric=accuracy)
    assert result.settings.val_metric == "function accuracy"
    assert np.array_equal(result.sweeps[0].curve()[1], result.sweeps[0].val)
    assert np.array_equal(result.sweeps[0].loss, sweep(*build()).sweeps[0].loss)


# What the optimizer does with the rate


@pytest.mark.parametrize("where", ["step_fn", "pre hook", "post hook"])
def test_a_scheduler_that_is_stepped_meanwhile_moves_neither_the_rate_nor_the_momentum(where):
    used = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            used.append((self.param_groups[0]["lr"], self.param_groups[0]["momentum"]))
            return super().step(closure)

    model, _, loader = build()
    optimizer = Spy(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.8, total_steps=1000)
    if where != "step_fn":
        getattr(optimizer, f"register_step_{where.replace(' ', '_')}")(lambda *_: scheduler.step())
    used.clear()
    before = fingerprint(model, optimizer, loader, scheduler)

    def step_fn(batch):
        if where == "step_fn":
            scheduler.step()
        return cross_entropy(model(batch[0]), batch[1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        [swept] = sweep(model, optimizer, loader, step_fn=step_fn).sweeps
    assert [lr for lr, _ in used[: len(swept.lr)]] == swept.lr.tolist()
    assert {momentum for _, momentum in used} == {optimizer.param_groups[0]["momentum"]}
    assert fingerprint(model, optimizer, loader, scheduler) == before


class OwnRate(torch.optim.Optimizer):
    n = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.n += 1
        for p in self.param_groups[0]["params"]:
            p -= self.choose_lr() * p.grad

    def choose_lr(self):
        return 0.01


class OwnSchedule(OwnRate):
    def choose_lr(self):
        if self.n > 20:
            self.param_groups[0]["lr"] = 0.01
        return self.param_groups[0]["lr"]


class Wrapper:
    """Has no hooks of its own, and sets the rate of the optimizer inside."""

    def __init__(self, params):
        self.inner, self.n = torch.optim.Adam(params, lr=0.1), 0
        self.param_groups, self.zero_grad = self.inner.param_groups, self.inner.zero_grad

    def step(self):
        self.n += 1
        self.param_groups[0]["lr"] = 0.001 * self.n
        self.inner.step()


@pytest.mark.parametrize(
    "kind, message",
    [
        (OwnRate, "the learning rate has no effect on OwnRate"),
        (OwnSchedule, r"OwnSchedule.step\(\) must use the learning rate of the sweep, got 0.01 instead of .*; pass"),
    ],
)
def test_an_optimizer_that_makes_its_own_rate_is_refused(kind, message):
    model, _, loader = build()
    optimizer = kind(model.parameters(), {"lr": 0.1})
    before = fingerprint(model, optimizer, loader)
    with pytest.raises(ValueError, match=message):
        sweep(model, optimizer, loader)
    assert fingerprint(model, optimizer, loader) == before and optimizer.n == 0


def test_the_optimizer_in_a_wrapper_uses_the_rate_of_the_sweep():
    model, _, loader = build()
    optimizer = Wrapper(model.parameters())
    used = []
    optimizer.inner.register_step_post_hook(lambda *_: used.append(optimizer.param_groups[0]["lr"]))
    [swept] = sweep(model, optimizer, loader).sweeps
    assert used[: len(swept.lr)] == swept.lr.tolist() and optimizer.n == 0 and not optimizer.inner.state


class Averaging(torch.optim.SGD):
    mode = "eval"

    def train(self):
        self.mode = "train"

    def eval(self):
        self.mode = "eval"


def test_validation_is_in_eval_mode_also_of_a_schedule_free_optimizer_and_the_modes_come_back():
    model, _, loader = build()
    model[1].eval()
    optimizer, modes = Averaging(model.parameters(), lr=0.1), []

    def step_fn(batch):
        modes.append((model.training, model[1].training, optimizer.mode, torch.is_grad_enabled()))
        return cross_entropy(model(batch[0]), batch[1])

    result = sweep(model, optimizer, loader, val_loader=[blobs(9)], step_fn=step_fn)
    assert modes[:90] == ([(True, False, "train", True)] * 2 + [(False, False, "eval", False)]) * 30
    assert len(result.sweeps[0].val) == 30 and result.settings.val_metric == "loss" and optimizer.mode == "eval"


# What a curve cannot show


SKIPPED = {"loss_fn": lambda out, y: 1e6 * cross_entropy(out, y), "end_lr": 1, "diverge_th": None}
FEW = {"val_loader": [blobs(30)], "start_lr": 1, "end_lr": 1e10}
UNSEEN = {  # what is wrong: (settings, words of the reason, words that it lacks)
    "broken sample": ({"repeats": 3}, "look for a broken sample", "more steps"),
    "broken weight": ({}, "before any update: check the model, the loss and the data", "learning rate"),
    "every update skipped": (SKIPPED, "GradScaler skipped every update", "learning rate"),
    "few validations": (FEW, "too few validations", "more steps"),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_the_reason_says_what_a_curve_cannot_show(case):
    (options, words, lacking), (model, optimizer, loader) = UNSEEN[case], build()
    if case == "broken sample":
        loader.dataset.tensors[0][::100] = float("inf")
    if case == "broken weight":
        model[0].weight.data[0, 0] = float("nan")
    if case == "every update skipped":
        options = {**options, "scaler": torch.amp.GradScaler("cpu", init_scale=2.0**120, backoff_factor=0.99)}
    result = sweep(model, optimizer, loader, **options)
    found = result.suggest()
    assert not found.reliable and words in found.reason and lacking not in found.reason
    assert case != "few validations" or len(result.sweeps[0].val) < 10
    assert np.isnan([found.lr, found.lower, found.upper]).all() == (case == "broken weight")


def test_rates_beyond_float32_are_left_out():
    [swept] = sweep(*build(), loss_fn=lambda out, _: 0 * out.sum(), end_lr=1e60).sweeps
    assert 1e37 < swept.lr[-1] < 3.5e38 and np.isfinite(swept.loss).all()


def test_max_seconds_ends_the_range_test_and_complete_sweeps_count():
    model, optimizer, loader = build()

    def slow(out, targets):
        time.sleep(0.01)
        return cross_entropy(out, targets)

    began = time.perf_counter()
    result = sweep(model, optimizer, loader, loss_fn=slow, num_iter=50, repeats=100, end_lr=1, max_seconds=3)
    assert time.perf_counter() - began < 15
    assert 1 <= len(result.sweeps) < 7 and all(len(swept.lr) == 50 for swept in result.sweeps)
    result = sweep(model, optimizer, loader, loss_fn=slow, num_iter=1000, max_seconds=0.5)
    assert len(result.sweeps[0].lr) < 60 and "max_seconds" in result.suggest().reason
