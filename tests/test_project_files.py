"""pyproject.toml, the locks and environment.yml say the same; nothing in them is bound to one machine."""

import itertools
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


def asked(project, *extras):
    """What the package needs (no extra) or one of its extras does."""
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    return [Requirement(text) for extra in extras for text in lists[extra]]


# What `make` installs: the package's own needs, and those of the report and its tests.
INSTALLED = ("", "report", "test")


def pins_of(lock):
    """{name: [the requirements of that name, in different environments]}"""
    pins = {}
    for line in lock.read_text().splitlines():
        if not line.startswith("#"):
            pins.setdefault(canonicalize_name(Requirement(line).name), []).append(Requirement(line))
    return pins


@pytest.mark.parametrize(("lock", "extras"), [("requirements.lock", INSTALLED), ("peers.lock", ("peers",))])
def test_a_lock_holds_a_version_of_all_that_is_asked_for(root, project, lock, extras):
    pins = pins_of(root / lock)
    for requirement in asked(project, *extras):
        for pin in pins[canonicalize_name(requirement.name)]:
            [specifier] = pin.specifier
            assert Version(specifier.version) in requirement.specifier


@pytest.mark.parametrize("lock", ["requirements.lock", "peers.lock", "colossalai.lock", "oldest.lock"])
def test_a_lock_holds_exact_versions_and_names_no_index_and_no_local_version(root, lock):
    assert not re.search(r"https?:|--(extra-)?index|--find-links|file:", (root / lock).read_text())
    for pin in itertools.chain(*pins_of(root / lock).values()):
        assert re.fullmatch(r"==[^+*,]+", str(pin.specifier)), pin


@pytest.mark.parametrize("lock", ["peers.lock", "colossalai.lock"])
def test_nothing_is_installed_anew_that_the_projects_own_lock_has(root, lock):
    own, beside = (pins_of(root / name) for name in ("requirements.lock", lock))
    for name in own.keys() & beside:
        assert all(pin.marker for pin in own[name]), name
        assert {pin.specifier for pin in own[name]} == {pin.specifier for pin in beside[name]}, name


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


def test_the_makefile_asks_an_active_environment_for_packages_of_the_project(root, project):
    names = re.search(r'"(torch [^"]+)"', (root / "Makefile").read_text().replace("\\\n", " "))[1].split()
    of_project = {requirement.name.replace("-", "_") for requirement in asked(project, *INSTALLED)}
    renamed = {"pypandoc": "pypandoc_binary"}
    assert {renamed.get(name, name) for name in names} <= of_project


def test_notebooks_are_committed_without_outputs_and_can_be_read_by_any_jupyter(root):
    for path in sorted([*root.glob("notebooks/*.ipynb"), *root.glob("bench/suggestions/notebooks/*.ipynb")]):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
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
