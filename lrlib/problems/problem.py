"""What can be trained: a model, its data, its loss, and what is usual for it. The registry has them by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from lrlib.problems.data import DatasetInfo


@dataclass(frozen=True)
class Data:
    """A problem's samples: of each split the inputs and the targets, tensors (N, ...) of equally many samples.

    before: what its model was trained on before, where it was.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    before: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Problem:
    """A training problem, all but the learning rate.

    build_model: a model, initialised from torch's random generator as it stands. initialize(data): the model that
    training starts from where it was trained before.
    find_data: what names the data without loading it; it may download, and raises DatasetError. load_data: the data.
    losses(outputs, targets): what is minimised, (n,), one for each sample. hits: right answers likewise, as a share of
    each sample, None where there is no such thing.
    files: the code, relative to the package, that decides the bits; it is part of the name of each epoch.
    batch_size, optimizer: what is usual. settings: optimizer -> momentum, weight_decay where they are not that
    optimizer's own. steps_per_epoch: of a problem whose epoch is not one pass over its data.
    clip_norm: what a step's gradient is clipped to. bias_lr_factor: by what the learning rate of biases is multiplied.
    is_random: whether a training step draws random numbers, as dropout does.
    has_kernels: whether it is LeNet5 on uint8 images with cross-entropy, which lrlib.training.kernels trains.
    """

    name: str
    build_model: Callable[[], nn.Module]
    find_data: Callable[[], DatasetInfo]
    load_data: Callable[[], Data]
    losses: Callable[..., Tensor]
    files: tuple[str, ...]
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
        """Steps of an epoch: 469 = ceil(60000 / 128)."""
        return self.steps_per_epoch or -(-n_train // batch_size)
