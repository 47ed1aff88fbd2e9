"""The ends of a sweep where they are not given: what a coarse look takes from the curve, and what it costs."""

import numpy as np
import pytest
import torch
from test_staircase import Bowl
from torch import nn
from trainings import blobs, build, cross_entropy, fingerprint, record_lrs, sweep

from lrlib.finder.look import FALLBACK, choose_ends
from lrlib.finder.result import RangeTestResult

ENDS = {"start_lr": None, "end_lr": None}


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_they_follow_the_scale_of_the_loss(scale):
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = sweep(
        model, optimizer, [blobs(256)], loss_fn=lambda out, y: scale * cross_entropy(out, y), num_iter=200, **ENDS
    ).settings
    assert 1e-5 < settings.start_lr * scale < 1e-2
    assert 10 < settings.end_lr * scale < 1e3
    assert 20 < settings.look_steps <= 65


@pytest.mark.parametrize("changes", [{}, {"step_mode": "staircase"}, {"clip_norm": 1.0, "accumulation_steps": 2}])
def test_sweeps_are_to_the_bit_those_with_the_same_ends_given_and_everything_is_put_back(changes):
    model, optimizer, loader = build(momentum=0.9)
    before = fingerprint(model, optimizer, loader)
    looked = sweep(model, optimizer, loader, repeats=2, **ENDS, **changes)
    assert fingerprint(model, optimizer, loader) == before
    ends = {"start_lr": looked.settings.start_lr, "end_lr": looked.settings.end_lr}
    given = sweep(model, optimizer, loader, repeats=2, **ends, **changes)
    for one, other in zip(looked.sweeps, given.sweeps, strict=True):
        assert np.array_equal(one.lr, other.lr) and np.array_equal(one.loss, other.loss)
    assert given.settings.look_steps == 0 < looked.settings.look_steps


def test_its_updates_are_counted_and_the_result_keeps_them(tmp_path):
    model, optimizer, loader = build()
    seen = record_lrs(optimizer)
    result = sweep(model, optimizer, loader, **ENDS)
    assert len(seen) == result.settings.look_steps + len(result.sweeps[0].lr)
    result.save(tmp_path / "looked.json")
    assert RangeTestResult.load(tmp_path / "looked.json") == result


def test_a_start_that_is_given_stays_and_an_end_alone_leaves_the_optimizers_own_rate_as_start():
    model, optimizer, loader = build(lr=0.003)
    found = sweep(model, optimizer, loader, start_lr=1e-3, end_lr=None).settings
    assert found.start_lr == 1e-3 and found.end_lr > 1
    assert sweep(model, optimizer, loader, start_lr=None, end_lr=1).settings.start_lr == 0.003


def test_they_are_found_with_step_fn_init_fn_validation_and_what_else_is_kept():
    model, optimizer, loader = build()
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    counted = average.n_averaged.item()
    result = sweep(
        model,
        optimizer,
        loader,
        loss_fn=None,
        step_fn=lambda batch: cross_entropy(model(batch[0]), batch[1]),
        init_fn=lambda model: model[0].reset_parameters(),
        also=[average],
        val_loader=loader,
        num_iter=100,
        **ENDS,
    )
    assert result.suggest().reliable and result.settings.end_lr < 1e4
    assert average.n_averaged.item() == counted


def test_where_the_look_shows_nothing_they_are_those_of_a_sweep_that_is_told_nothing():
    model = Bowl()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flat = sweep(model, optimizer, [(torch.zeros(2),) * 2], loss_fn=lambda y, _: 0 * y + 1, num_iter=20, **ENDS)
    assert (flat.settings.start_lr, flat.settings.end_lr) == FALLBACK
    assert not flat.suggest().reliable


def test_they_lie_below_the_fall_and_at_the_explosion_of_the_look():
    [look] = sweep(*build(), num_iter=40, start_lr=1e-8, end_lr=1e8).sweeps
    start, end = choose_ends(look)
    assert end == look.lr[-1] and np.median(look.loss[look.lr < 2 * start]) > 0.9 * look.loss[0]


def test_an_error_of_the_users_comes_out_of_the_look_with_everything_as_before():
    model, optimizer, loader = build()
    before = fingerprint(model, optimizer, loader)

    def fails(out, targets):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        sweep(model, optimizer, loader, loss_fn=fails, **ENDS)
    assert fingerprint(model, optimizer, loader) == before
