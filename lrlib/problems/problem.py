"""What can be trained: a model, its data, its loss, and what is usual for it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from lrlib.problems.data import Data


@dataclass(frozen=True)
class Problem:
    """A training problem: everything except the learning rate.

    Args:
        name: A name that `lrlib.problems.registry.load_problem` takes.
        build_model: Returns a model, initialised from torch's random generator.
        load_data: Returns the Data; it may download, and raises DatasetError.
        losses: (outputs, targets) -> what is minimised, one value a sample, (n,).
        hits: (outputs, targets) -> right answers, as a share of each sample, (n,); None if there is no such thing.
        batch_size, optimizer: The problem's defaults.
        has_kernels: Whether it is LeNet5 on uint8 images with cross-entropy, which `lrlib.training.kernels` trains.
    """

    name: str
    build_model: Callable[[], nn.Module]
    load_data: Callable[[], Data]
    losses: Callable[..., Tensor]
    hits: Callable[..., Tensor] | None = None
    batch_size: int = 128
    optimizer: str = "sgd"
    has_kernels: bool = False
