"""Training runs: cached epochs are taken from the store, and only the missing ones are computed."""

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tqdm.auto import tqdm

from lrlib.problems.registry import load_data
from lrlib.project import store_folder
from lrlib.runs.engine import EngineError, Workers, compute_epochs, is_epoch, record_of
from lrlib.runs.plan import Epoch, Run, plan_epochs
from lrlib.runs.published import Published, asked_for
from lrlib.runs.results import Results
from lrlib.runs.store import Store
from lrlib.training.backends import BackendError
from lrlib.training.registry import load_backend

if TYPE_CHECKING:
    from distributed import Client


def train(
    runs: Iterable[Run],
    *,
    store: Store | None = None,
    client: "Client | None" = None,
    progress: bool = True,
    published: Published | None | Literal["asked for"] = "asked for",
) -> Results:
    """Train runs, or take from the cache what was trained before.

    Args:
        runs: Runs; the same one twice is one.
        store: The cache; default: the project's.
        client: A Dask client, whose cluster computes; default: the cluster at $DASK_SCHEDULER_ADDRESS, else processes
            on this machine's cores, started only if there is work.
        progress: Show a bar, counted in epochs.
        published: Results that are used instead of training a run, where the run is in them and not wholly in the
            cache; default: those that $LRLIB_RESULTS asks for.

    Returns:
        Results. A run whose loss or weights stop being finite is recorded as diverged at that step.

    Raises:
        DatasetError: A dataset is unavailable.
        StoreError: The cache cannot be read or written; stored epochs stay.
        EngineError: Training failed; stored epochs stay.
        PublishedError: The published results cannot be read.

    Example:
        >>> results = train([Run(OneCycle(0.1), epochs=3)])
        >>> results.epochs
    """
    store = store or Store(store_folder())
    chains = {run: plan_epochs(run) for run in dict.fromkeys(runs)}
    records: dict[str, Any] = {}
    taken = _take_published(chains, records, store, asked_for() if published == "asked for" else published)
    own = {run: chain for run, chain in chains.items() if run not in taken}
    n_computed, seconds = 0, 0.0
    if list_missing(own, records, store):
        with store.lock():
            missing = list_missing(own, records, store)  # another process may have trained them meanwhile
            with (
                open_workers(missing, store, client) as workers,
                tqdm(total=len(missing), unit="epoch", desc="training", disable=not progress, smoothing=0.1) as bar,
            ):
                for epoch, artefact in compute_epochs(missing, store=store, workers=workers):
                    if artefact is not None:
                        record = records[epoch.name] = record_of(artefact)
                        n_computed, seconds = n_computed + 1, seconds + record["seconds"]
                    bar.update()
    return _collect(chains, records, taken, store, n_computed=n_computed, computed_seconds=seconds)


def find_results(runs: Iterable[Run], *, store: Store | None = None) -> Results | None:
    """Return the results of runs that are all in the cache, or in the published results that $LRLIB_RESULTS asks for.

    Returns:
        Results; None if an epoch is missing, or a backend not installed.

    Raises:
        DatasetError: A dataset is unavailable.
        StoreError: The cache cannot be read.
        PublishedError: The published results cannot be read.
    """
    store, records = store or Store(store_folder()), {}
    try:
        chains = {run: plan_epochs(run) for run in dict.fromkeys(runs)}
    except BackendError:
        return None
    taken = _take_published(chains, records, store, asked_for())
    if list_missing({run: chain for run, chain in chains.items() if run not in taken}, records, store):
        return None
    return _collect(chains, records, taken, store)


def _take_published(chains, records, store, published):
    """run -> records, for runs that are published and not wholly in the store: a run is never made of both."""
    if published is None:
        return {}
    found = {run: published.find(chain) for run, chain in chains.items() if list_missing({run: chain}, records, store)}
    return {run: records for run, records in found.items() if records}


def _collect(chains, records, taken, store, **about):
    """Results, with the records of each run up to its last epoch or the one that diverged."""
    own = {
        run: [records[epoch.name] for epoch in chain if epoch.name in records]
        for run, chain in chains.items()
        if run not in taken
    }
    records = {run: taken.get(run) or own[run] for run in chains}
    return Results(chains, records, store, published=taken, train=train, **about)


def list_missing(chains: Mapping[Run, Sequence[Epoch]], records: dict[str, Any], store: Store) -> list[Epoch]:
    """Return the epochs to be computed, each once, parents first; add name -> record of those that are stored."""
    missing: dict[str, Epoch] = {}
    for chain in chains.values():
        for epoch in chain:
            name = epoch.name
            if name not in records and name not in missing and (artefact := store.load(name)):
                if is_epoch(artefact):
                    records[name] = record_of(artefact)
                else:
                    warnings.warn(
                        f"{store.path(name)} is of another version of lrlib and is computed again", stacklevel=3
                    )
            if name not in records:
                missing[name] = epoch
            elif records[name]["diverged"]:
                break  # nothing is trained below it
    return list(missing.values())


@contextlib.contextmanager
def open_workers(missing: Sequence[Epoch], store: Store, client: "Client | None" = None) -> Iterator[Workers]:
    """Workers for epochs: of the client's cluster, of that at $DASK_SCHEDULER_ADDRESS, or of this machine."""
    data = {(epoch.settings.problem, epoch.data): load_data(epoch.settings.problem) for epoch in missing}
    backends = {epoch.settings.backend for epoch in missing}
    for backend in backends:
        getattr(load_backend(backend), "prepare", lambda folder: None)(store.folder)  # once, and not in each worker
    address = client.scheduler.address if client else os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address:
        try:
            from lrlib.runs.cluster import DaskWorkers
        except ModuleNotFoundError as err:
            raise EngineError(f"a Dask cluster requires {err.name}: pip install 'lrlib[cluster]'") from err

        sent = {
            f"{problem} {digest}": pickle.dumps({(problem, digest): each}) for (problem, digest), each in data.items()
        }
        workers = DaskWorkers(address, sent, security=client.security if client else None)
    else:
        from lrlib.runs.local import LocalWorkers, count_workers

        # As many as chains end here: each epoch of a chain needs the one before it.
        n_chains = len({epoch.name for epoch in missing} - {epoch.parent for epoch in missing})
        n_workers = count_workers(n_chains, max(epoch.settings.processes for epoch in missing))
        workers = LocalWorkers(n_workers, pickle.dumps(data))
    with contextlib.closing(workers):
        yield workers
