"""What decides the bits of a result besides its settings and data: the code, and how the process computes."""

import ast
import contextlib
import hashlib
import importlib.util
import sysconfig
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

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
    installed = {"site-packages", "dist-packages"}
    is_installed = any(place.startswith(stdlib) or installed & set(Path(place).parts) for place in places)
    return spec if name == "lrlib" or not is_installed else None


def normalize_code(source: str) -> str:
    """Return the syntax tree of Python source as text, without what changes no bit.

    That is layout, comments, docstrings and what is raised. Every version of Python gives the same text.
    """
    written, waiting = list[str](), list[Any]([ast.parse(source)])
    while waiting:  # not by recursion: a long chain of `elif` is a deep tree
        node = waiting.pop()
        if isinstance(node, list):
            written.append(f"list {len(node)}")
            waiting += reversed(node)
        elif isinstance(node, ast.Raise):
            written.append("Raise")
        elif isinstance(node, ast.AST):
            # Empty fields are left out, since later versions add fields that earlier code leaves empty.
            fields = {name: value for name, value in ast.iter_fields(node) if value or name == "value"}
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
                fields["body"] = node.body[1:]
            if isinstance(node, ast.JoinedStr):  # early versions of Python 3.12 add empty strings
                fields["values"] = [each for each in node.values if getattr(each, "value", None) != ""]
            written.append(" ".join([type(node).__name__, *fields]))
            waiting += reversed(fields.values())
        else:
            written.append(ascii(node))
    return "\n".join(written)
