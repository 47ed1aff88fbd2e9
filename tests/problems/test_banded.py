import pytest
import torch
import torch.nn.functional as F

from lrlib.problems.banded import conv_tanh_pool


def make_arguments(n, c_in, c_out, width, kernel):
    generator = torch.Generator().manual_seed(0)
    shapes = (width, c_in, width + 2, n), (c_out, c_in, kernel, kernel), (c_out,)
    return [torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize(("n", "c_in", "c_out", "width", "kernel"), [(3, 1, 2, 8, 3), (1, 2, 3, 6, 5), (4, 3, 2, 7, 4)])
def test_it_is_four_times_torch_s_convolution_tanh_and_average_pooling(n, c_in, c_out, width, kernel):
    x, weight, bias = make_arguments(n, c_in, c_out, width, kernel)
    expected = 4 * F.avg_pool2d(torch.tanh(F.conv2d(0.3 * x.permute(3, 1, 2, 0), weight, bias)), 2)
    found = conv_tanh_pool(x, weight, bias, scale=0.3)
    torch.testing.assert_close(found.permute(3, 1, 2, 0), expected)


@pytest.mark.parametrize(("n", "c_in", "c_out", "width", "kernel"), [(2, 1, 2, 6, 3), (1, 2, 3, 6, 5)])
def test_its_gradients_are_those_of_finite_differences(n, c_in, c_out, width, kernel):
    arguments = make_arguments(n, c_in, c_out, width, kernel)
    assert torch.autograd.gradcheck(lambda *each: conv_tanh_pool(*each, scale=0.3), arguments)


def test_uint8_is_taken_as_the_numbers_that_it_holds():
    x = torch.randint(0, 256, (6, 1, 6, 2), dtype=torch.uint8)
    _, weight, bias = make_arguments(2, 1, 3, 6, 3)
    found = conv_tanh_pool(x, weight, bias, scale=1 / 255)
    assert torch.equal(found, conv_tanh_pool(x.double(), weight, bias, scale=1 / 255))
