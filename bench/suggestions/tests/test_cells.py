"""Cells train with all learning rates at once as torch's own optimizers train them one by one."""

import numpy as np
import pytest
import torch

from bench.suggestions.cells import CONSTANT, ONE_CYCLE, list_cells
from bench.suggestions.measure import draw_batches, measure_trainings, sweep, train_many, train_plainly

CELLS = {cell.name: cell for cell in list_cells()}
# One of each optimizer and setting, a model with frozen weights, one with two learning rates, one with two optimizers.
OF_EACH_KIND = (
    "cancer logistic, sgd",
    "digits cnn, sgd 0.99",
    "digits mlp, adam 0.99",
    "spirals mlp, adam",
    "friedman mlp, adamw",
    "digits resnet, adamw",
    "gpt lora code to prose, adamw",
    "cnn head and backbone/10, adam",
    "tanh cnn encoder beside head, sgd 0.9",
)


@pytest.fixture(autouse=True)
def short_pretraining(monkeypatch):
    from bench.suggestions import cells

    whole = cells.pretrain.__wrapped__
    monkeypatch.setattr(cells, "pretrain", lambda make, loss, of, steps, lr: whole(make, loss, of, 5, lr))


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_all_learning_rates_at_once_train_as_torch_s_optimizers_do(name):
    cell = CELLS[name]
    lrs = cell.grid(CONSTANT)[4:8:3]
    found = train_many(cell, lrs, [0, 3], 12)
    for i, lr in enumerate(lrs):
        losses, tested = train_plainly(cell, lr, 3, [12])
        assert found[12][0][i, 1] == pytest.approx(np.mean(losses[-10:]), rel=2e-4)
        assert found[12][1][i, 1] == pytest.approx(tested[12], rel=2e-4)


def test_one_cycle_is_that_of_torch():
    cell = CELLS["digits cnn, sgd 0.9"]
    model = cell.start(0)
    optimizer = cell.make_optimizer(model, 0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
    for _, batch in zip(range(20), draw_batches(cell, 0), strict=False):
        optimizer.zero_grad()
        cell.loss(model, batch).backward()
        optimizer.step()
        scheduler.step() if scheduler.last_epoch < 19 else None
    with torch.no_grad():
        expected = cell.loss(model, cell.test()).item()
    assert train_many(cell, [0.1], [0], 20, ONE_CYCLE)[20][1].item() == pytest.approx(expected, rel=1e-4)


def test_what_diverges_has_no_test_loss_and_leaves_the_others_alone():
    cell = CELLS["digits mlp, sgd"]
    alone, beside = train_many(cell, [0.1], [0], 30), train_many(cell, [0.1, 1e30], [0], 30)
    assert np.isnan(beside[30][1][1, 0])
    assert beside[30][1][0, 0] == pytest.approx(alone[30][1][0, 0], rel=1e-6)


def test_every_kind_is_in_both_halves_once_and_names_are_unique():
    halves = [{cell.kind for cell in list_cells(half)} for half in ("development", "held-out")]
    assert halves[0] == halves[1] and len(CELLS) == 2 * len(halves[0]) == len(list_cells()) >= 24


def test_a_range_test_of_a_cell_restores_both_optimizers():
    cell = CELLS["tanh cnn encoder beside head, sgd 0.9"]
    first, second = (sweep(cell, 100, num_iter=30, repeats=2) for _ in range(2))
    for one, other in zip(first.sweeps, second.sweeps, strict=True):
        np.testing.assert_array_equal(one.loss, other.loss)
    assert not np.array_equal(first.sweeps[0].loss, first.sweeps[1].loss)


def test_measuring_adds_only_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.suggestions.measure.CYCLE_STEPS", 30)
    path, cells = tmp_path / "trainings.csv", [CELLS["cancer logistic, sgd"]]
    measure_trainings(cells, 1, 50, path)
    first = path.read_text()
    measure_trainings(cells, 1, 50, path)
    assert path.read_text() == first
    measure_trainings(cells, 2, 50, path)
    whole = tmp_path / "whole.csv"
    measure_trainings(cells, 2, 50, whole)
    assert sorted(path.read_text().splitlines()) == sorted(whole.read_text().splitlines())
