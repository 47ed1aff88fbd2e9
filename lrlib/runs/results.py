"""What `train` returns: the figures of runs as tables, and their models."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lrlib.runs.engine import record_of, state_of
from lrlib.runs.plan import Epoch, Run, plan_epochs
from lrlib.runs.published import Published
from lrlib.runs.store import Store, StoreError
from lrlib.training.epoch import load_model

_AFTER_DIVERGENCE = dict.fromkeys(("train_loss", "test_loss", "test_accuracy"), np.nan)
_AFTER_DIVERGENCE |= {"n_test": 0, "seconds": 0.0, "diverged": True}


class Found:
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

    def list_records(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """The records of a run's epochs, up to the last known one: its last, or that in which it diverged."""
        known = [self.records[epoch.name] for epoch in self.chains[run] if epoch.name in self.records]
        return self.published.get(run, known)


class Results:
    """The runs' figures as tidy tables, and their models.

    Attributes:
        runs: The runs, in the order given.
        published: Those whose figures are from published results.
        n_unpublished: Epochs of the others that have figures, likewise each once.
        n_computed: Epochs trained by this call.
        computed_seconds: Their time on one core.
        n_epochs: Distinct epochs of all runs.
        n_known: Those of them that have figures: all but those after a run diverged.
        n_epochs_apart: Epochs if each run were trained by itself.
        seconds: Time of the known epochs on one core.
    """

    def __init__(
        self, found: Found, train: Callable[..., "Results"], computed: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._chains, self._store, self._train = found.chains, found.store, train
        self._records = {run: found.list_records(run) for run in found.chains}
        self.runs, self.published = list(found.chains), list(found.published)
        self.n_computed, self.computed_seconds = len(computed), sum(record["seconds"] for record in computed)
        pairs = {run: list(zip(chain, self._records[run], strict=False)) for run, chain in self._chains.items()}
        known = {epoch.name: record["seconds"] for own in pairs.values() for epoch, record in own}
        self.n_known, self.seconds = len(known), sum(known.values())
        others = pairs.keys() - found.published.keys()
        self.n_unpublished = len({epoch.name for run in others for epoch, _ in pairs[run]})
        self.n_epochs = len({epoch.name for chain in self._chains.values() for epoch in chain})
        self.n_epochs_apart = sum(run.epochs for run in self.runs)

    @property
    def epochs(self) -> pd.DataFrame:
        """A row per run and epoch.

        Columns: run (its label), problem, seed, epoch (from 1), lr and momentum (of the epoch's last step), train_loss
        (mean of the step losses), test_loss (mean of the test batches' losses), test_accuracy (fraction in [0, 1], NaN
        if the problem has none), n_test, seconds (on one core), diverged. The figures after a run diverged are NaN.
        """
        rows = []
        for run, chain in self._chains.items():
            records = [*self._records[run], *[_AFTER_DIVERGENCE] * (len(chain) - len(self._records[run]))]
            for epoch, record in zip(chain, records, strict=True):
                rates = {"epoch": epoch.number, "lr": epoch.lr[-1], "momentum": epoch.momentum[-1]}
                rows.append(_identify(run) | rates | {name: record[name] for name in _AFTER_DIVERGENCE})
        return pd.DataFrame(rows)

    @property
    def steps(self) -> pd.DataFrame:
        """A row per run and step: run, problem, seed, step (from 0), lr, momentum, loss (before the update)."""
        frames = []
        for run, chain in self._chains.items():
            lr, momentum = (np.concatenate([getattr(epoch, name) for epoch in chain]) for name in ("lr", "momentum"))
            loss = np.full(len(lr), np.nan)
            known = np.concatenate([record["losses"] for record in self._records[run]])
            loss[: len(known)] = known
            columns = {"step": np.arange(len(lr)), "lr": lr, "momentum": momentum, "loss": loss}
            frames.append(pd.DataFrame(_identify(run) | columns))
        return pd.concat(frames, ignore_index=True)

    @property
    def diverged(self) -> pd.DataFrame:
        """A row per run that diverged: run, problem, seed, step (from 0) and lr.

        The step is that of the first loss that is not finite, or that after whose update the weights or the test loss
        were not.
        """
        rows = []
        for run, chain in self._chains.items():
            losses = [record["losses"] for record in self._records[run]]
            if self._records[run][-1]["diverged"]:
                bad = np.flatnonzero(~np.isfinite(losses[-1]))
                step = int(bad[0]) if len(bad) else len(losses[-1]) - 1
                place = {"step": sum(map(len, losses[:-1])) + step, "lr": chain[len(losses) - 1].lr[step]}
                rows.append(_identify(run) | place)
        return pd.DataFrame(rows, columns=["run", "problem", "seed", "step", "lr"])

    def model(self, run: Run) -> nn.Module:
        """Return the trained model of a run, in evaluation mode.

        A run whose figures are from published results, which have no weights, is trained first, with a line on stderr.

        Raises:
            KeyError: The run is not among these.
            ValueError: It diverged.
            StoreError: Its file was removed or damaged since.
        """
        if run not in self._chains:
            raise KeyError(f"{run.label} (seed {run.seed}) is not among these results; train it first")
        if self._records[run][-1]["diverged"]:
            raise ValueError(f"{run.label} (seed {run.seed}) diverged, so there is no trained model of it")
        if run in self.published:
            print(f"published results have no weights: training {run.label} (seed {run.seed})", file=sys.stderr)
            return self._train([run], store=self._store, published=None).model(run)
        name = self._chains[run][-1].name
        artefact = self._store.load(name)
        if artefact is None:
            raise StoreError(f"{self._store.path(name)} is needed and no longer there; train the run again")
        return load_model(state_of(artefact), run.problem)


def _identify(run):
    return {"run": run.label, "problem": run.problem, "seed": run.seed}
