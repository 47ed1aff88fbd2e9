"""LeNet-5 by compiled code on one core of a CPU: the default where Numba is installed.

Results are bit-identical on every processor with fused multiply-add and with every version of torch and Numba
(tests/training/test_kernels.py), so an epoch's name holds the code's digest and no version. SGD is part of the step;
every other optimizer is torch's, takes its gradients from the step, and adds torch's version to the name. The
initialisation and the order of the samples come from torch's CPU generator.
"""

import importlib.util
import os
import platform
import sys
from math import prod

import numpy as np
import torch

from lrlib.problems.registry import DEFAULT
from lrlib.training.backends import BackendError, plain
from lrlib.training.epoch import capture, initial_state, restore
from lrlib.training.kernels import FOLDER, cache_folder, load_kernels
from lrlib.training.optimizers import set_rates

N_CLASSES = 10
# The parameters, in the order in which the kernels take them.
NAMES = [f"{layer}.{kind}" for layer in ("conv1", "conv2", "conv3", "fc1", "fc2") for kind in ("weight", "bias")]


def is_available() -> bool:
    """Return whether Numba is installed and the processor has fused multiply-add."""
    has_fma = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return (has_fma or platform.machine() in ("arm64", "aarch64")) and importlib.util.find_spec("numba") is not None


def describe(processes, optimizer):
    """Return what an epoch's name holds of this backend: nothing with SGD. Raises BackendError without Numba."""
    if importlib.util.find_spec("numba") is None:
        raise BackendError("backend compiled requires numba: pip install 'lrlib[report]', or use backend='torch'")
    return {} if optimizer == "sgd" else plain.describe(processes, optimizer)


def prepare(folder):
    """Compile the kernels unless that was done before, in the folder of the first store; announce it on stderr."""
    os.environ.setdefault(FOLDER, os.path.abspath(os.path.join(folder, "kernels")))
    if not any(cache_folder().rglob("*.nbc")):
        print("compiling LeNet-5's training step, once: about 20 seconds", file=sys.stderr, flush=True)
    images, labels = torch.zeros(1, 1, 32, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    evaluate(initial_state(0), inputs=images, targets=labels, batch_size=1)


def train_epoch(
    state, *, processes, lr, momentum, inputs, targets, order, batch_size, optimizer, weight_decay, problem=DEFAULT,
):  # fmt: skip
    """`lrlib.training.epoch.train_epoch` for uint8 images (N, 1, 32, 32); a step's loss is a mean in float64."""
    work = Workspace(state, inputs, targets)
    if optimizer == "sgd":
        work.load("momenta", [state.get(f"optimizer.{name}.momentum_buffer") for name in NAMES])
        losses, _ = work.run(order, batch_size, True, sgd=(lr, momentum, weight_decay))
        buffers = zip(NAMES, work.read("momenta"), strict=True)
        trained = {f"model.{name}": value for name, value in zip(NAMES, work.read("parameters"), strict=True)}
        return trained | {f"optimizer.{name}.momentum_buffer": value for name, value in buffers}, losses
    model, torch_optimizer = restore(state, problem, optimizer, weight_decay, "cpu")
    losses = np.full(len(lr), np.nan)
    for step, batch in enumerate(order.split(batch_size)):
        work.load("parameters", model.parameters())
        (losses[step],), _ = work.run(batch, batch_size, True)
        if not np.isfinite(losses[step]):
            break
        for parameter, gradient in zip(model.parameters(), work.read("gradients"), strict=True):
            parameter.grad = gradient
        set_rates(torch_optimizer, float(lr[step]), float(momentum[step]))
        torch_optimizer.step()
    return capture(model, torch_optimizer), losses


def evaluate(state, *, inputs, targets, batch_size, problem=DEFAULT):
    """`lrlib.training.epoch.evaluate` for uint8 images (N, 1, 32, 32)."""
    losses, n_right = Workspace(state, inputs, targets).run(torch.arange(len(inputs)), batch_size, False)
    return float(np.mean(losses)), float(n_right.sum())


class Workspace:
    """The arrays of the kernels, filled from a state: parameters, momenta and gradients."""

    def __init__(self, state, images, labels):
        if images.dtype != torch.uint8 or images.shape[1:] != (1, 32, 32):
            raise ValueError(f"inputs must be uint8 (N, 1, 32, 32), got {images.dtype} {tuple(images.shape)}")
        if len(labels) != len(images) or not ((labels >= 0) & (labels < N_CLASSES)).all():
            raise ValueError(f"targets must be one label below {N_CLASSES} for each of {len(images)} images")
        self._kernels = load_kernels()
        self._data = images.contiguous().view(-1), labels.to(torch.int64).contiguous()
        self._shapes = [state[f"model.{name}"].shape for name in NAMES]
        sizes = [-(-prod(shape) // 16) * 16 for shape in self._kernels.SHAPES]
        self._arrays = {name: [*map(torch.zeros, sizes)] for name in ("parameters", "momenta", "gradients")}
        self._scratch = [torch.zeros(16 * size) for size in self._kernels.SCRATCH.values()]
        self.load("parameters", [state[f"model.{name}"] for name in NAMES])

    def run(self, order, batch_size, train, sgd=None):
        """Run `kernels.lenet.run_steps`; sgd: lr and momentum of each step, and weight_decay; None: no updates.

        Returns losses and right answers, one a step, NaN and 0 for those not run.
        """
        if len(order) and not 0 <= order.min() <= order.max() < len(self._data[1]):
            raise ValueError(f"order must hold indices below {len(self._data[1])}, got {order.min()} to {order.max()}")
        n_steps = -(-len(order) // batch_size)
        if sgd is not None and not len(sgd[0]) == len(sgd[1]) == n_steps:
            raise ValueError(f"lr and momentum must have {n_steps} values, got {len(sgd[0])} and {len(sgd[1])}")
        losses, n_right = np.full(n_steps, np.nan), np.zeros(n_steps, np.int64)
        data = (tensor.numpy() for tensor in (*self._data, order.contiguous()))
        rates = (np.asarray(value, np.float32)[()] for value in sgd or (losses, losses, 0.0))
        arrays = (tuple(tensor.numpy() for tensor in each) for each in (*self._arrays.values(), self._scratch))
        self._kernels.run_steps(*data, batch_size, train, sgd is not None, *rates, *arrays, losses, n_right)
        return losses, n_right

    def load(self, array, tensors):
        """Fill an array from tensors in the order of NAMES; None leaves zeros."""
        for view, tensor in zip(self._views(array), tensors, strict=True):
            if tensor is not None:
                view.copy_(tensor.detach().view(view.shape))

    def read(self, array):
        """Return a copy of an array as tensors in the order of NAMES."""
        return [view.clone().view(shape) for view, shape in zip(self._views(array), self._shapes, strict=True)]

    def _views(self, array):
        """Parts of an array, (rows, columns) or (rows,), without what fills up the kernels' layout."""
        for shape, padded, flat in zip(self._shapes, self._kernels.SHAPES, self._arrays[array], strict=True):
            size = (shape[0], prod(shape[1:]))[: len(padded)]
            yield flat[: prod(padded)].view(padded)[tuple(map(slice, size))]
