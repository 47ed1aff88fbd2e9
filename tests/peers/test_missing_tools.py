"""lrlib.peers without the tools: nothing is imported before it is used, and one sentence says what to install."""

import subprocess
import sys

import pytest

ROOMS = ["accelerate", "fastai", "lightning", "transformers"]
TOOLS = ["accelerate", "fastai", "ignite", "lightning", "pytorch_lightning", "torch_lr_finder", "transformers", "monai"]


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_room_imports_its_tool():
    rooms = ", ".join(f"lrlib.peers.{room}" for room in ROOMS)
    assert python(f"import sys, {rooms}; print(*[tool for tool in {TOOLS} if tool in sys.modules])") == ""


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "from lrlib.peers.lightning import Tuner",
            "Tuner stands on Lightning, which needs lightning, which is not installed; pip install lightning",
        ),
        (
            "from lrlib.peers.lightning import LearningRateFinder",
            "LearningRateFinder stands on Lightning, which needs lightning, which is not installed; "
            "pip install lightning",
        ),
    ],
)
def test_a_missing_tool_is_named_with_what_installs_it(line, sentence):
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TOOLS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])
sys.meta_path.insert(0, Missing())
try:
    {line}
except ModuleNotFoundError as err:
    print(err)
"""
    assert python(code) == sentence


def test_a_name_that_is_not_there_is_an_attribute_error():
    code = "import lrlib.peers.lightning as room\ntry: room.Nothing\nexcept AttributeError as err: print(err)"
    assert python(code) == "lrlib.peers has no Nothing for Lightning; it has LearningRateFinder, Tuner"
