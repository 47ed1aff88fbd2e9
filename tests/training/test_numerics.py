import hashlib
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from lrlib import Run
from lrlib.problems.registry import load_data
from lrlib.schedules import Constant
from lrlib.training.numerics import code_digest, fixed_numerics, import_closure, normalize_code
from lrlib.training.registry import describe_numerics, name_numerics


def test_a_digest_ignores_layout_comments_docstrings_and_what_is_raised_and_nothing_else():
    code = 'def f(x):\n    """Doc."""\n    raise E(f"{x}")\n    return {"a": f"""{x!r:>{3}}\n\n# b"""}  # comment\n'
    same = '\n\ndef f( x ):\n    "Größe"\n    raise F from (\n1)\n    return {\n  "a":f"""{x!r:>{3}}\n\n# b"""\n    }\n'
    assert normalize_code(code) == normalize_code(same)
    changed = [code.replace("b", "c"), code.replace("3", "4"), code.replace("    return", "    if x:\n        return")]
    changed += [code.replace("f(x)", "f(x, /)"), code.replace('"""Doc."""', 'x = """Doc."""'), code.replace("!r", "!s")]
    changed += [code.replace("\n\n#", "\n#"), code.replace("    raise", "    if x: raise")]
    assert len({normalize_code(each) for each in [code, *changed]}) == 9
    assert normalize_code('x = f(""); raise E("ä"); y = 1') != normalize_code('x = f(""); raise E("ä"); y = 2')
    try_it = "try:\n a()\nexcept E:\n "
    places = [
        "if x: raise E\ny = 1\n",
        "if x: y = 1\n",
        "if x:\n y = 1\nraise A\n",
        "if x:\n raise A\ny = 1\nraise A\n",
    ]
    places += [f"{try_it}b()\n raise\n", f"{try_it}b()\n", f"{try_it}raise\n"]
    assert len({normalize_code(each) for each in places}) == len(places)


def test_long_chains_have_a_digest():
    for deep in ("x = " + "a + " * 2000 + "a", "if a: b\n" + "elif a: b\n" * 900):
        assert len(normalize_code(deep)) > 2000


def test_code_has_one_digest_in_every_version():
    source = 'class A:\n    def f(self, y, w):\n        return f"ä{{b}} {y!r:>{w}}" f"""{f\'{y}\'}"""\n'
    assert hashlib.sha256(normalize_code(source).encode()).hexdigest()[:16] == "dbb9b1f98117c778"


def test_the_import_closure_follows_every_import_and_leaves_out_what_is_installed(tmp_path, monkeypatch):
    package = tmp_path / "closure_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "start.py").write_text(
        "import numpy as np\nfrom . import near\ndef f():\n    import far_module.deep as d\n"
        "from lrlib import suggest, Run as R\n"
    )
    (package / "near.py").write_text("from lrlib.problems import lenet\n")
    (tmp_path / "far_module").mkdir()
    (tmp_path / "far_module" / "deep.py").write_text("from closure_package.start import f\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = import_closure("closure_package.start")
    assert found.keys() >= {
        "closure_package", "closure_package.start", "closure_package.near", "far_module.deep", "lrlib.problems",
        "lrlib.problems.lenet", "lrlib.suggest", "lrlib.runs.plan", "lrlib.schedules", "lrlib.training.optimizers",
        "lrlib.training.kernels.lanes",
    }  # fmt: skip
    assert not {name.partition(".")[0] for name in found} - {"closure_package", "far_module", "lrlib"}
    assert not found.keys() & {"lrlib", "lrlib.finder.sweeps", "closure_package.start.f"}
    assert "closure_package" not in sys.modules and "far_module" not in sys.modules


def test_code_that_changes_renames_the_epochs_of_the_problem_that_imports_it(tmp_path, monkeypatch):
    (tmp_path / "one_problem.py").write_text("import one_helper\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(code):
        (tmp_path / "one_helper.py").write_text(code)
        code_digest.cache_clear()
        return describe_numerics(problem="one_problem:x")["code"]

    assert digest("x = 1\n") == digest("x = 1  # the same\n") != digest("x = 2\n")


RUN = Run(Constant(0.1), problem="lenet5_sample", batch_size=32, backend="torch")
FINGERPRINT = """
from lrlib import Run
from lrlib.problems.registry import load_data
from lrlib.schedules import Constant
from lrlib.training.registry import name_numerics
print(name_numerics({run!r}, load_data({run.problem!r}))["fingerprint"])
"""


def take_fingerprint(**environment):
    command = [sys.executable, "-c", FINGERPRINT.format(run=RUN)]
    environment |= {"PATH": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_the_fingerprint_is_that_of_every_process_and_not_that_of_other_kernels():
    here = name_numerics(RUN, load_data("lenet5_sample"))["fingerprint"]
    assert take_fingerprint() == here
    assert take_fingerprint(MKL_CBWR="COMPATIBLE", ONEDNN_MAX_CPU_ISA="SSE41", ATEN_CPU_CAPABILITY="default") != here


def test_numerics_are_as_before_after_an_error():
    def read():
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state().sum()

    before = read()
    with pytest.raises(KeyError), fixed_numerics(1):
        assert read()[:2] == (1, True)
        raise KeyError(torch.rand(1))
    assert read() == before
