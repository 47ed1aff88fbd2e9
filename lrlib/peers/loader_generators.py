"""Random generators that a tool's own code uses around a sweep."""

from typing import Any

from torch.utils._pytree import tree_leaves

from lrlib.finder.randomness import GENERATORS, Generator, generator_state


def generator_states(loaders: Any) -> list[tuple[Generator, Any]]:
    """The random generators of loaders, in whatever containers, and of their samplers, each with its state now."""
    found = []
    for loader in tree_leaves(loaders):
        for owner in (loader, getattr(loader, "sampler", None)):
            generators = [value for value in getattr(owner, "__dict__", {}).values() if isinstance(value, GENERATORS)]
            found += [(generator, generator_state(generator)) for generator in generators]
    return found
