"""LeNet as Caffe's examples train it, the network of Smith & Topin's MNIST table, on MNIST.

Sources: BVLC/caffe, examples/mnist/lenet_train_test.prototxt (layers, fillers, scale 1/256, biases at twice the
learning rate) and lenet_solver.prototxt (momentum 0.9, weight decay 5e-4, batches of 64); Smith & Topin 2018, arXiv
1708.07120. Caffe multiplies the learning rate into the momentum's buffer, torch multiplies the buffer by the rate of
the step: they differ while the rate changes.
"""

import math
from functools import partial

from torch import Tensor, nn

from bench.suggestions.problems.images import load_images
from lrlib.problems.losses import are_right, cross_entropies
from lrlib.problems.problem import Problem

SCALE = 1 / 256


class CaffeLeNet(nn.Module):
    """uint8 images (N, 1, 28, 28) -> logits (N, 10); 431,080 parameters. ReLU follows the first linear layer alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, kernel_size=5)
        self.conv2 = nn.Conv2d(20, 50, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.ip1 = nn.Linear(800, 500)
        self.ip2 = nn.Linear(500, 10)
        for parameter in self.parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)
            else:
                bound = math.sqrt(3 / parameter[0].numel())  # Caffe's xavier: by what goes in alone
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.conv1(images * SCALE))  # -> (N, 20, 12, 12)
        x = self.pool(self.conv2(x))  # -> (N, 50, 4, 4)
        return self.ip2(self.ip1(x.flatten(1)).relu())


def make_problem(name: str) -> Problem:
    return Problem(
        name=name,
        build_model=CaffeLeNet,
        load_data=partial(load_images, "mnist"),
        losses=cross_entropies,
        hits=are_right,
        batch_size=64,
        bias_lr_factor=2.0,
    )


caffe_lenet_mnist = make_problem("caffe_lenet_mnist")
