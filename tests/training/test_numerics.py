import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from lrlib.problems.registry import load_data
from lrlib.training.compute import Settings
from lrlib.training.numerics import code_digest, fixed_numerics, import_closure, normalize_code
from lrlib.training.registry import describe_numerics, name_numerics


def test_a_digest_ignores_comments_docstrings_layout_and_what_is_raised_and_nothing_else():
    code = 'def f(x):\n    """Doc."""\n    raise E(f"{x}")\n    return {"a": f"{x!r:>{3}} b"}  # comment\n'
    same = "\n\ndef f( x ):\n    'Other doc.'\n    raise F from (\n1)\n    return {\n        'a': f\"{x!r:>{3}} b\"}\n"
    same = same.replace("'a'", '"a"')
    assert normalize_code(code) == normalize_code(same)
    changed = [code.replace("b", "c"), code.replace("3", "4"), code.replace("    return", "    if x:\n        return")]
    changed += [code.replace("f(x)", "f(x, /)"), code.replace('"""Doc."""', 'x = """Doc."""'), code.replace("!r", "!s")]
    assert len({normalize_code(each) for each in [code, *changed]}) == 7


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has f-strings as one token")
def test_an_f_string_is_one_token_in_every_version():
    source = 'x = f"a{{b}} {y!r:>{w}} {f\'{z}\'}" f"""c\n{y}"""\n'
    assert normalize_code(source).split("\nNEWLINE")[0] == 'x\n=\nf"a{{b}} {y!r:>{w}} {f\'{z}\'}"\nf"""c\n{y}"""'


def test_the_import_closure_follows_every_import_and_leaves_out_what_is_installed(tmp_path, monkeypatch):
    package = tmp_path / "closure_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "start.py").write_text(
        "import numpy as np\nfrom . import near\ndef f():\n    import far_module.deep as d\n"
        "from lrlib import suggest, Run as R\n"
    )
    (package / "near.py").write_text("from lrlib.problems import losses\n")
    (tmp_path / "far_module").mkdir()
    (tmp_path / "far_module" / "deep.py").write_text("from closure_package.start import f\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = import_closure("closure_package.start")
    assert found.keys() >= {
        "closure_package", "closure_package.start", "closure_package.near", "far_module.deep", "lrlib.problems",
        "lrlib.problems.losses", "lrlib.suggest", "lrlib.runs.plan", "lrlib.schedules",
    }  # fmt: skip
    assert not {name.partition(".")[0] for name in found} - {"closure_package", "far_module", "lrlib"}
    assert not found.keys() & {"lrlib", "lrlib.finder.sweeps", "closure_package.start.f"}
    assert "closure_package" not in sys.modules and "far_module" not in sys.modules


def test_the_closure_of_lenet_holds_what_decides_its_bits():
    found = import_closure("lrlib.training.compute", "lrlib.training.backends.plain", "lrlib.problems.lenet")
    wanted = {"problems.lenet", "problems.losses", "problems.problem", "problems.registry", "training.epoch"}
    assert found.keys() >= {f"lrlib.{name}" for name in wanted | {"training.optimizers", "training.compute"}}


def test_code_that_changes_renames_the_epochs_of_the_problem_that_imports_it(tmp_path, monkeypatch):
    (tmp_path / "one_problem.py").write_text("import one_helper\n")
    (tmp_path / "one_helper.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest():
        code_digest.cache_clear()
        return describe_numerics(problem="one_problem:x")["code"]

    before = digest()
    (tmp_path / "one_helper.py").write_text("x = 1  # the same\n")
    assert digest() == before
    (tmp_path / "one_helper.py").write_text("x = 2\n")
    assert digest() != before


SETTINGS = Settings("lenet5_sample", 0, "sgd", 32, 5e-4, "torch", 1)
FINGERPRINT = """
from lrlib.problems.registry import load_data
from lrlib.training.registry import name_numerics
from lrlib.training.compute import Settings
print(name_numerics({settings!r}, load_data({settings.problem!r}))["fingerprint"])
"""


def take_fingerprint(**environment):
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT.format(settings=SETTINGS)],
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": f"{ROOT}:{ROOT}/tests/training", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_fingerprint_is_that_of_every_process_and_not_that_of_other_kernels():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    here = name_numerics(SETTINGS, load_data("lenet5_sample"))["fingerprint"]
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert take_fingerprint() == here
    assert take_fingerprint(MKL_CBWR="COMPATIBLE", ONEDNN_MAX_CPU_ISA="SSE41", ATEN_CPU_CAPABILITY="default") != here


def test_numerics_are_as_before_after_an_error():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), fixed_numerics():
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (1, True)
        raise KeyError
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend must be one of .*torch.*, got 'tensorflow'"):
        describe_numerics("tensorflow")
