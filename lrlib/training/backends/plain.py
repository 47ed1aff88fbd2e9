"""Plain PyTorch on one core of a CPU."""

import platform

import torch

from lrlib.training import epoch
from lrlib.training.epoch import evaluate
from lrlib.training.numerics import THREADS

__all__ = ["check", "describe", "evaluate", "train_epoch"]


def check(processes, problem):
    """Raise ValueError unless it can train that Problem in so many processes."""
    if processes != 1:
        raise ValueError(f"processes must be 1 for backend torch, got {processes}; one epoch is trained on one core")


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
