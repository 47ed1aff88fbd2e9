"""Training runs: what is stored is taken from the store, and only what is missing goes to a cluster."""

import contextlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from lrlib.project import store_folder
from lrlib.runs.epochs import load_record, record_of
from lrlib.runs.plan import Run, plan_epochs
from lrlib.runs.results import Results
from lrlib.runs.store import Store
from lrlib.training.backends import BackendError, compiled
from lrlib.training.registry import BACKENDS

if TYPE_CHECKING:
    from distributed import Client


def train(
    runs: Iterable[Run], *, store: Store | None = None, client: "Client | None" = None, progress: bool = True
) -> Results:
    """Train runs, or take from the store what was trained before.

    runs: Runs; the same one twice is one. store: a Store, by default the project's. client: a Dask client, by default
    that of $DASK_SCHEDULER_ADDRESS, else of a cluster on this machine's cores, started only if there is work.
    progress: show a bar, counted in epochs.

    Returns Results. A run whose loss stops being finite is recorded as diverged at that step.
    Raises DatasetError, StoreError (what was stored stays) and EngineError.
    """
    runs = list(dict.fromkeys(runs))
    store = store or Store(store_folder())
    chains = {run: plan_epochs(run) for run in runs}
    epochs = list({epoch.name: epoch for chain in chains.values() for epoch in chain}.values())
    records = {epoch.name: record for epoch in epochs if (record := load_record(store, epoch.name))}
    missing = [epoch for epoch in epochs if epoch.name not in records]
    missing = _drop_below_diverged(missing, records)
    n_computed, computed_seconds = 0, 0.0
    if missing:
        # Dask is loaded where there is something to train: most calls find all of it in the store.
        from lrlib.runs.cluster import find_dashboard
        from lrlib.runs.engine import compute_epochs

        store.check_writable()
        if any(epoch.backend == "compiled" for epoch in missing):
            compiled.prepare(store.folder)  # here and not in each worker
        n_tasks = len({chain[-1].name for chain in chains.values()})
        with contextlib.nullcontext(client) if client else _open_client(runs, n_tasks) as client:
            if progress and (link := find_dashboard(client)):
                tqdm.write(f"dashboard: {link}", file=sys.stderr)
            bar = tqdm(total=len(missing), unit="epoch", desc="training", disable=not progress, smoothing=0.1)
            with bar, contextlib.closing(compute_epochs(missing, store=store, client=client)) as results:
                for epoch, artefact, computed in results:
                    if artefact is not None:
                        records[epoch.name] = record_of(artefact)
                    if computed:
                        n_computed += 1
                        computed_seconds += records[epoch.name]["seconds"]
                    bar.update()
    return Results(chains, records, store, n_computed=n_computed, computed_seconds=computed_seconds)


def _open_client(runs, n_tasks):
    from lrlib.runs.cluster import open_client

    return open_client(
        n_tasks,
        cores_per_task=max(run.processes for run in runs),
        tasks_per_process=min(BACKENDS[run.backend].epochs_at_once for run in runs),
    )


def find_results(runs: Iterable[Run], *, store: Store | None = None) -> Results | None:
    """Results of runs that are all in the store; None where an epoch is missing, or their backend is not installed.

    Nothing is trained. Raises DatasetError, StoreError.
    """
    runs = list(dict.fromkeys(runs))
    store = store or Store(store_folder())
    try:
        chains = {run: plan_epochs(run) for run in runs}
    except BackendError:
        return None
    epochs = list({epoch.name: epoch for chain in chains.values() for epoch in chain}.values())
    records = {epoch.name: record for epoch in epochs if (record := load_record(store, epoch.name))}
    if _drop_below_diverged([epoch for epoch in epochs if epoch.name not in records], records):
        return None
    return Results(chains, records, store, n_computed=0, computed_seconds=0.0)


def _drop_below_diverged(missing, records):
    """The epochs without those that stand below a stored epoch that diverged."""
    ended = {name for name, record in records.items() if record["diverged"]}
    kept = []
    for epoch in missing:  # a chain's epochs stand in order
        if epoch.parent in ended:
            ended.add(epoch.name)
        else:
            kept.append(epoch)
    return kept
