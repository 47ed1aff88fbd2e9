"""The ways in which an epoch can be trained, by name.

A backend is a module, or an object in one, with `check(processes)`, `describe(processes)`,
`train_epoch(state, *, processes, **settings)` and `evaluate(state, **settings)`; the settings are those of
lrlib.training. What `describe` returns, and the code of the backend's files, stand in the name of every epoch that it
trains: results of two backends never mix.
"""

import pkgutil
from dataclasses import dataclass


class BackendError(Exception):
    """A backend that is not installed, or whose processes failed."""


@dataclass(frozen=True)
class Backend:
    """place: what carries it out, as module or module:object.

    files: those of its code, besides the model's and the loop's, that decide bits.
    epochs_at_once: how many epochs one worker process trains at once, each in a thread of its own.
    """

    place: str
    files: tuple = ()
    epochs_at_once: int = 1


BACKENDS = {
    "torch": Backend("lrlib.backends.plain"),
    "cuda": Backend("lrlib.backends.cuda", files=("backends/cuda.py",), epochs_at_once=8),
    "colossalai": Backend("lrlib.backends.colossal:torch_ddp", files=("backends/colossal_rank.py",)),
    "colossalai:LowLevelZeroPlugin": Backend(
        "lrlib.backends.colossal:low_level_zero", files=("backends/colossal_rank.py",)
    ),
}


def load_backend(name):
    """A backend by its name. Raises ValueError for an unknown name."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    return pkgutil.resolve_name(BACKENDS[name].place)
