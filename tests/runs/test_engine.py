"""The engine by itself: a cluster in this process, and epochs that take no time."""

import hashlib
import itertools
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster

from lrlib.problems.problem import Data
from lrlib.runs import engine
from lrlib.runs.cluster import EngineError, find_dashboard, open_client
from lrlib.runs.engine import compute_epochs
from lrlib.runs.epochs import Epoch
from lrlib.runs.store import Store, StoreError
from lrlib.training.backends import plain
from lrlib.training.epoch import initial_state, load_model


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.check_writable()
    return store


@pytest.fixture(scope="module")
def near():
    """A client whose cluster is in this process: one worker with two threads."""
    settings = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**settings, silence_logs="CRITICAL") as cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture(autouse=True)
def quick_epochs(monkeypatch):
    """Epochs that only build the model, on no data."""
    nothing = torch.zeros(0, dtype=torch.int64)
    problem = SimpleNamespace(load_data=lambda: Data((nothing, nothing), (nothing, nothing)), steps_per_epoch=None)
    monkeypatch.setattr(engine, "load_problem", lambda name: problem)
    monkeypatch.setattr(engine, "fix_numerics", lambda: None)
    monkeypatch.setattr(plain, "evaluate", lambda state, **_: (0.0, 0))

    def train_epoch(state, *, lr, **_):
        load_model(state)
        return {name: tensor.contiguous() for name, tensor in state.items()}, np.array(lr)

    monkeypatch.setattr(plain, "train_epoch", train_epoch)


def chain(length, *, seed=0, parent=None, label="", lr=0.1):
    """Epochs of a made-up run; parent: the Epoch that it goes on from."""
    epochs = []
    for _ in range(length):
        before = epochs[-1] if epochs else parent
        number = before.number + 1 if before else 1
        name = hashlib.sha256(f"{label} {seed} {number} {before and before.name}".encode()).hexdigest()
        history = (name, before and before.name, seed, number, np.full(2, lr), np.full(2, 0.9))
        epochs.append(Epoch(*history, "sgd", 0.0, 1, "lenet5_sample", "no images", "torch", 1))
    return epochs


def claim_in_another_process(store, name):
    code = f"from lrlib.runs.store import Store; print(Store({str(store.folder)!r}).claim({name!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_every_epoch_is_stored_when_it_is_given_and_parents_come_before_children(store, near):
    epochs = chain(4) + chain(3, seed=1)
    seen = set()
    for epoch, artefact, computed in compute_epochs(epochs, store=store, client=near):
        assert computed
        assert store.load(epoch.name).values == artefact.values
        assert epoch.parent is None or epoch.parent in seen
        seen.add(epoch.name)
    assert seen == {epoch.name for epoch in epochs}


def test_longer_chains_start_first(store, near, monkeypatch):
    monkeypatch.setattr(engine, "TASKS_PER_THREAD", 0.5)  # one task at a time
    short, long = chain(1, label="short"), chain(3, label="long")
    order = [epoch.name for epoch, _, _ in compute_epochs(short + long, store=store, client=near)]
    assert order.index(short[0].name) >= 2


def test_the_scheduler_holds_a_few_tasks_however_many_runs_there_are(store, near):
    epochs = list(itertools.chain.from_iterable(chain(2, seed=seed) for seed in range(30)))
    held = [len(near.cluster.scheduler.tasks) for _ in compute_epochs(epochs, store=store, client=near)]
    assert len(held) == 60
    assert max(held) <= 2 * engine.TASKS_PER_THREAD + 2  # with those that are just being forgotten


def test_a_diverged_epoch_ends_what_is_below_it_and_nothing_else(store, near):
    trunk = chain(1)
    wild, tame = chain(2, parent=trunk[0], label="wild", lr=np.inf), chain(2, parent=trunk[0], label="tame")
    found = compute_epochs(trunk + wild + tame, store=store, client=near)
    results = {epoch.name: artefact for epoch, artefact, _ in found}
    assert len(results) == 5
    assert results[wild[0].name].values["diverged"]
    assert results[wild[1].name] is None
    assert not results[tame[1].name].values["diverged"]


def test_a_worker_with_several_threads_starts_each_seed_from_its_own_parameters(store, near):
    epochs = [chain(1, seed=seed)[0] for seed in range(40)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        list(compute_epochs(epochs, store=store, client=near))
    finally:
        sys.setswitchinterval(interval)
    for epoch in epochs:
        stored, expected = store.load(epoch.name).tensors, initial_state(epoch.seed)
        assert all(torch.equal(stored[name], tensor) for name, tensor in expected.items())


@pytest.fixture
def gate(monkeypatch):
    """Two events: epochs with an lr of 0.5 set the first when they begin, and go on when the second is set."""
    begun, go_on = threading.Event(), threading.Event()
    quick = plain.train_epoch

    def wait(state, **settings):
        if settings["lr"][0] == 0.5:
            begun.set()
            go_on.wait(60)
        return quick(state, **settings)

    monkeypatch.setattr(plain, "train_epoch", wait)
    yield begun, go_on
    go_on.set()


def test_a_caller_that_stops_early_leaves_no_task_and_no_claim(store, near, gate):
    begun, go_on = gate
    quick, slow = chain(1)[0], chain(1, label="slow", lr=0.5)[0]
    results = compute_epochs([quick, slow], store=store, client=near)
    assert next(results)[0] is quick
    assert begun.wait(60)
    results.close()
    go_on.set()
    assert claim_in_another_process(store, slow.name) == "True"
    deadline = time.monotonic() + 30
    while near.cluster.scheduler.tasks and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not near.cluster.scheduler.tasks


def test_a_caller_that_stops_early_does_not_stop_another_with_the_same_client(store, tmp_path, near, gate):
    begun, go_on = gate
    quick, slow = chain(1)[0], chain(1, label="slow", lr=0.5)[0]
    other = Store(tmp_path / "other")
    other.check_writable()
    first, others = compute_epochs([quick, slow], store=store, client=near), []
    second = threading.Thread(target=lambda: others.extend(compute_epochs([slow], store=other, client=near)))
    assert next(first)[0] is quick
    assert begun.wait(60)
    second.start()
    time.sleep(0.5)  # it asks for the epoch that is being computed
    first.close()
    go_on.set()
    second.join(60)
    assert [epoch for epoch, *_ in others] == [slow]


def test_an_epoch_that_fails_is_said_and_those_before_it_are_stored(store, near, monkeypatch):
    def fail(state, *, lr, **_):
        raise MemoryError("no room for a batch")

    epochs = chain(2)
    results = compute_epochs(epochs, store=store, client=near)
    next(results)
    monkeypatch.setattr(plain, "train_epoch", fail)
    with pytest.raises(EngineError, match="an epoch could not be computed: no room for a batch"):
        next(results)
    assert set(store.list_files()) == {epochs[0].name}


def test_a_dataset_that_never_arrives_is_said(store, near, monkeypatch):
    monkeypatch.setattr(engine, "DATA_SECONDS", 0.1)
    monkeypatch.setattr(engine, "_place_data", lambda *_: None)
    elsewhere = [Epoch(**vars(chain(1)[0]) | {"data_checksum": "lost"})]
    with pytest.raises(EngineError, match="got no dataset in 0.1 s; start it again"):
        list(compute_epochs(elsewhere, store=store, client=near))


def test_a_store_that_fails_ends_the_sweep_and_gives_its_claims_back(store, near, monkeypatch):
    epochs = chain(2)
    monkeypatch.setattr(Store, "save", lambda *_: (_ for _ in ()).throw(StoreError("full")))
    with pytest.raises(StoreError, match="full"):
        list(compute_epochs(epochs, store=store, client=near))
    assert claim_in_another_process(store, epochs[0].name) == "True"


def test_connections_keep_no_thousand_states(client):
    assert client.scheduler_comm.recent_message_log.maxlen <= 10
    streams = client.cluster.scheduler.stream_comms.values()
    assert all(stream.recent_message_log.maxlen <= 10 for stream in streams)


def test_a_dashboard_is_named_only_where_there_is_one(near, monkeypatch):
    monkeypatch.delitem(sys.modules, "distributed.dashboard.scheduler", raising=False)
    assert find_dashboard(near) is None
    monkeypatch.setitem(sys.modules, "distributed.dashboard.scheduler", None)
    assert find_dashboard(near).endswith("/status")


def test_tasks_that_share_a_device_are_threads_of_one_process():
    with open_client(3, tasks_per_process=2) as client:
        assert list(client.nthreads().values()) == [2]


def test_an_address_that_nobody_answers_at_is_said(monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "nowhere:at-all")
    with (
        pytest.raises(EngineError, match="DASK_SCHEDULER_ADDRESS nowhere:at-all does not answer; start"),
        open_client(1),
    ):
        pass
