"""Convolutions that are too thin for cuDNN, as batched matrix products.

cuDNN's float32 kernels compute tiles of 32 channels, where LeNet-5 has 6 and 16. On an H200 (torch 2.11), at batch 128,
LeNet-5's second convolution takes 131 us forward and backward by cuDNN and 65 by products; the third, whose window is
its whole input, 106 and 22; a step 472 and 339 us alone, and 176 and 102 where 16 are taken at once. With the input's
gradient by F.fold a step of 8 at once takes 140 us in place of 127, by F.conv_transpose2d 133; with the first
convolution by products too, 127 in place of 121. The mathematics is that of nn.Conv2d; only the order of the sums
differs.
"""

import torch
import torch.nn.functional as F
from torch import nn

WIDEST = 16  # output channels; from 32 on cuDNN's tiles are full


def make_thin(model):
    """Have the convolutions of a model that are as simple as LeNet-5's compute as ThinConv2d; changes it in place."""
    for module in model.modules():
        is_simple = type(module) is nn.Conv2d and (module.stride, module.padding, module.dilation, module.groups) == (
            (1, 1), (0, 0), (1, 1), 1,
        )  # fmt: skip
        if is_simple:
            module.__class__ = ThinConv2d


class ThinConv2d(nn.Conv2d):
    """nn.Conv2d without stride, padding, dilation and groups: (N, C_in, H, W) -> (N, C_out, H', W')."""

    def forward(self, x):
        if x.shape[2:] == self.weight.shape[2:]:
            return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]
        # A convolution of images needs no gradient in them, and cuDNN has kernels for one channel.
        if self.in_channels == 1 or self.out_channels > WIDEST:
            return super().forward(x)
        y = _Products.apply(x, self.weight)
        return y if self.bias is None else y + self.bias[:, None, None]


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        windows = x.unfold(2, weight.shape[2], 1).unfold(3, weight.shape[3], 1)
        n, _, height, width, *_ = windows.shape
        windows = windows.permute(0, 1, 4, 5, 2, 3).reshape(n, -1, height * width)
        ctx.save_for_backward(windows, weight)
        ctx.size = x.shape[2:]
        return torch.bmm(weight.flatten(1).expand(n, -1, -1), windows).unflatten(2, (height, width))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        windows, weight = ctx.saved_tensors
        grad_x = _spread(grad, weight, ctx.size) if ctx.needs_input_grad[0] else None
        return grad_x, torch.bmm(grad.flatten(2), windows.mT).sum(0).view_as(weight)


def _spread(grad, weight, size):
    """The gradient of x: what each entry of the kernel takes back from each window, added up where windows overlap.

    Rows of the gradient are padded to the width of x, so that one entry's part is another's shifted along a line, with
    zeros before its begin for those that would be taken from there: the shifts are strides, and the sum is one.
    """
    n, c_out, height, width = grad.shape
    _, c_in, *kernel = weight.shape
    before = (kernel[0] - 1) * size[1] + kernel[1] - 1
    line = before + size.numel()
    padded = grad.new_zeros(n, c_out, line)
    padded[:, :, before:].unflatten(2, size)[:, :, :height, :width].copy_(grad)
    parts = torch.bmm(weight.flatten(1).t().expand(n, -1, -1), padded)
    shifted = parts.as_strided(
        (n, c_in, *kernel, size.numel()),
        (parts.stride(0), kernel[0] * kernel[1] * line, kernel[1] * line - size[1], line - 1, 1),
        before,
    )
    return shifted.sum((2, 3)).unflatten(2, size)
