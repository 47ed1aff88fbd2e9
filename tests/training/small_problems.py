"""Problems for `Run(problem="small_problems:mlp")`: 60 points of two classes, with and without batch normalization.

And a few epochs by any backend.
"""

import math

import numpy as np
import torch
from torch import nn

from lrlib.problems.data import Data
from lrlib.problems.lenet import are_right, cross_entropies
from lrlib.problems.problem import Problem
from lrlib.schedules import lr_per_step
from lrlib.training.epoch import epoch_order, initial_state
from lrlib.training.registry import load_backend


def _load_points() -> Data:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 4, generator=generator)
    split = points, (points[:, 0] * points[:, 1] > 0).long()
    return Data(split, split)


def _problem(name: str, *between: nn.Module) -> Problem:
    return Problem(
        name=f"{__name__}:{name}",
        build_model=lambda: nn.Sequential(nn.Linear(4, 16), *between, nn.Tanh(), nn.Linear(16, 2)),
        load_data=_load_points,
        losses=cross_entropies,
        hits=are_right,
        batch_size=20,
        optimizer="adamw",
    )


mlp = _problem("mlp")
normed = _problem("normed", nn.BatchNorm1d(16))


def make_images(n):
    """Noise in the shape of digits, uint8, and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (n,), generator=generator)


def train(backend, data, schedule, *, epochs=2, batch_size=32, processes=1, make_order=epoch_order, **settings):
    """The state after some epochs of seed 3, and all step losses."""
    settings = {"optimizer": "sgd", "weight_decay": 5e-4, "problem": "lenet5_mnist"} | settings
    steps = math.ceil(len(data[0]) / batch_size)
    lr, momentum = lr_per_step(schedule, epochs=epochs, steps_per_epoch=steps, momentum=0.9)
    state, losses = initial_state(3, settings["problem"]), []
    for epoch in range(epochs):
        rates = slice(epoch * steps, (epoch + 1) * steps)
        state, part = load_backend(backend).train_epoch(
            state, processes=processes, lr=lr[rates], momentum=momentum[rates], inputs=data[0], targets=data[1],
            order=make_order(3, epoch + 1, len(data[0])), batch_size=batch_size, **settings,
        )  # fmt: skip
        losses.extend(part)
    return state, np.array(losses)
