"""A Dask cluster of separate processes with folders of their own and no dataset."""

import contextlib
import os
import re
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT, RUNS, assert_same_epochs, wait_until
from distributed import Client

from lrlib import Run, train
from lrlib.runs import cluster as cluster_module
from lrlib.runs.engine import EngineError, compute_epochs
from lrlib.runs.local import WORKER_ENVIRONMENT
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import Store
from lrlib.runs.trainer import open_workers
from lrlib.schedules import Constant

pytestmark = pytest.mark.faults

# Preloaded by a worker: it returns what runs a command where it is unpickled.
HOSTILE = """
import os
from lrlib.runs import engine
class Evil:
    def __reduce__(self):
        return os.mkdir, ("{ran}",)
engine.run_task = lambda task: {returned}
"""
PROBLEM = """
import torch
from lrlib.problems.data import Data
from lrlib.problems.problem import Problem
points = torch.linspace(0, {end}, 64).view(64, 1)
line = Problem("line", lambda: torch.nn.Linear(1, 1), lambda: Data((points, points), (points, points)),
               lambda outputs, targets: (outputs - targets).square().mean(1))
"""


class Cluster:
    """A scheduler and workers as a person starts them, each in a folder of its own."""

    def __init__(self, folder):
        self.folder, self.processes, self.workers = folder, [], {}
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", path=None)
        found = wait_until(lambda: re.search(r"Scheduler at: +(tcp://\S+)", self.log("scheduler")), "a scheduler")
        self.address = found[1]

    def start_worker(self, name, *options, path=()):
        arguments = (self.address, "--nthreads", "1", "--no-dashboard", "--local-directory", ".", *options)
        self.workers[name] = self._start(name, "worker", *arguments, path=[str(ROOT), *map(str, path)])

    def kill(self, name):
        """Kill a worker and the nanny that would replace it."""
        _kill(self.workers.pop(name))

    def log(self, name):
        return (self.folder / name / "log").read_text()

    def close(self):
        for process in self.processes:
            _kill(process)

    def _start(self, name, *command, path):
        folder = self.folder / name
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        environment = os.environ | WORKER_ENVIRONMENT | {"TMPDIR": str(folder / "tmp"), "HOME": str(folder)}
        for variable in ("LRLIB_DATA", "PYTHONPATH"):
            environment.pop(variable, None)
        if path:
            environment["PYTHONPATH"] = os.pathsep.join(path)
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command], cwd=folder, env=environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process


def _kill(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in (*psutil.Process(process.pid).children(recursive=True), process):
            each.kill()
    process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with contextlib.closing(Cluster(tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


@pytest.fixture
def alone(cluster, monkeypatch):
    """The cluster without workers, found by its address."""
    for name in list(cluster.workers):
        cluster.kill(name)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    return cluster


@pytest.fixture
def remote(cluster, monkeypatch):
    """The cluster with two workers, found by its address."""
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    for name, options in (("a", ()), ("b", ("--nthreads", "3"))):
        if name not in cluster.workers:
            cluster.start_worker(name, *options)
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)
    return cluster


def test_a_cluster_computes_the_bits_of_this_machine_and_gets_the_dataset_once(remote, tmp_path, uninterrupted):
    store = Store(tmp_path)
    assert train(RUNS, store=store, progress=False).n_computed == 12
    one = Run(Constant(0.01), problem="lenet5_sample", epochs=1)
    with Client(remote.address, set_as_default=False) as client:
        assert train([one], store=store, client=client, progress=False).n_computed == 1
    assert_same_epochs(store, uninterrupted, RUNS)
    assert [remote.log(name).count("Starting Worker plugin lrlib-data-") for name in ("a", "b")] == [1, 1]


def test_the_epochs_of_a_lost_worker_go_elsewhere_and_the_loss_of_all_workers_is_an_error(
    remote, tmp_path, monkeypatch, uninterrupted
):
    monkeypatch.setattr(cluster_module, "NO_WORKER_SECONDS", 3)
    store, epochs = Store(tmp_path), [epoch for run in RUNS for epoch in plan_epochs(run)]
    with open_workers(epochs, store) as workers:
        results = compute_epochs(epochs, store=store, workers=workers)
        next(results)
        remote.kill("b")
        for _ in range(4):
            next(results)
        remote.kill("a")
        start = time.monotonic()
        with pytest.raises(EngineError, match="has had no worker for 3 s; finished epochs are cached"):
            list(results)
        assert time.monotonic() - start < 20
    n_stored = len(store.list_files())
    assert 5 <= n_stored < 12
    remote.start_worker("c")
    monkeypatch.setattr(cluster_module, "NO_WORKER_SECONDS", 60)
    assert train(RUNS, store=store, progress=False).n_computed == 12 - n_stored
    assert_same_epochs(store, uninterrupted, RUNS)


@pytest.mark.parametrize("returned", ["Evil()", "{'a': Evil()}", "bytearray(8)", "__import__('pickle').dumps(Evil())"])
def test_what_a_hostile_worker_returns_is_not_unpickled(alone, tmp_path, returned):
    ran, preload = tmp_path / "ran", tmp_path / "hostile.py"
    preload.write_text(HOSTILE.format(ran=ran, returned=returned))
    alone.start_worker("hostile", "--preload", str(preload))
    store = Store(tmp_path / "store")
    with pytest.raises(EngineError, match="worker"):
        train([Run(Constant(0.1), problem="lenet5_sample", epochs=1)], store=store, progress=False)
    assert not ran.exists() and not store.list_files()


def test_an_edit_of_the_data_trains_on_the_new_data_and_of_the_code_needs_a_new_worker(alone, tmp_path):
    """The scheduler lives on, the worker is started again after the first edit, and not after the second."""
    module, script = tmp_path / "line_problem.py", tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom lrlib import Run, train\n"
        "from lrlib.runs.store import Store\nfrom lrlib.schedules import Constant\n"
        "run = Run(Constant(0.1), problem='line_problem:line', epochs=1, batch_size=8)\n"
        "print(train([run], store=Store(sys.argv[1]), progress=False).epochs['test_loss'][0])\n"
    )

    def train_elsewhere(cluster):
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
        environment |= {"DASK_SCHEDULER_ADDRESS": cluster}
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / f"store-{bool(cluster)}")],
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip(), done.stderr

    found = []
    for end in ("1", "-2"):
        module.write_text(PROBLEM.format(end=end))
        alone.start_worker("line", path=[tmp_path])
        found.append(train_elsewhere(alone.address)[0])
        if end == "1":
            alone.kill("line")
    assert found[0] != found[1] == train_elsewhere("")[0] != ""
    module.write_text(PROBLEM.format(end="-2").replace("Linear(1, 1)", "Linear(1, 1, bias=False)"))
    assert "numerics differ from the caller's: code" in train_elsewhere(alone.address)[1]


def test_a_lost_scheduler_is_an_error_and_what_is_done_is_kept(remote, tmp_path, monkeypatch, uninterrupted):
    store, epochs = Store(tmp_path), [epoch for run in RUNS for epoch in plan_epochs(run)]
    with open_workers(epochs, store) as workers:
        results = compute_epochs(epochs, store=store, workers=workers)
        next(results)
        remote.processes[0].kill()
        with pytest.raises(EngineError, match="was lost"):
            list(results)
    with pytest.raises(EngineError, match="does not answer .* start `dask scheduler` there"):
        train(RUNS, store=store, progress=False)
    assert 1 <= len(store.list_files()) < 12
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS")
    train(RUNS, store=store, progress=False)
    assert_same_epochs(store, uninterrupted, RUNS)
