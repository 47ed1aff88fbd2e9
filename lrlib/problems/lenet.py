"""LeNet-5 as the reproduced report trains it, on MNIST, Fashion-MNIST and the embedded sample."""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lrlib.problems.data import load_dataset
from lrlib.problems.problem import Problem


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
        x = images if images.is_floating_point() else images / 255
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)  # (N, 1, 32, 32) -> (N, 6, 14, 14)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)  # (N, 6, 14, 14) -> (N, 16, 5, 5)
        x = torch.tanh(self.conv3(x)).flatten(1)  # (N, 16, 5, 5) -> (N, 120)
        return self.fc2(torch.tanh(self.fc1(x)))


def cross_entropies(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of each sample: logits (n, classes) and labels (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def are_right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Whether the largest logit is the label's: bool (n,)."""
    return logits.argmax(1) == labels


lenet5_mnist = Problem("", LeNet5, partial(load_dataset, "mnist"), cross_entropies, are_right, has_kernels=True)
lenet5_fashion = replace(lenet5_mnist, load_data=partial(load_dataset, "fashion_mnist"))
lenet5_sample = replace(lenet5_mnist, load_data=partial(load_dataset, "sample"))


def name_problem(dataset: str) -> str:
    """The problem that is LeNet-5 on a dataset: "fashion_mnist" -> "lenet5_fashion"."""
    return f"lenet5_{dataset.replace('_mnist', '')}"
