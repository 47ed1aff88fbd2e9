"""Types: whatever is public says what it takes and returns, and a type checker agrees."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

# Internal: the maker of documents, and compiled code, whose types Numba infers.
INSIDE = ("report/", "training/backends/", "training/kernels/")
MODULES = sorted(path.relative_to(ROOT / "lrlib").as_posix() for path in (ROOT / "lrlib").rglob("*.py"))
MODULES = [module for module in MODULES if not module.startswith(INSIDE)]


def list_untyped(tree):
    """Names of the public functions and methods that lack an annotation."""
    found = []

    def visit(node, name):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                visit(child, f"{name}{child.name}.")
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not child.name.startswith("_"):
                given = child.args.posonlyargs + child.args.args + child.args.kwonlyargs
                given += [a for a in (child.args.vararg, child.args.kwarg) if a]
                lacking = [a.arg for a in given if a.annotation is None and a.arg not in ("self", "cls")]
                if lacking or child.returns is None:
                    found.append(f"{name}{child.name}({', '.join(lacking)})")

    visit(tree, "")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_are_annotated(module):
    assert list_untyped(ast.parse((ROOT / "lrlib" / module).read_text())) == []


def test_a_type_checker_agrees():
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
