"""The optimizers that runs can ask for by name, and their settings. Part of every epoch's name."""

from collections.abc import Iterable
from typing import Any

import torch

# Settings of each optimizer: the protocol's of SGD and Adam, torch's of AdamW. momentum: its momentum or first beta.
OPTIMIZERS: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"momentum": 0.9, "weight_decay": 0.0, "beta2": 0.999, "eps": 1e-9},
    "adamw": {"momentum": 0.9, "weight_decay": 0.01, "beta2": 0.999, "eps": 1e-8},
}


def build_optimizer(name: str, parameters: Iterable[torch.Tensor], weight_decay: float) -> torch.optim.Optimizer:
    """Return the optimizer of that name, which updates all tensors at once; `set_rates` sets what each step uses."""
    settings = OPTIMIZERS[name]
    given: dict[str, Any] = {"lr": 1.0, "weight_decay": weight_decay, "fused": True}
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=settings["momentum"], **given)
    make = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return make(parameters, betas=(settings["momentum"], settings["beta2"]), eps=settings["eps"], **given)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, momentum: float) -> None:
    """Set the learning rate, and the momentum or first beta, of every group of an optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
