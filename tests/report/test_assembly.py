"""What puts sections together is imported late, so what it needs is looked for early."""

import subprocess
import sys

from conftest import ROOT

DIRECT_IMPORTS = """
import ast, sys
from pathlib import Path
from lrlib.report import driver
before = set(sys.modules)
import lrlib.report.assembly
found = set()
for name in {n for n in sys.modules if n.startswith("lrlib.")} - before:
    for node in ast.walk(ast.parse(Path(sys.modules[name].__file__).read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        found |= {n.partition(".")[0] for n in names}
loaded = {n.partition(".")[0] for n in before}
print(sorted(n for n in found - loaded - set(sys.stdlib_module_names) if n in sys.modules))
print(sorted(driver.ASSEMBLED_WITH))
"""
WITHOUT_TYPST = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name == "typst" else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv = ["lrlib", *sys.argv[1:]]
from lrlib.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""


def run(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_every_package_that_assembling_needs_is_looked_for():
    needed, looked_for = run("-c", DIRECT_IMPORTS).stdout.splitlines()
    assert needed == looked_for


def test_a_package_that_assembling_misses_is_said_before_anything_is_trained(tmp_path):
    (tmp_path / "without.py").write_text(WITHOUT_TYPST)
    done = run(str(tmp_path / "without.py"), "section", "2-2", "--quick")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lrlib: the report needs typst, which is not installed; pip install 'lrlib[report]'\n"
