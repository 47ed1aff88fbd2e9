"""fmnist_resnet: a small residual network with batch normalisation on Fashion-MNIST.

After He et al. 2016, "Deep residual learning for image recognition", section 4.2, with one block a stage; initialised
as He et al. 2015 do, with the last normalisation of each block at zero (Goyal et al. 2017, arXiv 1706.02677).
"""

from functools import partial

from torch import Tensor, nn

from bench.suggestions.problems.images import load_images, scale
from lrlib.problems.losses import are_right, cross_entropies
from lrlib.problems.problem import Problem

CHANNELS = (16, 32, 64)


def _convolve(n_in: int, n_out: int, stride: int, kernel_size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel_size, stride, padding=kernel_size // 2, bias=False)


class Block(nn.Module):
    """Two convolutions beside a shortcut: (N, n_in, H, W) -> (N, n_out, H / stride, W / stride)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _convolve(n_in, n_out, stride), nn.BatchNorm2d(n_out)
        self.conv2, self.norm2 = _convolve(n_out, n_out, 1), nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if n_in != n_out:
            self.shortcut = nn.Sequential(_convolve(n_in, n_out, stride, kernel_size=1), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(y)) + self.shortcut(x)).relu()


class ResNet(nn.Module):
    """uint8 images (N, 1, 28, 28) -> logits (N, 10); 77,754 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolve(1, CHANNELS[0], 2), nn.BatchNorm2d(CHANNELS[0]), nn.ReLU())  # -> 14 x 14
        widths = (CHANNELS[0], *CHANNELS)
        self.blocks = nn.Sequential(*(Block(n, m, 1 if n == m else 2) for n, m in zip(widths, CHANNELS, strict=False)))
        self.head = nn.Linear(CHANNELS[-1], 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Block):
                nn.init.zeros_(module.norm2.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(scale(images))).mean((2, 3)))


def make_problem(name: str) -> Problem:
    return Problem(
        name=name,
        build_model=ResNet,
        load_data=partial(load_images, "fashion_mnist"),
        losses=cross_entropies,
        hits=are_right,
        optimizer="adamw",
        settings={"momentum": {"momentum": 0.9, "weight_decay": 5e-4}},
    )


fmnist_resnet = make_problem("fmnist_resnet")
