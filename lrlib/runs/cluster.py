"""Workers of a Dask cluster that somebody started, on this machine or others. Only imported where one is used."""

import contextlib
import logging
import queue
import time

import dask
from distributed import Client, Security, WorkerPlugin

from lrlib.runs.engine import FAILED, EngineError, receive_data

NO_WORKER_SECONDS = 60  # how long a cluster may have no worker
COUNT_SECONDS = 1  # how often they are counted
TASKS_PER_THREAD = 2  # one is computed while the next is ready; more would fill the scheduler's memory with states
# Results are bytes, and a worker that sends a pickle is refused: unpickling runs code.
READABLE = ["msgpack", "error"]


class DataPlugin(WorkerPlugin):
    """Gives every worker the data of a problem, once, also those that join or are replaced later."""

    idempotent = True

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data = name, data

    def setup(self, worker: object) -> None:
        receive_data(self.data)


class DaskWorkers:
    """The workers of a cluster.

    Args:
        address: The scheduler's.
        data: Digest -> what `lrlib.runs.engine.receive_data` takes.
        security: Dask's certificates; default: what Dask is configured with.

    Raises:
        EngineError: The address does not answer.
    """

    def __init__(self, address: str, data: dict[str, bytes], *, security: Security | None = None) -> None:
        self._opened = contextlib.ExitStack()
        self._opened.callback(logging.getLogger("distributed").setLevel, logging.getLogger("distributed").level)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # EngineError says what matters
        # Dask keeps the last thousand messages of each connection; ours carry states of half a megabyte.
        self._opened.enter_context(dask.config.set({"distributed.admin.low-level-log-length": 10}))
        try:
            if security is None and address.startswith("tls://"):
                security = Security()
                if not security.get_connection_args("client")["ssl_context"]:
                    raise ValueError("it is encrypted: name the key in Dask's configuration, see lrlib/runs/README.md")
            client = Client(address, security=security, timeout="10s", set_as_default=False, deserializers=READABLE)
        except (OSError, ValueError) as err:
            self._opened.close()
            raise EngineError(
                f"the Dask scheduler {address} does not answer; start `dask scheduler` there or unset "
                f"DASK_SCHEDULER_ADDRESS ({_find_cause(err)})"
            ) from err
        self._client = self._opened.enter_context(client)
        self._address, self._done, self._futures = address, queue.SimpleQueue(), {}
        self._n_threads, self._counted, self._last_seen = 0, -COUNT_SECONDS, time.monotonic()
        for digest, content in data.items():
            if not client.get_metadata(["lrlib", digest], False):
                client.register_plugin(DataPlugin(f"lrlib-data-{digest}", content))
                client.set_metadata(["lrlib", digest], True)

    def count_slots(self) -> int:
        now = time.monotonic()
        if now - self._counted >= COUNT_SECONDS:
            try:
                self._n_threads, self._counted = sum(self._client.nthreads().values()), now
            except (OSError, RuntimeError) as err:
                raise EngineError(self._describe_loss()) from err
        if self._n_threads:
            self._last_seen = now
        elif now - self._last_seen > NO_WORKER_SECONDS:
            raise EngineError(
                f"the Dask scheduler {self._address} has had no worker for {NO_WORKER_SECONDS} s; finished epochs are "
                f"cached; start `dask worker {self._address} --nthreads 1` and make the same call again"
            )
        return TASKS_PER_THREAD * self._n_threads

    def submit(self, name: str, task: bytes, priority: int) -> None:
        future = self._client.submit(_by_value(), task, key=name, priority=priority)
        self._futures[name] = future
        future.add_done_callback(self._done.put)

    def wait(self) -> tuple[str, bytes] | None:
        try:
            future = self._done.get(timeout=COUNT_SECONDS)
        except queue.Empty:
            return None
        try:
            content = future.result(timeout=NO_WORKER_SECONDS)
        except TimeoutError:
            if future.status == "error":
                return future.key, FAILED + b"it timed out"
            future.add_done_callback(self._done.put)  # its worker died with the result: it is computed again
            return None
        except Exception as err:
            if future.status != "error" and not isinstance(err, TypeError):
                raise EngineError(self._describe_loss()) from err
            content = FAILED + f"its worker failed ({type(err).__name__}: {_find_cause(err)})".encode()
        self._futures.pop(future.key).release()
        return future.key, content if isinstance(content, bytes) else FAILED + b"its worker returned no bytes"

    def close(self) -> None:
        """Leave the cluster; what is not done is released and not cancelled: another caller may want it."""
        for future in self._futures.values():
            future.release()
        self._opened.close()

    def _describe_loss(self):
        return (
            f"the Dask scheduler {self._address} was lost, or dropped an epoch; finished epochs are cached: make the "
            "same call again"
        )


def _by_value():
    """The task as a function that a scheduler without lrlib can unpickle."""

    def run(task):
        from lrlib.runs.engine import run_task

        return run_task(task)

    return run


def _find_cause(err):
    while err.__cause__ or err.__context__:
        err = err.__cause__ or err.__context__
    return (str(err).strip().splitlines() or [type(err).__name__])[-1]
