"""From a dataset's 8-bit images to what LeNet-5 takes.

This file's code is part of every epoch's name: it decides the pixels that training sees.
"""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

IMAGE_SIZE = 32  # LeNet-5's input; the originals are 28 x 28


def resize_images(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 array (N, 28, 28) -> uint8 tensor (N, 1, 32, 32), pixel for pixel as torchvision's Resize on PIL images.

    Bilinear with antialiasing, on the 8-bit image.
    """
    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = np.empty((len(images), 1, *size), dtype=np.uint8)
    for i, image in enumerate(images):
        resized[i, 0] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return torch.from_numpy(resized)
