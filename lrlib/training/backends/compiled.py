"""LeNet-5 by compiled code on one core of a CPU: the default where Numba is installed.

The step is `lrlib.training.kernels.lenet`. Results are bit-identical on every processor with fused multiply-add and
with every version of torch and Numba (tests/training/test_kernels.py), so an epoch's name holds the code's digest and
no version. SGD is part of the step. Every other optimizer is torch's: it takes its gradients from the step, and its
epochs' names hold torch's version. The initialisation and the order of the samples come from torch's CPU generator.
"""

import importlib.util
import platform
import sys
from functools import lru_cache
from math import prod

import numpy as np
import torch

from lrlib.problems.lenet import LeNet5
from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.training.backends import BackendError
from lrlib.training.epoch import capture, check_steps, initial_state, restore, set_rates
from lrlib.training.kernels import cache_folder, load_kernels

SGD = ("sgd", "momentum")  # the optimizers that are torch's SGD: the step has its update
N_CLASSES = 10


def is_available() -> bool:
    """Return whether Numba is installed and the processor has fused multiply-add."""
    has_fma = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return (has_fma or platform.machine() in ("arm64", "aarch64")) and importlib.util.find_spec("numba") is not None


def check(processes, problem):
    """Raise ValueError unless it can train that Problem in so many processes."""
    if processes != 1:
        raise ValueError(f"processes must be 1 for backend compiled, got {processes}; one epoch is trained on one core")
    if not problem.has_kernels:
        raise ValueError(f"backend compiled trains LeNet-5 only, got problem {problem.name!r}; use backend='torch'")


def describe(processes):
    """Return what an epoch's name holds of this backend. Raises BackendError without Numba."""
    if importlib.util.find_spec("numba") is None:
        raise BackendError("backend compiled requires numba: pip install 'lrlib[report]', or use backend='torch'")
    return {}


def prepare():
    """Compile the kernels for this machine unless that was done before; announce it with a line on stderr."""
    if not any(cache_folder().rglob("*.nbc")):
        print("compiling LeNet-5's training step, once: about 20 seconds", file=sys.stderr, flush=True)
    images, labels = torch.zeros(1, 1, 32, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    evaluate(initial_state(0), inputs=images, targets=labels, batch_size=1)


def train_epoch(
    state, *, processes, lr, momentum, inputs, targets, order, batch_size, optimizer, weight_decay, problem=DEFAULT,
    noise=0,
):  # fmt: skip
    """`lrlib.training.epoch.train_epoch`, with LeNet-5's images as uint8 (N, 1, 32, 32).

    The learning rate, the momentum and the weight decay are rounded to float32, as by torch's SGD. Everything else is
    float32, but a step's loss, which is the mean of float32 losses in float64.
    """
    check_steps(lr, momentum, order, batch_size)
    work = Workspace(state, inputs, targets)
    if optimizer in SGD:
        work.load("momenta", {name: state.get(f"optimizer.{name}.momentum_buffer") for name in _shapes()})
        losses, _ = work.run(order, batch_size, True, lr=lr, momentum=momentum, weight_decay=weight_decay)
        momenta = {f"optimizer.{name}.momentum_buffer": value for name, value in work.read("momenta").items()}
        return {f"model.{name}": value for name, value in work.read("parameters").items()} | momenta, losses
    model, torch_optimizer = restore(state, load_problem(problem), optimizer, weight_decay=weight_decay, device="cpu")
    losses = np.full(len(lr), np.nan)
    for step, batch in enumerate(order.split(batch_size)):
        work.load("parameters", dict(model.named_parameters()))
        (losses[step],), _ = work.run(batch, batch_size, True)
        if not np.isfinite(losses[step]):
            break
        gradients = work.read("gradients")
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name]
        set_rates(torch_optimizer, float(lr[step]), float(momentum[step]))
        torch_optimizer.step()
    return capture(model, torch_optimizer, optimizer), losses


def evaluate(state, *, inputs, targets, batch_size, problem=DEFAULT):
    """`lrlib.training.epoch.evaluate`, with LeNet-5's images as uint8 (N, 1, 32, 32)."""
    losses, n_right = Workspace(state, inputs, targets).run(torch.arange(len(inputs)), batch_size, False)
    return float(np.mean(losses)), float(n_right.sum())


class Workspace:
    """The arrays of the kernels, filled from a state: parameters, momenta, gradients, each in the kernels' layout."""

    def __init__(self, state, images, labels):
        try:
            self._kernels = load_kernels()
        except ImportError as err:
            raise BackendError(f"backend compiled cannot import numba ({err}); use backend='torch'") from err
        if images.dtype != torch.uint8 or images.shape[1:] != (1, 32, 32):
            raise ValueError(
                f"inputs must be uint8 images (N, 1, 32, 32) for backend compiled, got {images.dtype} "
                f"{tuple(images.shape)}; use backend='torch'"
            )
        if len(labels) != len(images) or not ((labels >= 0) & (labels < N_CLASSES)).all():
            raise ValueError(f"targets must be one label below {N_CLASSES} for each of {len(images)} images")
        self._images = images.contiguous().view(-1)
        self._labels = labels.to(torch.int64).contiguous()
        sizes = [-(-prod(shape) // 16) * 16 for shape in self._kernels.SHAPES]
        names = ("parameters", "momenta", "gradients")
        self._arrays = {name: [torch.zeros(size) for size in sizes] for name in names}
        self._scratch = [torch.zeros(16 * size) for size in self._kernels.SCRATCH.values()]
        self.load("parameters", {name: state[f"model.{name}"] for name in _shapes()})

    def run(self, order, batch_size, train, *, lr=None, momentum=None, weight_decay=0.0):
        """Run `kernels.lenet.run_steps` over the batches of an order; without lr it leaves gradients and no update.

        Returns losses and right answers, one a step, NaN and 0 for those not run.
        """
        if len(order) and not 0 <= order.min() <= order.max() < len(self._labels):
            found = f"{int(order.min())} to {int(order.max())}"
            raise ValueError(f"order must hold indices below {len(self._labels)}, got {found}")
        n_steps = -(-len(order) // batch_size)
        losses, n_right = np.full(n_steps, np.nan), np.zeros(n_steps, np.int64)
        rates = [np.zeros(n_steps, np.float32) if v is None else np.asarray(v, np.float32) for v in (lr, momentum)]
        data = (tensor.numpy() for tensor in (self._images, self._labels, order.contiguous()))
        arrays = (tuple(tensor.numpy() for tensor in each) for each in (*self._arrays.values(), self._scratch))
        self._kernels.run_steps(
            *data, batch_size, train, lr is not None, *rates, np.float32(weight_decay), *arrays, losses, n_right
        )
        return losses, n_right

    def load(self, array, tensors):
        """Fill an array from name -> tensor; None leaves zeros."""
        for name, view in self._views(array).items():
            if tensors[name] is not None:
                view.copy_(tensors[name].detach().view(view.shape))

    def read(self, array):
        """Return a copy of an array as name -> tensor."""
        shapes = _shapes()
        return {name: view.clone().view(shapes[name]) for name, view in self._views(array).items()}

    def _views(self, array):
        """Parts of an array by name, (rows, columns) or (rows,), without what fills up the kernels' layout."""
        views = {}
        layouts = zip(self._kernels.SHAPES, self._arrays[array], strict=True)
        for (name, shape), (padded, flat) in zip(_shapes().items(), layouts, strict=True):
            whole = flat[: prod(padded)].view(padded)
            views[name] = whole[: shape[0], : prod(shape[1:])] if len(shape) > 1 else whole[: shape[0]]
        return views


@lru_cache
def _shapes():
    """The shapes of LeNet-5's parameters, by name."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in LeNet5().named_parameters()}
