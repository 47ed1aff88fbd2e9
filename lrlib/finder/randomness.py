"""Random state: of Python, NumPy and torch on each device, and of generators that a user holds."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def seed_everything(seed: int, generators: Iterable[Generator] = ()) -> None:
    """Seed Python, NumPy, torch (each device) and the given generators with one number."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    for generator in generators:
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator):
            bits = type(generator.bit_generator)(seed)
            generator.bit_generator.state = bits.state
        else:
            generator.seed(seed % 2**32)


def generator_state(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate()


def set_generator_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def _device_backends() -> list[Any]:
    """The torch backends with random state of their own that are in use: asking an unused one would start it."""
    backends = [torch.cuda, torch.xpu]
    return [backend for backend in backends if backend.is_available() and backend.is_initialized()]


def random_state() -> tuple[Any, ...]:
    devices = [(backend, backend.get_rng_state_all()) for backend in _device_backends()]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), devices, mps


def set_random_state(state: tuple[Any, ...]) -> None:
    python, numpy, cpu, devices, mps = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    for backend, states in devices:
        backend.set_rng_state_all(states)
    if mps is not None:
        torch.mps.set_rng_state(mps)
