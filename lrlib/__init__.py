"""lrlib: the learning-rate range test, and a report on it that anyone can run again.

A name is imported when it is asked for (PEP 562), so that `import lrlib` costs nothing and who only wants the range
test loads nothing else.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrlib import schedules as schedules
    from lrlib import suggest as suggest
    from lrlib.finder.critical import critical_lr as critical_lr
    from lrlib.finder.result import Overlay as Overlay
    from lrlib.finder.result import RangeTestResult as RangeTestResult
    from lrlib.finder.sweeps import overlay as overlay
    from lrlib.finder.sweeps import range_test as range_test
    from lrlib.peers.reading import read as read
    from lrlib.problems.lenet import LeNet5 as LeNet5
    from lrlib.runs.plan import Run as Run
    from lrlib.runs.results import Results as Results
    from lrlib.runs.trainer import train as train

__version__ = "0.1.0"

_PLACES = {
    "LeNet5": "lrlib.problems.lenet",
    "Overlay": "lrlib.finder.result",
    "RangeTestResult": "lrlib.finder.result",
    "critical_lr": "lrlib.finder.critical",
    "Results": "lrlib.runs.results",
    "Run": "lrlib.runs.plan",
    "overlay": "lrlib.finder.sweeps",
    "range_test": "lrlib.finder.sweeps",
    "read": "lrlib.peers.reading",
    "schedules": None,
    "suggest": None,
    "train": "lrlib.runs.trainer",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = _PLACES[name]
    if place is None:
        return importlib.import_module(f"{__name__}.{name}")
    try:
        found = getattr(importlib.import_module(place), name)
    except ModuleNotFoundError as err:
        if err.name is None or err.name.partition(".")[0] == __name__:
            raise
        raise ModuleNotFoundError(
            f"lrlib.{name} needs {err.name}, which is not installed; pip install 'lrlib[report]'", name=err.name
        ) from err
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
