import copy

import torch
from torch import nn
from torchvision import transforms

from lrlib import LeNet5
from lrlib.problems.data import load_dataset


def reference(model):
    """The same network out of torch's own layers, convolution for convolution."""
    return nn.Sequential(
        model.conv1, nn.Tanh(), nn.AvgPool2d(2), model.conv2, nn.Tanh(), nn.AvgPool2d(2), model.conv3, nn.Tanh(),
        nn.Flatten(), model.fc1, nn.Tanh(), model.fc2,
    )  # fmt: skip


def test_lenet5_has_the_61706_parameters_of_the_paper():
    shapes = {name: tuple(p.shape) for name, p in LeNet5().named_parameters()}
    assert sum(p.numel() for p in LeNet5().parameters()) == 61_706
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5), "conv1.bias": (6,), "conv2.weight": (16, 6, 5, 5), "conv2.bias": (16,),
        "conv3.weight": (120, 16, 5, 5), "conv3.bias": (120,), "fc1.weight": (84, 120), "fc1.bias": (84,),
        "fc2.weight": (10, 84), "fc2.bias": (10,),
    }  # fmt: skip


def test_logits_and_gradients_are_those_of_torch_layers():
    torch.manual_seed(0)
    model = LeNet5()
    images, labels = torch.rand(7, 1, 32, 32), torch.arange(7)
    found, expected = [], []
    for network, gradients in ((model, found), (reference(model), expected)):
        logits = network(images)
        assert logits.shape == (7, 10)
        gradients.append(logits.detach())
        gradients.extend(torch.autograd.grad(nn.functional.cross_entropy(logits, labels), model.parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_uint8_images_are_scaled_as_to_tensor_scales_them():
    torch.manual_seed(0)
    model = LeNet5()
    images = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8)
    scaled = torch.stack([transforms.ToTensor()(image[0].numpy()) for image in images])
    torch.testing.assert_close(model(images), model(scaled), rtol=1e-5, atol=1e-6)


def test_a_whole_epoch_stays_within_tolerance_of_torch_layers():
    data = load_dataset("sample")
    torch.manual_seed(0)
    ours = LeNet5()
    theirs = reference(copy.deepcopy(ours))
    losses = []
    for network in (ours, theirs):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        for images, labels in zip(data.train_images.split(128), data.train_labels.split(128)):
            loss = nn.functional.cross_entropy(network(images if network is ours else images / 255), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    n_steps = len(losses) // 2
    torch.testing.assert_close(torch.tensor(losses[:n_steps]), torch.tensor(losses[n_steps:]), rtol=1e-4, atol=1e-5)
