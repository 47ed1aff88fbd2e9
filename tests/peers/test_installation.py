"""What lrlib.peers needs: nothing is imported before it is used, and peers.lock pins every tool beside the own lock."""

import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

MODULES = ["accelerate", "fastai", "suggest_command", "transformers"]  # lightning has base classes from its tool
TOOLS = ["accelerate", "fastai", "ignite", "lightning", "pytorch_lightning", "torch_lr_finder", "transformers", "monai"]


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_module_imports_its_tool():
    modules = ", ".join(f"lrlib.peers.{module}" for module in MODULES)
    heavy = [*TOOLS, "pandas", "matplotlib", "distributed"]
    code = f"import sys, lrlib, {modules}; lrlib.read([1e-3, 1e-2, 1e-1], [3, 2, 1]).suggest()"
    assert python(f"{code}; print(*[name for name in {heavy} if name in sys.modules])") == ""


def test_a_missing_tool_is_named_with_what_installs_it():
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TOOLS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])
sys.meta_path.insert(0, Missing())
try:
    from lrlib.peers.lightning import Tuner
except ModuleNotFoundError as err:
    print(err)
"""
    assert python(code) == "lrlib.peers.lightning requires Lightning: pip install lightning"


def pins_of(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [Requirement(line) for line in lines]


@pytest.fixture
def pins(root):
    return {canonicalize_name(pin.name): pin for pin in pins_of(root / "peers.lock")}


def test_it_holds_an_exact_version_of_each_tool(root, pins):
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for tool in map(Requirement, extras["peers"]):
        [specifier] = pins[canonicalize_name(tool.name)].specifier
        assert specifier.operator == "==" and Version(specifier.version) in tool.specifier


def test_it_names_no_index_and_no_local_version(root, pins):
    assert not re.search(r"https?:|--(extra-)?index|--find-links|file:", (root / "peers.lock").read_text())
    assert not [name for name, pin in pins.items() if "+" in str(pin.specifier)]


def test_it_installs_nothing_anew_that_the_projects_own_lock_has(root, pins):
    for own in pins_of(root / "requirements.lock"):
        pin = pins.get(canonicalize_name(own.name))
        assert pin is None or (own.marker is not None and pin.specifier == own.specifier), own.name
