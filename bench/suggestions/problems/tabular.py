"""tabular: few samples of thirty measurements, two classes: the breast cancer data that come with scikit-learn.

Wolberg, Mangasarian, Street 1993 (UCI, Breast Cancer Wisconsin, Diagnostic). Every fourth sample, in an order drawn
once, is for testing; measurements are standardised by the training samples. A network of two hidden layers, torch's
initialisation.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import nn

from lrlib.problems.data import DatasetMissing
from lrlib.problems.losses import are_right, cross_entropies
from lrlib.problems.problem import Data, Problem

WIDTH = 64


def build_network() -> nn.Module:
    """Measurements (N, 30) -> logits (N, 2); 6,274 parameters."""
    return nn.Sequential(
        nn.Linear(30, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)
    )  # fmt: skip


def make_problem(name: str) -> Problem:
    return Problem(
        name=name,
        build_model=build_network,
        load_data=_load_data,
        losses=cross_entropies,
        hits=are_right,
        batch_size=32,
        optimizer="adamw",
    )


@lru_cache
def _load_data() -> Data:
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError as err:
        raise DatasetMissing(
            "tabular's data come with scikit-learn, which is not installed; pip install scikit-learn"
        ) from err
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    is_test = np.arange(len(x)) % 4 == 3
    train, test = order[~is_test], order[is_test]
    x = ((x - x[train].mean(0)) / x[train].std(0)).astype(np.float32)
    labels = y.astype(np.int64)
    return Data(*((torch.from_numpy(x[part]), torch.from_numpy(labels[part])) for part in (train, test)))


tabular = make_problem("tabular")
