"""Training runs: cached epochs are taken from the store, and only the missing ones are computed."""

import contextlib
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from joblib import cpu_count
from tqdm.auto import tqdm

from lrlib.problems.registry import load_data
from lrlib.project import store_folder
from lrlib.runs.engine import EngineError, compute_epochs, record_of
from lrlib.runs.local import LocalWorkers
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
    found = _Found(runs, store, asked_for() if published == "asked for" else published)
    if not found.list_missing():
        return found.collect()
    computed = []
    with store.lock():
        missing = found.list_missing()  # another process may have trained some meanwhile
        bar = tqdm(total=len(missing), unit="epoch", desc="training", disable=not progress, smoothing=0.1)
        with open_workers(missing, store, client) as workers, bar:
            for epoch, artefact in compute_epochs(missing, store=store, workers=workers):
                if artefact is not None:
                    found.records[epoch.name] = record_of(artefact)
                    computed.append(found.records[epoch.name])
                bar.update()
    return found.collect(computed)


def find_results(runs: Iterable[Run], *, store: Store | None = None) -> Results | None:
    """Return the results of runs that are all in the cache, or in the published results that $LRLIB_RESULTS asks for.

    Returns:
        Results; None if an epoch is missing, or a backend not installed.

    Raises:
        DatasetError, StoreError, PublishedError: As `train`.
    """
    try:
        found = _Found(runs, store or Store(store_folder()), asked_for())
    except BackendError:
        return None
    return None if found.list_missing() else found.collect()


class _Found:
    """What is known of runs before they are trained: name -> record of stored epochs, run -> records if published.

    A run is never made of both: it is published if it is, and not wholly stored.
    """

    def __init__(self, runs: Iterable[Run], store: Store, published: Published | None) -> None:
        self.chains, self.store = {run: plan_epochs(run) for run in dict.fromkeys(runs)}, store
        self.records: dict[str, dict[str, Any]] = {}
        self.published: dict[Run, Sequence[Mapping[str, Any]]] = {}
        for run, chain in self.chains.items():
            if published and self.list_missing(run) and (records := published.find(chain)):
                self.published[run] = records

    def list_missing(self, *runs: Run) -> list[Epoch]:
        """The epochs to be computed of runs, by default of all that are not published: each once, parents first.

        Those that are stored by now become records.
        """
        missing: dict[str, Epoch] = {}
        for run in runs or [run for run in self.chains if run not in self.published]:
            for epoch in self.chains[run]:
                name = epoch.name
                if name not in self.records and name not in missing and (artefact := self.store.load(name)):
                    self.records[name] = record_of(artefact)
                if name not in self.records:
                    missing[name] = epoch
                elif self.records[name]["diverged"]:
                    break  # nothing is trained below it
        return list(missing.values())

    def collect(self, computed: Sequence[Mapping[str, Any]] = ()) -> Results:
        """Results, with the records of each run up to its last epoch or the one that diverged."""
        records = {
            run: self.published.get(run) or [self.records[epoch.name] for epoch in chain if epoch.name in self.records]
            for run, chain in self.chains.items()
        }
        return Results(self.chains, records, self.store, published=self.published, computed=computed, train=train)


@contextlib.contextmanager
def open_workers(missing: Sequence[Epoch], store: Store, client: "Client | None" = None) -> Iterator[Any]:
    """Workers for epochs: of the client's cluster, of that at $DASK_SCHEDULER_ADDRESS, or of this machine."""
    data = {(epoch.run.problem, epoch.data): load_data(epoch.run.problem) for epoch in missing}
    for backend in {epoch.run.backend for epoch in missing}:
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
