"""What decides the bits of a result besides its settings: versions, device, threads, and the training code."""

import ast
import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

# Whatever is trained is trained anew when the code of these files changes, or that of its problem's files.
TRAINING_FILES = ("training/epoch.py", "training/optimizers.py")
THREADS = 1
PACKAGE = Path(__file__).resolve().parent.parent


def fix_numerics() -> None:
    """Make this process compute in the way that `describe_numerics` says."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory would only make a fault of our own repeatable, and costs time at every step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def code_digest(files: Sequence[str] = TRAINING_FILES) -> str:
    """sha256 over the code of files without comments, docstrings and layout, which change no bit."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(normalize_code((PACKAGE / file).read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def normalize_code(source: str) -> str:
    """Python source without comments, docstrings and layout; what is left is what runs."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)
