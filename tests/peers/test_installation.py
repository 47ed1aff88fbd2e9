"""What a suggestion and lrlib.peers need: nothing is imported before it is used."""

import importlib
import subprocess
import sys

import pytest
from test_reading import curve, write

HEAVY = "pandas matplotlib seaborn scipy distributed dask torchvision PIL papermill IPython accelerate fastai ignite"
HEAVY += " lightning pytorch_lightning torch_lr_finder transformers monai"
USE = f"""
import sys, lrlib
assert {{*lrlib.__all__}} <= {{*dir(lrlib)}} and not hasattr(lrlib, "nothing")  # before they are imported
import lrlib.peers.accelerate, lrlib.peers.fastai, lrlib.peers.transformers  # lightning's has its tool's base classes
from lrlib.__main__ import main
lrlib.range_test
lrlib.read([1e-3, 1e-2, 1e-1], [3, 2, 1]).suggest()
assert main() == 0
print(*[name for name in {HEAVY.split()} if name in sys.modules])
"""


def test_no_module_imports_its_tool_and_nothing_loads_what_the_report_needs(tmp_path):
    command = [sys.executable, "-c", USE, "suggest", str(write(tmp_path / "a.csv", *curve()))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "learning rates from lr" in done.stdout and done.stdout.splitlines()[-1] == ""


def test_a_missing_tool_is_named_with_what_installs_it(monkeypatch):
    for name in ("lrlib.peers.lightning", "lightning.pytorch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("lightning", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match="lrlib.peers.lightning requires Lightning: pip install lightning"):
        importlib.import_module("lrlib.peers.lightning")
