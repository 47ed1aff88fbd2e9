"""A convolution, tanh and average pooling as a few large matrix products: what LeNet-5 spends its time in on a CPU.

A batch is kept as columns: (width, channels, height, N) with the N images of the batch innermost, so that every
elementwise pass, pooling included, runs over unbroken rows of memory. A convolution of WIDTH neighbouring output
columns is then one product of a banded matrix, which holds the kernel WIDTH times, each time one column further, with
the rows of all windows; and what one such product gives is small enough to stay in the core's cache
until tanh and pooling are through with it. The mathematics is that of conv2d, tanh and avg_pool2d; only the order of the
sums differs. bench/training.py says what it gains, and what else was tried.

This file's code is part of every epoch's name.
"""

import torch

WIDTH = 2  # output columns a product; more would multiply more zeros, and pooling takes two at a time


def conv_tanh_pool(x, weight, bias, *, scale):
    """tanh of a convolution of scale * x, summed over 2 x 2 windows: four times their mean.

    x: (W, C_in, H, N), uint8 or the weight's dtype; weight: (C_out, C_in, k, k); bias: (C_out,); scale: a number.
    W - k + 1 and H - k + 1 must be even. Returns (W', C_out, H', N), W' = (W - k + 1) / 2 and H' likewise, in the
    weight's dtype. Differentiable once, in x, weight and bias.
    """
    return _ConvTanhPool.apply(x, weight, bias, scale)


class _ConvTanhPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, scale):
        (w, c_in, h, n), (c_out, _, k, _) = x.shape, weight.shape
        w_out, h_out, per_column = w - k + 1, h - k + 1, c_in * k
        # Row (column, channel, row of the kernel) of the windows holds what that entry of the kernel meets.
        windows = weight.new_empty(w, c_in, k, h_out * n)
        windows.copy_(x.as_strided(windows.shape, (c_in * h * n, h * n, n, 1)))
        windows = windows.view(w * per_column, h_out * n)
        band = weight.new_zeros(WIDTH * c_out, (WIDTH + k - 1) * per_column)
        _kernels_in(band, weight.shape).copy_(weight.permute(0, 3, 1, 2) * scale)
        column_bias = bias.repeat(WIDTH).unsqueeze(1)
        activations = weight.new_empty(w_out * c_out, h_out * n)
        pooled = weight.new_empty(w_out // 2, c_out, h_out // 2, n)
        for first in range(0, w_out, WIDTH):
            block = activations[first * c_out : (first + WIDTH) * c_out]
            torch.mm(band, windows[first * per_column : (first + WIDTH + k - 1) * per_column], out=block)
            block.add_(column_bias).tanh_()
            left, right = block.view(2, c_out, h_out, n)
            rows = (left + right).view(c_out, h_out // 2, 2, n)
            torch.add(rows[:, :, 0], rows[:, :, 1], out=pooled[first // 2])
        ctx.save_for_backward(windows, band, activations)
        ctx.shapes, ctx.scale = (x.shape, weight.shape), scale
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_pooled):
        windows, band, activations = ctx.saved_tensors
        (w, c_in, h, n), (c_out, _, k, _) = ctx.shapes
        w_out, h_out, per_column = w - k + 1, h - k + 1, c_in * k
        grad_band = torch.zeros_like(band)
        grad_column_bias = band.new_zeros(WIDTH * c_out)
        grad_block = band.new_empty(WIDTH * c_out, h_out * n)
        ones = band.new_ones(h_out * n)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = band.new_zeros(w * c_in, h * n)
            # For each row of the kernel, the part of the band that holds it, transposed.
            band_rows = band.view(WIDTH * c_out, (WIDTH + k - 1) * c_in, k).permute(2, 1, 0).contiguous()
        pool = (2, c_out, h_out // 2, 2, n)
        for first in range(0, w_out, WIDTH):
            block = activations[first * c_out : (first + WIDTH) * c_out]
            grad = grad_pooled[first // 2].view(1, c_out, h_out // 2, 1, n).expand(pool)
            torch.ops.aten.tanh_backward.grad_input(grad, block.view(pool), grad_input=grad_block.view(pool))
            grad_band.addmm_(grad_block, windows[first * per_column : (first + WIDTH + k - 1) * per_column].t())
            grad_column_bias.addmv_(grad_block, ones)
            if grad_x is not None:
                columns = grad_x[first * c_in : (first + WIDTH + k - 1) * c_in]
                for row in range(k):
                    columns[:, row * n : (row + h_out) * n].addmm_(band_rows[row], grad_block)
        grad_weight = _kernels_in(grad_band, ctx.shapes[1]).sum(0).permute(0, 2, 3, 1) * ctx.scale
        grad_bias = grad_column_bias.view(WIDTH, c_out).sum(0)
        # The band holds scaled kernels, so grad_x has the scale in it already.
        return None if grad_x is None else grad_x.view(w, c_in, h, n), grad_weight, grad_bias, None


def _kernels_in(band, shape):
    """The kernels that a band holds: a view (WIDTH, C_out, k columns, C_in, k rows)."""
    c_out, c_in, k, _ = shape
    per_column, length = c_in * k, band.shape[1]
    return band.as_strided((WIDTH, c_out, k, c_in, k), (c_out * length + per_column, length, per_column, k, 1))
