"""Optional packages: imported where they are needed, with one sentence where they are missing."""

import importlib
from types import ModuleType


def need(package: str, *, what: str) -> ModuleType:
    """Import an optional package. Raises ModuleNotFoundError that says what requires it and how to install it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as err:
        name = package.partition(".")[0]
        if err.name is None or err.name.partition(".")[0] != name:
            raise
        raise ModuleNotFoundError(f"{what} requires {name}: pip install {name}", name=name) from err
