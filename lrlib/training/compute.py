"""Compute one epoch: from a parent's state to the next, with its figures. Its code is part of every epoch's name."""

import hashlib
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lrlib.problems.data import Data
from lrlib.training.epoch import epoch_order, initial_state
from lrlib.training.numerics import fix_numerics

_alone = threading.Lock()  # torch has one random generator, so of several threads one trains at a time


@dataclass(frozen=True)
class Settings:
    """What decides a training besides its data and the learning rate and momentum of each step.

    Args:
        problem: A name that `lrlib.problems.registry.load_problem` takes.
        seed: Decides the initialisation and the order of the samples.
        optimizer: A name of `lrlib.training.optimizers.OPTIMIZERS`.
        batch_size: Samples a step.
        weight_decay: The optimizer's.
        backend: A name of `lrlib.training.registry.BACKENDS`.
        processes: Processes that share each batch.
    """

    problem: str
    seed: int
    optimizer: str
    batch_size: int
    weight_decay: float
    backend: str
    processes: int


def compute_epoch(
    settings: Settings,
    data: Data,
    backend: Any,
    *,
    number: int,
    lr: npt.NDArray[np.float64],
    momentum: npt.NDArray[np.float64],
    state: dict[str, torch.Tensor] | None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Train and test one epoch.

    Args:
        settings: The run's.
        data: The problem's.
        backend: What carries the epoch out, as `lrlib.training.registry.load_backend` returns it.
        number: The epoch's, counted from 1.
        lr, momentum: float64 (n_steps,).
        state: The parent's state, None for a run's first epoch.

    Returns:
        Tensors (the new state, and `losses`: the step losses, float32) and values: `diverged`, `test_loss` and
        `n_correct` (None where there is none), `n_test`, `train_seconds`, `test_seconds`. An epoch diverged if a loss,
        the test loss or a number of the state is not finite.
    """
    fix_numerics()
    with _alone, torch.random.fork_rng(devices=[]):
        # What a step may draw, as dropout does, is decided by (seed, epoch) alone.
        noise = hashlib.sha256(f"noise of seed {settings.seed} epoch {number}".encode()).digest()
        torch.manual_seed(int.from_bytes(noise[:8], "little", signed=True))
        state = initial_state(settings.seed, settings.problem) if state is None else state
        start = time.perf_counter()
        state, losses = backend.train_epoch(
            state,
            processes=settings.processes,
            lr=lr,
            momentum=momentum,
            problem=settings.problem,
            inputs=data.train[0],
            targets=data.train[1],
            order=epoch_order(settings.seed, number, len(data.train[0])),
            batch_size=settings.batch_size,
            optimizer=settings.optimizer,
            weight_decay=settings.weight_decay,
        )
        trained = time.perf_counter()
        is_finite = all(bool(torch.isfinite(tensor).all()) for tensor in state.values() if tensor.is_floating_point())
        test_loss, n_correct = np.nan, None
        if is_finite and np.isfinite(losses).all():
            test_loss, n_correct = backend.evaluate(
                state,
                problem=settings.problem,
                inputs=data.test[0],
                targets=data.test[1],
                batch_size=settings.batch_size,
            )
    diverged = not np.isfinite(test_loss)
    return {**state, "losses": torch.from_numpy(losses).float()}, {
        "diverged": bool(diverged),
        "test_loss": None if diverged else test_loss,
        "n_correct": None if diverged else n_correct,
        "n_test": len(data.test[0]),
        "train_seconds": trained - start,
        "test_seconds": time.perf_counter() - trained,
    }
