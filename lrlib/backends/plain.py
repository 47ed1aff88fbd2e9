"""Plain PyTorch, one core of a CPU: the default."""

from lrlib import training
from lrlib.training import evaluate

__all__ = ["check", "describe", "evaluate", "train_epoch"]


def check(processes):
    """Raise ValueError unless it can train in so many processes."""
    if processes != 1:
        raise ValueError(f"processes must be 1 for backend torch, got {processes}; one epoch is trained on one core")


def describe(processes):
    """What stands in an epoch's name besides what is so for every backend."""
    return {}


def train_epoch(state, *, processes, **settings):
    """lrlib.training.train_epoch."""
    return training.train_epoch(state, **settings)
