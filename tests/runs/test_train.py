"""`train` and its results, with workers in this process."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from in_process import train_in_process
from torch import nn

from lrlib import Run
from lrlib.problems.data import Data
from lrlib.problems.problem import Problem
from lrlib.runs import trainer
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import Store, StoreError
from lrlib.runs.trainer import find_results
from lrlib.schedules import Constant, MultiStep, OneCycle
from lrlib.training.backends import plain
from lrlib.training.epoch import epoch_order

SAMPLE = {"problem": "lenet5_sample", "epochs": 3}


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder, in bfloat16."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(torch.tanh(self.encode(x)))


def _load_points():
    points = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    return Data((points, points), (points[:16], points[:16]))


tied = Problem(
    name="tied",
    build_model=lambda: Tied().bfloat16(),
    load_data=_load_points,
    losses=lambda outputs, targets: (outputs - targets).square().mean(1).float(),
    batch_size=16,
)
noisy = replace(tied, build_model=lambda: nn.Sequential(nn.Dropout(0.5), Tied().bfloat16()))
TIED, NOISY = f"{__name__}:tied", f"{__name__}:noisy"


@pytest.fixture
def train(monkeypatch):
    return train_in_process(monkeypatch)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def parameters(results, run):
    return {name: value.detach() for name, value in results.model(run).named_parameters()}


def assert_equal_parameters(results, others, run):
    torch.testing.assert_close(parameters(results, run), parameters(others, run), rtol=0, atol=0)


def test_a_second_training_computes_nothing_and_gives_the_same(store, train, monkeypatch):
    run = Run(Constant(0.1), **SAMPLE)
    first = train([run, run], store=store, progress=False)
    monkeypatch.setattr(trainer, "open_workers", None)
    second = train([run], store=store, progress=False)
    assert (first.n_computed, second.n_computed) == (3, 0)
    assert first.epochs.equals(second.epochs)
    assert first.steps.equals(second.steps)
    assert find_results([run], store=store).epochs.equals(second.epochs)
    assert find_results([run, replace(run, epochs=4)], store=store) is None


def test_tables_are_tidy_and_agree(store, train):
    run = Run(OneCycle(0.1), problem="lenet5_sample", epochs=2)
    results = train([run], store=store, progress=False)
    assert list(results.epochs.columns) == [
        "run", "problem", "seed", "epoch", "lr", "momentum", "train_loss", "test_loss", "test_accuracy", "n_test",
        "seconds", "diverged",
    ]  # fmt: skip
    assert list(results.steps.columns) == ["run", "problem", "seed", "step", "lr", "momentum", "loss"]
    assert len(results.steps) == 2 * 32  # 32 = ceil(4000 / 128)
    assert results.epochs["train_loss"][1] == pytest.approx(results.steps["loss"][32:].mean())
    assert results.epochs["lr"][1] == results.steps["lr"].iloc[-1]
    assert not results.model(run).training
    assert (results.steps["loss"].astype(np.float32) == results.steps["loss"]).all()


@pytest.mark.parametrize("problem", ["lenet5_sample", TIED, NOISY])
def test_a_resumed_run_and_one_beside_others_end_in_the_bits_of_an_uninterrupted_one(tmp_path, train, problem):
    run = Run(OneCycle(0.1, final_div_factor=4), problem=problem, epochs=3)
    whole, broken = Store(tmp_path / "whole"), Store(tmp_path / "broken")
    expected = train([run], store=whole, progress=False)
    first = plan_epochs(run)[0].name
    broken.save(first, whole.load(first))
    resumed = train([run], store=broken, progress=False)
    assert resumed.n_computed == 2
    assert_equal_parameters(expected, resumed, run)
    others = [replace(run, seed=1), Run(MultiStep(0.1, [1]), problem=problem, epochs=2)]
    beside = train([*others, run], store=Store(tmp_path / "beside"), progress=False)
    assert_equal_parameters(expected, beside, run)


def test_tied_weights_stay_one_parameter_and_bfloat16(store, train):
    run = Run(Constant(0.1), problem=TIED, epochs=1)
    model = train([run], store=store, progress=False).model(run)
    assert model.encode.weight is model.decode.weight
    torch.manual_seed(0)
    expected, data = tied.build_model(), _load_points()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    for batch in epoch_order(0, 1, 64).split(16):
        optimizer.zero_grad()
        tied.losses(expected(data.train[0][batch]), data.train[1][batch]).mean().backward()
        optimizer.step()
    assert model.encode.weight.dtype == torch.bfloat16 and torch.equal(expected.encode.weight, model.encode.weight)


@pytest.mark.parametrize("damage", ["a bit", "cut"])
def test_a_damaged_epoch_is_said_and_trained_again_to_the_same_bits(store, train, damage):
    run = Run(Constant(0.1), **SAMPLE)
    before = train([run], store=store, progress=False)
    kept, path = parameters(before, run), store.path(plan_epochs(run)[1].name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "a bit" else content[:-1])
    with pytest.warns(UserWarning, match="is computed again"):
        after = train([run], store=store, progress=False)
    assert after.n_computed == 1
    assert after.epochs.drop(columns="seconds").equals(before.epochs.drop(columns="seconds"))
    torch.testing.assert_close(parameters(after, run), kept, rtol=0, atol=0)


def test_a_run_that_diverges_is_recorded_at_its_step_and_stops_nobody(store, train):
    wild, tame = Run(Constant(1e30), **SAMPLE, label="wild"), Run(Constant(0.1), **SAMPLE, label="tame")
    results = train([wild, tame], store=store, progress=False)
    assert results.diverged["run"].tolist() == ["wild"]
    step = results.diverged["step"][0]
    losses = results.steps.query("run == 'wild'")["loss"].to_numpy()
    assert np.isfinite(losses).tolist() == [True] * step + [False] * (3 * 32 - step)
    assert results.epochs.query("run == 'tame'")["test_accuracy"].iloc[-1] > 0.5
    with pytest.raises(ValueError, match="wild .* diverged"):
        results.model(wild)
    again = train([wild, tame], store=store, progress=False)
    assert again.n_computed == 0
    assert again.diverged.equals(results.diverged)
    assert find_results([wild], store=store).diverged.equals(results.diverged)


@pytest.mark.parametrize(("part", "factor"), [("model.", np.inf), ("optimizer.", np.nan)])
def test_a_run_that_diverges_in_its_last_update_has_diverged_at_that_step(store, train, monkeypatch, part, factor):
    quick = plain.train_epoch

    def explode(state, **settings):
        after, losses = quick(state, **settings)
        return {name: tensor * (factor if name.startswith(part) else 1) for name, tensor in after.items()}, losses

    monkeypatch.setattr(plain, "train_epoch", explode)
    monkeypatch.setattr(plain, "evaluate", lambda *_, **__: (0.0, None))
    run = Run(Constant(0.1), problem=TIED, epochs=2, label="late")
    results = train([run], store=store, progress=False)
    assert results.diverged[["run", "step", "lr"]].values.tolist() == [["late", 3, 0.1]]
    assert np.isfinite(results.steps["loss"]).tolist() == [True] * 4 + [False] * 4
    assert results.epochs["test_loss"].isna().all()


def test_equal_labels_on_two_problems_stay_apart_in_the_tables(store, train):
    runs = [Run(Constant(1e-3), problem=problem, epochs=1, label="same") for problem in (TIED, "lenet5_sample")]
    results = train(runs, store=store, progress=False)
    assert results.epochs[["run", "problem"]].values.tolist() == [["same", TIED], ["same", "lenet5_sample"]]
    assert results.steps.groupby(["run", "problem"]).size().tolist() == [32, 4]
    assert results.epochs["test_accuracy"].isna().tolist() == [True, False]
    assert isinstance(results.model(runs[0]), Tied)


def test_what_is_not_among_the_results_or_was_removed_is_an_error(store, train):
    run = Run(Constant(0.1), problem=TIED, epochs=1)
    results = train([run], store=store, progress=False)
    with pytest.raises(KeyError, match="is not among these results"):
        results.model(replace(run, seed=1))
    store.path(plan_epochs(run)[0].name).unlink()
    with pytest.raises(StoreError, match="no longer there; train the run again"):
        results.model(run)
