"""pyproject.toml, the lock and environment.yml say the same; nothing in them is bound to one machine."""

import json
import re
import tomllib

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import lrlib


@pytest.fixture
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture
def asked(project):
    """What `make` installs: the package's own needs, and those of the report and its tests."""
    extras = project["optional-dependencies"]
    return [Requirement(text) for text in project["dependencies"] + extras["report"] + extras["test"]]


@pytest.fixture
def lock(root):
    lines = [line for line in (root / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    return [Requirement(line) for line in lines]


def test_the_lock_holds_an_exact_version_of_all_that_the_project_asks_for(asked, lock):
    for requirement in asked:
        locked = [r for r in lock if canonicalize_name(r.name) == canonicalize_name(requirement.name)]
        assert locked, f"{requirement.name} is not in requirements.lock"
        for entry in locked:
            [specifier] = entry.specifier
            assert specifier.operator == "=="
            assert Version(specifier.version) in requirement.specifier


def test_the_lock_names_no_index_and_no_local_version(root, lock):
    text = (root / "requirements.lock").read_text()
    assert not re.search(r"https?:|--(extra-)?index|--find-links|file:", text)
    assert not [r.name for r in lock if "+" in str(r.specifier)]


def test_environment_yml_installs_the_lock_and_the_project_on_the_same_pythons(root, project):
    environment = yaml.safe_load((root / "environment.yml").read_text())
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    [python] = [entry for entry in environment["dependencies"] if str(entry).startswith("python")]
    assert python == f"python {project['requires-python']}"


def test_a_range_test_needs_three_packages(project):
    assert [Requirement(text).name for text in project["dependencies"]] == ["numpy", "torch", "tqdm"]


def test_every_extra_that_the_code_names_is_one(root, project):
    texts = [path.read_text() for path in (*(root / "lrlib").rglob("*.py"), root / "README.md")]
    named = {extra for text in texts for extra in re.findall(r"lrlib\[(\w+)\]", text)}
    assert "report" in named and named <= project["optional-dependencies"].keys()


def test_the_makefile_asks_an_active_environment_for_packages_of_the_project(root, asked):
    names = re.search(r'"(torch [^"]+)"', (root / "Makefile").read_text().replace("\\\n", " "))[1].split()
    asked = {requirement.name.replace("-", "_") for requirement in asked}
    renamed = {"pypandoc": "pypandoc_binary"}
    assert {renamed.get(name, name) for name in names} <= asked


def test_notebooks_are_committed_without_outputs_and_can_be_read_by_any_jupyter(root):
    for path in sorted([*root.glob("notebooks/*.ipynb"), *root.glob("bench/suggestions/notebooks/*.ipynb")]):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            assert not cell.get("outputs") and cell.get("execution_count") is None, path.name
        assert json.loads(path.read_text())["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize(
    "page",
    ["README.md", "CHANGELOG.md", "bench/README.md", "bench/suggestions/README.md", "lrlib/runs/README.md",
     "lrlib/peers/README.md"],
)  # fmt: skip
def test_links_of_a_page_lead_to_files_that_are_there(root, page):
    path = root / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_readme_names_only_targets_that_there_are(root):
    text = (root / "README.md").read_text()
    makefile = (root / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", text)):
        assert re.search(rf"^[a-z ]*\b{target}\b[a-z ]*:", makefile, re.M), target


def test_every_name_that_readme_calls_public_is_public(root):
    text = (root / "README.md").read_text()
    listed = re.search(r"The public API: (.*?), the command line", text, re.S)[1]
    names = {name.removeprefix("lrlib.") for name in re.findall(r"`([\w.]+)`", listed)}
    assert names == {*lrlib.__all__, "peers"}
