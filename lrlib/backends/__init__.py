"""The ways in which an epoch can be trained, by name.

A backend is a module with `check(processes)`, `describe(processes)`, `train_epoch(state, *, processes, **settings)` and
`evaluate(state, **settings)`; the settings are those of lrlib.training. What `describe` returns, and the code of the
backend's files, stand in the name of every epoch that it trains: results of two backends never mix.
"""

import importlib
from dataclasses import dataclass


class BackendError(Exception):
    """A backend that is not installed, or whose processes failed."""


@dataclass(frozen=True)
class Backend:
    """module: what carries it out. files: those of its code, besides the model's and the loop's, that decide bits."""

    module: str
    files: tuple = ()


BACKENDS = {
    "torch": Backend("lrlib.backends.plain"),
}


def load_backend(name):
    """The module of a backend. Raises ValueError for an unknown name."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    return importlib.import_module(BACKENDS[name].module)
