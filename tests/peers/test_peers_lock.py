"""peers.lock pins every tool that the extra peers names, against requirements.lock, bound to no machine."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def pins_of(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [Requirement(line) for line in lines]


@pytest.fixture
def pins(root):
    return {canonicalize_name(pin.name): pin for pin in pins_of(root / "peers.lock")}


def test_it_holds_an_exact_version_of_each_tool(root, pins):
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for tool in map(Requirement, extras["peers"]):
        [specifier] = pins[canonicalize_name(tool.name)].specifier
        assert specifier.operator == "==" and Version(specifier.version) in tool.specifier


def test_it_names_no_index_and_no_local_version(root, pins):
    assert not re.search(r"https?:|--(extra-)?index|--find-links|file:", (root / "peers.lock").read_text())
    assert not [name for name, pin in pins.items() if "+" in str(pin.specifier)]


def test_it_installs_nothing_anew_that_the_projects_own_lock_has(root, pins):
    for own in pins_of(root / "requirements.lock"):
        pin = pins.get(canonicalize_name(own.name))
        assert pin is None or (own.marker is not None and pin.specifier == own.specifier), own.name
