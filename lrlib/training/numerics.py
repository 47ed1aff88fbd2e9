"""What decides the bits of a result besides its settings and data: the code, and how the process computes."""

import ast
import contextlib
import hashlib
import importlib.util
import io
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import torch

from lrlib import _MODULES, _OF_THE_REPORT

THREADS = 1
# Modules that decide no bit: data is known by its digest, whatever reads it.
_APART = {"lrlib.errors", "lrlib.project", "lrlib.problems.data", "lrlib.problems.preprocessing"}


def fix_numerics() -> None:
    """Have this process compute on one thread with deterministic algorithms."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory would only make a fault of our own repeatable, and costs time at every step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def fixed_numerics() -> Iterator[None]:
    """`fix_numerics`, and afterwards as before."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    fix_numerics()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
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
        if name in found or name in _APART or (path := _find_source(name)) is None:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                waiting.extend(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                names = [alias.name for alias in node.names]
                waiting.extend(f"{base}.{name}" for name in names)
                # lrlib imports a public name's module when the name is used.
                public = map((_MODULES | _OF_THE_REPORT).get, names)
                waiting.extend(filter(None, public) if base == "lrlib" else [base])
    return found


def _find_source(name):
    """The file of a module; None for an installed one and for what is no module. Nothing is imported."""
    package, *rest = name.split(".")
    for place in _find_places(package):
        path = Path(place, *rest)
        for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py") if rest else path):
            if candidate.suffix == ".py" and candidate.is_file():
                return candidate
    return None


@lru_cache
def _find_places(package):
    """Where a top-level module is, as file or folders; nowhere if it is installed and not lrlib."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # __main__
        return []
    places = [*(spec.submodule_search_locations or [spec.origin or ""])] if spec else []
    stdlib = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib"))
    installed = {"site-packages", "dist-packages"}
    is_installed = any(place.startswith(stdlib) or installed & set(Path(place).parts) for place in places)
    return places if package == "lrlib" or not is_installed else []


def normalize_code(source: str) -> str:
    """Return the tokens of Python source, one a line, without what changes no bit.

    That is comments, docstrings, blank lines and what is raised. Every version of Python gives the same tokens.
    """
    starts = [0, *accumulate(map(len, io.StringIO(source)))]
    left_out = []  # (first, last) offsets
    for node in ast.walk(ast.parse(source)):
        apart: ast.stmt | None = node if isinstance(node, ast.Raise) else None
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            apart = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
        if apart is not None:
            last = starts[(apart.end_lineno or 0) - 1] + (apart.end_col_offset or 0)
            left_out.append((starts[apart.lineno - 1] + apart.col_offset, last))
    tokens, string_start, depth = [], 0, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        start, end = (starts[line - 1] + column for line, column in (token.start, token.end))
        # Python 3.12 and later split f-strings into tokens; here they stay whole, as in 3.11.
        if kind.endswith("STRING_START"):
            string_start, depth = (string_start if depth else start), depth + 1
            continue
        if kind.endswith("STRING_END"):
            depth -= 1
            start = string_start
        is_text = kind not in ("INDENT", "DEDENT", "NEWLINE")
        if depth or kind in ("COMMENT", "NL", "ENDMARKER"):
            continue
        if not (is_text and any(first <= start < last for first, last in left_out)):
            tokens.append(source[start:end] if is_text else kind)
    return "\n".join(tokens)
