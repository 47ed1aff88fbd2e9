"""lrlib: the learning-rate range test, and a report on it that anyone can run again."""

from lrlib import schedules
from lrlib.lenet import LeNet5
from lrlib.runs import Results, Run, train

__version__ = "0.1.0"
__all__ = ["LeNet5", "Results", "Run", "schedules", "train"]
