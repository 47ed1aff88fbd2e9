"""A cluster of separate processes with folders of their own and no dataset; what is lost of it is said or made good."""

import contextlib
import os
import re
import subprocess
import sys
import time

import psutil
import pytest
import torch
from conftest import ROOT, RUNS, assert_same_epochs
from distributed import Client

from lrlib import Run, train
from lrlib.runs import engine
from lrlib.runs.cluster import WORKER_ENVIRONMENT, EngineError
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import Store
from lrlib.schedules import Constant

pytestmark = pytest.mark.faults

# Imports lrlib, and then computes as if by another torch.
OTHER_TORCH = """
import lrlib.runs.engine
here = lrlib.runs.engine.describe_numerics() | {"torch": "1.0"}
lrlib.runs.engine.describe_numerics = lambda *_: here
"""


class Cluster:
    """A scheduler and workers as a person starts them, each in a folder of its own."""

    def __init__(self, folder):
        self.folder, self.processes, self.workers = folder, [], {}
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", lrlib=False)
        found = _wait_for(lambda: re.search(r"Scheduler at: +(tcp://\S+)", self.log("scheduler")), "a scheduler")
        self.address = found[1]

    def start_worker(self, name, *options):
        arguments = (self.address, "--nthreads", "1", "--no-dashboard", "--local-directory", ".", *options)
        self.workers[name] = self._start(name, "worker", *arguments, lrlib=True)

    def kill(self, name):
        """Kill a worker and the nanny that would replace it."""
        process = psutil.Process(self.workers.pop(name).pid)
        for each in (process, *process.children(recursive=True)):
            each.kill()

    def log(self, name):
        return (self.folder / name / "log").read_text()

    def close(self):
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in (*psutil.Process(process.pid).children(recursive=True), process):
                    each.kill()
            process.wait()

    def _start(self, name, *command, lrlib):
        folder = self.folder / name
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        environment = os.environ | WORKER_ENVIRONMENT | {"TMPDIR": str(folder / "tmp"), "HOME": str(folder)}
        for variable in ("LRLIB_DATA", "LRLIB_STORE", "PYTHONPATH"):
            environment.pop(variable, None)
        if lrlib:
            environment["PYTHONPATH"] = str(ROOT)
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command], cwd=folder, env=environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process


def _wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} in {seconds} s"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with contextlib.closing(Cluster(tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


@pytest.fixture
def remote(cluster, monkeypatch):
    """The cluster with two workers, found by its address."""
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    for name, options in (("a", ()), ("b", ("--nthreads", "3"))):
        if name not in cluster.workers:
            cluster.start_worker(name, *options)
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    return cluster


def test_a_cluster_computes_the_bits_of_this_machine_and_gets_the_dataset_once(remote, tmp_path, uninterrupted):
    store = Store(tmp_path)
    assert train(RUNS, store=store, progress=False).n_computed == 12
    assert train([Run(Constant(0.01), problem="lenet5_sample", epochs=1)], store=store, progress=False).n_computed == 1
    assert_same_epochs(store, uninterrupted, RUNS)
    assert [remote.log(name).count("Starting Worker plugin lrlib-data-") for name in ("a", "b")] == [1, 1]


def test_the_epochs_of_a_lost_worker_go_elsewhere_and_the_loss_of_all_workers_is_said(
    remote, tmp_path, monkeypatch, uninterrupted
):
    monkeypatch.setattr("lrlib.runs.cluster.NO_WORKER_SECONDS", 3)
    store = Store(tmp_path)
    epochs = [epoch for run in RUNS for epoch in plan_epochs(run)]
    with Client(remote.address, set_as_default=False) as client:
        with contextlib.closing(engine.compute_epochs(epochs, store=store, client=client)) as results:
            next(results)
            remote.kill("b")
            for _ in range(4):
                next(results)
            remote.kill("a")
            start = time.monotonic()
            with pytest.raises(EngineError, match="has had no worker for 3 s; finished epochs are stored"):
                list(results)
            assert time.monotonic() - start < 15
        n_stored = len(store.list_files())
        assert 5 <= n_stored < 12
        remote.start_worker("c")
        client.wait_for_workers(1, timeout=60)
    assert train(RUNS, store=store, progress=False).n_computed == 12 - n_stored
    assert_same_epochs(store, uninterrupted, RUNS)


def test_a_worker_of_another_torch_is_refused_with_the_versions_named(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    for name in list(cluster.workers):
        cluster.kill(name)
    preload = tmp_path / "other_torch.py"
    preload.write_text(OTHER_TORCH)
    cluster.start_worker("other", "--preload", str(preload))
    refusal = f"computes otherwise than the caller: torch '1.0' instead of '{re.escape(torch.__version__)}'"
    with pytest.raises(EngineError, match=refusal):
        train(RUNS, store=Store(tmp_path / "store"), progress=False)
    cluster.kill("other")


def test_a_lost_scheduler_is_said_and_what_is_done_is_kept(remote, tmp_path, client, uninterrupted):
    store = Store(tmp_path)
    epochs = [epoch for run in RUNS for epoch in plan_epochs(run)]
    with (
        Client(remote.address, set_as_default=False) as theirs,
        contextlib.closing(engine.compute_epochs(epochs, store=store, client=theirs)) as results,
    ):
        next(results)
        remote.processes[0].kill()
        with pytest.raises(EngineError, match="was lost"):
            list(results)
    with pytest.raises(EngineError, match="does not answer; start `dask scheduler` there or unset it"):
        train(RUNS, store=store, progress=False)
    assert 1 <= len(store.list_files()) < 12
    train(RUNS, store=store, client=client, progress=False)
    assert_same_epochs(store, uninterrupted, RUNS)
