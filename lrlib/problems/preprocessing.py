"""From a dataset's 28 x 28 images to LeNet-5's input of 32 x 32."""

import numpy as np
import numpy.typing as npt
import torch

IMAGE_SIZE = 32
_FIXED_POINT = 2.0**22  # Pillow's scale for 8-bit images
_CHUNK = 100  # images resized at once, so that they stay in the processor's cache


def resize_images(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Enlarge images as Pillow's bilinear `resize` (torchvision's default) does, to the same pixels.

    Pillow resizes along x, then along y, in fixed point, and rounds to 8 bits after each. All numbers here are whole
    and below 2**53 before the division, so the float64 products are exact on every machine.

    Args:
        images: uint8 array (N, 28, 28).

    Returns:
        uint8 tensor (N, 1, 32, 32).
    """
    weights = _bilinear_weights(images.shape[-1], IMAGE_SIZE)
    resized = np.empty((len(images), 1, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for start in range(0, len(images), _CHUNK):
        along_x = _resize_last_axis(images[start : start + _CHUNK], weights)
        resized[start : start + _CHUNK, 0] = _resize_last_axis(along_x.swapaxes(1, 2), weights).swapaxes(1, 2)
    return torch.from_numpy(resized)


def _bilinear_weights(size, new_size):
    """Weight of each old pixel in each new one, in multiples of 1 / _FIXED_POINT: (size, new_size)."""
    centers = (np.arange(new_size) + 0.5) * (size / new_size)
    weights = np.maximum(1 - np.abs(np.arange(size)[:, None] + 0.5 - centers), 0)
    return np.floor(weights / weights.sum(axis=0) * _FIXED_POINT + 0.5)


def _resize_last_axis(images, weights):
    sums = images.reshape(-1, images.shape[-1]) @ weights
    return (sums / _FIXED_POINT + 0.5).astype(np.uint8).reshape(*images.shape[:2], -1)
