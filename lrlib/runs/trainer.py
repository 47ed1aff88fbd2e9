"""Training runs: cached epochs are taken from the store, and only the missing ones are computed."""

import contextlib
import os
import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from joblib import cpu_count
from tqdm.auto import tqdm

from lrlib.problems.registry import load_data
from lrlib.project import store_folder
from lrlib.runs.engine import EngineError, compute_epochs, record_of
from lrlib.runs.local import LocalWorkers
from lrlib.runs.plan import Epoch, Run
from lrlib.runs.published import Published, asked_for
from lrlib.runs.results import Found, Results
from lrlib.runs.store import Store
from lrlib.training.registry import load_backend, name_numerics

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
        BackendError: A backend that is needed is not installed.
        StoreError: The cache cannot be read or written; stored epochs stay.
        EngineError: Training failed; stored epochs stay.
        PublishedError: The published results cannot be read.

    Example:
        >>> results = train([Run(OneCycle(0.1), epochs=3)])
        >>> results.epochs
    """
    store = store or Store(store_folder())
    published = asked_for() if published == "asked for" else published
    found = Found(runs, store, published)
    if not found.list_missing():
        return Results(found, train)
    computed = []
    with store.lock():
        missing = found.list_missing()  # another process may have trained some meanwhile
        if published and missing:
            print(f"not among the published results, trained now: {len(missing)} epochs", file=sys.stderr)
        bar = tqdm(total=len(missing), unit="epoch", desc="training", disable=not progress, smoothing=0.1)
        with open_workers(missing, store, client) as workers, bar:
            for epoch, artefact in compute_epochs(missing, store=store, workers=workers):
                if artefact is not None:
                    found.records[epoch.name] = record_of(artefact)
                    computed.append(found.records[epoch.name])
                bar.update()
    return Results(found, train, computed)


def find_results(runs: Iterable[Run], *, store: Store | None = None) -> Results | None:
    """Return the results of runs that are in the cache or among the published results of $LRLIB_RESULTS, else None.

    Raises:
        DatasetError, StoreError, PublishedError: As `train`.
    """
    found = Found(runs, store or Store(store_folder()), asked_for())
    return None if found.list_missing() else Results(found, train)


@contextlib.contextmanager
def open_workers(missing: Sequence[Epoch], store: Store, client: "Client | None" = None) -> Iterator[Any]:
    """Workers for epochs: of the client's cluster, of that at $DASK_SCHEDULER_ADDRESS, or of this machine."""
    data = {(epoch.run.problem, epoch.data): load_data(epoch.run.problem) for epoch in missing}
    for backend, run in {epoch.run.backend: epoch.run for epoch in missing}.items():
        name_numerics(run, load_data(run.problem))  # raises BackendError before anything is trained
        getattr(load_backend(backend), "prepare", lambda folder: None)(store.folder)  # once, and not in each worker
    address = client.scheduler.address if client else os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address:
        try:
            from lrlib.runs.cluster import DaskWorkers
        except ModuleNotFoundError as err:
            raise EngineError(f"a Dask cluster requires {err.name}: pip install 'lrlib[cluster]'") from err

        workers: Any = DaskWorkers(address, data, client.security if client else None)
    else:
        # As many as chains end here: each epoch of a chain needs the one before it.
        n_chains = len({epoch.name for epoch in missing} - {epoch.parent for epoch in missing})
        n_cores = cpu_count() // max((epoch.run.processes for epoch in missing), default=1)
        workers = LocalWorkers(max(1, min(n_chains, n_cores)), pickle.dumps(data))
    with contextlib.closing(workers):
        yield workers
