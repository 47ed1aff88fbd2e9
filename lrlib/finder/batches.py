"""Batches of any kind: going through a loader again and again, moving to a device, counting samples."""

import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map


def without_end(loader: Any, *, epoch: int, epochs_apart: int) -> Iterator[Any]:
    """The loader's batches, restarted when exhausted; every pass has an epoch of its own, where one can be set."""
    owners = [loader, *(getattr(loader, name, None) for name in ("dataset", "sampler", "batch_sampler"))]
    owners.append(getattr(owners[-1], "sampler", None))
    counting = {id(owner): owner for owner in owners if callable(getattr(owner, "set_epoch", None))}
    for n_passes in itertools.count():
        for owner in counting.values():
            owner.set_epoch(epoch + n_passes * epochs_apart)
        is_empty = True
        for batch in loader:
            is_empty = False
            yield batch
        if is_empty and n_passes == 0:
            raise ValueError("loader must yield at least one batch, got none; check its dataset and drop_last")
        if is_empty:
            kind = type(loader).__name__
            raise TypeError(f"loader must be re-iterable, got a {kind} whose second pass was empty; pass a DataLoader")
        if isinstance(loader, Iterator) and hasattr(loader, "reset"):
            loader.reset()  # NVIDIA DALI restarts only after this


def inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    """The two halves of a batch. Raises TypeError or ValueError if it does not have two of several samples."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        kind = type(batch).__name__ + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
        raise TypeError(f"a batch must be a pair (inputs, targets), got a {kind}; pass step_fn instead of loss_fn")
    inputs, targets = batch
    if isinstance(targets, Tensor) and targets.dim() == 0:
        raise ValueError("a batch must hold several samples, got a single one; pass a DataLoader with a batch_size")
    return inputs, targets


def call_model(model: nn.Module, inputs: Any) -> Any:
    """model(inputs); a tuple, list or mapping is unpacked into arguments. Raises TypeError if it takes others."""
    several: Any = inputs if isinstance(inputs, (tuple, list)) and not moves_itself(inputs) else (inputs,)
    try:
        return model(**inputs) if isinstance(inputs, Mapping) and not moves_itself(inputs) else model(*several)
    except TypeError as err:
        if not re.search(r"\.forward\(\) (takes|missing|got an unexpected) ", str(err)):
            raise
        raise TypeError(f"a batch's inputs must be the model's arguments, got: {err}; pass step_fn") from err


def moves_itself(value: Any) -> bool:
    """Whether a container has a `to` of its own: it moves as a whole and is one model input (a PackedSequence)."""
    return not isinstance(value, Tensor) and callable(getattr(value, "to", None))


def on_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device. What has no `to` stays as it is."""

    def move(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf if leaf.device == device else leaf.to(device, non_blocking=True)
        if moves_itself(leaf):
            return leaf.to(device)
        if isinstance(leaf, Mapping) and hasattr(leaf, "__setitem__"):  # a mapping of another kind than dict
            leaf = copy.copy(leaf)
            for key in list(leaf):
                leaf[key] = on_device(leaf[key], device)
        return leaf

    return tree_map(move, batch, is_leaf=moves_itself)


def tensors_of(batch: Any) -> list[Tensor]:
    """Every tensor in a batch's tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]


def n_samples(batch: Any) -> int:
    """The number of samples of a batch: the length of its targets, which come last."""
    targets = batch[-1] if isinstance(batch, (tuple, list)) and len(batch) else batch
    if isinstance(targets, list):
        return len(targets)
    sized = [each for each in tensors_of(dict(targets) if isinstance(targets, Mapping) else targets) if each.dim() > 0]
    return len(sized[-1]) if sized else 1
