"""Names that stand on a tool, which is imported when one of them is asked for."""

import importlib
from typing import Any


def from_tool(room: str, name: str, names: tuple[str, ...], *, tool: str, package: str) -> Any:
    """The room's object of that name.

    names: those that there are. tool, package: what is missing, and what to install, where the room cannot be
    imported. Raises AttributeError for another name, ModuleNotFoundError, one sentence, where the tool is missing.
    """
    if name not in names:
        raise AttributeError(f"lrlib.peers has no {name} for {tool}; it has {', '.join(names)}")
    try:
        return getattr(importlib.import_module(room), name)
    except ModuleNotFoundError as err:
        if err.name is None or err.name.partition(".")[0] == "lrlib":
            raise
        raise ModuleNotFoundError(
            f"{name} stands on {tool}, which needs {err.name}, which is not installed; pip install {package}",
            name=err.name,
        ) from err
