"""lrlib: the learning-rate range test, and a re-runnable report on it.

Names are imported when they are first used (PEP 562), so `import lrlib` is fast, and a range test loads nothing of the
report. `make docs` puts the guides beside this reference: [range test](guide-range-test.html) and
[switching from another tool](guide-switching.html).
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrlib import schedules as schedules
    from lrlib import suggest as suggest
    from lrlib.finder.comparing import Overlay as Overlay
    from lrlib.finder.comparing import overlay as overlay
    from lrlib.finder.result import RangeTestResult as RangeTestResult
    from lrlib.finder.sweeps import range_test as range_test
    from lrlib.peers.reading import read as read
    from lrlib.problems.lenet import LeNet5 as LeNet5
    from lrlib.runs.plan import Run as Run
    from lrlib.runs.results import Results as Results
    from lrlib.runs.trainer import train as train

__version__ = "0.2.0"

_MODULES = {
    "Overlay": "lrlib.finder.comparing",
    "RangeTestResult": "lrlib.finder.result",
    "overlay": "lrlib.finder.comparing",
    "range_test": "lrlib.finder.sweeps",
    "read": "lrlib.peers.reading",
    "schedules": None,
    "suggest": None,
}
_OF_THE_REPORT = {
    "LeNet5": "lrlib.problems.lenet",
    "Results": "lrlib.runs.results",
    "Run": "lrlib.runs.plan",
    "train": "lrlib.runs.trainer",
}
# help(lrlib) and `from lrlib import *` import all of these, so the report's are among them where it is installed.
_HAS_REPORT = all(find_spec(package) for package in ("safetensors", "torchvision", "pandas", "scipy"))
__all__ = sorted([*_MODULES, *(_OF_THE_REPORT if _HAS_REPORT else ())])


def __getattr__(name: str) -> object:
    modules = _MODULES | _OF_THE_REPORT
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = modules[name]
    if module is None:
        return importlib.import_module(f"{__name__}.{name}")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as err:
        if err.name is None or err.name.partition(".")[0] == __name__:
            raise
        raise ModuleNotFoundError(
            f"lrlib.{name} requires {err.name}: run pip install '.[report]' in a checkout of lrlib", name=err.name
        ) from err
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
