"""Tensors that are put back to the bit: in place, where they lay, also where several share memory."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


class KeptTensor:
    """A tensor, the place of its values, and a copy of them.

    name: for messages. copied: None where the copy is in a file. Nothing is copied of a tensor without values (on
    the meta device) or without memory of its own on this side.
    """

    def __init__(self, name: str, tensor: Tensor, *, copy: bool = True) -> None:
        self.name, self.tensor = name, tensor
        self.requires_grad, self.is_leaf = tensor.requires_grad, tensor.is_leaf
        self.grad = tensor.grad if tensor.is_leaf else None
        # Shares the memory that the values lie in, so that this place is found again where `tensor.data` is replaced.
        self.place = tensor.detach()
        self.copied: Tensor | None = self.memory().clone() if copy else None

    def memory(self) -> Tensor:
        """The values' place, writable: where an expanded tensor has one value in many places, each value once."""
        place = self.place
        if not _is_plain(place) or place.numel() == 0 or not _may_overlap(place):
            return place
        span = 1 + sum((size - 1) * stride for size, stride in zip(place.shape, place.stride(), strict=True))
        return place.as_strided((span,), (1,), place.storage_offset())

    def put_back(self, copied: Tensor) -> None:
        """Values, place, shape, type, and whether it requires grad; the gradient is set to None."""
        tensor = self.tensor
        with torch.no_grad():
            if self.is_leaf and not tensor.is_leaf:  # a buffer that was updated with gradients on hangs in a graph
                tensor.detach_()
            if tensor.is_leaf and not tensor.is_inference():
                tensor.grad = None
                self._fill(copied)
                if self._has_moved():
                    tensor.data = self.place
                if tensor.requires_grad != self.requires_grad:
                    tensor.requires_grad_(self.requires_grad)
            elif not torch.equal(self.memory(), copied):  # writing would break a graph that the user still holds
                self._fill(copied)

    def put_gradient_back(self) -> None:
        if self.is_leaf:
            self.tensor.grad = self.grad

    def is_changed_by(self, copied: Tensor) -> tuple[bool, float]:
        """Whether finite values have become NaN or infinite, and the largest change of a value."""
        now = self.tensor.detach()
        if not now.is_floating_point() or now.shape != self.place.shape or not _is_plain(now):
            return False, 0.0
        then = self._values(copied)
        now = now.to(then.dtype)
        broken = bool((torch.isfinite(then) & ~torch.isfinite(now)).any())
        change = torch.nan_to_num(now - then, nan=0.0).abs()
        return broken, float(change.max()) if change.numel() else 0.0

    def _values(self, copied: Tensor) -> Tensor:
        place, copied = self.place, copied.to(self.place.device)
        return copied if copied.shape == place.shape else copied.as_strided(place.shape, place.stride(), 0)

    def _fill(self, copied: Tensor) -> None:
        if self.place.device.type != "meta":
            self.memory().copy_(copied)

    def _has_moved(self) -> bool:
        tensor, place = self.tensor, self.place
        if (tensor.shape, tensor.dtype, tensor.device, tensor.layout) != (
            place.shape,
            place.dtype,
            place.device,
            place.layout,
        ):
            return True
        return _is_plain(tensor) and (tensor.data_ptr(), tensor.stride()) != (place.data_ptr(), place.stride())


def n_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's values."""
    return tensor.numel() * tensor.element_size()


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor is strided memory of this process, not a wrapper around others (DTensor) or sparse."""
    return tensor.layout == torch.strided and tensor.device.type != "meta" and not is_traceable_wrapper_subclass(tensor)


def _may_overlap(tensor: Any) -> bool:
    """Whether two elements may lie in one place."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += (size - 1) * stride
    return False
