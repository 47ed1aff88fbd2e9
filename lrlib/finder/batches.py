"""Batches of any kind: going through a loader again and again, moving to a device, counting samples."""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader

# What targets are called in batches that are mappings.
TARGETS = ("label", "labels", "target", "targets", "y")


def without_end(loader: Iterable[Any], *, epoch: int = 0, epochs_apart: int = 1) -> Iterator[Any]:
    """The loader's batches; where they end it begins again.

    What orders its samples by the number of the epoch (DistributedSampler and all that has set_epoch) is told epoch at
    first, and epochs_apart more at each new pass.
    """
    is_first = True
    while True:
        for owner in _epoch_owners(loader):
            owner.set_epoch(epoch)
        n_batches = 0
        for batch in loader:
            n_batches += 1
            yield batch
        if n_batches == 0 and is_first:
            raise ValueError("train_loader must give at least one batch, got none; check its dataset and drop_last")
        if n_batches == 0:
            raise TypeError(
                f"train_loader must be an iterable that can begin again, got a {type(loader).__name__}, whose second "
                "pass gave no batch; give a list of its batches, or an object whose __iter__ makes a new iterator"
            )
        reset = getattr(loader, "reset", None)
        if isinstance(loader, Iterator) and callable(reset):
            reset()  # those of NVIDIA's DALI begin again only so
        epoch, is_first = epoch + epochs_apart, False


def _epoch_owners(loader: Any) -> list[Any]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = [loader, getattr(loader, "dataset", None), getattr(loader, "sampler", None), batch_sampler]
    owners.append(getattr(batch_sampler, "sampler", None))
    return list({id(owner): owner for owner in owners if callable(getattr(owner, "set_epoch", None))}.values())


def inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    """The two halves of a batch. Raises TypeError if it has not two."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        inputs, targets = batch
        return inputs, targets
    kind = type(batch).__name__ + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
    raise TypeError(
        f"a batch must be a pair (inputs, targets), got a {kind}; give step_fn(batch) -> loss instead of loss_fn"
    )


def is_whole(inputs: Any) -> bool:
    """Whether a container moves by its own `to`, and is one input (a PackedSequence): nothing to be spread."""
    return isinstance(inputs, (tuple, list)) and callable(getattr(inputs, "to", None))


def on_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device; what is there already, and what has no `to`, passes as it is."""
    if isinstance(batch, Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, (tuple, list)):
        items = [on_device(item, device) for item in batch]
        if all(item is moved for item, moved in zip(batch, items, strict=True)):
            return batch
        return batch._make(items) if hasattr(batch, "_make") else type(batch)(items)
    if isinstance(batch, Mapping):
        moved = {key: on_device(item, device) for key, item in batch.items()}
        if type(batch) is dict or all(item is moved[key] for key, item in batch.items()):
            return moved if type(batch) is dict else batch
        other: Any = copy.copy(batch)  # of its own kind, with the attributes that it may have
        for key, item in moved.items():
            other[key] = item
        return other
    return batch


def n_samples(batch: Any) -> int:
    """How many samples a batch has: the first number on which inputs and targets agree, else the inputs' first.

    Such numbers are, in this order, the num_graphs or batch_size that a batch says itself, the sequences of a
    PackedSequence, the length of a list, and the first dimension of a tensor.
    """
    inputs, targets = _halves(batch)
    of_inputs, of_targets = _counts(inputs), _counts(targets)
    agreed = [count for count in of_inputs if count in of_targets]
    return [*agreed, *of_inputs, *of_targets, 1][0]


def _halves(batch: Any) -> tuple[Any, Any]:
    """What is to be counted as inputs, and as targets."""
    named = batch
    if hasattr(batch, "_asdict") and not is_whole(batch):
        named = batch._asdict()
    elif dataclasses.is_dataclass(batch) and _said_by(batch) is None:
        named = vars(batch)
    if isinstance(named, Mapping):
        halves: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
        for key, value in named.items():
            halves[str(key).lower() in TARGETS][key] = value
        return halves
    if not isinstance(batch, (tuple, list)) or is_whole(batch):
        return batch, ()
    if len(batch) == 2:
        return batch[0], batch[1]
    # Collated: inputs and targets of one length. A list of samples, say of images, is counted as it is.
    firsts = {len(item) for item in batch if isinstance(item, Tensor) and item.dim() > 0}
    images = all(isinstance(item, Tensor) and item.dim() == 3 and len(item) in (1, 3, 4) for item in batch)
    return (tuple(batch) if len(firsts) == 1 and not images else batch), ()


def _counts(value: Any) -> list[int]:
    """How many samples a part of a batch may have, the likeliest first."""
    if isinstance(value, PackedSequence):
        return [int(value.batch_sizes[0])]
    if isinstance(value, Tensor):
        return [len(value)] if value.dim() > 0 else []
    said = _said_by(value)
    if said is not None:
        return [said]
    if isinstance(value, (tuple, list, Mapping)):
        items = value.values() if isinstance(value, Mapping) else value
        inner = [count for item in items for count in _counts(item)]
        return [len(value), *inner] if isinstance(value, list) else inner
    if getattr(value, "ndim", 0):  # an array
        return [len(value)]
    return _counts(vars(value)) if hasattr(value, "__dict__") and not callable(value) else []


def _said_by(value: Any) -> int | None:
    """The number of samples that a batch says itself: num_graphs (PyTorch Geometric), batch_size (DGL, tensordict)."""
    for said in (getattr(value, "num_graphs", None), getattr(value, "batch_size", None)):
        if isinstance(said, (int, tuple)) and said != ():
            return said if isinstance(said, int) else said[0]
    return None


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Every tensor in a batch's tuples, lists and mappings."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (tuple, list, Mapping)):
        for item in batch.values() if isinstance(batch, Mapping) else batch:
            yield from tensors_of(item)


def with_batch_size(loader: Any, batch_size: int) -> DataLoader[Any]:
    """The DataLoader built again with another batch size."""
    if not isinstance(loader, DataLoader) or loader.batch_size is None:
        raise TypeError(
            f"train_loader must be a DataLoader with a batch_size to sweep over it, got a {type(loader).__name__}; "
            "call range_test for each size"
        )
    return DataLoader(
        loader.dataset,
        batch_size=batch_size,
        sampler=None if isinstance(loader.dataset, torch.utils.data.IterableDataset) else loader.sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )
