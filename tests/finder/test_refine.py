"""Held learning rates after a sweep: where they are, what they cost, what they leave behind, and what they suggest."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from trainings import batches, build, cross_entropy, fingerprint, record_lrs, sweep

from lrlib.finder.refine import FACTOR, Held, best_held, first_lr, next_exponent
from lrlib.finder.result import RangeTestResult
from lrlib.suggest import smith_bounds, turning_points

INF = math.inf
smoothed = partial(cross_entropy, label_smoothing=0.2)  # does not fall many-fold, which would be a doubt


@pytest.mark.parametrize(
    "scored, expected",
    [
        ({}, 0),
        ({0: 1.0}, 1),
        ({0: 1.0, 1: 0.9}, 2),
        ({0: 1.0, 1: 1.1}, -1),
        ({0: 1.0, 1: INF}, -1),
        ({0: 1.0, 1: 1.1, -1: 0.9}, -2),
        ({0: 1.0, 1: 1.1, -1: 1.1}, None),
        ({0: INF}, -1),
        ({0: INF, -1: INF}, -3),
        ({0: INF, -1: INF, -3: 1.0}, -2),
        ({0: 1.0, 1: 1.01, -1: 1.5}, 2),  # within 2 % of the gain, which is 1
        ({0: 1.0, 1: 1.5, -1: 1.01}, -2),
        ({0: 1.0, 1: 1.01, -1: 1.5, 2: 1.2}, None),
        ({0: 1.0, 1: 1.03, -1: 1.5}, None),
    ],
)
def test_the_search_goes_downhill_until_the_best_has_a_worse_one_on_both_sides(scored, expected):
    assert next_exponent(scored, start=2.0) == expected


@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.1, 0.2])
def test_the_best_held_rate_is_the_vertex_of_a_parabola_in_log_lr(shift):
    held = [Held(0.01 * FACTOR**k, 1 + (k - shift) ** 2, 0.0) for k in (1, -1, 0)]
    lr, is_enclosed = best_held(held)
    assert lr == pytest.approx(0.01 * FACTOR**shift) and is_enclosed


def test_a_diverged_neighbour_moves_the_best_rate_by_a_quarter_step_at_most_and_an_open_end_not_at_all():
    lr, is_enclosed = best_held([Held(0.004, 1.1, 0), Held(0.01, 1.0, 0), Held(0.025, INF, 0)])
    assert lr == pytest.approx(0.01 * FACTOR**-0.25) and is_enclosed
    assert best_held([Held(0.01, 1.0, 0), Held(0.025, 1.5, 0)]) == (0.01, False)
    assert best_held([Held(0.004, INF, 0), Held(0.01, 1.0, 0), Held(0.025, INF, 0)]) == (0.01, True)


X = np.linspace(-6, 1, 300)


def test_the_first_rate_is_read_from_the_fall_and_without_one_from_the_rise():
    loss = 0.1 + 2.2 / (1 + 10 ** (2 * (X + 2))) + 10 ** (4 * X)
    lr = 10**X
    assert first_lr(lr, loss) == pytest.approx(min(turning_points(lr, loss).lowest / 3, smith_bounds(lr, loss).lr))
    for seed in range(10):  # no fall to be seen in the noise, a rise from 0.1 on
        noisy = 2.3 + 10 ** (4 * (X + 1)) + 0.1 * np.random.default_rng(seed).standard_normal(300)
        assert 1e-3 < first_lr(lr, noisy) < 0.1


def test_one_sweep_and_its_holds_start_alike_cost_no_more_than_the_sweeps_and_leave_nothing_behind():
    model, optimizer, loader = build(momentum=0.9)
    lrs, before = record_lrs(optimizer), fingerprint(model, optimizer, loader)
    first = sweep(model, optimizer, loader, num_iter=100, repeats=3, refine=True)
    n_updates = len(lrs)
    again = sweep(model, optimizer, loader, num_iter=100, repeats=3, refine=True)
    assert fingerprint(model, optimizer, loader) == before
    # The finder's control of the rate's effect is one update at either end.
    assert n_updates - 2 <= len(first.sweeps[0].lr) + sum(len(held.lr) for held in first.holds) <= 300
    assert len(first.sweeps) == 1 and 3 <= len(first.holds) <= 5
    for held, repeated in zip(first.holds, again.holds, strict=True):
        assert len(set(held.lr)) == 1 and len(held.lr) == 40
        assert held.loss[0] == first.sweeps[0].loss[0]  # before the first update: the same weights and batch
        assert np.array_equal(held.loss, repeated.loss) and np.array_equal(held.lr, repeated.lr)
    assert first.suggest() == again.suggest()


@pytest.fixture(scope="module")
def result():
    options = {"num_iter": 150, "repeats": 3, "start_lr": 1e-6, "refine": True}
    return sweep(*build(momentum=0.9), loss_fn=smoothed, **options)


def test_the_suggestion_of_holds_knows_lengths_is_saved_and_drawn(result, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    plain, longer = result.suggest(), result.suggest(total_steps=1500)
    assert plain.confidence == "high" and plain.total_steps == 150 and longer.total_steps == 1500
    assert longer.lr == pytest.approx(plain.lr * 10**-0.32, rel=0.01) and longer.upper == plain.upper
    assert plain.lower <= plain.lr <= plain.upper
    result.save(tmp_path / "result.json")
    loaded = RangeTestResult.load(tmp_path / "result.json")
    assert loaded == result and loaded.suggest() == plain
    drawn = {tuple(line.get_xdata()) for line in result.plot().lines}
    assert tuple(held.lr[0] for held in result.holds) in drawn
    assert result.suggest("valley").lr == result.suggest_each("valley")[0].lr  # of the sweep alone


def test_holds_are_judged_by_the_validation_data():
    model, optimizer, loader = build(momentum=0.9)
    result = sweep(model, optimizer, loader, num_iter=150, repeats=3, refine=True, val_loader=loader)
    assert all(len(held.val) > 1 and held.val_step[-1] == 59 for held in result.holds if not held.diverged)
    assert result.suggest().reliable
    broken = [(torch.full((4, 6), math.nan), torch.zeros(4, dtype=torch.long))]
    unknown = sweep(model, optimizer, loader, num_iter=300, repeats=3, refine=True, val_loader=broken)
    assert not unknown.holds and "too few validations" in unknown.suggest().reason


def test_a_momentum_longer_than_the_sweep_is_told_how_many_steps_it_takes_and_refined():
    model, optimizer, loader = build(momentum=0.99)
    plain = sweep(model, optimizer, loader, num_iter=300, start_lr=1e-6, repeats=3)
    assert plain.suggest().confidence == "low" and "num_iter=1400 or refine=True" in plain.suggest().reason
    assert sweep(model, optimizer, loader, num_iter=300, repeats=3, refine=True).suggest().confidence == "medium"
    betas = torch.optim.Adam(model.parameters(), betas=(0.99, 0.999))
    assert sweep(model, betas, loader, num_iter=300, start_lr=1e-6).suggest().confidence == "low"


def test_a_loss_that_a_second_optimizer_lowers_is_not_credited_to_the_swept_rate():
    torch.manual_seed(0)
    encoder, head = nn.Sequential(nn.Linear(6, 16), nn.Tanh()), nn.Linear(16, 3)
    optimizer, other = torch.optim.Adam(encoder.parameters(), 1e-3), torch.optim.Adam(head.parameters(), 1e-2)

    def step_fn(batch):
        other.step()  # of the gradients of the step before
        other.zero_grad()
        return cross_entropy(head(encoder(batch[0])), batch[1])

    found = sweep(encoder, optimizer, batches(512), step_fn=step_fn, num_iter=200, start_lr=1e-6).suggest()
    assert found.confidence == "low" and "from the first learning rate on" in found.reason


def test_a_loss_that_does_not_depend_on_the_scale_of_the_weights_is_recognised():
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    normalized = lambda outputs, y: cross_entropy(5 * nn.functional.normalize(outputs, dim=-1), y)  # noqa: E731
    found = sweep(model, optimizer, batches(512), loss_fn=normalized, num_iter=300, start_lr=1e-6).suggest()
    assert found.confidence == "low" and "does not diverge" in found.reason and "end_lr" not in found.reason


def test_few_data_have_medium_confidence_unless_they_are_validated(result):
    assert result.settings.passes == 150 / 16 and result.suggest().confidence == "high"
    few = replace(result, settings=replace(result.settings, passes=24.0)).suggest()
    assert few.confidence == "medium" and "24 times" in few.reason
    validated = replace(result, settings=replace(result.settings, passes=24.0, val_metric="loss"))
    assert validated.settings.overfits() is None
