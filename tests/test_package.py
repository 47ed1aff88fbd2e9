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
HIDE = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS.split()!r}))\n"
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
    """Runs Python away from the checkout, with the wheel in its path. Returns its status, stdout and stderr."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_wheel_holds_every_file_of_the_package_and_nothing_else(root, wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = [path for path in (root / "lrlib").rglob("*") if path.suffix in (".py", ".csv", ".toml", ".typed")]
    assert names == {path.relative_to(root).as_posix() for path in ours}


def test_a_range_test_needs_no_extra_nor_do_help_and_notebooks_and_what_needs_one_says_which(installed):
    asked = ["result.plot()", "result.to_dataframe()", "lrlib.train([])"]
    code = "from lrlib import *; import lrlib, pydoc; assert 'range_test' in pydoc.render_doc(lrlib); dir(lrlib)"
    code += f"\n{SWEEP}\nassert result._repr_html_() is None"
    code += "".join(f"\ntry:\n    {each}\nexcept ImportError as err:\n    print(err)" for each in asked)
    status, out, err = installed("-c", HIDE + code)
    assert status == 0, err
    assert "suggested lr " in out
    assert "a plot requires matplotlib: pip install matplotlib" in out
    assert "a table requires pandas: pip install pandas" in out
    assert re.search(r"lrlib.train requires .*: run pip install '.\[report\]' in a checkout of lrlib", out)


def call(*arguments):
    return f"{HIDE}\nsys.argv = ['lrlib', *{arguments}]\nfrom lrlib.__main__ import main\nsys.exit(main())"


def test_the_report_needs_its_extra(installed):
    here = "import os; os.environ['LRLIB_ENVIRONMENT'] = '1'"  # a new process would find what is hidden
    status, _, err = installed("-c", f"{here}\n{call('report')}")
    assert (status, err.count("\n")) == (1, 1)
    assert "which is not installed; pip install 'lrlib[report]', and run this in a checkout of lrlib" in err


@pytest.mark.parametrize(
    ("asked", "status", "printed"),
    [([], 0, "suggest "), (["--help"], 0, "suggest "), (["--version"], 0, f"lrlib {__version__}\n"),
     (["sugest"], 2, "did you mean suggest?"), (["train"], 2, "unknown command 'train'; choose one of suggest, ")],
)  # fmt: skip
def test_what_there_is_without_an_extra_is_named(installed, asked, status, printed):
    found, out, err = installed("-c", call(*asked))
    assert (found, printed in (err if status else out), err == "") == (status, True, status == 0)


def test_what_only_a_checkout_can_do_says_so(installed):
    code = "import os, sys\nfrom lrlib.__main__ import main\n"
    for command in ("report", "section 2-2", "publish", "store"):
        code += f"os.environ['LRLIB_ENVIRONMENT'] = '1'\nsys.argv = {['lrlib', *command.split()]}\nprint(main())\n"
    status, out, err = installed("-c", code)
    assert status == 0 and {*out.split()} <= {"1", "2"}, err
    assert err.count("run this in a checkout of lrlib") == err.count("\n") == 4
