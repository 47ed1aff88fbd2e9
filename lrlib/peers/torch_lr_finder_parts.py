"""What torch-lr-finder's LRFinder is made of, with its names: iterators over batches, schedules, states set aside."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader


class DataLoaderIter:
    """A DataLoader's batches as pairs (inputs, labels); override inputs_labels_from_batch for other kinds of batch."""

    def __init__(self, data_loader: DataLoader[Any]) -> None:
        self.data_loader = data_loader
        self._iterator = iter(data_loader)

    @property
    def dataset(self) -> Any:
        return self.data_loader.dataset

    def inputs_labels_from_batch(self, batch_data: Any) -> tuple[Any, Any]:
        """The first two of a list's or a tuple's members. Raises ValueError for any other batch."""
        if not isinstance(batch_data, (list, tuple)) or len(batch_data) < 2:
            raise ValueError(
                f"a batch must be a list or a tuple of inputs, labels and what else there is, got {type(batch_data)}; "
                "override inputs_labels_from_batch in a subclass of TrainDataLoaderIter or ValDataLoaderIter"
            )
        inputs, labels = batch_data[:2]
        return inputs, labels

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self

    def __next__(self) -> tuple[Any, Any]:
        return self.inputs_labels_from_batch(next(self._iterator))


class TrainDataLoaderIter(DataLoaderIter):
    """Begins its loader again where it ends, unless auto_reset is False."""

    def __init__(self, data_loader: DataLoader[Any], auto_reset: bool = True) -> None:
        super().__init__(data_loader)
        self.auto_reset = auto_reset

    def __next__(self) -> tuple[Any, Any]:
        try:
            return super().__next__()
        except StopIteration:
            if not self.auto_reset:
                raise
        self._iterator = iter(self.data_loader)
        return super().__next__()


class ValDataLoaderIter(DataLoaderIter):
    """Begins its loader again only when iter() is called on it after it has run out, as every `for` does."""

    def __init__(self, data_loader: DataLoader[Any]) -> None:
        super().__init__(data_loader)
        self.run_limit = len(data_loader)
        self.run_counter = 0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        if self.run_counter >= self.run_limit:
            self._iterator, self.run_counter = iter(self.data_loader), 0
        return self

    def __next__(self) -> tuple[Any, Any]:
        self.run_counter += 1
        return super().__next__()


class RisingLR(LRScheduler):
    """From each parameter group's own rate to end_lr, reached at update num_iter."""

    def __init__(self, optimizer: torch.optim.Optimizer, end_lr: float, num_iter: int, last_epoch: int = -1) -> None:
        if num_iter <= 1:
            raise ValueError(f"num_iter must be above 1, got {num_iter}; 100 updates show a curve")
        self.end_lr, self.num_iter = end_lr, num_iter
        super().__init__(optimizer, last_epoch)

    @property
    def _share(self) -> float:
        return self.last_epoch / (self.num_iter - 1)


class LinearLR(RisingLR):
    """In even steps."""

    def get_lr(self) -> list[float | torch.Tensor]:
        return [lr + self._share * (self.end_lr - lr) for lr in self.base_lrs]


class ExponentialLR(RisingLR):
    """By an even factor."""

    def get_lr(self) -> list[float | torch.Tensor]:
        return [lr * (self.end_lr / lr) ** self._share for lr in self.base_lrs]


class StateCacher:
    """State dicts as they were, in memory or in files of cache_dir that go with this object."""

    def __init__(self, in_memory: bool, cache_dir: str | None = None) -> None:
        self.in_memory = in_memory
        self.cached: dict[str, Any] = {}
        self.cache_dir = tempfile.gettempdir() if cache_dir is None else cache_dir
        if not Path(self.cache_dir).is_dir():
            raise ValueError(f"cache_dir must be a folder, got {cache_dir}; make it, or leave it out")

    def store(self, key: str, state_dict: Mapping[str, Any]) -> None:
        if self.in_memory:
            self.cached[key] = copy.deepcopy(state_dict)
        else:
            self.cached[key] = str(Path(self.cache_dir) / f"state_{key}_{id(self)}.pt")
            torch.save(state_dict, self.cached[key])

    def retrieve(self, key: str) -> Any:
        """A copy. Raises KeyError if nothing was stored, RuntimeError if its file is gone."""
        if key not in self.cached:
            raise KeyError(f"there is no state of {key}; store it first")
        if self.in_memory:
            return copy.deepcopy(self.cached[key])
        if not Path(self.cached[key]).exists():
            raise RuntimeError(f"the state of {key} is gone: its file {self.cached[key]} does not exist any more")
        return torch.load(self.cached[key], map_location="cpu")

    def __del__(self) -> None:
        if not getattr(self, "in_memory", True):
            for path in self.cached.values():
                Path(path).unlink(missing_ok=True)
