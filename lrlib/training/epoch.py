"""One epoch of training, and evaluation: pure functions of a state. Their code is part of every epoch's name."""

import copy
import hashlib
import math
import threading
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lrlib.problems.problem import Problem
from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.training.optimizers import OPTIMIZERS, build_optimizer

_drawing = threading.RLock()  # building a model draws from torch's one random generator: one thread at a time


def initial_state(seed: int, problem: str = DEFAULT) -> dict[str, torch.Tensor]:
    """Return the state before the first epoch: the problem's model, its initialisation drawn from the seed.

    The caller's random state is left as it was. Returns a flat dict of tensors, `model.<parameter or buffer>`; an
    optimizer has no buffers before its first step.
    """
    with _drawing, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = load_problem(problem).build_model()
    return {f"model.{name}": value.detach() for name, value in model.state_dict().items()}


def epoch_order(seed: int, epoch: int, n_samples: int) -> torch.Tensor:
    """Return the order in which an epoch sees its samples: int64, decided by (seed, epoch) alone; epoch >= 1."""
    digest = hashlib.sha256(f"order of seed {seed} epoch {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return torch.randperm(n_samples, generator=generator)


class PlainTorch:
    """What an epoch asks of a backend; this one is plain PyTorch in one process."""

    world_size = 1  # processes that share each batch

    def boost(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return the model and optimizer that are called in place of these, with the same parameters."""
        return model, optimizer

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """Return this process's part of a batch, int64 (m,) of (n,). The parts of all processes make up the batch."""
        return batch

    def backward(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Add to each parameter's gradient that of the loss, averaged over the processes."""
        loss.backward()

    def average(self, loss: torch.Tensor) -> float:
        """Return a step's loss, averaged over the processes."""
        return loss.item()


def train_epoch(
    state: Mapping[str, torch.Tensor], *, lr: npt.NDArray[np.float64], momentum: npt.NDArray[np.float64],
    inputs: torch.Tensor, targets: torch.Tensor, order: torch.Tensor, batch_size: int, optimizer: str,
    weight_decay: float, problem: str = DEFAULT, backend: PlainTorch = PlainTorch(),
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
        backend: A PlainTorch or what stands in for it. If processes share a batch, each one's loss is weighted by its
            part, so that their average is the mean over the batch.

    Returns:
        The new state and the step losses before each update, float64 (n_steps,). After a loss that is not finite the
        losses are NaN, and the state is the one at that step.

    Raises:
        ValueError: lr or momentum is not one value a step.
    """
    n_steps = check_steps(lr, momentum, order, batch_size)
    trained = load_problem(problem)
    model, torch_optimizer = restore(state, trained, optimizer, weight_decay=weight_decay, device=inputs.device)
    boosted_model, boosted_optimizer = backend.boost(model, torch_optimizer)
    losses = np.full(n_steps, np.nan)
    for step, batch in enumerate(order.split(batch_size)):
        set_rates(torch_optimizer, float(lr[step]), float(momentum[step]))
        part = backend.share(batch)
        outputs = boosted_model(inputs.index_select(0, part))
        loss = trained.losses(outputs, targets[part]).sum() / (len(batch) / backend.world_size)
        losses[step] = backend.average(loss)
        if not math.isfinite(losses[step]):
            break
        boosted_optimizer.zero_grad()
        backend.backward(loss, boosted_optimizer)
        boosted_optimizer.step()
    return capture(model, torch_optimizer), losses


def check_steps(
    lr: npt.NDArray[np.float64], momentum: npt.NDArray[np.float64], order: torch.Tensor, batch_size: int
) -> int:
    """Return the number of an epoch's steps. Raises ValueError if lr or momentum is not one value a step."""
    n_steps = math.ceil(len(order) / batch_size)
    if len(lr) != n_steps or len(momentum) != n_steps:
        raise ValueError(
            f"lr and momentum must have one value for each of {n_steps} steps, got {len(lr)} and {len(momentum)}"
        )
    return n_steps


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
        for part, right in zip(inputs.split(batch_size), targets.split(batch_size)):
            outputs = model(part)
            losses.append(trained.losses(outputs, right).mean().item())
            if trained.hits is not None:
                n_correct += trained.hits(outputs, right).sum().item()
    return float(np.mean(losses)), None if trained.hits is None else n_correct


def load_model(state: Mapping[str, torch.Tensor], problem: str = DEFAULT) -> nn.Module:
    """The model of a state, in evaluation mode, with its own copy of the parameters and buffers."""
    model = copy.deepcopy(_build_once(problem))  # draws nothing, and tied weights stay tied, as on "meta" they do not
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    return model.eval()


@lru_cache(maxsize=8)
def _build_once(problem):
    with _drawing, torch.random.fork_rng(devices=[]):
        return load_problem(problem).build_model()


def restore(
    state: Mapping[str, torch.Tensor],
    problem: Problem,
    optimizer: str,
    *,
    weight_decay: float,
    device: torch.device | str,
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model and the optimizer of a state, ready for the next step."""
    model = load_model(state, problem.name).train().to(device)
    usual = OPTIMIZERS[optimizer]["momentum"]  # each step sets its own, and its lr
    torch_optimizer = build_optimizer(optimizer, model.parameters(), lr=1.0, momentum=usual, weight_decay=weight_decay)
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        for key, value in state.items():
            if key.startswith(prefix):
                torch_optimizer.state[parameter][key.removeprefix(prefix)] = value.to(device, copy=True)
    return model, torch_optimizer


def set_rates(optimizer: torch.optim.Optimizer, lr: float, momentum: float) -> None:
    """Set the learning rate, and the momentum or first beta, of every group of an optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def capture(model: nn.Module, torch_optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state that a model and its optimizer stand for, as `train_epoch` returns it."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in torch_optimizer.state[parameter].items():
            if value is not None:
                state[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
