"""What `train` returns: the figures of runs as tables, and their models."""

import numpy as np
import pandas as pd
from torch import nn

from lrlib.runs.epochs import load_epoch, state_of
from lrlib.runs.plan import Run
from lrlib.runs.store import StoreError
from lrlib.training.epoch import load_model


class Results:
    """What `train` returns: the runs' figures as tidy tables, and their models.

    n_computed: epochs trained by this call. n_epochs: distinct epochs of all runs, of which n_known are trained: all
    but
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
    def epochs(self) -> pd.DataFrame:
        """A row per run and epoch.

        Columns: run (its label), problem, seed, epoch (from 1), lr and momentum (of the epoch's last step),
        train_loss (mean of the step losses), test_loss (mean of the test batches' losses), test_accuracy (fraction in
        [0, 1], NaN where the problem has none), n_test, seconds (on one core), diverged. After a run diverged its figures
        are NaN.
        """
        return pd.DataFrame(
            [
                {
                    "run": run.label,
                    "problem": run.problem,
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
    def steps(self) -> pd.DataFrame:
        """A row per run and step: run, problem, seed, step (from 0), lr, momentum, loss (before the update)."""
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
                        "problem": run.problem,
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
    def diverged(self) -> pd.DataFrame:
        """A row per run that diverged: run, problem, seed, step (from 0) and lr of its first loss not finite."""
        steps = self.steps
        bad = steps[~np.isfinite(steps["loss"])]
        return bad.groupby(["run", "problem", "seed"], sort=False, as_index=False).first()[
            ["run", "problem", "seed", "step", "lr"]
        ]

    def model(self, run: Run) -> nn.Module:
        """The trained model of a run, in evaluation mode.

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
        return load_model(state_of(artefact), run.problem)

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
