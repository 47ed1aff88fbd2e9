"""Compute one epoch: from a parent's state to the next, with its figures. Its code is part of every epoch's name."""

import time
from typing import Any

import numpy as np
import torch

from lrlib.problems.data import Data
from lrlib.training.epoch import derive_seed, epoch_order, initial_state
from lrlib.training.numerics import fixed_numerics


def compute_epoch(
    epoch: Any, data: Data, backend: Any, state: dict[str, torch.Tensor] | None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Train and test one epoch.

    Args:
        epoch: An epoch as `lrlib.runs.plan.Epoch` describes it.
        data: The problem's.
        backend: What carries the epoch out, as `lrlib.training.registry.load_backend` returns it.
        state: The parent's state, None for a run's first epoch.

    Returns:
        Tensors (the new state, and `losses`: the step losses, float32) and values: `diverged`, `test_loss`,
        `test_accuracy` (NaN if the problem has none), `n_test` and `seconds`. An epoch diverged if a loss, the test
        loss or a number of the state is not finite; then the two are NaN.
    """
    run, n_test = epoch.run, len(data.test[0])
    given = {"problem": run.problem, "batch_size": run.batch_size}
    # What a step may draw, as dropout does, is decided by (seed, epoch) alone.
    with fixed_numerics(derive_seed(f"noise of seed {run.seed} epoch {epoch.number}")):
        state = initial_state(run.seed, run.problem) if state is None else state
        start = time.perf_counter()
        state, losses = backend.train_epoch(
            state,
            processes=run.processes,
            lr=epoch.lr,
            momentum=epoch.momentum,
            inputs=data.train[0],
            targets=data.train[1],
            order=epoch_order(run.seed, epoch.number, len(data.train[0])),
            optimizer=run.optimizer,
            weight_decay=run.weight_decay,
            **given,
        )
        tensors = [tensor for tensor in state.values() if tensor.is_floating_point()]
        test_loss, n_correct = np.nan, None
        if np.isfinite(losses).all() and all(tensor.isfinite().all() for tensor in tensors):
            test_loss, n_correct = backend.evaluate(state, inputs=data.test[0], targets=data.test[1], **given)
    diverged = not np.isfinite(test_loss)
    return {**state, "losses": torch.from_numpy(losses).float()}, {
        "diverged": diverged,
        "test_loss": np.nan if diverged else test_loss,
        "test_accuracy": np.nan if diverged or n_correct is None else n_correct / n_test,
        "n_test": n_test,
        "seconds": time.perf_counter() - start,
    }
