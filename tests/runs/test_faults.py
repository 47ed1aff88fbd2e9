"""Runs survive what happens to the processes, the disk and the store: real processes are killed, real disks are full.

After each fault the same call is made again, and every epoch has the bits of a run that nothing interrupted.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from conftest import ROOT, RUNS, assert_same_epochs, names_of

from lrlib import train
from lrlib.runs import cluster, engine
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import Artefact, Store, StoreError

pytestmark = pytest.mark.faults

# A person's program: when told to, trains the first runs of RUNS into a store, and ends as `python -m lrlib` does.
CALLER = """
import sys
from conftest import RUNS
from lrlib import train
from lrlib.runs.store import Store

print("ready", flush=True)
sys.stdin.readline()
try:
    print(train(RUNS[: int(sys.argv[2])], store=Store(sys.argv[1]), progress=False).n_computed)
except KeyboardInterrupt:
    sys.exit(130)
"""
n_workers = pytest.mark.parametrize("n_workers", [1, 2])


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def start_callers(n_callers, store, n_runs):
    """Callers, each in a session of its own, as in a terminal of its own; returns when all begin to train."""
    callers = [_open_caller(store, n_runs) for _ in range(n_callers)]
    for caller in callers:
        assert caller.stdout.readline() == "ready\n"
    for caller in callers:
        caller.stdin.write("\n")
        caller.stdin.flush()
    return callers


def _open_caller(store, n_runs):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.Popen(
        [sys.executable, "-c", CALLER, str(store.folder), str(n_runs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def wait_until(condition, what, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} not after {seconds} s"
        time.sleep(0.02)


def in_session(leader):
    """The processes of a caller's session: itself, its workers and their helpers."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == leader.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@n_workers
def test_a_caller_killed_at_any_epoch_leaves_no_process_and_goes_on_from_there(n_workers, store, client, uninterrupted):
    runs = RUNS[:n_workers]
    n_before_kill = random.randint(1, 4)  # and how far the next ones are is never the same
    [caller] = start_callers(1, store, n_workers)
    wait_until(lambda: len(store.list_files()) >= n_before_kill, f"{n_before_kill} epochs")
    caller.kill()
    caller.communicate()
    wait_until(lambda: not in_session(caller), "the end of the workers", seconds=20)
    n_stored = len(store.list_files())
    resumed = train(runs, store=store, client=client, progress=False)
    assert resumed.n_computed == 6 * n_workers - n_stored
    assert_same_epochs(store, uninterrupted, runs)


@n_workers
def test_a_worker_killed_in_the_middle_of_an_epoch_costs_that_epoch_only(n_workers, store, client, uninterrupted):
    runs, killed = RUNS[:n_workers], []

    def kill_a_busy_worker():
        wait_until(store.list_files, "a first epoch")
        pids = client.run(os.getpid)
        busy = []
        # Between an epoch and its child no worker is busy for a moment.
        wait_until(lambda: busy.extend(a for a, keys in client.processing().items() if keys) or busy, "a busy worker")
        os.kill(pids[busy[0]], signal.SIGKILL)
        killed.append(pids[busy[0]])

    killer = threading.Thread(target=kill_a_busy_worker)
    killer.start()
    results = train(runs, store=store, client=client, progress=False)
    killer.join()
    assert killed and not psutil.pid_exists(killed[0])
    assert results.n_computed == 6 * n_workers
    assert_same_epochs(store, uninterrupted, runs)
    client.wait_for_workers(2, timeout=60)


@pytest.mark.parametrize(
    ("n_runs", "kill", "moment"),
    [(2, os.killpg, "training"), (1, os.kill, "training"), (2, os.killpg, "starting")],
    ids=["as from a terminal", "to the caller alone", "while workers start"],
)
def test_ctrl_c_ends_within_seconds_quietly_and_leaves_no_process(n_runs, kill, moment, store, client, uninterrupted):
    [caller] = start_callers(1, store, n_runs)
    if moment == "training":
        wait_until(store.list_files, "a first epoch")
    else:
        wait_until(lambda: len(in_session(caller)) > 1, "a first process of Dask's")
    n_stored = len(store.list_files())
    start = time.monotonic()
    kill(caller.pid, signal.SIGINT)
    output, errors = caller.communicate(timeout=60)
    assert time.monotonic() - start < 20  # on an idle machine, about 2
    assert (caller.returncode, output, errors) == (130, "", "")
    wait_until(lambda: not in_session(caller), "the end of the workers", seconds=20)
    assert len(store.list_files()) >= n_stored
    assert not store.list_parts()
    if moment == "training":
        train(RUNS[:n_runs], store=store, client=client, progress=False)
        assert_same_epochs(store, uninterrupted, RUNS[:n_runs])


def test_ctrl_c_that_falls_into_a_finalizer_is_not_lost(store, client):
    finalized = []

    class Finalized:
        def __del__(self):
            finalized.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    class Interrupted(Store):
        def release(self, name):
            super().release(name)
            if not finalized:
                Finalized()

    with pytest.raises(KeyboardInterrupt):
        train(RUNS[:1], store=Interrupted(store.folder), client=client, progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(store.list_files()) == 1


@n_workers
def test_two_callers_at_once_train_nothing_twice(n_workers, store, uninterrupted):
    callers = start_callers(2, store, n_workers)
    outputs = [caller.communicate(timeout=900) for caller in callers]
    assert [errors for _, errors in outputs] == ["", ""]
    assert sum(int(output) for output, _ in outputs) == 6 * n_workers
    assert_same_epochs(store, uninterrupted, RUNS[:n_workers])


def test_an_epoch_claimed_by_a_process_that_hangs_is_computed_in_the_end(store, client, monkeypatch):
    monkeypatch.setattr(engine, "CLAIM_SECONDS", 2)
    store.check_writable()
    name = names_of(RUNS[:1])[0]
    hang = "import sys; from lrlib.runs.store import Store; s = Store(sys.argv[1]); print(s.claim(sys.argv[2]), flush=True)"
    hang += "; input()"
    command = [sys.executable, "-c", hang, str(store.folder), name]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "True\n"
        assert not store.claim(name)
        start = time.monotonic()
        assert train(RUNS[:1], store=store, client=client, progress=False).n_computed == 6
        assert time.monotonic() - start > 2
    finally:
        other.communicate("")
    assert store.claim(name)  # ended with its process


@n_workers
def test_damaged_files_are_said_once_each_and_computed_again(n_workers, store, client, uninterrupted):
    runs = RUNS[:n_workers]
    for name in names_of(runs):
        store.save(name, uninterrupted.load(name))
    damaged = [plan_epochs(run)[number] for run in runs for number in (1, 5)]
    for place, epoch in enumerate(damaged):
        path = store.path(epoch.name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if place % 2 else content[: len(content) // 3])
    with pytest.warns(UserWarning) as warned:
        results = train(runs, store=store, client=client, progress=False)
    assert results.n_computed == len(damaged)
    said = [str(warning.message) for warning in warned if "damaged" in str(warning.message)]
    assert sorted(said) == sorted(f"{store.path(epoch.name)} is damaged and is computed again" for epoch in damaged)
    assert_same_epochs(store, uninterrupted, runs)


@n_workers
def test_an_epoch_written_by_other_code_is_said_and_computed_again(n_workers, store, client, uninterrupted):
    runs = RUNS[:n_workers]
    names = names_of(runs)
    for name in names:
        store.save(name, uninterrupted.load(name))
    older = names[2::6]  # the third epoch of each run
    for name in older:
        store.save(name, Artefact(store.load(name).tensors, {"accuracy": 0.9, "diverged": False}))
    with pytest.warns(UserWarning, match="is of another version of lrlib and is computed again"):
        results = train(runs, store=store, client=client, progress=False)
    assert results.n_computed == len(older)
    assert_same_epochs(store, uninterrupted, runs)


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


@n_workers
def test_a_full_disk_keeps_what_is_whole_and_is_gone_on_with_when_there_is_room(n_workers, disk, client, uninterrupted):
    runs = RUNS[:n_workers]
    store = Store(disk("size=1300k"))  # two epochs and a half
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\); free space or set"):
        train(runs, store=store, client=client, progress=False)
    assert len(store.list_files()) == 2
    assert not store.list_parts()
    disk("size=20m")
    assert train(runs, store=store, client=client, progress=False).n_computed == 6 * n_workers - 2
    assert_same_epochs(store, uninterrupted, runs)


def test_a_store_that_cannot_be_written_serves_what_it_has_and_says_so_before_it_trains_more(
    disk, client, uninterrupted, monkeypatch
):
    store = Store(disk("size=20m"))
    for name in names_of(RUNS[:1]):
        store.save(name, uninterrupted.load(name))
    disk("size=20m,ro")
    results = train(RUNS[:1], store=store, progress=False)
    assert results.n_computed == 0
    assert len(results.epochs) == 6
    results.model(RUNS[0])
    with (
        monkeypatch.context() as patch,
        pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\)"),
    ):
        patch.setattr(engine, "_submit", None)
        train(RUNS, store=store, client=client, progress=False)
    disk("size=20m,rw")
    assert train(RUNS, store=store, client=client, progress=False).n_computed == 6
    assert_same_epochs(store, uninterrupted, RUNS)


def test_a_worker_that_dies_of_an_epoch_again_and_again_is_said(store, client, monkeypatch):
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    with contextlib.closing(engine.compute_epochs(plan_epochs(RUNS[0]), store=store, client=client)) as results:
        next(results)

        def kill_workers():
            for pid in client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)

        killer = threading.Timer(0.1, kill_workers)
        killer.start()
        with pytest.raises(
            cluster.EngineError, match="an epoch could not be computed: its worker died again and again"
        ):
            list(results)
        killer.join()
    client.wait_for_workers(2, timeout=60)


def test_a_plain_script_trains_once_and_not_in_each_of_its_workers(tmp_path, store, uninterrupted):
    script = tmp_path / "script.py"
    script.write_text(f"import sys; sys.argv[1:] = [{str(store.folder)!r}, '1']\n{CALLER}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, input="\n", capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n6\n", "")
    assert_same_epochs(store, uninterrupted, RUNS[:1])


def test_a_model_that_was_removed_since_is_said(store, client, uninterrupted):
    for name in names_of(RUNS[:1]):
        store.save(name, uninterrupted.load(name))
    results = train(RUNS[:1], store=store, progress=False)
    store.path(names_of(RUNS[:1])[-1]).unlink()
    with pytest.raises(StoreError, match="is needed and no longer there; train the run again"):
        results.model(RUNS[0])


def test_a_parent_that_is_removed_while_runs_train_is_said(store, client):
    epochs = plan_epochs(RUNS[0])
    with contextlib.closing(engine.compute_epochs(epochs, store=store, client=client)) as results:
        first, _, _ = next(results)
        store.path(first.name).unlink()
        with pytest.raises(StoreError, match="is needed and no longer there; the same call computes it again"):
            next(results)
