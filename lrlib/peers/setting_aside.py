"""What a tool's own code changes around a sweep, and what is put back after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._pytree import tree_leaves

from lrlib.finder.randomness import GENERATORS, Generator, generator_state


@contextmanager
def above_zero(optimizer: Any) -> Iterator[None]:
    """Where a scheduler holds a rate at zero (a warm-up's first, a decay's last), groups have their base rates."""
    lrs = [group["lr"] for group in optimizer.param_groups]
    if not all(map(float, lrs)):
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])
    try:
        yield
    finally:
        for group, lr in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr


def generator_states(loaders: Any) -> list[tuple[Generator, Any]]:
    """The random generators of loaders, in whatever containers, and of their samplers, each with its state now."""
    found = []
    for loader in tree_leaves(loaders):
        for owner in (loader, getattr(loader, "sampler", None)):
            generators = [value for value in getattr(owner, "__dict__", {}).values() if isinstance(value, GENERATORS)]
            found += [(generator, generator_state(generator)) for generator in generators]
    return found
