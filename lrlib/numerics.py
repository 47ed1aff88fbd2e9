"""What decides the bits of a result besides its settings: versions, device, threads, and the training code."""

import ast
import hashlib
import platform
from functools import lru_cache
from pathlib import Path

import torch

from lrlib.backends import BACKENDS, load_backend

# Whatever is computed from these files is computed anew when their code changes.
TRAINING_FILES = ("banded.py", "lenet.py", "preprocessing.py", "training.py")
THREADS = 1


@lru_cache
def describe_numerics(backend="torch", processes=1):
    """The numerics of this process, as plain values that stand in every epoch's name and in the provenance.

    Raises BackendError where the backend is not installed.
    """
    return {
        "torch": torch.__version__,
        "device": "cpu",
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": THREADS,
        "backend": backend,
        "world_size": processes,
        **load_backend(backend).describe(processes),
        "code": code_digest((*TRAINING_FILES, *BACKENDS[backend].files)),
    }


def fix_numerics():
    """Make this process compute in the way that `describe_numerics` says."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory would only make a fault of our own repeatable, and costs time at every step.
    torch.utils.deterministic.fill_uninitialized_memory = False


def code_digest(files=TRAINING_FILES):
    """sha256 over the code of files without comments, docstrings and layout, which change no bit."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(normalize_code((Path(__file__).parent / file).read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def normalize_code(source):
    """Python source without comments, docstrings and layout; what is left is what runs."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)
