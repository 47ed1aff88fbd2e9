"""lrlib: the learning-rate range test, and a report on it that anyone can run again."""

from lrlib import schedules, suggest
from lrlib.lenet import LeNet5
from lrlib.range_test import overlay, range_test
from lrlib.range_test_result import Overlay, RangeTestResult
from lrlib.runs import Results, Run, train

__version__ = "0.1.0"
__all__ = [
    "LeNet5",
    "Overlay",
    "RangeTestResult",
    "Results",
    "Run",
    "overlay",
    "range_test",
    "schedules",
    "suggest",
    "train",
]
