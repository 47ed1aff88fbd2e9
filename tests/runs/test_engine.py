"""The engine by itself: epochs that take no time, computed in this process."""

import hashlib
import pickle
from concurrent.futures import ThreadPoolExecutor

import in_process
import numpy as np
import pytest
import torch
from in_process import Evil, InProcess

from lrlib import Run
from lrlib.problems.data import Data
from lrlib.runs import engine
from lrlib.runs.engine import EngineError, compute_epochs
from lrlib.runs.plan import Epoch
from lrlib.runs.store import Artefact, Store, StoreError, decode, encode
from lrlib.schedules import Constant
from lrlib.training.backends import plain
from lrlib.training.epoch import initial_state, load_model

ONE = torch.zeros(1, dtype=torch.int64)
DATA = Data((ONE, ONE), (ONE, ONE))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def workers():
    return InProcess(pickle.dumps({("lenet5_sample", "one image"): DATA}))


@pytest.fixture(autouse=True)
def quick_epochs(monkeypatch):
    """Epochs that only build the model."""
    monkeypatch.setattr(engine, "load_data", lambda name: DATA)
    monkeypatch.setattr(engine, "name_numerics", lambda *_: {"torch": "1.0"})
    monkeypatch.setattr(plain, "evaluate", lambda state, **_: (0.0, 0))

    def train_epoch(state, *, lr, **_):
        load_model(state)
        return {name: tensor.contiguous() for name, tensor in state.items()}, np.array(lr)

    monkeypatch.setattr(plain, "train_epoch", train_epoch)


def chain(length, *, seed=0, parent=None, label="", lr=0.1, data="one image"):
    """Epochs of a made-up run; parent: the Epoch that it continues."""
    epochs = []
    run = Run(Constant(0.1), problem="lenet5_sample", seed=seed, backend="torch")
    for _ in range(length):
        before = epochs[-1] if epochs else parent
        number = before.number + 1 if before else 1
        name = hashlib.sha256(f"{label} {seed} {number} {before and before.name}".encode()).hexdigest()
        epochs.append(Epoch(name, name, before and before.name, number, run, np.full(2, lr), np.full(2, 0.9), data))
    return epochs


def test_longer_chains_start_first_and_each_epoch_is_stored_when_it_is_given_after_its_parent(store, workers):
    short, long = chain(2), chain(3, seed=1)
    seen = set()
    for epoch, artefact in compute_epochs(short + long, store=store, workers=workers):
        assert store.load(epoch.name).values == artefact.values
        assert epoch.parent is None or epoch.parent in seen
        seen.add(epoch.name)
    assert seen == {epoch.name for epoch in short + long}
    assert workers.submitted[0] == long[0].name


def test_nothing_is_computed_below_an_epoch_that_diverged(store, workers):
    trunk = chain(1)
    wild, tame = chain(3, parent=trunk[0], label="wild", lr=np.inf), chain(2, parent=trunk[0], label="tame")
    results = {e.name: artefact for e, artefact in compute_epochs(trunk + wild + tame, store=store, workers=workers)}
    assert len(results) == 6
    assert results[wild[0].name].values["diverged"]
    assert results[wild[1].name] is results[wild[2].name] is store.load(wild[1].name) is None
    assert not results[tame[1].name].values["diverged"]


def test_threads_of_a_worker_start_each_seed_from_its_own_parameters(store, workers):
    epochs = [chain(1, seed=seed)[0] for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda epoch: engine.run_task(engine.pack_task(epoch, store)), epochs))
    for epoch, file in zip(epochs, files, strict=True):
        stored, expected = decode(epoch.name, file).tensors, initial_state(epoch.run.seed)
        assert all(torch.equal(stored[name], tensor) for name, tensor in expected.items())


def test_an_epoch_that_fails_is_an_error_with_its_reason_and_those_before_it_are_stored(store, workers, monkeypatch):
    def fail(state, **_):
        raise MemoryError("no room for a batch")

    epochs = chain(2)
    results = compute_epochs(epochs, store=store, workers=workers)
    next(results)
    monkeypatch.setattr(plain, "train_epoch", fail)
    with pytest.raises(EngineError, match="an epoch could not be computed: no room for a batch"):
        next(results)
    assert set(store.list_files()) == {epochs[0].name}


def test_a_worker_with_other_numerics_or_without_the_data_is_refused(store, workers, monkeypatch):
    with pytest.raises(EngineError, match="has not received the dataset"):
        list(compute_epochs(chain(1, data="lost"), store=store, workers=workers))
    numerics = iter([{"torch": "1.0", "code": "a"}, {"torch": "2.0", "code": "a"}])
    monkeypatch.setattr(engine, "name_numerics", lambda *_: next(numerics))
    with pytest.raises(EngineError, match="differ from the caller's: torch '2.0' instead of '1.0'; install"):
        list(compute_epochs(chain(1), store=store, workers=workers))


def test_a_parent_that_was_removed_is_an_error(store, workers):
    results = compute_epochs(chain(2), store=store, workers=workers)
    first, _ = next(results)
    store.path(first.name).unlink()
    with pytest.raises(StoreError, match="is needed and was removed; make the same call again"):
        next(results)


def test_what_a_worker_returns_is_only_ever_read_as_the_file_of_its_epoch(store, workers, tmp_path, monkeypatch):
    for returned in (pickle.dumps(Evil(tmp_path / "ran")), b"", encode("another epoch", Artefact({}, {}))):
        monkeypatch.setattr(in_process, "run_task", lambda task, returned=returned: returned)
        with pytest.raises(EngineError, match="a worker returned"):
            list(compute_epochs(chain(1), store=store, workers=workers))
    assert not (tmp_path / "ran").exists() and not store.list_files()
