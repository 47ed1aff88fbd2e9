import pytest
import torch
import torch.nn.functional as F

from lrlib.problems.banded import conv_tanh_pool


def make_arguments(n, c_in, c_out, height, kernel):
    generator = torch.Generator().manual_seed(0)
    shapes = (height, c_in, height + 2, n), (c_out, c_in, kernel, kernel), (c_out,)
    return [torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize(
    ("n", "c_in", "c_out", "height", "kernel"),
    [(3, 1, 2, 8, 3), (1, 2, 3, 6, 5), (4, 3, 2, 7, 4), (2, 1, 3, 9, 4), (2, 1, 2, 36, 5), (1, 2, 2, 18, 3)],
)
def test_it_is_torch_s_convolution_tanh_and_average_pooling(n, c_in, c_out, height, kernel):
    x, weight, bias = make_arguments(n, c_in, c_out, height, kernel)
    expected = F.avg_pool2d(torch.tanh(F.conv2d(0.3 * x.permute(3, 1, 0, 2), weight, bias)), 2)
    found = conv_tanh_pool(x, weight, bias, scale=0.3)
    torch.testing.assert_close(found.permute(3, 1, 0, 2), expected)
    for ours, theirs in zip(
        *(torch.autograd.grad(y.cos().sum(), (x, weight, bias)) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("n", "c_in", "c_out", "height", "kernel"), [(2, 1, 2, 6, 3), (1, 2, 3, 6, 5), (1, 1, 2, 5, 2), (1, 1, 1, 20, 3)]
)
def test_its_gradients_are_those_of_finite_differences(n, c_in, c_out, height, kernel):
    arguments = make_arguments(n, c_in, c_out, height, kernel)
    assert torch.autograd.gradcheck(lambda *each: conv_tanh_pool(*each, scale=0.3), arguments)


def test_uint8_is_taken_as_the_numbers_that_it_holds():
    x = torch.randint(0, 256, (6, 1, 6, 2), dtype=torch.uint8)
    _, weight, bias = make_arguments(2, 1, 3, 6, 3)
    found = conv_tanh_pool(x, weight, bias, scale=1 / 255)
    assert torch.equal(found, conv_tanh_pool(x.double(), weight, bias, scale=1 / 255))


def pool_alone(x):
    """tanh through a kernel of one weight, with windows of four equal values."""
    windows = x.view(1, 1, 1, -1).expand(2, 1, 2, -1).contiguous()
    return conv_tanh_pool(windows, torch.ones(1, 1, 1, 1), torch.zeros(1), scale=1).flatten()


def test_its_tanh_is_within_2e_7_of_float64_for_every_magnitude_and_exact_at_its_ends():
    # Every exponent of float32, and densely where tanh is not yet 1.
    x = torch.cat([torch.logspace(-45, 38, 500_000, dtype=torch.float64), torch.linspace(0, 12, 2_000_001)]).float()
    x = torch.cat([x, -x])
    error = (pool_alone(x).double() - torch.tanh(x.double())).abs().max()
    assert 5e-8 < error < 2e-7  # what the docstring says; torch's own is below 5e-8
    ends = torch.tensor([-3e38, -100.0, -20.0, 0.0, 20.0, 100.0, 3e38])
    assert torch.equal(pool_alone(ends), torch.tanh(ends))
    assert pool_alone(torch.tensor([torch.nan])).isnan().all()
