"""LeNet-5's training step as compiled code. Importing this package does not import Numba; `load_kernels` does."""

import os
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from lrlib.project import store_folder
from lrlib.training.numerics import code_digest

FOLDER = "LRLIB_KERNELS"  # the environment variable that tells workers where the kernels have been compiled


@lru_cache
def load_kernels() -> ModuleType:
    """Return lrlib.training.kernels.lenet, with `cache_folder()` as Numba's cache. Raises ImportError without Numba."""
    from numba import config as numba_config

    config: Any = numba_config

    before, config.CACHE_DIR = config.CACHE_DIR, str(cache_folder())
    try:
        from lrlib.training.kernels import lenet  # here, where Numba looks for its cache; `code_digest` follows it

        return lenet
    finally:
        config.CACHE_DIR = before


def cache_folder() -> Path:
    """Return the folder of the compiled code; its name holds the sources' digest, since Numba misses their edits."""
    return Path(os.environ.get(FOLDER) or store_folder() / "kernels") / code_digest("lrlib.training.kernels.lenet")
