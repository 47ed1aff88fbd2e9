"""A convolution, tanh and average pooling as a few large matrix products: what LeNet-5 spends its time in on a CPU.

A batch is kept as rows: (height, channels, width, N) with the N images of the batch innermost, so that every
elementwise pass, pooling included, runs over unbroken rows of memory. A convolution of two neighbouring output rows is
then one product of a banded matrix, which holds the kernel once for each of them, one row further, with the rows of all
windows; with one input channel the band holds it for two columns too, since its products would be thin. What some
products give is taken through tanh and pooling while it is still near the core. The mathematics is that of conv2d, tanh
and avg_pool2d; only the order of the sums differs.

tanh(x) is taken as 2 sigmoid(2x) - 1, because torch vectorises sigmoid itself and leaves tanh to MKL: 0.4 against 2.7
ns an element on an EPYC. The 2 inside is in the kernels; what is outside, in the pooling. It is within 2e-7 of
float64's tanh over the whole range of float32 (torch's own: 3e-8), and exact at both ends; step losses of an epoch stay
within 1e-4 of those of plain layers.

bench/training.py says what all this gains, and what else was tried. This file's code is part of every epoch's name.
"""

import torch

BLOCKS_AT_ONCE = 7  # products, of two rows each, whose result is taken through tanh and pooling at once


def conv_tanh_pool(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, scale: float) -> torch.Tensor:
    """tanh of a convolution of scale * x, averaged over 2 x 2 windows.

    x: (H, C_in, W, N), uint8 or the weight's dtype; weight: (C_out, C_in, k, k); bias: (C_out,); scale: a number.
    H - k + 1 and W - k + 1 must be even. Returns (H', C_out, W', N), H' = (H - k + 1) / 2 and W' likewise, in the
    weight's dtype. Differentiable once, in x, weight and bias.
    """
    return _ConvTanhPool.apply(x, weight, bias, scale)


class _ConvTanhPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, scale):
        (h, c_in, w, n), (c_out, _, k, _) = x.shape, weight.shape
        # One input channel makes thin products, so their band holds two columns too.
        columns = 2 if c_in == 1 else 1
        blocks, steps = (h - k + 1) // 2, (w - k + 1) // columns
        # Row (row of x, channel, column of the band) of the windows holds what that entry of the band meets.
        windows = weight.new_empty(h, c_in, columns + k - 1, steps, n)
        windows.copy_(x.as_strided(windows.shape, (c_in * w * n, w * n, n, columns * n, 1)))
        band = _build_band(weight, 2 * scale, columns).expand(blocks, -1, -1)
        band_bias = (2 * bias).repeat(2 * columns).unsqueeze(1)
        activations = weight.new_empty(blocks, 2 * columns * c_out, steps * n)
        pooled = weight.new_empty(blocks, c_out, steps * columns // 2, n)
        whole = band, _overlap(windows, k), activations, pooled
        for kernels, met, block, out in zip(*(each.split(BLOCKS_AT_ONCE) for each in whole), strict=True):
            torch.bmm(kernels, met, out=block)
            block.add_(band_bias).sigmoid_()
            upper, lower = block.view(_split_windows(out, columns)).unbind(1)
            rows = upper + lower
            torch.lerp(rows[:, 0, :, :, 0], rows[:, -1, :, :, -1], 0.5, out=out).sub_(1)
        ctx.save_for_backward(windows, weight, activations)
        ctx.x_shape, ctx.scale, ctx.columns = x.shape, scale, columns
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_pooled):
        windows, weight, activations = ctx.saved_tensors
        (h, c_in, w, n), (c_out, _, k, _), columns = ctx.x_shape, weight.shape, ctx.columns
        grad_band, grad_bias, grad_x, n_rows = 0, 0, None, 0
        if ctx.needs_input_grad[0]:
            # One after the other what the band's first column meets in all steps, then what its second does.
            grad_x = weight.new_zeros(columns, h * c_in, -(-w // columns) * n)
            kernels = _build_band(weight, ctx.scale, columns).view(-1, (k + 1) * c_in, columns + k - 1)
            kernels = kernels.permute(2, 1, 0).contiguous()  # a matrix for each column of the band
        whole = grad_pooled.contiguous(), _overlap(windows, k), activations
        for grad_out, met, block in zip(*(each.split(BLOCKS_AT_ONCE) for each in whole), strict=True):
            # The 2 inside the sigmoid and the half of its pooled sum cancel: from here on all is as for tanh's mean.
            split = _split_windows(grad_out, columns)
            grad = grad_out[:, None, None, :, :, None].expand(split)
            grad = torch.ops.aten.sigmoid_backward(grad, block.view(split)).view_as(block)
            grad_band = grad_band + torch.bmm(grad, met.mT).sum(0)
            grad_bias = grad_bias + grad.sum(2).view(-1, c_out).sum(0)
            if grad_x is not None:
                for product in grad:
                    rows = grad_x[:, 2 * n_rows * c_in : (2 * n_rows + k + 1) * c_in]
                    n_rows += 1
                    for column, kernel in enumerate(kernels):
                        start = column // columns * n
                        rows[column % columns, :, start : start + product.shape[1]].addmm_(kernel, product)
        grad_weight = _view_kernels(grad_band, weight.shape, columns).sum((0, 1)).permute(0, 2, 1, 3) * ctx.scale
        if grad_x is not None:  # the band holds scaled kernels, so the scale is in it already
            steps = -(-w // columns)  # named, since a process's part of a short batch may hold no image
            grad_x = grad_x.view(columns, h, c_in, steps, n).permute(1, 2, 3, 0, 4)
            grad_x = grad_x.reshape(h, c_in, steps * columns, n)[:, :, :w]
        return grad_x, grad_weight, grad_bias, None


def _overlap(windows, k):
    """What each block's product meets: a view (blocks, (k + 1) rows of x, steps * N) whose blocks share k - 1 rows."""
    h, c_in, columns, steps, n = windows.shape
    per_row, length = c_in * columns, steps * n
    shape = ((h - k + 1) // 2, (k + 1) * per_row, length)
    return windows.as_strided(shape, (2 * per_row * length, length, 1))


def _build_band(weight, scale, columns):
    c_out, c_in, k, _ = weight.shape
    band = weight.new_zeros(2 * columns * c_out, (k + 1) * c_in * (columns + k - 1))
    _view_kernels(band, weight.shape, columns).copy_(weight.permute(0, 2, 1, 3) * scale)
    return band


def _view_kernels(band, shape, columns):
    """The kernels that a band holds: a view (2, columns, C_out, k rows, C_in, k columns)."""
    c_out, c_in, k, _ = shape
    length, per_channel = band.shape[1], columns + k - 1
    per_row = c_in * per_channel
    strides = (columns * c_out * length + per_row, c_out * length + 1, length, per_row, per_channel, 1)
    return band.as_strided((2, columns, c_out, k, c_in, k), strides)


def _split_windows(pooled, columns):
    """The shape in which activations show the windows that are pooled: rows at 1, columns at 2 or at 5."""
    blocks, c_out, w_out, n = pooled.shape
    return blocks, 2, columns, c_out, w_out, 2 // columns, n
