"""Source code and documentation of Python's standard library as sequences of characters. Part of its epochs' names.

The text is that of the Python which runs, so another Python's is other data.
"""

import sysconfig
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from lrlib.problems.data import DatasetMissing
from lrlib.problems.problem import Data

N_CHARACTERS = 128  # ASCII; every byte beyond is the last of them
LENGTH = 64
N_BYTES = 2_000_000
N_TEST = 512  # sequences; enough for the loss to be known within a percent
CODE, PROSE = "*.py", "pydoc_data/topics.py"


@lru_cache
def cut_text(pattern: str) -> tuple[Tensor, Tensor]:
    """Training and test sequences, uint8 (n, LENGTH + 1): for testing the last tenth, or N_TEST of them."""
    text = b"\n".join(path.read_bytes() for path in sorted(_folder().glob(pattern)))[:N_BYTES]
    if len(text) < 100 * (LENGTH + 1):
        raise DatasetMissing(
            f"Python's standard library has no source code at {_folder() / pattern}; "
            "run lrlib with a Python that brings it, such as Debian's python3 or python.org's"
        )
    characters = torch.frombuffer(bytearray(text), dtype=torch.uint8).clamp(max=N_CHARACTERS - 1)
    sequences = characters[: len(text) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    n_test = min(N_TEST, len(sequences) // 10)
    return sequences[:-n_test], sequences[-n_test:]


def load_text(pattern: str, before: str | None = None) -> Data:
    """Sequences, and one character later the same as targets. before: the pattern of what was trained on before."""
    train, test = (split_targets(sequences) for sequences in cut_text(pattern))
    return Data(train, test, split_targets(cut_text(before)[0]) if before else None)


def split_targets(sequences: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 (n, LENGTH + 1) -> inputs and targets (n, LENGTH)."""
    return sequences[:, :-1].contiguous(), sequences[:, 1:].contiguous()


def _folder() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])
