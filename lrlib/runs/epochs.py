"""One epoch of a run: what decides it, and what is stored and remembered of it."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lrlib.runs.store import Artefact, Store

# What is read of a stored epoch besides its tensors. An epoch's name does not hold the engine's digest.
VALUES = {"diverged", "test_loss", "n_correct", "n_test", "train_seconds", "test_seconds"}


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
    problem: str
    data_checksum: str
    backend: str
    processes: int


def load_epoch(store: Store, name: str) -> Artefact | None:
    """An epoch's Artefact from the store, or None; one written by a lrlib that kept other values is warned of."""
    artefact = store.load(name)
    if artefact is None or (artefact.values.keys() >= VALUES and "losses" in artefact.tensors):
        return artefact
    warnings.warn(f"{store.path(name)} is of another version of lrlib and is computed again", stacklevel=3)
    return None


def state_of(artefact: Artefact) -> dict[str, torch.Tensor]:
    """The state among an epoch's tensors: what `train_epoch` takes and returns."""
    return {name: tensor for name, tensor in artefact.tensors.items() if name != "losses"}


def record_of(artefact: Artefact) -> dict[str, Any]:
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


def load_record(store: Store, name: str) -> dict[str, Any] | None:
    artefact = load_epoch(store, name)
    return record_of(artefact) if artefact else None
