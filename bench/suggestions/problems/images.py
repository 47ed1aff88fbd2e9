"""28 x 28 images in [0, 1] with labels, as the problems take them that do not resize. Part of their epochs' names."""

import torch
from torch import Tensor

from lrlib.problems.data import read_images
from lrlib.problems.problem import Data


def load_images(dataset: str) -> Data:
    """uint8 images (N, 1, 28, 28) and int64 labels (N,) of a dataset of lrlib.problems.data."""
    splits = [(torch.tensor(images).unsqueeze(1), torch.tensor(labels)) for images, labels in read_images(dataset)]
    return Data(*splits)


def load_images_alone(dataset: str) -> Data:
    """The images of `load_images`, as inputs and as targets."""
    data = load_images(dataset)
    return Data((data.train[0], data.train[0]), (data.test[0], data.test[0]))


def scale(images: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float32 0 .. 1."""
    return images.to(torch.float32) / 255
