"""Workers on this machine: processes of loky, which open no port, or threads for a backend that shares a device."""

import contextlib
import multiprocessing.resource_tracker
import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from joblib import cpu_count
from joblib.externals.loky.backend.resource_tracker import ensure_running
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from lrlib.runs.engine import EngineError, receive_data, run_task
from lrlib.training.numerics import fixed_numerics

# A training step frees and asks for the same megabytes hundreds of times a second: keep them.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
MAX_DEATHS = 3  # times that a worker may die with the same epoch
TASKS_PER_WORKER = 2  # one is computed while the next is ready


class LocalWorkers:
    """Processes of this machine that end with it, in whatever way it ends.

    A process that is killed costs the epochs that are being computed, which are computed again. Workers do not run the
    caller's script, so one without `if __name__ == "__main__":` is safe. Ctrl-C reaches the caller only.

    Args:
        n: How many.
        data: What `lrlib.runs.engine.receive_data` takes.
    """

    def __init__(self, n: int, data: bytes) -> None:
        self._n, self._data, self._pool = n, data, None
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        self._running: dict = {}
        self._deaths: Counter = Counter()

    def count_slots(self) -> int:
        return TASKS_PER_WORKER * self._n

    def submit(self, name: str, task: bytes, priority: int) -> None:
        with _block_sigint():
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self._n, env=WORKER_ENVIRONMENT, initializer=_start_worker, initargs=(os.getpid(), self._data)
                )
            try:
                future = self._pool.submit(run_task, task)
            except BrokenProcessPool:
                self._restart()
                return self.submit(name, task, priority)
        self._running[future] = (name, task)
        future.add_done_callback(self._done.put)
        return None

    def wait(self) -> tuple[str, bytes] | None:
        try:
            future = self._done.get(timeout=1)
        except queue.Empty:
            return None
        name, task = self._running.pop(future)
        try:
            return name, future.result()
        except BrokenProcessPool as err:
            self._deaths[name] += 1
            if self._deaths[name] == MAX_DEATHS:
                raise EngineError(
                    f"an epoch could not be computed: its worker died {MAX_DEATHS} times, possibly out of memory"
                ) from err
            self.submit(name, task, 0)
            return None

    def close(self) -> None:
        """End the processes, whatever they do."""
        if self._pool is not None:
            with _block_sigint():
                self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None

    _restart = close


class Threads:
    """Threads of this process, for a backend whose epochs share a device.

    Args:
        n: How many.
        data: What `lrlib.runs.engine.receive_data` takes.
    """

    def __init__(self, n: int, data: bytes) -> None:
        receive_data(data)
        self._numerics = contextlib.ExitStack()
        self._numerics.enter_context(fixed_numerics())
        self._n, self._pool = n, ThreadPoolExecutor(n)
        self._done: queue.SimpleQueue = queue.SimpleQueue()

    def count_slots(self) -> int:
        return TASKS_PER_WORKER * self._n

    def submit(self, name: str, task: bytes, priority: int) -> None:
        self._pool.submit(lambda: self._done.put((name, run_task(task))))

    def wait(self) -> tuple[str, bytes] | None:
        with contextlib.suppress(queue.Empty):
            return self._done.get(timeout=1)
        return None

    def close(self) -> None:
        """Wait for the epochs that are being computed; what waits for a thread is dropped."""
        self._pool.shutdown(cancel_futures=True)
        self._numerics.close()


def count_workers(n_tasks: int, cores_per_task: int) -> int:
    """Return how many processes to start: at most one a task, and one for each cores_per_task cores."""
    return max(1, min(n_tasks, cpu_count() // cores_per_task))


def _start_worker(caller: int, data: bytes) -> None:
    threading.Thread(target=_end_with, args=(caller,), daemon=True).start()
    receive_data(data)


def _end_with(caller):
    while os.getppid() == caller:
        time.sleep(0.5)
    os._exit(1)


@contextlib.contextmanager
def _block_sigint() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C, which a terminal sends to all; the caller gets it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started later, they would unblock it.
    multiprocessing.resource_tracker.ensure_running()
    ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
