"""Epochs as tasks of a Dask cluster.

An epoch's task carries its parent's state with it and is keyed by the epoch's name. So a task depends on no other
task: a worker that dies takes nothing with it, and two callers that want the same epoch at the same time share it.
"""

import contextlib
import os
import time
from collections import defaultdict
from dataclasses import dataclass

import dask
import distributed
import numpy as np
import torch
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, WorkerPlugin, as_completed, get_worker

from lrlib.data import Dataset, load_dataset
from lrlib.numerics import describe_numerics, fix_numerics
from lrlib.store import Artefact
from lrlib.training import epoch_order, evaluate, initial_state, train_epoch


# Dask has its workers hand freed memory back at once; a training step frees and asks for the same megabytes
# hundreds of times a second, and so would spend two fifths of its time in page faults.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class EngineError(Exception):
    """Training that could not be carried out: the cluster or a worker is to blame, not the runs."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """One epoch of a run, with all that decides its result.

    name: sha256 over the whole history; parent: the name of the epoch before, None for a run's first.
    number: counted from 1. lr, momentum: float64 (n_steps,).
    """

    name: str
    parent: str | None
    seed: int
    number: int
    lr: np.ndarray
    momentum: np.ndarray
    optimizer: str
    weight_decay: float
    batch_size: int
    dataset: str
    dataset_checksum: str


def compute_epochs(epochs, *, load_state, client):
    """Compute epochs on a cluster, parents before children, the longest chains first.

    epochs: the Epochs to compute. load_state: name -> state of a parent that is not among them.
    Yields (epoch, Artefact) as each is done, and (epoch, None) for each epoch below one that diverged.
    Children start when the caller asks for the next result, so what goes on has been stored before.
    Raises EngineError where a task fails.
    """
    by_name = {epoch.name: epoch for epoch in epochs}
    children = defaultdict(list)
    for epoch in epochs:
        children[epoch.parent].append(epoch)
    n_below = _count_longest_below(epochs, children)
    for name, checksum in {(epoch.dataset, epoch.dataset_checksum) for epoch in epochs}:
        _place_dataset(client, name, checksum)

    pool, futures = as_completed(loop=client.loop), {}

    def submit(epoch, state):
        future = client.submit(
            compute_epoch, epoch, state, describe_numerics(), key=epoch.name, priority=n_below[epoch.name]
        )
        futures[epoch.name] = future
        pool.add(future)

    try:
        for epoch in epochs:
            if epoch.parent not in by_name:
                submit(epoch, load_state(epoch.parent) if epoch.parent else None)
        for future in pool:
            epoch, artefact = by_name[future.key], _result(future)
            yield epoch, artefact
            if artefact.values["diverged"]:
                for below in _list_below(epoch, children):
                    yield below, None
            for child in children[epoch.name] if not artefact.values["diverged"] else ():
                submit(child, state_of(artefact))
            del futures[epoch.name]
    finally:
        client.cancel(list(futures.values()), reason="the caller ended")


def compute_epoch(epoch, state, numerics):
    """The task: train and evaluate one epoch on this worker.

    state: the parent's, None for a run's first epoch. numerics: those of the caller, which stand in the epoch's name.
    Returns an Artefact: the new state and the step losses as tensors, the test figures and the time as values.
    Raises RuntimeError where this worker's numerics differ from the caller's: the name would be wrong.
    """
    fix_numerics()
    here = describe_numerics()
    if here != numerics:
        differ = ", ".join(f"{k} {here[k]!r} instead of {numerics[k]!r}" for k in numerics if here[k] != numerics[k])
        raise RuntimeError(f"worker {get_worker().address} computes otherwise than the caller: {differ}")
    dataset = get_worker().lrlib_datasets[epoch.dataset_checksum]
    start = time.perf_counter()
    if state is None:
        state = initial_state(epoch.seed)
    state, losses = train_epoch(
        state,
        lr=epoch.lr,
        momentum=epoch.momentum,
        images=dataset.train_images,
        labels=dataset.train_labels,
        order=epoch_order(epoch.seed, epoch.number, len(dataset.train_labels)),
        batch_size=epoch.batch_size,
        optimizer=epoch.optimizer,
        weight_decay=epoch.weight_decay,
    )
    trained = time.perf_counter()
    diverged = not np.isfinite(losses).all()
    test_loss, n_correct = (np.nan, None) if diverged else evaluate(
        state, images=dataset.test_images, labels=dataset.test_labels, batch_size=epoch.batch_size
    )
    return Artefact(
        tensors={**state, "losses": torch.from_numpy(losses)},
        values={
            "diverged": diverged,
            "test_loss": test_loss if np.isfinite(test_loss) else None,
            "n_correct": n_correct,
            "n_test": len(dataset.test_labels),
            "train_seconds": trained - start,
            "test_seconds": time.perf_counter() - trained,
        },
    )


def state_of(artefact):
    """The state among an epoch's tensors: what `train_epoch` takes and returns."""
    return {name: tensor for name, tensor in artefact.tensors.items() if name != "losses"}


@contextlib.contextmanager
def open_client(n_tasks):
    """A client of the cluster at $DASK_SCHEDULER_ADDRESS, else of one of this machine's cores, which ends with it.

    n_tasks: how many tasks can run at once; more workers than that are not started.
    """
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address:
        try:
            client = Client(address, timeout="10s", set_as_default=False)
        except OSError as err:
            raise EngineError(f"DASK_SCHEDULER_ADDRESS {address} does not answer; start `dask scheduler` there or unset it") from err
        with client:
            yield client
        return
    with dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT}):
        cluster = LocalCluster(
            n_workers=max(1, min(CPU_COUNT, n_tasks)),
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            memory_limit=None,
            silence_logs="CRITICAL",
        )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


class DatasetPlugin(WorkerPlugin):
    """Puts a dataset on every worker, once, also on those that join or are replaced later."""

    idempotent = True

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.name = _plugin_name(dataset.info.checksum)

    def setup(self, worker):
        if not hasattr(worker, "lrlib_datasets"):
            worker.lrlib_datasets = {}
        worker.lrlib_datasets[self.dataset.info.checksum] = self.dataset


def _plugin_name(checksum):
    return f"lrlib-dataset-{checksum}"


def _place_dataset(client, name, checksum):
    plugin_name = _plugin_name(checksum)
    if not client.run_on_scheduler(lambda dask_scheduler: plugin_name in dask_scheduler.worker_plugins):
        client.register_plugin(DatasetPlugin(load_dataset(name)))


def _result(future):
    try:
        return future.result()
    except Exception as err:
        raise EngineError(f"an epoch could not be computed: {err}") from err


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
