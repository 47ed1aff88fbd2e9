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
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        else:
            generator.seed(seed % 2**32)


def generator_state(generator: Generator) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def set_generator_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def random_state() -> tuple[Any, ...]:
    """The state of every global generator; None for a device that was not used yet, which asking would initialise."""
    devices = []
    for backend in (torch.cuda, torch.xpu):
        if backend.is_available():
            devices.append((backend, backend.get_rng_state_all() if backend.is_initialized() else None))
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    return random.getstate(), np.random.get_state(), torch.initial_seed(), torch.get_rng_state(), devices, mps


def set_random_state(state: tuple[Any, ...]) -> None:
    python, numpy, initial_seed, cpu, devices, mps = state
    random.setstate(python)
    np.random.set_state(numpy)
    for backend, states in devices:
        if states is None:  # an unused device would have started from the seed that torch had
            backend.manual_seed_all(initial_seed)
        else:
            backend.set_rng_state_all(states)
    torch.set_rng_state(cpu)
    if mps is not None:
        torch.mps.set_rng_state(mps)
