"""fmnist_2c2d of DeepOBS: two convolutions and two linear layers on Fashion-MNIST.

Source: DeepOBS 1.1.2, tensorflow/testproblems/_2c2d.py (Schneider, Balles, Hennig, ICLR 2019). TensorFlow 1's truncated
normal draws again what lies beyond two standard deviations and does not rescale. An epoch here is 100 steps, not
DeepOBS's 468 in a pass over the data.
"""

from functools import partial

from torch import Tensor, nn

from bench.suggestions.problems.images import load_images, scale
from lrlib.problems.losses import are_right, cross_entropies
from lrlib.problems.problem import Problem

STD, BIAS = 0.05, 0.05


class Cnn2c2d(nn.Module):
    """uint8 images (N, 1, 28, 28) -> logits (N, 10); 3,274,634 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=5, padding=2)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(3136, 1024)
        self.fc2 = nn.Linear(1024, 10)
        for parameter in self.parameters():
            if parameter.ndim == 1:
                nn.init.constant_(parameter, BIAS)
            else:
                nn.init.trunc_normal_(parameter, std=STD, a=-2 * STD, b=2 * STD)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.conv1(scale(images)).relu())  # -> (N, 32, 14, 14)
        x = self.pool(self.conv2(x).relu())  # -> (N, 64, 7, 7)
        return self.fc2(self.fc1(x.flatten(1)).relu())


def make_problem(name: str) -> Problem:
    return Problem(
        name=name,
        build_model=Cnn2c2d,
        load_data=partial(load_images, "fashion_mnist"),
        losses=cross_entropies,
        hits=are_right,
        steps_per_epoch=100,
        settings={"sgd": {"momentum": 0.0, "weight_decay": 0.0}},
    )


fmnist_2c2d = make_problem("fmnist_2c2d")
