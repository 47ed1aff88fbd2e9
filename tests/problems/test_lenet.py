import torch
from torchvision import transforms

from lrlib import LeNet5


def test_lenet5_has_the_61706_parameters_of_the_paper():
    shapes = {name: tuple(p.shape) for name, p in LeNet5().named_parameters()}
    assert sum(p.numel() for p in LeNet5().parameters()) == 61_706
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5), "conv1.bias": (6,), "conv2.weight": (16, 6, 5, 5), "conv2.bias": (16,),
        "conv3.weight": (120, 16, 5, 5), "conv3.bias": (120,), "fc1.weight": (84, 120), "fc1.bias": (84,),
        "fc2.weight": (10, 84), "fc2.bias": (10,),
    }  # fmt: skip


def test_uint8_images_are_scaled_as_to_tensor_scales_them():
    torch.manual_seed(0)
    model = LeNet5()
    images = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8)
    scaled = torch.stack([transforms.ToTensor()(image[0].numpy()) for image in images])
    torch.testing.assert_close(model(images), model(scaled), rtol=1e-5, atol=1e-6)
