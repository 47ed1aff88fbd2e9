"""Epochs as tasks of a Dask cluster.

An epoch's task carries its parent's state with it and is keyed by the epoch's name. So a task depends on no other
task: a worker that dies takes nothing with it, and two callers that want the same epoch at the same time share it.
What is done is in the store before anything goes on from it.
"""

import contextlib
import heapq
import pickle
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import distributed
import numpy as np
import numpy.typing as npt
import torch
from distributed import Client, Future, Worker, WorkerPlugin, get_worker

from lrlib.problems.problem import Data
from lrlib.problems.registry import load_problem
from lrlib.runs.cluster import NO_WORKER_SECONDS, EngineError, Workers, describe_loss, interrupts_put_into
from lrlib.runs.epochs import Epoch, load_epoch, state_of
from lrlib.runs.store import Artefact, Store, StoreError
from lrlib.training.epoch import epoch_noise, epoch_order, initial_state
from lrlib.training.numerics import fix_numerics
from lrlib.training.registry import BACKENDS, describe_numerics, load_backend

# How often epochs that another process computes are looked for.
CHECK_SECONDS = 1
# How long an epoch that another process says it computes is waited for: that process may be stopped, or hang.
CLAIM_SECONDS = 600
# One task computes while the next lies ready; more would only fill the scheduler's memory with states.
TASKS_PER_THREAD = 2
# How long a task waits for the data that another caller is just sending to its worker.
DATA_SECONDS = 60


# Building a model draws from torch's one random generator, so in a worker with several threads one at a time does.
_drawing = threading.RLock()


def compute_epochs(
    epochs: Sequence[Epoch], *, store: Store, client: Client
) -> Generator[tuple[Epoch, Artefact | None, bool], None, None]:
    """Compute epochs on a cluster and store each, parents before children, the longest chains first.

    epochs: the Epochs to compute; a parent that is not among them is in the store.
    Yields (epoch, Artefact, whether it was computed by this call) as each is stored, and (epoch, None, False) for each
    epoch below one that diverged. What another process computes on the same store is waited for, not computed again.
    Raises EngineError where a task fails, or no worker is left for NO_WORKER_SECONDS; StoreError where an epoch
    cannot be stored or its parent is no longer there. What was stored stays.
    """
    by_name = {epoch.name: epoch for epoch in epochs}
    children = defaultdict(list)
    for epoch in epochs:
        children[epoch.parent].append(epoch)
    n_below = _count_longest_below(epochs, children)
    rank = {epoch.name: (-n_below[epoch.name], place, epoch.name) for place, epoch in enumerate(epochs)}
    for problem, checksum in {(epoch.problem, epoch.data_checksum) for epoch in epochs}:
        _place_data(client, problem, checksum)

    ready = sorted(rank[epoch.name] for epoch in epochs if epoch.parent not in by_name)  # sorted is a heap too
    running: dict[str, Future] = {}
    done: queue.SimpleQueue[Future | None] = queue.SimpleQueue()
    elsewhere: list[Epoch] = []
    first_seen: dict[str, float] = {}
    looked = time.monotonic()
    workers = Workers(client)

    def finish(epoch, artefact, computed):
        yield epoch, artefact, computed
        if artefact.values["diverged"]:
            for below in _list_below(epoch, children):
                yield below, None, False
        else:
            for child in children[epoch.name]:
                heapq.heappush(ready, rank[child.name])

    try:
        with interrupts_put_into(done):
            while ready or running or elsewhere:
                n_tasks = TASKS_PER_THREAD * workers.count_threads()
                while ready and len(running) < n_tasks:
                    epoch = by_name[heapq.heappop(ready)[-1]]
                    now = time.monotonic()
                    if not store.claim(epoch.name) and now - first_seen.setdefault(epoch.name, now) < CLAIM_SECONDS:
                        elsewhere.append(epoch)
                    elif artefact := load_epoch(store, epoch.name):  # another process stored it since we looked
                        store.release(epoch.name)
                        yield from finish(epoch, artefact, computed=False)
                    else:
                        future = running[epoch.name] = _submit(client, epoch, store, priority=n_below[epoch.name])
                        future.add_done_callback(done.put)
                with contextlib.suppress(queue.Empty):
                    future = done.get(timeout=CHECK_SECONDS)
                    if future is None:
                        raise KeyboardInterrupt
                    artefact = _fetch(future)
                    if artefact is None:
                        future.add_done_callback(done.put)
                    else:
                        name = str(future.key)
                        store.save(name, artefact)
                        store.release(name)
                        del running[name]
                        future.release()
                        yield from finish(by_name[name], artefact, computed=True)
                if time.monotonic() - looked > CHECK_SECONDS:
                    for epoch in elsewhere:
                        heapq.heappush(ready, rank[epoch.name])
                    elsewhere, looked = [], time.monotonic()
    finally:
        # Released and not cancelled: another thread with this client may want the same epoch.
        for name, future in running.items():
            future.release()
            store.release(name)


def compute_epoch(epoch: Epoch, state: dict[str, torch.Tensor] | None, numerics: Mapping[str, object]) -> Artefact:
    """The task: train and evaluate one epoch on this worker.

    state: the parent's, None for a run's first epoch. numerics: those of the caller, which stand in the epoch's name.
    Returns an Artefact: the new state and the step losses as tensors; as values the test figures, the time, and
    what the epoch is ("epoch": what `python -m lrlib store` lists it by).
    Raises RuntimeError where this worker's numerics differ from the caller's: the name would be wrong.
    """
    here = describe_numerics(epoch.backend, epoch.processes, epoch.problem, epoch.optimizer)
    if here != numerics:
        differ = ", ".join(f"{k} {here.get(k)!r} instead of {v!r}" for k, v in numerics.items() if here.get(k) != v)
        raise RuntimeError(
            f"worker {get_worker().address} computes otherwise than the caller: {differ}; "
            "install the same versions there and start it again"
        )
    data = _await_data(get_worker(), epoch.problem, epoch.data_checksum)
    if state is None:
        with _drawing:
            fix_numerics()
            state = initial_state(epoch.seed, epoch.problem, data)
    backend = load_backend(epoch.backend)
    with _drawing if BACKENDS[epoch.backend].epochs_at_once == 1 else contextlib.nullcontext():
        fix_numerics()
        start = time.perf_counter()
        state, losses = backend.train_epoch(
            state,
            processes=epoch.processes,
            lr=epoch.lr,
            momentum=epoch.momentum,
            problem=epoch.problem,
            inputs=data.train[0],
            targets=data.train[1],
            order=_order_samples(epoch, len(data.train[0])),
            noise=epoch_noise(epoch.seed, epoch.number),
            batch_size=epoch.batch_size,
            optimizer=epoch.optimizer,
            weight_decay=epoch.weight_decay,
        )
        trained = time.perf_counter()
        diverged = not np.isfinite(losses).all()
        test_loss, n_correct = (
            (np.nan, None)
            if diverged
            else backend.evaluate(
                state, problem=epoch.problem, inputs=data.test[0], targets=data.test[1], batch_size=epoch.batch_size
            )
        )
    return Artefact(
        tensors={**state, "losses": torch.from_numpy(losses)},
        values={
            "diverged": diverged,
            "test_loss": test_loss if np.isfinite(test_loss) else None,
            "n_correct": n_correct,
            "n_test": len(data.test[0]),
            "train_seconds": trained - start,
            "test_seconds": time.perf_counter() - trained,
            "epoch": {
                "parent": epoch.parent,
                "number": epoch.number,
                "seed": epoch.seed,
                "lr": [float(epoch.lr[0]), float(epoch.lr[-1])],
                "optimizer": epoch.optimizer,
                "weight_decay": epoch.weight_decay,
                "batch_size": epoch.batch_size,
                "problem": epoch.problem,
                "backend": epoch.backend,
                "processes": epoch.processes,
            },
        },
    )


def _order_samples(epoch, n_train):
    """The order of an epoch's samples, as many as its steps take; the last batch of one pass may be short."""
    length = load_problem(epoch.problem).steps_per_epoch and len(epoch.lr) * epoch.batch_size
    return epoch_order(epoch.seed, epoch.number, n_train, length)


class DataPlugin(WorkerPlugin):
    """Puts a problem's data on every worker, once, also on those that join or are replaced later."""

    idempotent = True

    def __init__(self, problem: str, checksum: str, data: Data):
        self.key, self.data = (problem, checksum), data
        self.name = _plugin_name(problem, checksum)

    def setup(self, worker: Worker) -> None:
        if not hasattr(worker, "lrlib_data"):
            worker.lrlib_data = {}  # type: ignore[attr-defined]
        worker.lrlib_data[self.key] = self.data  # type: ignore[attr-defined]


def _plugin_name(problem, checksum):
    return f"lrlib-data-{problem}-{checksum}"


def _place_data(client, problem, checksum):
    plugin_name = _plugin_name(problem, checksum)
    if not client.run_on_scheduler(lambda dask_scheduler: plugin_name in dask_scheduler.worker_plugins):
        client.register_plugin(DataPlugin(problem, checksum, load_problem(problem).load_data()))


def _await_data(worker, problem, checksum):
    deadline = time.monotonic() + DATA_SECONDS
    while (problem, checksum) not in getattr(worker, "lrlib_data", {}):
        if time.monotonic() > deadline:
            raise RuntimeError(f"worker {worker.address} got no dataset in {DATA_SECONDS} s; start it again")
        time.sleep(0.05)
    return worker.lrlib_data[problem, checksum]


def _submit(client, epoch, store, *, priority):
    state = None
    if epoch.parent:
        parent = load_epoch(store, epoch.parent)
        if parent is None:
            path = store.path(epoch.parent)
            raise StoreError(f"{path} is needed and no longer there; the same call computes it again")
        state = {name: tensor.numpy() for name, tensor in state_of(parent).items()}
    # Bytes, so that the scheduler, which unpickles tasks, has nothing to import; arrays pickle in a tenth of
    # the time that tensors take.
    numerics = describe_numerics(epoch.backend, epoch.processes, epoch.problem, epoch.optimizer)
    payload = pickle.dumps((epoch, state, numerics), protocol=5)
    return client.submit(_make_task(), payload, key=epoch.name, priority=priority)


def _make_task():
    def task(payload):  # travels by value, since a scheduler need not have lrlib
        from lrlib.runs.engine import answer

        return answer(payload)

    return task


def answer(payload: bytes) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """`compute_epoch` on a worker, from and to what travels: pickled (epoch, state, numerics) -> (arrays, values)."""
    epoch, state, numerics = pickle.loads(payload)
    if state is not None:
        state = {name: torch.from_numpy(array) for name, array in state.items()}
    artefact = compute_epoch(epoch, state, numerics)
    return {name: tensor.numpy() for name, tensor in artefact.tensors.items()}, artefact.values


def _fetch(future):
    """The Artefact of a future that is done; None where its worker died with it, and it is computed again."""
    try:
        arrays, values = future.result(timeout=NO_WORKER_SECONDS)
    except Exception as err:
        if future.status != "error":  # so it is not of the task's making
            if isinstance(err, TimeoutError):
                return None
            raise EngineError(describe_loss(future.client)) from err
        if isinstance(err, distributed.KilledWorker):
            what = "its worker died again and again, perhaps for want of memory"
        elif isinstance(err, ImportError):
            what = f"its worker cannot import what it needs ({err}), so install lrlib there or set PYTHONPATH"
        else:
            what = str(err) or repr(err)
        raise EngineError(f"an epoch could not be computed: {what}") from err
    return Artefact({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, values)


def _list_below(epoch, children):
    below = list(children[epoch.name])
    for child in below:
        below.extend(children[child.name])
    return below


def _count_longest_below(epochs, children):
    """name -> number of epochs on the longest chain below it; a run's last epoch has 0."""
    longest = {}
    for epoch in sorted(epochs, key=lambda epoch: epoch.number, reverse=True):
        longest[epoch.name] = max((1 + longest[child.name] for child in children[epoch.name]), default=0)
    return longest
