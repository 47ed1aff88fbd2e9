"""Rates that are held, each from the same state: a closed form, the ramp beside them, and nothing left changed."""

import numpy as np
import pytest
import torch
from torch import nn
from trainings import blobs, build, cross_entropy, fingerprint, record_lrs, sweep

from lrlib.finder.result import RangeTestResult
from lrlib.suggest import turning_points

CURVATURE, START = 7.0, 3.0


class Bowl(nn.Module):
    """theta -> CURVATURE * theta^2 / 2, for each input, whatever it is."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(START, dtype=torch.float64))

    def forward(self, inputs):
        return CURVATURE * self.theta**2 / 2 + 0 * inputs.sum()


def step_down(**changes):
    model = Bowl()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"num_iter": 400, "num_rates": 40, "start_lr": 1e-4, "end_lr": 10, "step_mode": "staircase", **changes}
    return sweep(model, optimizer, [(torch.zeros(2), torch.zeros(2))], loss_fn=lambda y, _: y, **settings)


def test_on_a_quadratic_every_loss_is_that_of_the_closed_form_and_the_lowest_is_at_one_over_the_curvature():
    [found] = step_down().sweeps
    rates = np.geomspace(1e-4, 10, 40)
    assert np.allclose(found.lr, rates[: len(found.lr)], rtol=1e-12)
    # Held for ten updates, of which the last two count: the loss before update k is that at the start times
    # (1 - lr * curvature) ** 2k.
    shrink = (1 - found.lr * CURVATURE) ** 2
    expected = CURVATURE * START**2 / 2 * (shrink**8 + shrink**9) / 2
    assert np.allclose(found.loss, expected, rtol=1e-9)
    step = 5 / 39
    assert abs(np.log10(turning_points(found.lr, found.loss).lowest * CURVATURE)) <= step
    assert found.stop_reason.startswith("the loss diverged")
    assert 0 < np.log10(found.lr[-1] * CURVATURE / 2) <= step


def test_without_noise_it_suggests_what_the_ramp_does_to_within_a_stair():
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"num_iter": 300, "start_lr": 1e-5, "end_lr": 1e4}
    ramp, stairs = (
        sweep(model, optimizer, [blobs(256)], step_mode=mode, num_rates=30, **settings) for mode in ("exp", "staircase")
    )
    step = 9 / 29
    assert ramp.suggest().reliable and stairs.suggest().reliable
    assert abs(np.log10(ramp.suggest().lr / stairs.suggest().lr)) <= step
    assert abs(np.log10(ramp.sweeps[0].lr[-1] / stairs.sweeps[0].lr[-1])) <= step


def test_every_rate_begins_from_the_same_state_with_the_same_batches_and_sweeps_differ():
    model, optimizer, loader = build(momentum=0.9)
    seen, starts = record_lrs(optimizer), []
    optimizer.register_step_pre_hook(lambda *_: starts.append(model[0].weight.detach().clone()))
    batches = []
    result = sweep(
        model,
        optimizer,
        loader,
        loss_fn=lambda out, y: batches.append(y.tolist()) or cross_entropy(out, y),
        step_mode="staircase",
        num_iter=64,
        num_rates=16,
        end_lr=0.1,
        repeats=2,
    )
    assert [len(found.lr) for found in result.sweeps] == [16, 16] and len(seen) == 128
    assert np.array_equal(
        np.ravel(seen).reshape(32, 4), np.tile(np.concatenate([s.lr for s in result.sweeps]), (4, 1)).T
    )
    assert all(torch.equal(start, starts[0]) for start in starts[::4]) and not torch.equal(starts[0], starts[1])
    assert all(batches[i : i + 4] == batches[:4] for i in range(0, 64, 4))
    assert batches[:4] != batches[64:68]


@pytest.mark.parametrize("end_lr", [0.1, 1e6])
def test_everything_is_put_back_to_the_bit(end_lr):
    model, optimizer, loader = build(momentum=0.9)
    before = fingerprint(model, optimizer, loader)
    sweep(model, optimizer, loader, step_mode="staircase", num_rates=12, end_lr=end_lr, val_loader=loader, repeats=2)
    assert fingerprint(model, optimizer, loader) == before


def test_it_is_validated_after_each_rate_shown_and_saved(tmp_path):
    model, optimizer, loader = build()
    held = {"step_mode": "staircase", "num_iter": 100, "end_lr": 1}
    result = sweep(model, optimizer, loader, **held, val_loader=loader, val_batches=2)
    [found] = result.sweeps
    assert found.val_step.tolist() == list(range(20)) and len(found.val) == 20
    assert "20 rates, reached end_lr 1" in repr(result) and "staircase" in repr(result)
    assert result.plot().get_xscale() == "log"
    result.save(tmp_path / "stairs.csv")
    assert RangeTestResult.load(tmp_path / "stairs.csv") == result


def test_an_exception_of_the_explosion_ends_it_at_its_rate():
    model, optimizer, loader = build()

    def loss_fn(out, targets):
        if not out.abs().max() < 1e3:
            raise ValueError("out of range")
        return cross_entropy(out, targets)

    [found] = sweep(
        model, optimizer, loader, loss_fn=loss_fn, step_mode="staircase", diverge_th=1e30, end_lr=1e6
    ).sweeps
    assert "ValueError was raised at lr" in found.stop_reason and np.isnan(found.loss[-1])
    assert 10 < len(found.lr) < 20
