import pytest
import torch
from torch import nn

from lrlib.problems.registry import load_problem
from lrlib.training.backends.thin_conv import ThinConv2d, make_thin


def make_both(*args, **settings):
    """A convolution, and one with the same parameters that was made thin."""
    plain = nn.Conv2d(*args, **settings).double()
    thin = nn.Conv2d(*args, **settings).double()
    thin.load_state_dict(plain.state_dict())
    make_thin(thin)
    return plain, thin


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("channels", "kernel", "size"),
    [
        ((6, 16), 5, (14, 14)),
        ((2, 3), (3, 2), (5, 7)),
        ((2, 3), (1, 4), (6, 4)),
        ((2, 3), 1, (3, 3)),
        ((16, 120), 5, (5, 5)),
        ((1, 6), 5, (8, 8)),
        ((3, 32), 3, (6, 6)),
    ],
    ids=["conv2", "not square", "as wide as the image", "one pixel", "conv3", "conv1", "wide"],
)
def test_a_thin_convolution_is_torch_s(channels, kernel, size, bias):
    torch.manual_seed(0)
    plain, thin = make_both(*channels, kernel, bias=bias)
    assert type(thin) is ThinConv2d
    images = torch.randn(4, channels[0], *size, dtype=torch.float64)
    inputs = [images.clone().requires_grad_() for _ in range(2)]
    outputs = [conv(x) for conv, x in zip((plain, thin), inputs)]
    torch.testing.assert_close(outputs[1], outputs[0])
    direction = torch.randn_like(outputs[0])
    for output in outputs:
        output.backward(direction)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    for one, other in zip(thin.parameters(), plain.parameters()):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(
    "settings", [{"stride": 2}, {"padding": 1}, {"padding": "valid"}, {"dilation": 2}, {"groups": 2}]
)
def test_what_is_not_simple_stays_as_it_is(settings):
    assert type(make_both(2, 4, 3, **settings)[1]) is nn.Conv2d


def test_lenet_s_convolutions_are_thin():
    model = load_problem("lenet5_mnist").build_model()
    make_thin(model)
    assert {type(conv) for conv in (model.conv1, model.conv2, model.conv3)} == {ThinConv2d}
