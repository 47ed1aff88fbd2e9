"""A backward pass in which several processes wait for each other's gradients."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

# Known by name, since importing what shards is slow.
SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


class Replicas:
    """The DistributedDataParallel modules of a model; inside `with`, it is seen which gradients have arrived."""

    def __init__(self, model: nn.Module) -> None:
        self._modules: list[Any] = [m for m in model.modules() if _is_a(m, {"DistributedDataParallel"})]
        self._is_sharded = any(_is_a(module, SHARDED) for module in model.modules())
        self._arrived: set[int] = set()
        self._hooks: list[Any] = []

    def __enter__(self) -> None:
        parameters = {p for module in self._modules for p in module.parameters() if p.requires_grad}
        self._hooks = [p.register_post_accumulate_grad_hook(lambda p: self._arrived.add(id(p))) for p in parameters]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def begin(self) -> None:
        """To be called before each backward pass."""
        self._arrived.clear()

    def finish(self, loss: Tensor) -> bool:
        """After a backward pass that raised: send zeros for the gradients that the other processes still wait for.

        Returns whether no process waits any more; nothing can be sent for a model that is sharded.
        """
        if self._is_sharded:
            return False
        used = {id(leaf) for leaf in _leaves(loss)}
        for module in self._modules:
            # An unused parameter is waited for unless the module was told to look for these.
            waiting = [
                p for p in module.parameters()
                if p.requires_grad and id(p) not in self._arrived
                and (id(p) in used or not module.find_unused_parameters)
            ]  # fmt: skip
            if waiting:
                torch.autograd.backward(waiting, [torch.zeros_like(p) for p in waiting])
        return True


def _is_a(module: nn.Module, names: set[str]) -> bool:
    return any(cls.__name__ in names for cls in type(module).__mro__)


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """The leaves of the graph that a loss hangs in."""
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(variable := getattr(node, "variable", None), Tensor):
            yield variable
        waiting.extend(following for following, _ in node.next_functions)
