"""The Dask cluster that epochs are computed on: this machine's own, or one that is joined.

What it is started with, how its workers are counted, and that neither Ctrl-C nor a script without a guard disturbs it.
Nothing here knows what is computed.
"""

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import dask
import numpy as np
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Security

from lrlib.errors import LrlibError

# Dask has its workers hand freed memory back at once; a training step frees and asks for the same megabytes
# hundreds of times a second, and so would spend two fifths of its time in page faults.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# Dask keeps the last thousand messages of each connection for its developers; ours carry states of half a megabyte.
QUIET_DASK = {"distributed.admin.low-level-log-length": 10}
# Where this machine's workers look for Dask's configuration: nowhere. It may hold what is meant for clusters elsewhere,
# such as certificates, modules to preload, a folder or a lifetime; a file of it that cannot be read would end them.
NO_CONFIGURATION = {
    "HOME": os.devnull,
    "USERPROFILE": os.devnull,
    "DASK_CONFIG": os.devnull,
    "DASK_ROOT_CONFIG": os.devnull,
}
# How long a cluster may be without a single worker before that is an error.
NO_WORKER_SECONDS = 60
# How often they are counted.
COUNT_SECONDS = 1


class EngineError(LrlibError):
    """Training that could not be carried out: the cluster or a worker is to blame, not the runs."""


@contextlib.contextmanager
def open_client(n_tasks: int, *, cores_per_task: int = 1, tasks_per_process: int = 1) -> Iterator[Client]:
    """A client of the cluster at $DASK_SCHEDULER_ADDRESS, else of one of this machine's cores, which ends with it.

    n_tasks: how many tasks can run at once; more workers than that are not started, nor than find cores_per_task cores.
    tasks_per_process: above 1 the tasks share what is not a core, such as a GPU: one process runs so many in threads.
    A cluster is joined as Dask is configured, certificates and all; this machine's own knows nothing of that.
    Raises EngineError where the address does not answer, or no worker can be started.
    """
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if tasks_per_process > 1:
        n_workers, n_threads = 1, min(n_tasks, tasks_per_process)
    else:
        n_workers, n_threads = max(1, min(n_tasks, CPU_COUNT // cores_per_task)), 1
    cluster = _join_cluster(address) if address else _start_cluster(n_workers, n_threads)
    with cluster as client:
        yield client


@contextlib.contextmanager
def _join_cluster(address):
    try:
        if address.startswith("tls://") and not Security().get_connection_args("client")["ssl_context"]:
            raise EngineError(
                f"DASK_SCHEDULER_ADDRESS {address} is encrypted, and Dask's configuration must name the key "
                "(distributed.comm.tls, in lrlib/runs/README.md)"
            )
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as err:
        raise EngineError(
            f"DASK_SCHEDULER_ADDRESS {address} does not answer; start `dask scheduler` there or unset it "
            f"({_find_cause(err)})"
        ) from err
    with _quiet_log(), dask.config.set(QUIET_DASK), client:
        yield client


@contextlib.contextmanager
def _start_cluster(n_workers, threads_per_worker):
    # What their places of configuration are to say again, once a worker has not found any there.
    environment = {name: os.environ[name] for name in NO_CONFIGURATION if name in os.environ}
    with contextlib.ExitStack() as opened:
        try:
            opened.enter_context(_own_settings())
            with _deaf_to_interrupts(), _without_main():
                try:
                    with _set_variables(WORKER_ENVIRONMENT | NO_CONFIGURATION):
                        cluster = LocalCluster(
                            n_workers=n_workers,
                            threads_per_worker=threads_per_worker,
                            processes=True,
                            dashboard_address="127.0.0.1:0",
                            memory_limit=None,
                            silence_logs="CRITICAL",
                            env=environment,
                        )
                except (OSError, RuntimeError, TimeoutError) as err:
                    raise EngineError(f"this machine's workers could not be started ({_find_cause(err)})") from err
                opened.enter_context(cluster)
                client = opened.enter_context(Client(cluster, set_as_default=False))
            yield client
        finally:
            # Broken off, it would leave workers to print what they miss. A worker too busy to answer is ended all the
            # same, and Dask's last look at one that was lost just now (KeyError) comes after all have ended.
            with _deaf_to_interrupts(), contextlib.suppress(TimeoutError, KeyError):
                opened.close()


@contextlib.contextmanager
def _own_settings():
    """Dask as it comes, whatever a user has configured for other work; a worker that is started again has it too."""
    own = {"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT | NO_CONFIGURATION}
    # Dask starts a worker with its environment set in this process, and leaves it there.
    with (
        _set_variables({}),
        dask.config.set(dask.config.merge(*dask.config.defaults)),
        dask.config.set(QUIET_DASK | own),
    ):
        yield


@contextlib.contextmanager
def _set_variables(values):
    """Environment variables with these values; afterwards as they were, also those that something in here set."""
    names = WORKER_ENVIRONMENT.keys() | NO_CONFIGURATION.keys() | {"PYTHONHASHSEED"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is not None:
                os.environ[name] = value
            else:
                os.environ.pop(name, None)


def _find_cause(err):
    while err.__cause__ or err.__context__:
        err = err.__cause__ or err.__context__
    return (str(err).strip().splitlines() or [type(err).__name__])[-1]


def find_dashboard(client: Client) -> str | None:
    """The address of the cluster's dashboard, None where it has none: Dask names one also where bokeh is missing."""
    shown = client.run_on_scheduler(lambda: "distributed.dashboard.scheduler" in sys.modules)
    return client.dashboard_link if shown else None


@contextlib.contextmanager
def _deaf_to_interrupts():
    """Threads and processes started in here hear no Ctrl-C: a terminal sends it to workers too, and each would print.

    The caller hears it when this is over.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started later, by Python up to 3.11, it would make its thread hear again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _without_main():
    """Processes started in here do not run the caller's script anew, which Python has them do before anything else.

    Workers need nothing of it, and a script without `if __name__ == "__main__":` would train in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def interrupts_put_into(done: queue.SimpleQueue[Any]) -> Iterator[None]:
    """Ctrl-C puts None into a queue instead of raising wherever the caller is; a second one raises at once.

    Python drops a KeyboardInterrupt that falls into a finalizer, such as that of a Dask future.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def note(*_):
        signal.signal(signal.SIGINT, before)
        done.put(None)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quiet_log():
    """Without Dask's log: what a person must know of it is said by EngineError."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def describe_loss(client: Client) -> str:
    address = client.scheduler.address if client.scheduler else "of this client"
    return (
        f"the scheduler {address} was lost, or dropped an epoch; "
        "finished epochs are stored, and the same call goes on from them"
    )


class Workers:
    """The cluster's workers, counted from time to time."""

    def __init__(self, client):
        self.client = client
        self.n_threads, self.counted, self.last_seen = 0, -np.inf, time.monotonic()

    def count_threads(self) -> int:
        """Threads of all workers. Raises EngineError where there was none for NO_WORKER_SECONDS, or no scheduler is."""
        now = time.monotonic()
        if now - self.counted < COUNT_SECONDS:
            return self.n_threads
        try:
            self.n_threads = sum(self.client.nthreads().values())
        except (OSError, RuntimeError) as err:
            raise EngineError(describe_loss(self.client)) from err
        self.counted = now
        if self.n_threads:
            self.last_seen = now
        elif now - self.last_seen > NO_WORKER_SECONDS:
            address = self.client.scheduler.address
            raise EngineError(
                f"the scheduler {address} has had no worker for {NO_WORKER_SECONDS} s; finished epochs are stored; "
                f"start `dask worker {address} --nthreads 1` and make the same call again"
            )
        return self.n_threads
