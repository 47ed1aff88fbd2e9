"""Plain PyTorch on one core of a CPU."""

import platform

import torch

from lrlib.training import epoch
from lrlib.training.epoch import evaluate
from lrlib.training.numerics import THREADS

__all__ = ["describe", "evaluate", "train_epoch"]


def describe(processes, optimizer):
    """Return what an epoch's name holds of this backend."""
    return {
        "torch": torch.__version__,
        "device": "cpu",
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": THREADS,
    }


def train_epoch(state, *, processes, **settings):
    """`lrlib.training.epoch.train_epoch`."""
    return epoch.train_epoch(state, **settings)
