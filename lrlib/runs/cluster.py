"""Workers of a Dask cluster that somebody started. Only imported where one is used."""

import contextlib
import logging
import pickle
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import dask
from distributed import Client, Security, WorkerPlugin

from lrlib.runs.engine import FAILED, EngineError, receive_data

NO_WORKER_SECONDS = 60  # how long a cluster may have no worker
TASKS_PER_THREAD = 2  # one is computed while the next is ready
READABLE = ["msgpack", "error"]  # what a result may be sent as: bytes, and no pickle, which runs code


class DataPlugin(WorkerPlugin):
    """Gives every worker data, once, also those that join or are replaced later."""

    idempotent = True

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data = name, data

    def setup(self, worker: object) -> None:
        receive_data(self.data)


class DaskWorkers:
    """The workers of a cluster, as `lrlib.runs.engine` has them.

    Args:
        address: The scheduler's.
        data: (problem, digest) -> Data.
        security: Dask's certificates; default: what Dask is configured with.
    """

    def __init__(self, address: str, data: Mapping[tuple[str, str], Any], security: Security | None = None) -> None:
        self._address, self._last_seen = address, time.monotonic()
        with contextlib.ExitStack() as opened:
            log = logging.getLogger("distributed")
            opened.callback(log.setLevel, log.level)
            log.setLevel(logging.CRITICAL)  # EngineError says what matters
            # Dask keeps the last thousand messages of each connection; ours carry states of half a megabyte.
            opened.enter_context(dask.config.set({"distributed.admin.low-level-log-length": 10}))
            about = {"security": security, "timeout": "10s", "set_as_default": False, "deserializers": READABLE}
            try:
                self._client = opened.enter_context(Client(address, **about))
            except (OSError, ValueError) as err:
                raise EngineError(
                    f"the Dask scheduler {address} does not answer ({err}); start `dask scheduler` there, "
                    "unset DASK_SCHEDULER_ADDRESS, or name its keys in Dask's configuration (lrlib/runs/README.md)"
                ) from err
            for key, value in data.items():
                name = f"lrlib-data-{' '.join(key)}"
                if not self._client.get_metadata([name], False):
                    self._client.register_plugin(DataPlugin(name, pickle.dumps({key: value})))
                    self._client.set_metadata([name], True)
            self._opened = opened.pop_all()

    def count_slots(self) -> int:
        try:
            n_threads = sum(self._client.nthreads().values())
        except (OSError, RuntimeError) as err:
            raise EngineError(self._describe_loss()) from err
        if n_threads:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > NO_WORKER_SECONDS:
            raise EngineError(
                f"the Dask scheduler {self._address} has had no worker for {NO_WORKER_SECONDS} s; finished epochs are "
                f"cached: start `dask worker {self._address} --nthreads 1` and make the same call again"
            )
        return TASKS_PER_THREAD * n_threads

    def submit(self, name: str, task: bytes) -> Future:
        def run(task):  # travels by value, since a scheduler need not have lrlib
            from lrlib.runs.engine import run_task

            return run_task(task)

        result: Future = Future()

        def resolve(future):
            try:
                content = future.result()  # if its worker died since, it is computed again
            except Exception as err:
                if future.status != "error" and not isinstance(err, TypeError):
                    return result.set_exception(EngineError(self._describe_loss()))
                content = FAILED + f"its worker failed ({type(err).__name__}: {err})".encode()
            result.set_result(content if isinstance(content, bytes) else FAILED + b"its worker returned no bytes")

        self._client.submit(run, task, key=name).add_done_callback(resolve)
        return result

    def close(self) -> None:
        """Leave the cluster; what is not done is not cancelled: another caller may want it."""
        self._opened.close()

    def _describe_loss(self):
        return (
            f"the Dask scheduler {self._address} was lost, or dropped an epoch; finished epochs are cached: make the "
            "same call again"
        )
