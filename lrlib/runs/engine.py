"""Epochs as tasks of workers, parents before children.

A task carries its parent's file, so it depends on no other task: a worker that dies takes nothing with it. A worker
returns the file to store, which is only ever read as safetensors.

Workers (`lrlib.runs.local`, `lrlib.runs.cluster`) have `count_slots()`, how many tasks to have submitted at once, which
raises EngineError if they are gone; `submit(name, task)`, which returns a Future of the result; and `close()`.
"""

import pickle
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lrlib.errors import LrlibError
from lrlib.problems.data import Data
from lrlib.problems.registry import load_data
from lrlib.runs.plan import Epoch
from lrlib.runs.store import Artefact, Store, StoreError, decode, encode
from lrlib.training.epoch import compute_epoch
from lrlib.training.processes import describe_death
from lrlib.training.registry import load_backend, name_numerics

MAX_DEATHS = 3  # times that a worker may die with the same epoch
FAILED = b"failed: "  # no safetensors file begins so: its first eight bytes are a length
_received: dict[tuple[str, str], Data] = {}  # (problem, digest) -> Data that the caller sent to this worker


class EngineError(LrlibError):
    """Training failed because of a worker or the cluster, not because of the runs."""


def compute_epochs(
    epochs: Sequence[Epoch], *, store: Store, workers: Any
) -> Generator[tuple[Epoch, Artefact | None], None, None]:
    """Compute epochs and store each, parents before children, the longest chains first.

    Args:
        epochs: What to compute; a parent that is not among them is in the store.
        store: Where to; the caller holds its lock.
        workers: What computes them, with the epochs' data.

    Yields:
        (epoch, Artefact) as each is stored, and (epoch, None) for each epoch below one that diverged.

    Raises:
        EngineError: A task failed, or the workers are gone. Stored epochs stay.
        StoreError: An epoch cannot be stored, or its parent is no longer there.
    """
    by_name = {epoch.name: epoch for epoch in epochs}
    children = defaultdict(list)
    for epoch in epochs:
        children[epoch.parent].append(epoch)
    n_below: Counter = Counter()  # of the longest chain below an epoch
    for epoch in sorted(epochs, key=lambda epoch: -epoch.number):
        n_below[epoch.parent] = max(n_below[epoch.parent], 1 + n_below[epoch.name])
    ready = [epoch for epoch in epochs if epoch.parent not in by_name]
    running: dict[Future, Epoch] = {}
    n_deaths: Counter = Counter()
    while ready or running:
        ready.sort(key=lambda epoch: -n_below[epoch.name])
        for _ in range(min(workers.count_slots() - len(running), len(ready))):
            epoch = ready.pop(0)
            running[workers.submit(epoch.name, pack_task(epoch, store))] = epoch
        if not running:
            time.sleep(1)
        for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
            epoch = running.pop(future)
            try:
                content = future.result()
            except BrokenExecutor as err:
                n_deaths[epoch.name] += 1
                if n_deaths[epoch.name] == MAX_DEATHS:
                    raise EngineError(
                        f"an epoch could not be computed: its worker died {MAX_DEATHS} times ({describe_death(err)}), "
                        "possibly out of memory"
                    ) from err
                ready.append(epoch)
                continue
            artefact = _read_result(epoch.name, content)
            store.save(epoch.name, content)
            yield epoch, artefact
            if artefact.values["diverged"]:
                below = list(children[epoch.name])
                for each in below:
                    below.extend(children[each.name])
                    yield each, None
            else:
                ready.extend(children[epoch.name])


def pack_task(epoch: Epoch, store: Store) -> bytes:
    """Return what `run_task` takes. Raises StoreError if the epoch's parent is not in the store."""
    path = epoch.parent and store.path(epoch.parent)
    try:
        parent = path and path.read_bytes()
    except OSError as err:
        raise StoreError(f"{path} is needed and was removed; make the same call again") from err
    return pickle.dumps((epoch, parent, name_numerics(epoch.run, load_data(epoch.run.problem))))


def receive_data(content: bytes) -> None:
    """Keep data that a caller sent: pickled (problem, digest) -> Data."""
    _received.update(pickle.loads(content))


def run_task(task: bytes) -> bytes:
    """Compute an epoch on a worker. Returns its file, as `encode` makes it, or FAILED and the reason."""
    try:
        epoch, parent, numerics = pickle.loads(task)
        data = _received.get((epoch.run.problem, epoch.data))
        if data is None:
            raise RuntimeError("the worker has not received the dataset; start it again")
        if (here := name_numerics(epoch.run, data)) != numerics:
            differ = [f"{k} {here.get(k)!r} instead of {v!r}" for k, v in numerics.items() if here.get(k) != v]
            raise RuntimeError(
                f"a worker's numerics differ from the caller's: {', '.join(differ)}; install the same versions there "
                "and restart both"
            )
        state = state_of(decode(epoch.parent, parent)) if parent else None
        return encode(epoch.name, Artefact(*compute_epoch(epoch, data, load_backend(epoch.run.backend), state)))
    except Exception as err:
        return FAILED + (str(err) or repr(err)).encode()


def _read_result(name, content):
    if content.startswith(FAILED):
        raise EngineError(f"an epoch could not be computed: {content[len(FAILED) :].decode(errors='replace')}")
    try:
        return decode(name, content)
    except ValueError as err:
        raise EngineError(f"a worker returned something else than an epoch of this lrlib: {err}") from err


def state_of(artefact: Artefact) -> dict[str, torch.Tensor]:
    """Return the state among an epoch's tensors: what `train_epoch` takes and returns."""
    return {name: tensor for name, tensor in artefact.tensors.items() if name != "losses"}


def record_of(artefact: Artefact) -> dict[str, Any]:
    """Return what is kept in memory of an epoch: its figures and step losses, not its state."""
    losses = round_losses(artefact.tensors["losses"].numpy())
    return artefact.values | {"train_loss": losses.mean(), "losses": losses}


def round_losses(losses: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return losses rounded to 16 significant bits, a relative error of at most 2**-16, so that they can be published.

    The noise of a batch is thousands of times larger; 40 seeds of the report are 8 MB so, and 11 MB unrounded.
    """
    bits = np.ascontiguousarray(losses, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x80)) & np.uint32(0xFFFFFF00)).view(np.float32).astype(np.float64)
