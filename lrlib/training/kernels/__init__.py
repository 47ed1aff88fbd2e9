"""LeNet-5's training step as compiled code. Importing this package does not import Numba; `load_kernels` does."""

import contextlib
import importlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from lrlib.project import store_folder
from lrlib.training.numerics import code_digest

FILES = ("training/kernels/lanes.py", "training/kernels/lenet.py")


@lru_cache
def load_kernels() -> ModuleType:
    """Return lrlib.training.kernels.lenet, with `cache_folder()` as Numba's cache. Raises ImportError without Numba."""
    with _cached_in(cache_folder()):
        return importlib.import_module("lrlib.training.kernels.lenet")


def cache_folder() -> Path:
    """Return the folder of the compiled code, in the store's folder.

    Its name is the sources' digest, since Numba does not notice an edit of an imported file.
    """
    return store_folder() / "kernels" / code_digest(FILES)


@contextlib.contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    from numba import config

    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before
