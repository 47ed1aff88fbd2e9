"""What decides the bits of a result besides its settings and data: the code, and how the process computes."""

import ast
import contextlib
import hashlib
import importlib.util
import io
import sysconfig
import threading
import tokenize
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import PathFinder
from itertools import accumulate
from pathlib import Path

import torch

from lrlib import _MODULES, _OF_THE_REPORT

THREADS = 1
# Modules that decide no bit: data is known by its digest, whatever reads it.
_APART = {"lrlib.errors", "lrlib.project", "lrlib.problems.data"}
_alone = threading.RLock()


@contextlib.contextmanager
def fixed_numerics(seed: int = 0) -> Iterator[None]:
    """Compute on one thread, by deterministic algorithms and random numbers of a seed; afterwards as before.

    These are settings of the process, so of several threads one at a time is let in.
    """
    with _alone, torch.random.fork_rng(devices=[]):
        threads, debug_mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
        fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        torch.manual_seed(seed)
        torch.set_num_threads(THREADS)
        torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import torch's compiler
        # Filling fresh memory would only make a fault of our own repeatable, and costs time at every step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(debug_mode)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@lru_cache
def code_digest(*modules: str) -> str:
    """Return a digest of `normalize_code` of the import closure of modules."""
    digest = hashlib.sha256()
    for name, path in sorted(import_closure(*modules).items()):
        digest.update(f"{name}\n{normalize_code(path.read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()[:16]


def import_closure(*modules: str) -> dict[str, Path]:
    """Return name -> file of modules and of all that they import, directly or not; installed packages are left out.

    Imports are read from the source, those inside functions too. lrlib is never left out, but for _APART.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        spec = None if name in found or name in _APART else _find_spec(name)
        if spec is None or not (spec.origin or "").endswith(".py"):
            continue
        found[name] = Path(spec.origin)
        for node in ast.walk(ast.parse(found[name].read_bytes())):
            if isinstance(node, ast.Import):
                waiting.extend(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), spec.parent)
                names = [alias.name for alias in node.names]
                waiting.extend(f"{base}.{name}" for name in names)
                # lrlib imports a public name's module when the name is used.
                public = map((_MODULES | _OF_THE_REPORT).get, names)
                waiting.extend(filter(None, public) if base == "lrlib" else [base])
    return found


@lru_cache
def _find_spec(name):
    """The spec of a module of lrlib or of one that is not installed; None for any other. Nothing is imported."""
    package = name.rpartition(".")[0]
    if package:
        above = _find_spec(package)
        folders = above and above.submodule_search_locations
        return PathFinder.find_spec(name, folders) if folders else None
    if name == "__main__" or (spec := importlib.util.find_spec(name)) is None:
        return None
    stdlib = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib"))
    places = spec.submodule_search_locations or [spec.origin or ""]
    is_installed = any(
        place.startswith(stdlib) or {"site-packages", "dist-packages"} & set(Path(place).parts) for place in places
    )
    return spec if name == "lrlib" or not is_installed else None


def normalize_code(source: str) -> str:
    """Return the tokens of Python source, one a line, without what changes no bit.

    That is layout, comments, docstrings and what is raised. Every version of Python gives the same tokens.
    """
    lines = io.StringIO(source).readlines()
    starts = [0, *accumulate(map(len, lines))]

    def find_offset(line, column):  # ast counts bytes
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    apart = []  # (first, last) offsets
    for node in ast.walk(ast.parse(source)):
        statement: ast.stmt | None = node if isinstance(node, ast.Raise) else None
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            statement = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
        if statement is not None:
            first = find_offset(statement.lineno, statement.col_offset)
            apart.append((first, find_offset(statement.end_lineno, statement.end_col_offset)))
    tokens: list[str] = []
    depth, after = 0, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        start, end = (starts[line - 1] + column for line, column in (token.start, token.end))
        is_apart = any(first <= start < last for first, last in apart)
        if depth and not is_apart:  # Python 3.12 and later split an f-string; it stays one token, as in 3.11
            tokens[-1] += source[after:end]
        elif not is_apart and kind not in ("COMMENT", "NL", "ENDMARKER"):
            tokens.append(kind if kind in ("INDENT", "DEDENT", "NEWLINE") else source[start:end])
        depth += kind.endswith("STRING_START") - kind.endswith("STRING_END")
        after = end
    return "\n".join(tokens)
