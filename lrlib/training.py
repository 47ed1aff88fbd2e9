"""One epoch of training, and evaluation: pure functions of a state.

This file, with lenet.py and preprocessing.py, decides the bits of every result: its code (not its comments or
docstrings) is part of every epoch's name, so a change here makes stored results be computed anew.
Nothing here knows of stores, clusters or notebooks.
"""

import hashlib
import math

import numpy as np
import torch
import torch.nn.functional as F

from lrlib.lenet import LeNet5
from lrlib.preprocessing import scale_images

# The protocol's settings of each optimizer. momentum is SGD's momentum and Adam's first beta.
OPTIMIZERS = {
    "sgd": {"momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"momentum": 0.9, "weight_decay": 0.0, "beta2": 0.999, "eps": 1e-9},
}


def build_optimizer(name, parameters, *, lr, momentum, weight_decay):
    """torch's optimizer of that name with the protocol's remaining settings (table OPTIMIZERS)."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    settings = OPTIMIZERS[name]
    return torch.optim.Adam(
        parameters, lr=lr, betas=(momentum, settings["beta2"]), eps=settings["eps"], weight_decay=weight_decay
    )


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


def train_epoch(state, *, lr, momentum, images, labels, order, batch_size, optimizer, weight_decay):
    """One epoch from a state to the next.

    state: flat dict of tensors as `initial_state` or this function returns it; it is not changed.
    lr, momentum: float64 (n_steps,), one value an update; n_steps = ceil(len(order) / batch_size).
    images: uint8 (N, 1, 32, 32); labels: int64 (N,); order: int64 (M,), indices into both.
    optimizer: a name of OPTIMIZERS. The loss is cross-entropy, the mean over the batch; the last batch may be short.

    Returns state, losses: the new state and the step losses before each update, float64 (n_steps,).
    Where a loss is not finite the epoch ends: that loss is kept, the losses after it are NaN, and the state is the
    one at that step.
    Raises ValueError if lr or momentum is not one value a step.
    """
    n_steps = math.ceil(len(order) / batch_size)
    if len(lr) != n_steps or len(momentum) != n_steps:
        raise ValueError(f"lr and momentum must have one value for each of {n_steps} steps, got {len(lr)} and {len(momentum)}")
    model, torch_optimizer = _restore(state, optimizer=optimizer, weight_decay=weight_decay, device=images.device)
    group = torch_optimizer.param_groups[0]
    losses = np.full(n_steps, np.nan)
    for step, batch in enumerate(order.split(batch_size)):
        group["lr"] = float(lr[step])
        if optimizer == "sgd":
            group["momentum"] = float(momentum[step])
        else:
            group["betas"] = (float(momentum[step]), group["betas"][1])
        loss = F.cross_entropy(model(scale_images(images[batch])), labels[batch])
        losses[step] = loss.item()
        if not math.isfinite(losses[step]):
            break
        torch_optimizer.zero_grad()
        loss.backward()
        torch_optimizer.step()
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
            logits = model(scale_images(batch_images))
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
                # Same layout as the parameter, whatever layout the state travelled in.
                buffer = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
                torch_optimizer.state[parameter][key.removeprefix(prefix)] = buffer.copy_(value)
    return model, torch_optimizer


def _capture(model, torch_optimizer):
    state = {f"model.{name}": value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in torch_optimizer.state[parameter].items():
            if value is not None:
                state[f"optimizer.{name}.{key}"] = value.detach().cpu().contiguous()
    return state
