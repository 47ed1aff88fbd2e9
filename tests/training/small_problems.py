"""Problems for `Run(problem="small_problems:mlp")`: 60 points of two classes, with and without batch normalization."""

import torch
from torch import nn

from lrlib.problems.data import Data
from lrlib.problems.lenet import are_right, cross_entropies
from lrlib.problems.problem import Problem


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
