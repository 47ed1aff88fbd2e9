"""Runs: what a person asks for, the epochs that it is made of, and its results as tables.

A run is its learning-rate history. Each of its epochs is named by everything that decides it, so runs that begin
alike share epochs, a stored epoch is never trained again, and a broken-off run goes on where it stopped.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import sys
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lrlib.backends import BACKENDS, BackendError, load_backend
from lrlib.cluster import find_dashboard, open_client
from lrlib.data import NAMES, find_dataset
from lrlib.engine import Epoch, compute_epochs, load_epoch, state_of
from lrlib.numerics import describe_numerics
from lrlib.project import store_folder
from lrlib.schedules import Schedule, lr_per_step
from lrlib.store import Store, StoreError
from lrlib.training import OPTIMIZERS, load_model


@dataclass(frozen=True)
class Run:
    """One training of LeNet-5: a schedule and the settings around it.

    schedule: one of lrlib.schedules. epochs: passes over the training split.
    optimizer: "sgd", "adam", or one that finds its own learning rate ("prodigy", "dadapt_adam", "dadapt_sgd").
    momentum, weight_decay: None for the protocol's (sgd: 0.9 and 5e-4; adam: first beta 0.9 and no decay). backend: a name of lrlib.backends, by default plain PyTorch; processes: how many share each batch,
    where the backend can. label: how tables and figures call the run; by default its schedule.
    Raises ValueError for a value outside its range.
    """

    schedule: Schedule
    epochs: int = 30
    seed: int = 0
    optimizer: str = "sgd"
    batch_size: int = 128
    dataset: str = "mnist"
    momentum: float | None = None
    weight_decay: float | None = None
    backend: str = "torch"
    processes: int = 1
    label: str = field(default="", compare=False)

    def __post_init__(self):
        _require_whole("epochs", self.epochs, 1)
        _require_whole("seed", self.seed, 0)
        _require_whole("batch_size", self.batch_size, 1)
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.dataset not in NAMES:
            raise ValueError(f"dataset must be one of {', '.join(NAMES)}, got {self.dataset!r}")
        for name in ("momentum", "weight_decay"):
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, OPTIMIZERS[self.optimizer][name])
            elif not 0 <= value < (1 if name == "momentum" else math.inf):
                raise ValueError(f"{name} must be at least 0{' and below 1' * (name == 'momentum')}, got {value!r}")
        _require_whole("processes", self.processes, 1)
        load_backend(self.backend).check(self.processes)
        self.schedule.check_epochs(self.epochs)
        if not self.label:
            object.__setattr__(self, "label", str(self.schedule))


def train(runs, *, store=None, client=None, progress=True):
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
    records = {epoch.name: record for epoch in epochs if (record := _load_record(store, epoch.name))}
    missing = [epoch for epoch in epochs if epoch.name not in records]
    missing = _drop_below_diverged(missing, records)
    n_computed, computed_seconds = 0, 0.0
    if missing:
        store.check_writable()
        n_tasks = len({chain[-1].name for chain in chains.values()})
        with contextlib.nullcontext(client) if client else _open_client(runs, n_tasks) as client:
            if progress and (link := find_dashboard(client)):
                tqdm.write(f"dashboard: {link}", file=sys.stderr)
            bar = tqdm(total=len(missing), unit="epoch", desc="training", disable=not progress, smoothing=0.1)
            with bar, contextlib.closing(compute_epochs(missing, store=store, client=client)) as results:
                for epoch, artefact, computed in results:
                    if artefact is not None:
                        records[epoch.name] = _record(artefact)
                    if computed:
                        n_computed += 1
                        computed_seconds += records[epoch.name]["seconds"]
                    bar.update()
    return Results(chains, records, store, n_computed=n_computed, computed_seconds=computed_seconds)


def _open_client(runs, n_tasks):
    return open_client(
        n_tasks,
        cores_per_task=max(run.processes for run in runs),
        tasks_per_process=min(BACKENDS[run.backend].epochs_at_once for run in runs),
    )


def find_results(runs, *, store=None):
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
    records = {epoch.name: record for epoch in epochs if (record := _load_record(store, epoch.name))}
    if _drop_below_diverged([epoch for epoch in epochs if epoch.name not in records], records):
        return None
    return Results(chains, records, store, n_computed=0, computed_seconds=0.0)


def plan_epochs(run):
    """The epochs of a run, first to last, each with its name.

    Raises DatasetError where the dataset cannot be had, ValueError where the optimizer's package cannot.
    """
    info = find_dataset(run.dataset)
    steps_per_epoch = math.ceil(info.n_train / run.batch_size)  # 469 = ceil(60000 / 128)
    lr, momentum = _plan_steps(run.schedule, run.epochs, steps_per_epoch, run.momentum)
    name = _digest(
        {
            "model": "LeNet5",
            "optimizer": run.optimizer,
            "optimizer_settings": _settle_optimizer(run),
            "batch_size": run.batch_size,
            "seed": run.seed,
            "dataset": info.checksum,
            "numerics": describe_numerics(run.backend, run.processes),
        }
    )
    chain = []
    for number in range(1, run.epochs + 1):
        steps = slice((number - 1) * steps_per_epoch, number * steps_per_epoch)
        history = [name, lr[steps].astype("<f8").tobytes().hex(), momentum[steps].astype("<f8").tobytes().hex()]
        name = _digest(history)
        chain.append(
            Epoch(
                name=name,
                parent=chain[-1].name if chain else None,
                seed=run.seed,
                number=number,
                lr=lr[steps],
                momentum=momentum[steps],
                optimizer=run.optimizer,
                weight_decay=run.weight_decay,
                batch_size=run.batch_size,
                dataset=run.dataset,
                dataset_checksum=info.checksum,
                backend=run.backend,
                processes=run.processes,
            )
        )
    return chain


def _settle_optimizer(run):
    """All settings of a run's optimizer but its momentum, which is given at each step."""
    settings = OPTIMIZERS[run.optimizer] | {"momentum": None, "weight_decay": run.weight_decay}
    if "package" in settings:
        try:
            settings["version"] = importlib.metadata.version(settings["package"])
        except importlib.metadata.PackageNotFoundError as err:
            raise ValueError(
                f"optimizer {run.optimizer!r} is in the package {settings['package']}, which is not installed; "
                f"pip install {settings['package']}"
            ) from err
    return settings


@lru_cache(maxsize=256)
def _plan_steps(schedule, epochs, steps_per_epoch, momentum):
    """`lr_per_step`, once for all seeds: driving torch's scheduler takes 6 ms for an epoch of 469 steps."""
    arrays = lr_per_step(schedule, epochs=epochs, steps_per_epoch=steps_per_epoch, momentum=momentum)
    for array in arrays:
        array.flags.writeable = False
    return arrays


class Results:
    """What `train` returns: the runs' figures as tidy tables, and their models.

    n_computed: epochs trained by this call. n_epochs: distinct epochs of all runs, of which n_known are trained: all but
    those after a run diverged. n_epochs_apart: epochs if each run were trained by itself.
    computed_seconds, seconds: time on one core of the first two.
    """

    def __init__(self, chains, records, store, *, n_computed, computed_seconds):
        self._chains, self._records, self._store = chains, records, store
        self.runs = list(chains)
        self.n_computed = n_computed
        self.n_epochs = len({epoch.name for chain in chains.values() for epoch in chain})
        self.n_known = len(records)
        self.n_epochs_apart = sum(run.epochs for run in self.runs)
        self.computed_seconds = computed_seconds
        self.seconds = sum(record["seconds"] for record in records.values())

    @property
    def epochs(self):
        """A row per run and epoch.

        Columns: run (its label), seed, epoch (from 1), lr and momentum (of the epoch's last step), train_loss (mean
        of the step losses), test_loss (mean of the test batches' losses), test_accuracy (fraction in [0, 1]), n_test,
        seconds (on one core), diverged. After a run diverged its figures are NaN.
        """
        return pd.DataFrame(
            [
                {
                    "run": run.label,
                    "seed": run.seed,
                    "epoch": epoch.number,
                    "lr": epoch.lr[-1],
                    "momentum": epoch.momentum[-1],
                    **{k: v for k, v in self._record(epoch).items() if k != "losses"},
                }
                for run, chain in self._chains.items()
                for epoch in chain
            ]
        )

    @property
    def steps(self):
        """A row per run and step: run, seed, step (from 0), lr, momentum, loss (before the update)."""
        frames = []
        for run, chain in self._chains.items():
            lr, momentum = (np.concatenate([getattr(epoch, name) for epoch in chain]) for name in ("lr", "momentum"))
            losses = [self._record(epoch)["losses"] for epoch in chain]
            loss = np.concatenate(
                [np.full(len(e.lr), np.nan) if part is None else part for e, part in zip(chain, losses)]
            )
            frames.append(
                pd.DataFrame(
                    {
                        "run": run.label,
                        "seed": run.seed,
                        "step": np.arange(len(lr)),
                        "lr": lr,
                        "momentum": momentum,
                        "loss": loss,
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    @property
    def diverged(self):
        """A row per run that diverged: run, seed, step (from 0) and lr of its first loss that is not finite."""
        steps = self.steps
        bad = steps[~np.isfinite(steps["loss"])]
        return bad.groupby(["run", "seed"], sort=False, as_index=False).first()[["run", "seed", "step", "lr"]]

    def model(self, run):
        """The trained LeNet5 of a run, in evaluation mode.

        Raises KeyError for a run that is not among these, ValueError for one that diverged, StoreError where what was
        stored of it has since been removed or damaged.
        """
        if run not in self._chains:
            raise KeyError(f"{run.label} (seed {run.seed}) is not among these results; train it first")
        last = self._chains[run][-1]
        if self._record(last)["diverged"]:
            raise ValueError(f"{run.label} (seed {run.seed}) diverged, so there is no trained model of it")
        artefact = load_epoch(self._store, last.name)
        if artefact is None:
            raise StoreError(f"{self._store.path(last.name)} is needed and no longer there; train the run again")
        return load_model(state_of(artefact))

    def _record(self, epoch):
        return self._records.get(epoch.name, _AFTER_DIVERGENCE)


_AFTER_DIVERGENCE = {
    "train_loss": np.nan,
    "test_loss": np.nan,
    "test_accuracy": np.nan,
    "n_test": 0,
    "seconds": 0.0,
    "diverged": True,
    "losses": None,
}


def _record(artefact):
    """What is kept in memory of an epoch: its figures and step losses, not its state."""
    losses, values = artefact.tensors["losses"].numpy(), artefact.values
    return {
        "train_loss": losses.mean(),
        "test_loss": np.nan if values["test_loss"] is None else values["test_loss"],
        "test_accuracy": np.nan if values["n_correct"] is None else values["n_correct"] / values["n_test"],
        "n_test": values["n_test"],
        "seconds": values["train_seconds"] + values["test_seconds"],
        "diverged": values["diverged"],
        "losses": losses,
    }


def _load_record(store, name):
    artefact = load_epoch(store, name)
    return _record(artefact) if artefact else None


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


def _digest(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _require_whole(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
