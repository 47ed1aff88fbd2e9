"""One epoch of training, and evaluation: pure functions of a state.

This file, with optimizers.py and lrlib/problems, decides the bits of every result: its code (not its comments or docstrings)
is part of every epoch's name, so a change here makes stored results be computed anew.
Nothing here knows of stores, clusters or notebooks.
"""

import hashlib
import math

import numpy as np
import torch
import torch.nn.functional as F

from lrlib.problems.lenet import LeNet5
from lrlib.training.optimizers import OPTIMIZERS, build_optimizer


def initial_state(seed):
    """The state before the first epoch: LeNet-5 with torch's default initialisation drawn from the seed.

    Returns a flat dict of tensors: `model.<parameter>`; an optimizer has no buffers before its first step.
    The caller's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LeNet5()
    return {f"model.{name}": value.detach() for name, value in model.state_dict().items()}


def epoch_order(seed, epoch, n_images):
    """The order in which an epoch sees its images: int64 (n_images,), decided by (seed, epoch) alone; epoch >= 1."""
    digest = hashlib.sha256(f"order of seed {seed} epoch {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return torch.randperm(n_images, generator=generator)


class PlainTorch:
    """What an epoch asks of whatever carries it out; this one is plain PyTorch in one process.

    lrlib.training.backends has the others. world_size: the number of processes that share each batch.
    """

    world_size = 1

    def boost(self, model, optimizer):
        """The model and optimizer that are called in place of these; the parameters stay those of these."""
        return model, optimizer

    def share(self, batch):
        """This process's part of a batch: int64 (n,) -> int64 (m,). The parts of all processes make up the batch."""
        return batch

    def backward(self, loss, optimizer):
        """Add to each parameter's gradient that of the loss, averaged over the processes."""
        loss.backward()

    def average(self, loss):
        """A step's loss as a float, averaged over the processes."""
        return loss.item()


def train_epoch(
    state, *, lr, momentum, images, labels, order, batch_size, optimizer, weight_decay, backend=PlainTorch()
):
    """One epoch from a state to the next.

    state: flat dict of tensors as `initial_state` or this function returns it; it is not changed.
    lr, momentum: float64 (n_steps,), one value an update; n_steps = ceil(len(order) / batch_size).
    images: uint8 (N, 1, 32, 32); labels: int64 (N,); order: int64 (M,), indices into both.
    optimizer: a name of OPTIMIZERS. The loss is cross-entropy, the mean over the batch; the last batch may be short.
    backend: a PlainTorch or what stands in for it. Where a batch is shared between processes, each one's loss is weighted
    by its part, so that the average over them is the mean over the batch.

    Returns state, losses: the new state and the step losses before each update, float64 (n_steps,).
    Where a loss is not finite the epoch ends: that loss is kept, the losses after it are NaN, and the state is the
    one at that step.
    Raises ValueError if lr or momentum is not one value a step.
    """
    n_steps = math.ceil(len(order) / batch_size)
    if len(lr) != n_steps or len(momentum) != n_steps:
        raise ValueError(
            f"lr and momentum must have one value for each of {n_steps} steps, got {len(lr)} and {len(momentum)}"
        )
    model, torch_optimizer = _restore(state, optimizer=optimizer, weight_decay=weight_decay, device=images.device)
    boosted_model, boosted_optimizer = backend.boost(model, torch_optimizer)
    group = torch_optimizer.param_groups[0]
    losses = np.full(n_steps, np.nan)
    for step, batch in enumerate(order.split(batch_size)):
        group["lr"] = float(lr[step])
        if "betas" in group:
            group["betas"] = (float(momentum[step]), group["betas"][1])
        else:
            group["momentum"] = float(momentum[step])
        part = backend.share(batch)
        logits = boosted_model(images.index_select(0, part))
        loss = F.cross_entropy(logits, labels[part], reduction="sum") / (len(batch) / backend.world_size)
        losses[step] = backend.average(loss)
        if not math.isfinite(losses[step]):
            break
        boosted_optimizer.zero_grad()
        backend.backward(loss, boosted_optimizer)
        boosted_optimizer.step()
    return _capture(model, torch_optimizer), losses


def evaluate(state, *, images, labels, batch_size):
    """Loss and number of right answers of a state on a split.

    images: uint8 (N, 1, 32, 32); labels: int64 (N,).
    Returns loss, n_correct. The loss is the mean of the batch means, as the reproduced report has it: with a short
    last batch that is not quite the mean over images (10,000 images in batches of 128: 79 batches, the last of 16).
    """
    model, _ = _restore(state, optimizer="sgd", weight_decay=0.0, device=images.device)
    losses, n_correct = [], 0
    with torch.inference_mode():
        for batch_images, batch_labels in zip(images.split(batch_size), labels.split(batch_size)):
            logits = model(batch_images)
            losses.append(F.cross_entropy(logits, batch_labels).item())
            n_correct += int((logits.argmax(1) == batch_labels).sum())
    return float(np.mean(losses)), n_correct


def load_model(state):
    """The LeNet5 of a state, in evaluation mode, with its own copy of the parameters."""
    model = LeNet5()
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    return model.eval()


def _restore(state, *, optimizer, weight_decay, device):
    model = load_model(state).train().to(device)
    torch_optimizer = build_optimizer(
        optimizer,
        model.parameters(),
        lr=1.0,
        momentum=OPTIMIZERS[optimizer]["momentum"],
        weight_decay=weight_decay,
    )
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        for key, value in state.items():
            if key.startswith(prefix):
                torch_optimizer.state[parameter][key.removeprefix(prefix)] = value.to(device, copy=True)
    for key, value in state.items():
        if key.startswith("group."):
            # A number travels as a float64 or int64 tensor, a tensor as it is.
            is_number = value.dtype in (torch.float64, torch.int64)
            torch_optimizer.param_groups[0][key.removeprefix("group.")] = value.item() if is_number else value.clone()
    return model, torch_optimizer


def _capture(model, torch_optimizer):
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in torch_optimizer.state[parameter].items():
            if value is not None:
                state[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
    # What an optimizer that finds its own learning rate has found; lr and momentum are given anew at every step.
    for key, value in torch_optimizer.param_groups[0].items():
        is_given = key in ("params", "lr", "momentum", "betas")
        if (
            not is_given
            and isinstance(value, (int, float, torch.Tensor))
            and value != torch_optimizer.defaults.get(key)
        ):
            kind = {float: torch.float64, int: torch.int64}.get(type(value))
            state[f"group.{key}"] = torch.as_tensor(value, dtype=kind)
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
