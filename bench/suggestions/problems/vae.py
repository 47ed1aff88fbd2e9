"""mnist_vae and fmnist_vae of DeepOBS: a variational autoencoder with eight latent dimensions.

Source: DeepOBS 1.1.2, tensorflow/testproblems/_vae.py and mnist_vae.py (Schneider, Balles, Hennig, ICLR 2019):
TensorFlow 1's layers, so Glorot's uniform initialisation and no bias at first, and its padding, which puts the odd
column last. An epoch here is 100 steps, not DeepOBS's 937 in a pass over the data.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.suggestions.problems.images import load_images_alone, scale
from lrlib.problems.problem import Problem

N_LATENT, SLOPE, DROPOUT = 8, 0.3, 0.2
_DATASETS = {"mnist_vae": "mnist", "fmnist_vae": "fashion_mnist"}


class Vae(nn.Module):
    """uint8 images (N, 1, 28, 28) -> images in [0, 1] (N, 784), mean and log standard deviation of the code (N, 8)
    each.

    10,151,489 parameters. In training as in evaluation the code is drawn at random.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, kernel_size=4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(64, 64, kernel_size=4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(64, 64, kernel_size=4)
        self.mean, self.log_std = nn.Linear(3136, N_LATENT), nn.Linear(3136, N_LATENT)
        self.fc1, self.fc2 = nn.Linear(N_LATENT, 24), nn.Linear(24, 49)
        self.deconv1 = nn.ConvTranspose2d(1, 64, kernel_size=4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(64, 64, kernel_size=4)
        self.deconv3 = nn.ConvTranspose2d(64, 64, kernel_size=4)
        self.fc3 = nn.Linear(12544, 784)
        self.drop = nn.Dropout(DROPOUT)
        for name, parameter in self.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.xavier_uniform_(parameter)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_std = self.encode(scale(images))
        return self.decode(mean + torch.randn_like(mean) * log_std.exp()), mean, log_std

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.drop(F.leaky_relu(self.conv1(x), SLOPE))  # -> (N, 64, 14, 14)
        x = self.drop(F.leaky_relu(self.conv2(x), SLOPE))  # -> (N, 64, 7, 7)
        x = self.drop(F.leaky_relu(self.conv3(F.pad(x, (1, 2, 1, 2))), SLOPE)).flatten(1)
        return self.mean(x), self.log_std(x) / 2

    def decode(self, code: Tensor) -> Tensor:
        x = F.leaky_relu(self.fc2(F.leaky_relu(self.fc1(code), SLOPE)), SLOPE).view(-1, 1, 7, 7)
        x = self.drop(self.deconv1(x).relu())  # -> (N, 64, 14, 14)
        x = self.drop(self.deconv2(x)[:, :, 1:-2, 1:-2].relu())
        x = self.deconv3(x)[:, :, 1:-2, 1:-2].relu()
        return self.fc3(x.flatten(1)).sigmoid()


def sum_losses(outputs: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
    """Squared error over the pixels plus the divergence of the code from a standard normal, for each image."""
    made, mean, log_std = outputs
    error = (made - scale(images).flatten(1)).square().sum(1)
    return error - (1 + 2 * log_std - mean.square() - (2 * log_std).exp()).sum(1) / 2


def make_problem(name: str) -> Problem:
    return Problem(
        name=name,
        build_model=Vae,
        load_data=partial(load_images_alone, _DATASETS[name]),
        losses=sum_losses,
        batch_size=64,
        steps_per_epoch=100,
        settings={"sgd": {"momentum": 0.0, "weight_decay": 0.0}},
        is_random=True,
    )


mnist_vae = make_problem("mnist_vae")
fmnist_vae = make_problem("fmnist_vae")
