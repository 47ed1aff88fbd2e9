"""Batches of any kind: going through a loader again and again, moving to a device, counting samples."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader


def without_end(loader: Iterable[Any], *, epoch: int = 0, epochs_apart: int = 1) -> Iterator[Any]:
    """The loader's batches; where they end it begins again.

    What orders its samples by the number of the epoch (DistributedSampler and all that has set_epoch) is told epoch at
    first, and epochs_apart more at each new pass.
    """
    while True:
        for owner in _epoch_owners(loader):
            owner.set_epoch(epoch)
        epoch += epochs_apart
        n_batches = 0
        for batch in loader:
            n_batches += 1
            yield batch
        if n_batches == 0:
            raise ValueError("train_loader must give at least one batch, got none; check its dataset and drop_last")


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


def on_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device; containers of unknown kind that have no `to` pass as they are."""
    if isinstance(batch, torch.Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(on_device(item, device) for item in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)([on_device(item, device) for item in batch])
    if isinstance(batch, dict):
        return {key: on_device(item, device) for key, item in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch


def n_samples(batch: Any) -> int:
    """The first dimension of the batch's first tensor."""
    tensor = next(tensors_of(batch), None)
    return len(tensor) if tensor is not None and tensor.dim() > 0 else 1


def tensors_of(batch: Any) -> Iterator[torch.Tensor]:
    """Every tensor in a batch's tuples, lists and mappings."""
    if isinstance(batch, torch.Tensor):
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
