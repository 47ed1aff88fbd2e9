"""Workers on this machine: processes that open no port."""

import tempfile
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from joblib.externals.loky.process_executor import BrokenProcessPool

from lrlib.runs.engine import receive_data, run_task
from lrlib.training.processes import block_sigint, start_pool

# A training step frees and asks for the same megabytes hundreds of times a second: keep them.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
TASKS_PER_WORKER = 2  # one is computed while the next is ready


class LocalWorkers:
    """n workers as `lrlib.runs.engine` has them, with data that `receive_data` takes; a killed one costs its epochs."""

    def __init__(self, n: int, data: bytes) -> None:
        self._n = n
        # A file, since loky would wait forever for a process that dies before it has read as much from a pipe.
        self._data = tempfile.NamedTemporaryFile(prefix="lrlib-")  # noqa: SIM115 (close does that)
        self._data.write(data)
        self._data.flush()
        self._start = partial(start_pool, n, WORKER_ENVIRONMENT, _receive_file, self._data.name)
        self._pool = self._start()

    def count_slots(self) -> int:
        return TASKS_PER_WORKER * self._n

    def submit(self, name: str, task: bytes) -> Future:
        with block_sigint():
            try:
                return self._pool.submit(run_task, task)
            except BrokenProcessPool:
                self._pool.shutdown(wait=True, kill_workers=True)
                self._pool = self._start()
                return self._pool.submit(run_task, task)

    def close(self) -> None:
        """End the processes, whatever they do."""
        with block_sigint():
            self._pool.shutdown(wait=True, kill_workers=True)
        self._data.close()


def _receive_file(path):
    receive_data(Path(path).read_bytes())
