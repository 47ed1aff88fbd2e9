"""Optional packages: imported where they are needed, with one sentence where they are missing."""

import importlib
from types import ModuleType


def need(package: str, *, what: str) -> ModuleType:
    """Import an optional package.

    Args:
        package: the module's name, such as "matplotlib.pyplot".
        what: what requires it, as the subject of a sentence.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as err:
        name = package.partition(".")[0]
        if err.name is None or err.name.partition(".")[0] != name:
            raise
        raise ModuleNotFoundError(f"{what} requires {name}: pip install {name}", name=name) from err
