"""Tensors that are restored bit for bit, in place, also where several share memory."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


class KeptTensor:
    """A tensor, where its values are stored, and a copy of them."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name, self.tensor = name, tensor
        self.requires_grad, self.is_leaf = tensor.requires_grad, tensor.is_leaf
        self.grad = tensor.grad if tensor.is_leaf else None
        # Shares memory with the values, so that they are found again where `tensor.data` is replaced.
        self.place = tensor.detach()
        self.copied = self._memory().clone()
        # A gradient that lies in a larger buffer (DDP's gradient_as_bucket_view) is written to during the sweep.
        self.grad_values = self.grad.clone() if self.grad is not None and _is_part(self.grad) else None

    def restore(self) -> None:
        """Values, place, shape, dtype and requires_grad; the gradient is None afterwards."""
        tensor = self.tensor
        with torch.no_grad():
            if self.is_leaf and not tensor.is_leaf:  # a buffer that was updated with gradients belongs to a graph
                tensor.detach_()
            if tensor.is_leaf and not tensor.is_inference():
                tensor.grad = None
                self._fill()
                if self._has_moved():
                    tensor.data = self.place
                if tensor.requires_grad != self.requires_grad:
                    tensor.requires_grad_(self.requires_grad)
            elif not torch.equal(self._memory(), self.copied):  # writing would break a graph that the user still holds
                self._fill()

    def restore_gradient(self) -> None:
        if self.is_leaf:
            self.tensor.grad = self.grad
        if self.grad is not None and self.grad_values is not None:
            with torch.no_grad():
                self.grad.copy_(self.grad_values)

    def _memory(self) -> Tensor:
        """The values, writable: each once where an expanded tensor has one value in several elements."""
        place = self.place
        if not _is_plain(place) or place.numel() == 0 or not _may_overlap(place):
            return place
        span = 1 + sum((size - 1) * stride for size, stride in zip(place.shape, place.stride(), strict=True))
        return place.as_strided((span,), (1,), place.storage_offset())

    def _fill(self) -> None:
        if self.place.device.type != "meta":
            self._memory().copy_(self.copied)

    def _has_moved(self) -> bool:
        now, then = self.tensor, self.place
        if (now.shape, now.dtype, now.device, now.layout) != (then.shape, then.dtype, then.device, then.layout):
            return True
        return _is_plain(now) and (now.data_ptr(), now.stride()) != (then.data_ptr(), then.stride())


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor is strided memory of this process, not a wrapper around others (DTensor) or sparse."""
    return tensor.layout == torch.strided and tensor.device.type != "meta" and not is_traceable_wrapper_subclass(tensor)


def _is_part(tensor: Tensor) -> bool:
    return _is_plain(tensor) and tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()


def _may_overlap(tensor: Any) -> bool:
    """Whether two elements may share memory."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += (size - 1) * stride
    return False
