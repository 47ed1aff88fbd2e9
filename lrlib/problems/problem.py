"""What can be trained: a model, its data, its loss, and what is usual for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
        initialize: Data -> the model that training starts from, if it was trained before.
        batch_size, optimizer: The problem's defaults.
        settings: Optimizer -> momentum and weight_decay, where they are not that optimizer's own.
        steps_per_epoch: Steps of an epoch that is not one pass over the data.
        clip_norm: The norm that a step's gradient is clipped to.
        bias_lr_factor: Multiplies the learning rate of biases.
        is_random: Whether a training step draws random numbers, as dropout does.
        has_kernels: Whether it is LeNet5 on uint8 images with cross-entropy, which `lrlib.training.kernels` trains.
    """

    name: str
    build_model: Callable[[], nn.Module]
    load_data: Callable[[], Data]
    losses: Callable[..., Tensor]
    hits: Callable[..., Tensor] | None = None
    initialize: Callable[[Data], nn.Module] | None = None
    batch_size: int = 128
    optimizer: str = "sgd"
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    steps_per_epoch: int | None = None
    clip_norm: float | None = None
    bias_lr_factor: float = 1.0
    is_random: bool = False
    has_kernels: bool = False

    def count_steps(self, n_train: int, batch_size: int) -> int:
        """Return the steps of an epoch: 469 = ceil(60000 / 128)."""
        return self.steps_per_epoch or -(-n_train // batch_size)
