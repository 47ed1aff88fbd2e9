"""Training survives what happens to processes, disk and store: real processes are killed, a real disk is full.

After each fault the same call is made again, and every epoch is bit-identical to that of an uninterrupted training.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT, RUNS, assert_same_epochs, find_workers, wait_until

from lrlib import train
from lrlib.runs import local, trainer
from lrlib.runs.engine import EngineError
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import Store, StoreError

pytestmark = pytest.mark.faults

# A person's program without a guard: trains RUNS into a store.
CALLER = """
import sys
from conftest import RUNS
from lrlib import train
from lrlib.runs.store import Store

print("begins", flush=True)
try:
    print(train(RUNS, store=Store(sys.argv[1]), progress=False).n_computed)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def start(tmp_path):
    """start(store): a caller in a session of its own, as in a terminal of its own."""
    script, callers = tmp_path / "script.py", []
    script.write_text(CALLER)

    def start(store):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        command = [sys.executable, str(script), str(store.folder)]
        pipes = {name: subprocess.PIPE for name in ("stdout", "stderr")}
        callers.append(subprocess.Popen(command, **pipes, text=True, env=environment, start_new_session=True))
        assert callers[-1].stdout.readline() == "begins\n"
        return callers[-1]

    yield start
    for caller in callers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(caller.pid, signal.SIGKILL)


def in_session(leader):
    """The processes of a caller's session: itself, its workers and their helpers."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == leader.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_a_killed_caller_leaves_no_process_and_the_same_call_resumes(store, start, uninterrupted):
    n_before_kill = random.randint(1, 8)
    caller = start(store)
    wait_until(lambda: len(store.list_files()) >= n_before_kill, f"{n_before_kill} epochs")
    caller.kill()
    caller.communicate()
    wait_until(lambda: not in_session(caller), "the end of the workers", seconds=20)
    n_stored = len(store.list_files())
    assert train(RUNS, store=store, progress=False).n_computed == 12 - n_stored
    assert_same_epochs(store, uninterrupted, RUNS)


def test_workers_open_no_port_and_a_killed_one_costs_its_epochs_only_and_does_not_run_an_unguarded_script_again(
    store, start, uninterrupted
):
    caller = start(store)
    wait_until(store.list_files, "a first epoch")
    kinds = {connection.status for process in in_session(caller) for connection in process.net_connections("inet")}
    assert psutil.CONN_LISTEN not in kinds
    workers = find_workers(caller.pid)
    random.choice(workers).kill()
    output, errors = caller.communicate(timeout=300)
    assert (len(workers), caller.returncode, output, errors) == (2, 0, "12\n", "")
    assert_same_epochs(store, uninterrupted, RUNS)


@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["as from a terminal", "to the caller alone"])
@pytest.mark.parametrize("moment", ["training", "starting"])
def test_ctrl_c_ends_within_seconds_quietly_and_leaves_no_process(kill, moment, store, start, uninterrupted):
    caller = start(store)
    wait_until(store.list_files if moment == "training" else lambda: find_workers(caller.pid), moment)
    n_stored, pressed = len(store.list_files()), time.monotonic()
    kill(caller.pid, signal.SIGINT)
    output, errors = caller.communicate(timeout=120)
    assert time.monotonic() - pressed < 60  # on an idle machine, about 1
    assert (caller.returncode, output, errors) == (130, "", "")
    wait_until(lambda: not in_session(caller), "the end of the workers", seconds=20)
    assert len(store.list_files()) >= n_stored and not store.list_parts()
    if (kill, moment) == (os.killpg, "training"):
        train(RUNS, store=store, progress=False)
        assert_same_epochs(store, uninterrupted, RUNS)


def test_two_callers_at_once_train_nothing_twice_and_the_second_says_that_it_waits(store, start, uninterrupted):
    callers = [start(store) for _ in range(2)]
    outputs = [caller.communicate(timeout=600) for caller in callers]
    assert sorted(output for output, _ in outputs) == ["0\n", "12\n"], outputs
    assert sorted(len(errors.splitlines()) for _, errors in outputs) == [0, 1]
    assert_same_epochs(store, uninterrupted, RUNS)


def test_an_epoch_that_kills_its_workers_ends_the_training_with_an_error(store, monkeypatch):
    original, killed = local.LocalWorkers.count_slots, []

    def count_slots(self):
        for worker in find_workers():
            worker.kill()
            killed.append(worker.pid)
        return original(self)

    monkeypatch.setattr(local.LocalWorkers, "count_slots", count_slots)
    with pytest.raises(EngineError, match=r"its worker died 3 times \(SIGKILL\(-9\).*\), possibly"):
        train(RUNS[:1], store=store, progress=False)
    assert len(set(killed)) >= 3 and not find_workers()


def test_workers_that_cannot_start_are_an_error(store, monkeypatch):
    monkeypatch.setitem(local.WORKER_ENVIRONMENT, "PYTHONHOME", "/nowhere")
    with pytest.raises(EngineError, match=r"its worker died 3 times \(EXIT\(1\)\), possibly"):
        train(RUNS[:1], store=store, progress=False)


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small disk in memory, or mounts it anew with other options; returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        remount = ",remount" if os.path.ismount(folder) else ""
        command = ["mount", "-t", "tmpfs", "-o", options + remount, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no `mount` here")
        if done.returncode:
            pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_is_whole_and_the_same_call_resumes_when_there_is_room(disk, uninterrupted):
    store = Store(disk("size=1300k"))  # two epochs and a half
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\); free space"):
        train(RUNS, store=store, progress=False)
    assert len(store.list_files()) == 2
    assert not store.list_parts()
    disk("size=20m")
    assert train(RUNS, store=store, progress=False).n_computed == 10
    assert_same_epochs(store, uninterrupted, RUNS)


def test_a_read_only_store_serves_what_it_has_and_is_an_error_before_anything_is_trained(
    disk, uninterrupted, monkeypatch
):
    store = Store(disk("size=20m"))
    for epoch in plan_epochs(RUNS[0]):
        store.save(epoch.name, uninterrupted.load(epoch.name))
    disk("size=20m,ro")
    results = train(RUNS[:1], store=store, progress=False)
    assert results.n_computed == 0 and len(results.epochs) == 6
    results.model(RUNS[0])
    monkeypatch.setattr(trainer, "LocalWorkers", None)
    with pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\)"):
        train(RUNS, store=store, progress=False)
