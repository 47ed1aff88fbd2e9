"""quadratic_deep of DeepOBS: a noisy quadratic in 100 dimensions whose curvatures are as a deep network's.

Nine tenths of the eigenvalues lie in (0, 1), the others in (30, 60); the data are draws around zero, which the
parameters,
all ones at first, are to find. Source: DeepOBS 1.1.2, tensorflow/testproblems/quadratic_deep.py and
datasets/quadratic.py (Schneider, Balles, Hennig, ICLR 2019), whose random numbers are drawn here in the same order:
the Hessian is theirs.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from lrlib.problems.problem import Data, Problem

N_DIMENSIONS, N_FLAT, N_SAMPLES, NOISE = 100, 90, 1000, 0.6
SEED, TEST_SEED = 42, 43


class Quadratic(nn.Module):
    """x (N, 100) -> (theta - x)^T H (theta - x) / 2, the loss of each sample, (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(N_DIMENSIONS))

    def forward(self, x: Tensor) -> Tensor:
        distance = self.theta - x
        return (distance @ torch.from_numpy(_build_hessian()).to(x.device) * distance).sum(1) / 2


def make_problem(name: str) -> Problem:
    return Problem(
        name=name,
        build_model=Quadratic,
        load_data=_load_data,
        losses=_take_outputs,
        steps_per_epoch=7,  # N_SAMPLES // 128: DeepOBS leaves a short last batch out
        settings={"sgd": {"momentum": 0.0, "weight_decay": 0.0}},
    )


def _take_outputs(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs


@lru_cache
def _build_hessian() -> np.ndarray:
    rng = np.random.RandomState(SEED)
    flat, steep = rng.uniform(0, 1, N_FLAT), rng.uniform(30, 60, N_DIMENSIONS - N_FLAT)
    rotation = _draw_rotation(rng, N_DIMENSIONS)
    return (rotation.T @ np.diag([*flat, *steep]) @ rotation).astype(np.float32)


def _draw_rotation(rng: np.random.RandomState, n: int) -> np.ndarray:
    """A rotation of n dimensions, uniform over all: the subgroup algorithm of Diaconis & Shahshahani 1987."""
    angle = 2 * np.pi * rng.uniform()
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for size in range(3, n + 1):
        direction = rng.normal(size=size)
        mirror = np.eye(size)[0] - direction / np.linalg.norm(direction)
        mirror /= np.linalg.norm(mirror)
        larger = np.eye(size)
        larger[1:, 1:] = rotation
        rotation = larger - 2 * np.outer(mirror, mirror @ larger)
    return -rotation


def _load_data() -> Data:
    splits = []
    for seed in (SEED, TEST_SEED):
        x = np.random.RandomState(seed).normal(0, NOISE, (N_SAMPLES, N_DIMENSIONS)).astype(np.float32)
        splits.append((torch.from_numpy(x), torch.zeros(N_SAMPLES)))
    return Data(*splits)


quadratic_deep = make_problem("quadratic_deep")
