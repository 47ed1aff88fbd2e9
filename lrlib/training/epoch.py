"""One epoch as a pure function, from a state to the next: by a backend, and in plain PyTorch.

The code of this file is part of every epoch's name.
"""

import copy
import hashlib
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lrlib.problems.data import Data
from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.training.numerics import fixed_numerics
from lrlib.training.optimizers import build_optimizer, set_rates


def initial_state(seed: int, problem: str = DEFAULT) -> dict[str, torch.Tensor]:
    """Return the state before the first epoch: the problem's model, its initialisation drawn from the seed.

    Returns a flat dict of tensors, `model.<parameter or buffer>`; an optimizer has no buffers before its first step.
    """
    return {f"model.{name}": value.detach() for name, value in _build_model(problem, seed).state_dict().items()}


def _build_model(problem, seed=0):
    with fixed_numerics(seed):
        return copy.deepcopy(load_problem(problem).build_model())  # which may return the same one each time


def _derive_seed(text: str) -> int:
    """Return a seed of torch's generators that a text decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


def epoch_order(seed: int, epoch: int, n_samples: int) -> torch.Tensor:
    """Return the order in which an epoch sees its samples: int64, decided by (seed, epoch) alone; epoch >= 1."""
    generator = torch.Generator().manual_seed(_derive_seed(f"order of seed {seed} epoch {epoch}"))
    return torch.randperm(n_samples, generator=generator)


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
    with fixed_numerics(_derive_seed(f"noise of seed {run.seed} epoch {epoch.number}")):
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


def train_epoch(
    state: Mapping[str, torch.Tensor], *, lr: npt.NDArray[np.float64], momentum: npt.NDArray[np.float64],
    inputs: torch.Tensor, targets: torch.Tensor, order: torch.Tensor, batch_size: int, optimizer: str,
    weight_decay: float, problem: str = DEFAULT,
) -> tuple[dict[str, torch.Tensor], npt.NDArray[np.float64]]:  # fmt: skip
    """Train for one epoch, from a state to the next.

    The loss is the mean of the problem's losses over the batch; the last batch may be short. If a loss is not finite
    the epoch ends there.

    Args:
        state: Flat dict of tensors as `initial_state` or this function returns it; it is not changed.
        lr, momentum: float64 (n_steps,), one value an update; n_steps = ceil(len(order) / batch_size).
        inputs, targets: (N, ...), the problem's training split.
        order: int64 (M,), indices into both.
        optimizer: A name of OPTIMIZERS.

    Returns:
        The new state and the step losses before each update, float64 (n_steps,). After a loss that is not finite the
        losses are NaN, and the state is the one at that step.
    """
    find_losses = load_problem(problem).losses
    model, torch_optimizer = restore(state, problem, optimizer, weight_decay, inputs.device)
    losses = np.full(len(lr), np.nan)
    for step, batch in enumerate(order.split(batch_size)):
        set_rates(torch_optimizer, float(lr[step]), float(momentum[step]))
        loss = find_losses(model(inputs[batch]), targets[batch]).sum() / len(batch)
        losses[step] = loss.item()
        if not math.isfinite(losses[step]):
            break
        torch_optimizer.zero_grad()
        loss.backward()
        torch_optimizer.step()
    return capture(model, torch_optimizer), losses


def evaluate(
    state: Mapping[str, torch.Tensor], *, inputs: torch.Tensor, targets: torch.Tensor, batch_size: int,
    problem: str = DEFAULT,
) -> tuple[float, float | None]:  # fmt: skip
    """Return a state's loss on a split of samples (N, ...), and its number of right answers.

    The loss is the mean of the batch means, as in the reproduced report: a short last batch weighs as much as the
    others. The number is the sum of the problem's hits, None if it has none.
    """
    trained = load_problem(problem)
    model = load_model(state, problem).to(inputs.device)
    losses, n_correct = [], 0.0
    with torch.inference_mode():
        for part, right in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            outputs = model(part)
            losses.append(trained.losses(outputs, right).mean().item())
            if trained.hits is not None:
                n_correct += trained.hits(outputs, right).sum().item()
    return float(np.mean(losses)), None if trained.hits is None else n_correct


def load_model(state: Mapping[str, torch.Tensor], problem: str = DEFAULT) -> nn.Module:
    """The model of a state, in evaluation mode, with its own copy of the parameters and buffers."""
    model = _build_model(problem)
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    return model.eval()


def restore(
    state: Mapping[str, torch.Tensor], problem: str, optimizer: str, weight_decay: float, device: torch.device | str
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model and the optimizer of a state, ready for the next step."""
    model = load_model(state, problem).train().to(device)
    torch_optimizer = build_optimizer(optimizer, model.parameters(), weight_decay)
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        for key, value in state.items():
            if key.startswith(prefix):
                torch_optimizer.state[parameter][key.removeprefix(prefix)] = value.to(device, copy=True)
    return model, torch_optimizer


def capture(model: nn.Module, torch_optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state that a model and its optimizer stand for, as `train_epoch` returns it."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in torch_optimizer.state[parameter].items():
            if value is not None:
                state[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
