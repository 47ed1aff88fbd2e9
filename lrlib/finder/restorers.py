"""How each kind of thing is restored, in place and bit for bit: tensors, containers, attributes, random generators."""

import collections
import ctypes
import io
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Restore = Callable[[], Any]
Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


class KeptTensor:
    """A tensor, where its values are stored, and a copy of them."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name, self.tensor = name, tensor
        self.requires_grad, self.is_leaf = tensor.requires_grad, tensor.is_leaf
        # Shares memory with the values, so that they are found again where `tensor.data` is replaced.
        self.place = tensor.detach()
        self.copied = self._memory().clone()
        self.grad = tensor.grad if tensor.is_leaf else None
        # DDP's gradient_as_bucket_view lays gradients into a buffer that the sweep writes to.
        self.grad_values: Any = None if self.grad is None else self.grad.clone()

    @torch.no_grad()
    def restore(self, *, gradient: bool) -> None:
        """Restore values, place, shape, dtype and requires_grad; the gradient is None without gradient=True."""
        tensor = self.tensor
        if self.is_leaf and not tensor.is_leaf:  # a buffer that was updated with gradients belongs to a graph
            tensor.detach_()
        if tensor.is_leaf and not tensor.is_inference():
            tensor.grad = None
            self._memory().copy_(self.copied)
            if self._has_moved():
                tensor.data = self.place
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
        elif not torch.equal(self._memory(), self.copied):  # writing would break a graph that the user still holds
            self._memory().copy_(self.copied)
        if gradient and self.is_leaf:
            tensor.grad = self.grad
        if gradient and self.grad is not None:
            self.grad.copy_(self.grad_values)

    def _memory(self) -> Tensor:
        """The values, writable: each once where an expanded tensor has one value in several elements."""
        place = self.place
        if not _is_plain(place):
            return place
        span = 1 + sum((size - 1) * stride for size, stride in zip(place.shape, place.stride(), strict=True))
        return place.as_strided((span,), (1,), place.storage_offset()) if 0 < span < place.numel() else place

    def _has_moved(self) -> bool:
        now, then = self.tensor, self.place
        if (now.shape, now.dtype, now.device, now.layout) != (then.shape, then.dtype, then.device, then.layout):
            return True
        return _is_plain(now) and (now.data_ptr(), now.stride()) != (then.data_ptr(), then.stride())


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor is strided memory of this process, not a wrapper around others (DTensor) or sparse."""
    return tensor.layout == torch.strided and tensor.device.type != "meta" and not is_traceable_wrapper_subclass(tensor)


def of(thing: Any) -> Restore | None:
    """A function that restores a thing's own values, not its attributes; None if there are none or it is impossible."""
    if isinstance(thing, np.random.Generator):
        return partial(setattr, thing.bit_generator, "state", thing.bit_generator.state)
    if isinstance(thing, random.Random):
        return partial(thing.setstate, thing.getstate())
    if isinstance(thing, (torch.Generator, np.random.RandomState)):
        state: Any = thing.get_state()
        return partial(thing.set_state, state)
    if isinstance(thing, dict):
        return of_dict(thing)
    if isinstance(thing, collections.deque):
        return partial(collections.deque.__init__, thing, list(thing), thing.maxlen)
    for kind in (list, set, bytearray):
        if isinstance(thing, kind):
            return partial(kind.__init__, thing, list(thing))  # empties it first
    if isinstance(thing, ctypes._SimpleCData):  # a value that is shared with processes
        return partial(setattr, thing, "value", thing.value)
    if isinstance(thing, (io.BytesIO, io.StringIO)):
        return partial(thing.__setstate__, thing.__getstate__())  # type: ignore[union-attr]
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        return partial(np.copyto, thing, thing.copy()) if thing.flags.writeable else lambda: None
    return None


def of_dict(mapping: dict[Any, Any]) -> Restore:
    items = list(dict.items(mapping))
    kind: Any = collections.OrderedDict if isinstance(mapping, collections.OrderedDict) else dict

    def restore() -> None:
        now = list(dict.items(mapping))
        if len(now) != len(items) or any(a is not c or b is not d for (a, b), (c, d) in zip(now, items, strict=True)):
            kind.clear(mapping)
            for key, value in items:
                kind.__setitem__(mapping, key, value)

    return restore


def of_slots(thing: Any, slots: dict[str, Any]) -> Restore:
    """A function that restores the attributes that an object keeps in slots, also if it is frozen."""

    def restore() -> None:
        for name in slots_of(thing).keys() - slots.keys():
            object.__delattr__(thing, name)
        for name, value in slots.items():
            object.__setattr__(thing, name, value)

    return restore


def slots_of(thing: Any) -> dict[str, Any]:
    """The attributes that an object keeps in slots."""
    state: Any = object.__getstate__(thing)  # type: ignore[attr-defined]  # typeshed lacks it
    return state[1] if isinstance(state, tuple) else {}


def of_random_state() -> list[Restore]:
    """Functions that restore every global generator: of Python, NumPy and torch on each device."""
    parts: list[Restore] = [partial(random.setstate, random.getstate())]
    parts.append(partial(np.random.set_state, np.random.get_state()))
    for backend in (torch.cuda, torch.xpu):
        if backend.is_available() and backend.is_initialized():
            parts.append(partial(backend.set_rng_state_all, backend.get_rng_state_all()))
        elif backend.is_available():  # asking would initialise it; it would have started from the seed that torch had
            parts.append(partial(backend.manual_seed_all, torch.initial_seed()))
    if torch.backends.mps.is_available():
        parts.append(partial(torch.mps.set_rng_state, torch.mps.get_rng_state()))
    parts.append(partial(torch.set_rng_state, torch.get_rng_state()))
    return parts


def seed_everything(seed: int, generators: Iterable[Generator] = ()) -> None:
    """Seed Python, NumPy, torch (each device) and the given generators with one number."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    for generator in generators:
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        else:
            generator.seed(seed % 2**32)
