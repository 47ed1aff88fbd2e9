"""What `train` returns: the figures of runs as tables, and their models."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lrlib.runs.engine import state_of
from lrlib.runs.plan import Epoch, Run
from lrlib.runs.store import Store, StoreError
from lrlib.training.epoch import load_model

_AFTER_DIVERGENCE = dict.fromkeys(("train_loss", "test_loss", "test_accuracy"), np.nan)
_AFTER_DIVERGENCE |= {"n_test": 0, "seconds": 0.0, "diverged": True}


class Results:
    """The runs' figures as tidy tables, and their models.

    Attributes:
        runs: The runs, in the order given.
        published: Those whose figures are from published results.
        n_computed: Epochs trained by this call.
        computed_seconds: Their time on one core.
        n_epochs: Distinct epochs of all runs.
        n_known: Those of them that have figures: all but those after a run diverged.
        n_epochs_apart: Epochs if each run were trained by itself.
        seconds: Time of the known epochs on one core.
    """

    def __init__(
        self,
        chains: Mapping[Run, Sequence[Epoch]],
        records: Mapping[Run, Sequence[Mapping[str, Any]]],
        store: Store,
        *,
        published: Iterable[Run],
        computed: Sequence[Mapping[str, Any]],
        train: Callable[..., "Results"],
    ) -> None:
        self._chains, self._records, self._store, self._train = chains, records, store, train
        self.runs, self.published = list(chains), list(published)
        self.n_computed, self.computed_seconds = len(computed), sum(record["seconds"] for record in computed)
        known = {e.name: record for run in self.runs for e, record in zip(chains[run], records[run], strict=False)}
        self.n_known, self.seconds = len(known), sum(record["seconds"] for record in known.values())
        self.n_epochs = len({epoch.name for chain in chains.values() for epoch in chain})
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
