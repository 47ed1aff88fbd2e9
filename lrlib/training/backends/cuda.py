"""CUDA: the plain training loop on a GPU. Several runs at once are processes that share the device."""

import os
from functools import lru_cache

import torch

from lrlib.training import epoch
from lrlib.training.backends import BackendError

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without it cuBLAS varies


def check(processes, problem):
    """Raise ValueError unless it can train that Problem in so many processes."""
    if processes != 1:
        raise ValueError(f"processes must be 1 for backend cuda, got {processes}; one epoch is trained on one device")


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


class OnDevice(epoch.PlainTorch):
    """The plain loop, with the indices of each batch on the device."""

    def share(self, batch):
        return batch.cuda()


def train_epoch(state, *, processes, inputs, targets, **settings):
    """`lrlib.training.epoch.train_epoch` on the device, from and to tensors of the host."""
    _fix_numerics()
    data = {"inputs": _copy_to_device(inputs), "targets": _copy_to_device(targets)}
    return epoch.train_epoch(state, backend=OnDevice(), **data, **settings)


def evaluate(state, *, inputs, targets, **settings):
    """`lrlib.training.epoch.evaluate` on the device."""
    _fix_numerics()
    return epoch.evaluate(state, inputs=_copy_to_device(inputs), targets=_copy_to_device(targets), **settings)


@lru_cache(maxsize=8)
def _copy_to_device(tensor):
    """The copy of a tensor, which must not change."""
    return tensor.cuda()


def _fix_numerics():
    """Compute in float32 throughout, by kernels that are always the same."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
