"""LeNet-5's training step for one core: gather, forward, loss, backward and SGD in compiled code.

A batch is taken in blocks of 16 images, and each number of a block is a vector with one lane for each image. So every
layer is the same products of a weight with a vector, whatever its shape; a block's arrays stay in the second-level
cache; nothing is padded or copied. One micro-kernel, `lanes.dot`, is all convolutions and dense layers, forward and
backward. The weights' gradients take it with 16 channels in the lanes, after a transpose; those of conv1, which has 6
channels, take it with lanes for both factors.

Every sum has a fixed order: over a window, over the positions of an image, over the lanes by halves, then over blocks.
So a result depends on this file and lanes.py and on no processor or library.

Shapes of a block, each number standing for 16 lanes; a position is (y, x):

    x    (32, 32)         pixels, 0 .. 255; 1 / 255 is in w1
    a1   (28, 28, 6)      tanh of conv1          p1  (14, 14, 6)   its means over 2 x 2
    a2   (10, 10, 16)     tanh of conv2          p2  (16, 5, 5)    its means over 2 x 2
    t3   (120,)           tanh of conv3, which is a dense layer: its window is its whole input
    t4   (84,)            tanh of fc1            z   (10,)         fc2: the logits

g1 .. g5 are the gradients in the layers' values before their tanh, gp1 and gp2 those in the means.

Weights and biases w1, b1 ... w5, b5 are laid out as torch has them; so are their gradients dw1, db1 ... and momenta.
Rows of w4 and w5 are filled up with zeros to whole vectors, and w5 has two more rows, for tiles of 6.
"""

import numpy as np
from numba import njit

from lrlib.training.kernels.lanes import (
    L, across, dot, dot_lanes, exp, fma, inlined, larger, load, load_rows, log, splat, splat_rows, store, store_rows,
    tanh, transpose, zeros,
)  # fmt: skip

compiled = njit(boundscheck=False, error_model="numpy", nogil=True)

# The layout of w1, b1 ... w5, b5.
SHAPES = ((6, 25), (6,), (16, 150), (16,), (120, 400), (120,), (84, 128), (84,), (12, 96), (12,))
# Scratch arrays, in vectors of 16. Lanes of dw1_lanes (ky, kx, o) are images, those of dw2_lanes (ky, kx, c) channels.
SCRATCH = {
    "x": 1024, "a1": 784 * 6, "p1": 196 * 6, "a2": 100 * 16, "p2": 400, "t3": 128, "t4": 96, "z": 12, "spare": 2,
    "g1": 28 * 6, "gp1": 196 * 6, "g2": 100 * 16, "g2_turned": 100 * 16, "gp2": 400, "g3": 120, "g4": 84, "g5": 12,
    "turned": 16, "dw1_lanes": 150, "db1_lanes": 6, "dw2_lanes": 150, "w1t": 10, "w2t": 150, "w2r": 150,
}  # fmt: skip

ONE, QUARTER, PIXEL = np.float32(1), np.float32(0.25), np.float32(1 / 255)


@compiled
def arrange(w1, w2, w1t, w2t, w2r):
    """The convolutions' weights as `dot` reads them: w1t (ky, kx, o), w2t (ky, kx, c, o), w2r (ky, 4 - kx, o, c).

    1 / 255 is in w1t; w2r is a quarter of w2, for the gradient in the means.
    """
    for o in range(6):
        for k in range(25):
            w1t[k * 6 + o] = w1[o * 25 + k] * PIXEL
    for o in range(16):
        for c in range(6):
            for k in range(25):
                w = w2[(o * 6 + c) * 25 + k]
                w2t[(k * 6 + c) * 16 + o] = w
                w2r[((k // 5 * 5 + 4 - k % 5) * 16 + o) * 6 + c] = w * QUARTER


@compiled
def gather(images, order, first, n, turned, x):
    """Images order[first:first + n] to lanes; the last one fills the lanes that are left."""
    for at in range(0, 1024, L):
        for i in range(L):
            start = order[first + min(i, n - 1)] * 1024 + at
            for k in range(L):
                turned[i * L + k] = images[start + k]
        transpose(turned, 0, L, x, at * L)


@inlined
def convolve(rows, w, n_out, o, x, y, column, width, n_in):
    """rows + the convolution of x (height, width, n_in) for channels o, o + 1 ... at one position."""
    for ky in range(5):
        at = ((y + ky) * width + column) * n_in * L
        rows = dot(rows, w, ky * 5 * n_in * n_out + o, n_out, 1, x, at, L, 5 * n_in)
    return rows


@inlined
def tanh_and_pool(a, y, width, channels, pooled, step_x, step_channel):
    """tanh of rows y and y + 1 of a (height, width, channels), in place, and its means over 2 x 2."""
    for column in range(0, width, 2):
        for c in range(channels):
            total = splat(np.float32(0))
            for place in (y * width + column, (y + 1) * width + column):
                at = (place * channels + c) * L
                left, right = tanh(load(a, at)), tanh(load(a, at + channels * L))
                store(a, at, left)
                store(a, at + channels * L, right)
                total = total + (left + right)
            at = (y // 2 * (width // 2) + column // 2) * step_x + c * step_channel
            store(pooled, at * L, total * splat(QUARTER))


@compiled
def conv1_forward(x, w1t, b1, a1, p1):
    for y in range(28):
        for column in range(28):
            rows = convolve(splat_rows(b1, 0, 6), w1t, 6, 0, x, y, column, 32, 1)
            store_rows(a1, (y * 28 + column) * 6 * L, L, rows)
        if y % 2:
            tanh_and_pool(a1, y - 1, 28, 6, p1, 6, 1)


@compiled
def conv2_forward(p1, w2t, b2, a2, p2):
    for y in range(10):
        for column in range(10):
            at = (y * 10 + column) * 16 * L
            store_rows(a2, at, L, convolve(splat_rows(b2, 0, 6), w2t, 16, 0, p1, y, column, 14, 6))
            store_rows(a2, at + 6 * L, L, convolve(splat_rows(b2, 6, 5), w2t, 16, 6, p1, y, column, 14, 6))
            store_rows(a2, at + 11 * L, L, convolve(splat_rows(b2, 11, 5), w2t, 16, 11, p1, y, column, 14, 6))
        if y % 2:
            tanh_and_pool(a2, y - 1, 10, 16, p2, 1, 25)


@compiled
def dense_forward(w, b, n_out, n_in, has_tanh, x, out):
    """out (n_out,) = w (n_out, n_in) x (n_in,) + b, or its tanh."""
    length = (n_in + L - 1) // L * L  # of a row of w, in numbers
    for o in range(0, n_out, 6):
        store_rows(out, o * L, L, dot(splat_rows(b, o, 6), w, o * length, 1, length, x, 0, L, n_in))
    if has_tanh:
        for o in range(n_out):
            store(out, o * L, tanh(load(out, o * L)))


@compiled
def softmax_loss(z, labels, order, first, n, n_batch, spare, g5):
    """The sum of n images' losses and how many are right; g5: the gradient of the batch's mean loss in the logits."""
    highest, total = load(z, 0), splat(np.float32(0))
    for k in range(1, 10):
        highest = larger(highest, load(z, k * L))
    for k in range(10):
        e = exp(load(z, k * L) - highest)
        store(g5, k * L, e)
        total = total + e
    share = ONE / np.float32(n_batch)
    for k in range(10):
        store(g5, k * L, load(g5, k * L) / total * splat(share))
    store(spare, 0, highest)
    store(spare, L, log(total))
    loss, n_right = 0.0, 0
    for i in range(n):
        label, best = labels[order[first + i]], 0
        loss += np.float64(spare[L + i] + (spare[i] - z[label * L + i]))
        g5[label * L + i] -= share
        for k in range(1, 10):
            if z[k * L + i] > z[best * L + i]:
                best = k
        n_right += best == label
    for i in range(n, L):
        for k in range(10):
            g5[k * L + i] = 0
    return loss, n_right


@compiled
def dense_backward(w, n_out, n_in, x_is_tanh, g_out, x, g_in, turned, dw, db):
    """dw += g_out x, db += g_out, g_in = w g_out, times tanh's slope where x is a tanh; g_out: (n_out,), x: (n_in,)."""
    length = (n_in + L - 1) // L * L
    for o in range(n_out):
        db[o] += across(load(g_out, o * L))
    for k in range(0, length, L):
        transpose(x, k * L, L, turned, 0)
        for o in range(0, n_out, 6):
            rows = load_rows(dw, o * length + k, length, 6)
            rows = dot(rows, g_out, o * L, 1, L, turned, 0, L, L)
            store_rows(dw, o * length + k, length, rows)
    for k in range(0, n_in, 6):
        at = min(k, n_in - 6)  # the last tile may overlap the one before
        store_rows(g_in, at * L, L, dot(zeros(6), w, at, length, 1, g_out, 0, L, n_out))
    if x_is_tanh:
        for k in range(n_in):
            t = load(x, k * L)
            store(g_in, k * L, load(g_in, k * L) * (splat(ONE) - t * t))


@compiled
def conv2_backward(a2, gp2, p1, w2r, g2, g2_turned, gp1, dw2_lanes, db2):
    """g2 (10, 10, 16), g2_turned (10, 10, 16 images) with channels in the lanes; gp1; db2 += g2; dw2_lanes += g2 p1."""
    total = load(db2, 0)
    for y in range(10):
        for column in range(10):
            at = (y * 10 + column) * 16 * L
            for o in range(16):
                t, g = load(a2, at + o * L), load(gp2, (o * 25 + y // 2 * 5 + column // 2) * L)
                store(g2, at + o * L, g * splat(QUARTER) * (splat(ONE) - t * t))
            transpose(g2, at, L, g2_turned, at)
            for i in range(L):
                total = total + load(g2_turned, at + i * L)
    store(db2, 0, total)
    for y in range(10):  # the weights' gradient
        for ky in range(5):
            for kx in range(5):
                tap = (ky * 5 + kx) * 6 * L
                rows = load_rows(dw2_lanes, tap, L, 6)
                for column in range(10):
                    at = ((y + ky) * 14 + column + kx) * 6 * L
                    rows = dot(rows, p1, at, 1, L, g2_turned, (y * 10 + column) * 16 * L, L, 16)
                store_rows(dw2_lanes, tap, L, rows)
    for y in range(14):  # the means': each window that a mean stands in, by the weight that it stands under
        for column in range(14):
            rows = zeros(6)
            first, last = max(column - 9, 0), min(column, 4)
            for ky in range(max(y - 9, 0), min(y, 4) + 1):
                at = ((y - ky) * 10 + column - last) * 16 * L
                n = (last - first + 1) * 16
                rows = dot(rows, w2r, (ky * 5 + 4 - last) * 96, 6, 1, g2, at, L, n)
            store_rows(gp1, (y * 14 + column) * 6 * L, L, rows)


@compiled
def conv1_backward(a1, gp1, x, g1, dw1_lanes, db1_lanes):
    """dw1_lanes (ky, kx, o) += the products of g1 and x over positions; db1_lanes += g1, of which one row is made."""
    for y in range(28):
        for o in range(6):
            total = load(db1_lanes, o * L)
            for column in range(28):
                t = load(a1, ((y * 28 + column) * 6 + o) * L)
                g = load(gp1, ((y // 2 * 14 + column // 2) * 6 + o) * L) * (splat(ONE) - t * t)
                store(g1, (column * 6 + o) * L, g)
                total = total + g
            store(db1_lanes, o * L, total)
        for ky in range(5):
            for kx in range(5):
                tap = (ky * 5 + kx) * 6 * L
                rows = load_rows(dw1_lanes, tap, L, 6)
                rows = dot_lanes(rows, g1, 0, 6 * L, L, x, ((y + ky) * 32 + kx) * L, L, 28)
                store_rows(dw1_lanes, tap, L, rows)


@compiled
def collect(dw1_lanes, db1_lanes, dw2_lanes, dw1, db1, dw2):
    """The convolutions' gradients as torch has them."""
    for o in range(6):
        db1[o] = across(load(db1_lanes, o * L))
        for k in range(25):
            dw1[o * 25 + k] = across(load(dw1_lanes, (k * 6 + o) * L)) * PIXEL
    for o in range(16):
        for c in range(6):
            for k in range(25):
                dw2[(o * 6 + c) * 25 + k] = dw2_lanes[(k * 6 + c) * 16 + o]


@compiled
def sgd(parameters, momenta, gradients, lr, momentum, weight_decay):
    """torch's SGD, in place. A momentum of 0 leaves the momenta as they are, as there."""
    minus_lr, share, decay = splat(-lr), splat(momentum), splat(weight_decay)
    for i in range(0, len(parameters), L):
        p = load(parameters, i)
        update = fma(decay, p, load(gradients, i))
        if momentum != 0:
            update = fma(share, load(momenta, i), update)
            store(momenta, i, update)
        store(parameters, i, fma(minus_lr, update, p))


@njit(cache=True, boundscheck=False, error_model="numpy", nogil=True)
def run_steps(
    images, labels, order, batch_size, train, update, lr, momentum, weight_decay, parameters, momenta, gradients,
    scratch, losses, n_right,
):  # fmt: skip
    """Take a step over each batch of an order, until a loss is not finite.

    Args:
        images: uint8 (N * 1024,). labels: int64 (N,), 0 .. 9. order: int64 (M,), indices into both.
        train: Whether to leave the gradients of each step's mean loss in `gradients`.
        update: Whether to take a step of SGD with them, with lr and momentum, float32 (n_steps,), and weight_decay.
        parameters, momenta, gradients: Ten arrays each, of SHAPES, flat and filled up to whole vectors.
        scratch: float32 arrays of the sizes SCRATCH, zeros at first.
        losses, n_right: float64 and int64 (n_steps,), zeros; they get each batch's mean loss and right answers.
    """
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
    dw1, db1, dw2, db2, dw3, db3, dw4, db4, dw5, db5 = gradients
    x, a1, p1, a2, p2, t3, t4, z, spare, g1, gp1, g2, g2_turned, gp2, g3, g4, g5 = scratch[:17]
    turned, dw1_lanes, db1_lanes, dw2_lanes, w1t, w2t, w2r = scratch[17:]
    for step in range(len(losses)):
        begin, end = step * batch_size, min((step + 1) * batch_size, len(order))
        arrange(w1, w2, w1t, w2t, w2r)
        if train:
            for array in (*gradients, dw1_lanes, db1_lanes, dw2_lanes):
                array[:] = 0
        total = 0.0
        for first in range(begin, end, L):
            n = min(L, end - first)
            gather(images, order, first, n, turned, x)
            conv1_forward(x, w1t, b1, a1, p1)
            conv2_forward(p1, w2t, b2, a2, p2)
            dense_forward(w3, b3, 120, 400, True, p2, t3)
            dense_forward(w4, b4, 84, 120, True, t3, t4)
            dense_forward(w5, b5, 12, 84, False, t4, z)
            loss, hits = softmax_loss(z, labels, order, first, n, end - begin, spare, g5)
            total += loss
            n_right[step] += hits
            if not train or not np.isfinite(total):
                continue
            dense_backward(w5, 12, 84, True, g5, t4, g4, turned, dw5, db5)
            dense_backward(w4, 84, 120, True, g4, t3, g3, turned, dw4, db4)
            dense_backward(w3, 120, 400, False, g3, p2, gp2, turned, dw3, db3)
            conv2_backward(a2, gp2, p1, w2r, g2, g2_turned, gp1, dw2_lanes, db2)
            conv1_backward(a1, gp1, x, g1, dw1_lanes, db1_lanes)
        losses[step] = total / (end - begin)
        if not train:
            continue
        if not np.isfinite(total):
            return
        collect(dw1_lanes, db1_lanes, dw2_lanes, dw1, db1, dw2)
        if update:
            for i in range(10):
                sgd(parameters[i], momenta[i], gradients[i], lr[step], momentum[step], weight_decay)
