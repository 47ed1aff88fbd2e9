"""CUDA: the plain training loop on a GPU. Several runs at once are processes that share the device."""

import os
from functools import lru_cache

import torch

from lrlib.training import epoch
from lrlib.training.backends import BackendError

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without it cuBLAS varies


def describe(processes, optimizer):
    """Return what an epoch's name holds of this backend. Raises BackendError if there is no CUDA device."""
    if not torch.cuda.is_available():
        raise BackendError(
            f"backend cuda requires a CUDA device, and torch {torch.__version__} finds none; install its driver, or "
            "use backend='torch'"
        )
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cublas_workspace": os.environ["CUBLAS_WORKSPACE_CONFIG"],
    }


def train_epoch(state, *, processes, inputs, targets, order, **settings):
    """`lrlib.training.epoch.train_epoch` on the device, from and to tensors of the host."""
    return epoch.train_epoch(state, **_copy_to_device(inputs, targets), order=order.cuda(), **settings)


def evaluate(state, *, inputs, targets, **settings):
    """`lrlib.training.epoch.evaluate` on the device."""
    return epoch.evaluate(state, **_copy_to_device(inputs, targets), **settings)


@lru_cache(maxsize=8)
def _copy_to_device(inputs, targets):
    """The copies of tensors, which must not change; from here on all is computed in float32, by the same kernels."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return {"inputs": inputs.cuda(), "targets": targets.cuda()}
