"""Packages that only some of a result needs: a plot, a table."""

import importlib
from types import ModuleType


def need(package: str, *, what: str, extra: str) -> ModuleType:
    """Import a package that is in an extra of lrlib.

    what: what needs it, as the subject of a sentence. Raises ModuleNotFoundError, one sentence with the command that
    installs the extra, where the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as err:
        name = package.partition(".")[0]
        if err.name is None or err.name.partition(".")[0] != name:
            raise
        raise ModuleNotFoundError(
            f"{what} needs {name}, which is not installed; pip install 'lrlib[{extra}]'", name=name
        ) from err
