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


def build_optimizer(
    name: str, parameters: Iterable[torch.Tensor], *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return the optimizer of that name, with what else OPTIMIZERS says of it, updating all tensors at once."""
    given: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "fused": True}
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, **given)
    settings = OPTIMIZERS[name]
    make = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return make(parameters, betas=(momentum, settings["beta2"]), eps=settings["eps"], **given)
