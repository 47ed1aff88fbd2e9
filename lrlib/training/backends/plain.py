"""Plain PyTorch, one core of a CPU: the default."""

from lrlib.training import epoch
from lrlib.training.epoch import evaluate

__all__ = ["check", "describe", "evaluate", "train_epoch"]


def check(processes, problem):
    """Raise ValueError unless it can train that Problem in so many processes."""
    if processes != 1:
        raise ValueError(f"processes must be 1 for backend torch, got {processes}; one epoch is trained on one core")


def describe(processes):
    """What stands in an epoch's name besides what is so for every backend."""
    return {}


def train_epoch(state, *, processes, **settings):
    """lrlib.training.epoch.train_epoch."""
    return epoch.train_epoch(state, **settings)
