"""lrlib.peers without the tools: nothing is imported before it is used, and one sentence says what to install."""

import subprocess
import sys

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
