"""Problems by name: the package's own, and any other as "module:name"."""

import difflib
import importlib
from dataclasses import replace
from functools import lru_cache

from lrlib.problems.data import VALIDATION
from lrlib.problems.lenet import make_problem
from lrlib.problems.problem import Problem

DEFAULT = "lenet5_mnist"
NAMES = tuple(
    f"{name}{ending}" for name in ("lenet5_mnist", "lenet5_fashion", "lenet5_sample") for ending in ("", VALIDATION)
)


@lru_cache
def load_problem(name: str) -> Problem:
    """Return a problem by its name.

    Args:
        name: One of `NAMES`, or "module:name" of a `Problem` that workers can import, such as "my_package.problems:wide".

    Raises:
        ValueError: The name is unknown, or it does not lead to a `Problem`.
    """
    if name in NAMES:
        return make_problem(name)
    module, _, attribute = str(name).partition(":")
    if not attribute:
        nearest = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0)[0]
        raise ValueError(
            f"problem must be one of {', '.join(NAMES)}, or 'module:name' of a Problem, got {name!r}; "
            f"the nearest is {nearest!r}"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as err:
        raise ValueError(f"problem {name!r}: there is no module {err.name!r}; check the name and sys.path") from err
    if not isinstance(found, Problem):
        raise ValueError(f"problem {name!r} must be a Problem, got {type(found).__name__}")
    return replace(found, name=name)
