"""The layers of the package: which folder may import which (the contracts of import-linter in pyproject.toml)."""

import subprocess
import sys

from lrlib import __all__ as public_names

LAYERS = {"finder", "peers", "problems", "report", "reproduction", "runs", "training"}


def test_imports_keep_the_contracts(root):
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_every_folder_is_a_layer(root):
    folders = {path.parent.name for path in (root / "lrlib").glob("*/__init__.py")}
    assert folders == LAYERS


def test_no_module_shares_its_name_with_a_public_function(root):
    modules = {path.stem for path in (root / "lrlib").rglob("*.py")}
    assert not (set(public_names) - {"schedules", "suggest"}) & modules


def test_ruff_agrees(root):
    for arguments in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
