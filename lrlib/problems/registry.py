"""Problems by name: the package's own, and any other as "module:name"."""

import importlib
from dataclasses import replace
from functools import lru_cache

from lrlib.problems.data import Data
from lrlib.problems.problem import Problem

DEFAULT = "lenet5_mnist"
NAMES = (DEFAULT, "lenet5_fashion", "lenet5_sample")


def find_module(name: str) -> str:
    """Return the module of a problem's name. Raises ValueError for an unknown one."""
    module, _, attribute = str(name).partition(":")
    if name in NAMES:
        return "lrlib.problems.lenet"
    if not attribute:
        raise ValueError(f"problem must be one of {', '.join(NAMES)}, or 'module:name' of a Problem, got {name!r}")
    return module


@lru_cache
def load_problem(name: str) -> Problem:
    """Return a problem by its name.

    Args:
        name: One of `NAMES`, or "module:name" of a `Problem` that can be imported, such as "my_package.problems:wide".

    Raises:
        ValueError: The name is unknown, or it does not lead to a `Problem`.
    """
    try:
        module = importlib.import_module(find_module(name))
    except ModuleNotFoundError as err:
        raise ValueError(f"problem {name!r}: there is no module {err.name!r}; check the name and sys.path") from err
    found = getattr(module, name.rpartition(":")[2], None)
    if not isinstance(found, Problem):
        raise ValueError(f"problem {name!r} must be a Problem, got {type(found).__name__}")
    return replace(found, name=name)


@lru_cache(maxsize=4)
def load_data(name: str) -> Data:
    """Return the data of a problem, loaded once a process. Raises DatasetError where it is unavailable."""
    return load_problem(name).load_data()
