"""The package as installed: a wheel with all that it needs, which says what only a checkout or an extra can do."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

from lrlib import __version__

# What a range test does without: every package of the extras that it might reach for.
EXTRAS = "pandas matplotlib seaborn scipy distributed dask torchvision PIL papermill nbformat jupyter_client psutil"
HIDE = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in {EXTRAS.split()!r}
        return None if hidden else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
SWEEP = """
import torch, lrlib
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
batches = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(4)]
loss_fn = torch.nn.functional.mse_loss
result = lrlib.range_test(model, optimizer, loss_fn, batches, num_iter=60, repeats=2, progress=False)
print(result)
result.suggest()
result.save("sweep.json")
assert lrlib.RangeTestResult.load("sweep.json") == result
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "lrlib", folder / "source" / "lrlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), "source"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture
def installed(wheel, tmp_path):
    """Runs Python away from the checkout, with the wheel's content in its path."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path / "elsewhere",
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )

    return run


def test_a_wheel_holds_every_file_of_the_package_and_nothing_else(root, wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = [
        path
        for path in (root / "lrlib").rglob("*")
        if path.suffix in (".py", ".csv", ".toml") or path.name == "py.typed"
    ]
    assert names == {path.relative_to(root).as_posix() for path in ours}


def test_a_range_test_needs_no_extra(installed):
    done = installed("-c", HIDE + SWEEP)
    assert done.returncode == 0, done.stderr
    assert "suggested lr " in done.stdout


def test_names_help_and_notebooks_work_without_an_extra(installed):
    code = "from lrlib import *; import lrlib, pydoc; assert 'range_test' in pydoc.render_doc(lrlib); dir(lrlib)"
    done = installed("-c", f"{HIDE}{code}\n{SWEEP}\nassert result._repr_html_() is None")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("result.plot()", "a plot requires matplotlib: pip install matplotlib"),
        ("result.to_dataframe()", "a table requires pandas: pip install pandas"),
        ("lrlib.train([])", r"lrlib.train requires .*: run pip install '.\[report\]' in a checkout of lrlib"),
    ],
)
def test_what_needs_an_extra_says_which(installed, asked, sentence):
    done = installed("-c", f"{HIDE}{SWEEP}\ntry:\n    {asked}\nexcept ImportError as err:\n    print(err)")
    assert done.returncode == 0, done.stderr
    assert re.search(sentence, done.stdout)


def test_the_report_needs_its_extra(installed):
    here = "import os, sys; os.environ['LRLIB_ENVIRONMENT'] = '1'"  # a new process would find what is hidden
    code = f"{HIDE}\n{here}; sys.argv = ['lrlib', 'report']\nfrom lrlib.__main__ import main\nsys.exit(main())"
    done = installed("-c", code)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "which is not installed; pip install 'lrlib[report]', and run this in a checkout of lrlib" in done.stderr


@pytest.mark.parametrize(
    ("asked", "status", "printed"),
    [([], 0, "suggest "), (["--help"], 0, "suggest "), (["--version"], 0, f"lrlib {__version__}\n"),
     (["sugest"], 2, "did you mean suggest?"), (["train"], 2, "unknown command 'train'; choose one of suggest, ")],
)  # fmt: skip
def test_what_there_is_without_an_extra_is_named(installed, asked, status, printed):
    done = installed("-c", f"{HIDE}\nsys.argv = ['lrlib', *{asked}]\nfrom lrlib.__main__ import main\nsys.exit(main())")
    assert (done.returncode, printed in (done.stderr if status else done.stdout)) == (status, True)
    assert (done.stderr == "") == (status == 0)


@pytest.mark.parametrize("command", [["report"], ["section", "2-2"], ["publish"], ["store"]])
def test_what_only_a_checkout_can_do_says_so(installed, command):
    done = installed("-m", "lrlib", *command)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert "run this in a checkout of lrlib" in done.stderr
