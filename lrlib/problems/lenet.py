"""LeNet-5 as the reproduced report trains it, on MNIST, Fashion-MNIST and the embedded sample."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lrlib.problems.banded import conv_tanh_pool
from lrlib.problems.data import VALIDATION, find_dataset, load_dataset
from lrlib.problems.losses import are_right, cross_entropies
from lrlib.problems.problem import Data, Problem

_DATASETS = {"lenet5_mnist": "mnist", "lenet5_fashion": "fashion_mnist", "lenet5_sample": "sample"}
FILES = ("problems/lenet.py", "problems/banded.py", "problems/preprocessing.py", "problems/losses.py")


class LeNet5(nn.Module):
    """LeNet-5 with tanh and average pooling; 61,706 parameters, PyTorch's default initialisation.

    Input: images (N, 1, 32, 32), float32 scaled to [0, 1], or uint8 in 0 .. 255, which is scaled here. Output: logits,
    float32 (N, 10).
    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B,
    in the variant of the reproduced report: full connections from pool 1 to conv2, tanh without scaling,
    and a linear output layer in place of radial basis functions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.conv3 = nn.Conv2d(16, 120, kernel_size=5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scale = 1 if images.is_floating_point() else 1 / 255
        features = self._pool_on_cpu(images, scale) if images.device.type == "cpu" else self._pool(images * scale)
        x = torch.tanh(features)
        x = torch.tanh(self.fc1(x))
        return self.fc2(x)

    def _pool(self, images):
        x = F.avg_pool2d(torch.tanh(self.conv1(images)), 2)  # (N, 1, 32, 32) -> (N, 6, 14, 14)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)  # (N, 6, 14, 14) -> (N, 16, 5, 5)
        return self.conv3(x).flatten(1)  # (N, 16, 5, 5) -> (N, 120)

    def _pool_on_cpu(self, images, scale):
        """As `_pool`, by matrix products."""
        x = images.flatten(1).t().contiguous().view(32, 1, 32, -1)  # (N, 1, 32, 32) -> (32, 1, 32, N): images as rows
        x = conv_tanh_pool(x, self.conv1.weight, self.conv1.bias, scale=scale)  # -> (14, 6, 14, N)
        x = conv_tanh_pool(x, self.conv2.weight, self.conv2.bias, scale=1)  # -> (5, 16, 5, N)
        # conv3's window covers its whole input, so it is a linear layer.
        x = x.transpose(0, 1).flatten(0, 2)  # -> (400, N)
        return F.linear(x.t(), self.conv3.weight.flatten(1), self.conv3.bias)  # -> (N, 120)


def make_problem(name: str) -> Problem:
    """LeNet-5 on one of the datasets; with "_validation" at its end, tested on a part of the training images."""
    whole = name.removesuffix(VALIDATION)
    dataset = _DATASETS[whole] + name.removeprefix(whole)
    return Problem(
        name=name,
        build_model=LeNet5,
        find_data=partial(find_dataset, dataset),
        load_data=partial(_load_data, dataset),
        losses=cross_entropies,
        hits=are_right,
        files=FILES,
    )


def name_problem(dataset: str) -> str:
    """The problem that is LeNet-5 on a dataset: "mnist_validation" -> "lenet5_mnist_validation"."""
    whole = dataset.removesuffix(VALIDATION)
    return next(name for name, value in _DATASETS.items() if value == whole) + dataset.removeprefix(whole)


def _load_data(dataset: str) -> Data:
    images = load_dataset(dataset)
    return Data((images.train_images, images.train_labels), (images.test_images, images.test_labels))
